//! A cluster was taken up, refused, shown anew or let go.

use crate::{
    core::{id::ClusterKey, status::ClusterView},
    telemetry::{
        event::{Event, EventType, KubernetesEvent},
        metrics::Metrics,
    },
};

/// A `MysqlCluster` was taken up, or its wishes changed.
#[derive(Debug, Clone, Copy)]
pub struct ClusterAccepted<'a> {
    /// The cluster.
    pub cluster: &'a ClusterKey,
    /// Servers or pods it names.
    pub servers: usize,
}

impl Event for ClusterAccepted<'_> {
    fn emit(&self, _: &Metrics) {
        let Self { cluster, servers } = self;
        tracing::info!(%cluster, servers, "{cluster}: watching, {servers} servers named");
    }
}

/// A `MysqlCluster` cannot be served as it is.
#[derive(Debug, Clone, Copy)]
pub struct InvalidCluster<'a> {
    /// The cluster.
    pub cluster: &'a ClusterKey,
    /// One word, as in the condition.
    pub reason: &'a str,
    /// A sentence, as in the condition.
    pub message: &'a str,
}

impl Event for InvalidCluster<'_> {
    fn emit(&self, _: &Metrics) {
        let Self { cluster, reason, message } = self;
        tracing::warn!(%cluster, reason, "{cluster}: cannot be served: {message}");
    }

    fn kubernetes(&self) -> Vec<KubernetesEvent> {
        vec![KubernetesEvent::new(EventType::Warning, self.reason, "Validate", self.message)]
    }
}

/// What is shown of a cluster changed.
#[derive(Debug, Clone, Copy)]
pub struct ClusterShown<'a> {
    /// The cluster.
    pub cluster: &'a ClusterKey,
    /// As it is now.
    pub view: &'a ClusterView,
    /// As it was shown before.
    pub before: Option<&'a ClusterView>,
}

impl Event for ClusterShown<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { cluster, view, before } = self;
        metrics.cluster(cluster, view.servers.len(), view.epoch);
        let conditions = [
            ("Ready", &view.ready),
            ("Writable", &view.writable),
            ("Replicating", &view.replicating),
            ("Durable", &view.durable),
            ("Paused", &view.paused),
        ];
        for (kind, answer) in conditions {
            metrics.condition(cluster, kind, answer.value);
        }
        metrics.condition(cluster, "FailoverReady", Some(view.readiness.ready));
        let epoch = view.epoch.0;
        let primary = view.primary.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        let (reason, message) = (view.ready.reason, &view.ready.message);
        if before.is_some_and(|old| (&old.primary, &old.ready) == (&view.primary, &view.ready)) {
            return;
        }
        tracing::info!(%cluster, epoch, primary, reason, "{cluster}: primary {primary}: {message}");
    }
}

/// A `MysqlCluster` is gone, and nothing counts for it any more.
#[derive(Debug, Clone, Copy)]
pub struct ClusterRemoved<'a> {
    /// The cluster.
    pub cluster: &'a ClusterKey,
}

impl Event for ClusterRemoved<'_> {
    fn emit(&self, metrics: &Metrics) {
        let cluster = self.cluster;
        metrics.forget(cluster);
        tracing::info!(%cluster, "{cluster}: no longer watching");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{id::Epoch, readiness::Readiness, status::Answer},
        telemetry::logging::tests::Lines,
    };

    fn view() -> ClusterView {
        let yes = || Answer::new(Some(true), "AsIs", "as it should be");
        ClusterView {
            name: None,
            domain: None,
            primary: Some("db-1:3306".parse().unwrap()),
            epoch: Epoch(3),
            servers: Vec::new(),
            quarantined: Vec::new(),
            unjudged: std::collections::BTreeSet::new(),
            analyses: Vec::new(),
            readiness: Readiness {
                ready: false,
                reason: "NoCandidate",
                message: String::new(),
                would_promote: None,
                candidates: Vec::new(),
            },
            writable: yes(),
            replicating: Answer::new(None, "Unknown", "not seen yet"),
            durable: yes(),
            ready: yes(),
            paused: Answer::new(Some(false), "NotPaused", ""),
            recovering: None,
        }
    }

    #[test]
    fn what_is_shown_is_counted_until_the_cluster_goes() {
        let metrics = Metrics::new("1").unwrap();
        let cluster = ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let lines = Lines::of("info", |_| {
            let view = view();
            ClusterShown { cluster: &cluster, view: &view, before: None }.emit(&metrics);
            ClusterShown { cluster: &cluster, view: &view, before: Some(&view) }.emit(&metrics);
        });
        assert_eq!(lines.len(), 1, "the same is not said twice");
        assert_eq!(lines[0]["message"], "prod/shop: primary db-1:3306: as it should be");
        assert_eq!(lines[0]["epoch"], 3);
        let text = metrics.text().unwrap();
        for (kind, value) in [("Writable", "1"), ("FailoverReady", "0"), ("Replicating", "-1"), ("Paused", "0")] {
            let line = format!(r#"baton_cluster_condition{{cluster="prod/shop",type="{kind}"}} {value}"#);
            assert!(text.contains(&line), "{text}");
        }
        ClusterRemoved { cluster: &cluster }.emit(&metrics);
        assert!(!metrics.text().unwrap().contains("prod/shop"));
    }

    #[test]
    fn a_refusal_is_an_event_on_the_object() {
        let cluster = ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let event = InvalidCluster { cluster: &cluster, reason: "SecretMissing", message: "secret \"a\" is not there" };
        let published = event.kubernetes();
        assert_eq!(published.len(), 1);
        assert_eq!((published[0].type_, published[0].reason.as_str()), (EventType::Warning, "SecretMissing"));
    }
}
