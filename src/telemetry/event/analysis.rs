//! What is wrong with a cluster began, changed or ended.

use crate::{
    core::{
        id::{ClusterKey, Epoch},
        status::AnalysisView,
    },
    telemetry::{
        event::{Event, EventType, KubernetesEvent},
        metrics::Metrics,
    },
};

/// The analyses of a cluster are others than before.
#[derive(Debug, Clone, Copy)]
pub struct AnalysisChanged<'a> {
    /// The cluster.
    pub cluster: &'a ClusterKey,
    /// Its reign.
    pub epoch: Epoch,
    /// As they were.
    pub before: &'a [AnalysisView],
    /// As they are.
    pub now: &'a [AnalysisView],
}

impl<'a> AnalysisChanged<'a> {
    /// Those of `some` that `others` do not have, whatever their words are.
    fn beyond(some: &'a [AnalysisView], others: &'a [AnalysisView]) -> impl Iterator<Item = &'a AnalysisView> {
        let same = |a: &AnalysisView, b: &AnalysisView| a.code == b.code && a.server == b.server;
        some.iter().filter(move |one| !others.iter().any(|other| same(one, other)))
    }

    fn begun(&self) -> impl Iterator<Item = &'a AnalysisView> {
        Self::beyond(self.now, self.before)
    }

    fn ended(&self) -> impl Iterator<Item = &'a AnalysisView> {
        Self::beyond(self.before, self.now)
    }
}

impl Event for AnalysisChanged<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { cluster, epoch: Epoch(epoch), now, .. } = self;
        metrics.analyses(cluster, now.iter().map(|analysis| analysis.code.as_str()));
        for AnalysisView { code, server, message } in self.begun() {
            tracing::warn!(%cluster, epoch, code, %server, "{cluster}: {code} of {server}: {message}");
        }
        for AnalysisView { code, server, .. } in self.ended() {
            tracing::info!(%cluster, epoch, code, %server, "{cluster}: no longer {code} of {server}");
        }
    }

    fn kubernetes(&self) -> Vec<KubernetesEvent> {
        let event = |analysis: &AnalysisView| {
            let note = format!("{}: {}", analysis.server, analysis.message);
            KubernetesEvent::new(EventType::Warning, &analysis.code, "Analyse", &note)
        };
        let over = |analysis: &AnalysisView| {
            let note = format!("{}: no longer {}", analysis.server, analysis.code);
            KubernetesEvent::new(EventType::Normal, &analysis.code, "Clear", &note)
        };
        self.begun().map(event).chain(self.ended().map(over)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::logging::tests::Lines;

    fn view(code: &str, server: &str, message: &str) -> AnalysisView {
        AnalysisView { code: code.to_owned(), server: server.parse().unwrap(), message: message.to_owned() }
    }

    #[test]
    fn only_what_began_or_ended_is_told() {
        let metrics = Metrics::new("1").unwrap();
        let cluster = ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let before =
            [view("DeadReplica", "db-3:3306", "does not answer"), view("UnreachablePrimary", "db-1:3306", "?")];
        let now =
            [view("DeadReplica", "db-3:3306", "other words"), view("DeadPrimary", "db-1:3306", "nobody hears it")];
        let event = AnalysisChanged { cluster: &cluster, epoch: Epoch(4), before: &before, now: &now };
        let lines = Lines::of("info", |_| event.emit(&metrics));
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(
            messages,
            [
                "prod/shop: DeadPrimary of db-1:3306: nobody hears it",
                "prod/shop: no longer UnreachablePrimary of db-1:3306",
            ]
        );
        assert_eq!(lines[0]["epoch"], 4);
        assert_eq!(
            event.kubernetes(),
            [
                KubernetesEvent {
                    type_: EventType::Warning,
                    reason: "DeadPrimary".to_owned(),
                    action: "Analyse".to_owned(),
                    note: "db-1:3306: nobody hears it".to_owned(),
                },
                KubernetesEvent {
                    type_: EventType::Normal,
                    reason: "UnreachablePrimary".to_owned(),
                    action: "Clear".to_owned(),
                    note: "db-1:3306: no longer UnreachablePrimary".to_owned(),
                }
            ]
        );
        assert!(metrics.text().unwrap().contains(r#"baton_analysis{cluster="prod/shop",code="DeadPrimary"} 1"#));
    }
}
