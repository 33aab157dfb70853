//! Servers with transactions that the primary lacks came, are judged otherwise, or left.

use crate::{
    core::{
        id::ClusterKey,
        status::{Acknowledged, Quarantined},
    },
    telemetry::{
        event::{Event, EventType, KubernetesEvent},
        metrics::Metrics,
    },
};

/// The servers in quarantine are others than before.
#[derive(Debug, Clone, Copy)]
pub struct QuarantineChanged<'a> {
    /// The cluster.
    pub cluster: &'a ClusterKey,
    /// As they were.
    pub before: &'a [Quarantined],
    /// As they are.
    pub now: &'a [Quarantined],
}

impl QuarantineChanged<'_> {
    /// Those that are new, or of which more is known.
    fn begun(&self) -> impl Iterator<Item = &Quarantined> {
        self.now.iter().filter(|one| !self.before.contains(one))
    }

    fn ended(&self) -> impl Iterator<Item = &Quarantined> {
        let gone = |one: &&Quarantined| self.now.iter().all(|other| other.server != one.server);
        self.before.iter().filter(gone)
    }
}

/// One sentence about a server in quarantine; without the set, which may be long.
fn sentence(one: &Quarantined) -> String {
    let count = one.extra.as_ref().map_or(String::new(), |extra| format!("{} ", extra.count()));
    let told = match one.acknowledged {
        Acknowledged::Impossible => "not acknowledged",
        Acknowledged::Possible => "possibly acknowledged",
    };
    let Quarantined { server, reason, .. } = one;
    format!("{server} has {count}transactions that the primary lacks, {told}: {reason}")
}

impl Event for QuarantineChanged<'_> {
    fn emit(&self, _metrics: &Metrics) {
        let cluster = self.cluster;
        for one in self.begun() {
            let (server, extra) = (&one.server, one.extra.as_ref().map(ToString::to_string));
            tracing::warn!(%cluster, %server, extra, "{cluster}: {}", sentence(one));
        }
        for one in self.ended() {
            tracing::info!(%cluster, server = %one.server, "{cluster}: {} is no longer quarantined", one.server);
        }
    }

    fn kubernetes(&self) -> Vec<KubernetesEvent> {
        let begun = |one: &Quarantined| {
            // Events that differ in their note only are taken for the same one.
            let action = if one.extra.is_some() { "Judge" } else { "Quarantine" };
            KubernetesEvent::new(EventType::Warning, "Quarantined", action, &sentence(one))
        };
        let ended = |one: &Quarantined| {
            let note = format!("{} is no longer quarantined", one.server);
            KubernetesEvent::new(EventType::Normal, "Quarantined", "Release", &note)
        };
        self.begun().map(begun).chain(self.ended().map(ended)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_when_it_comes_when_it_is_known_and_when_it_leaves() {
        let cluster = ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() };
        let open = Quarantined {
            server: "db-1:3306".parse().unwrap(),
            version: "9.7.4".parse().unwrap(),
            record: None,
            extra: None,
            acknowledged: Acknowledged::Possible,
            reason: "somebody wrote there".to_owned(),
        };
        let known = Quarantined {
            extra: Some("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3".parse().unwrap()),
            acknowledged: Acknowledged::Impossible,
            ..open.clone()
        };
        let told = |before: &[Quarantined], now: &[Quarantined]| {
            let events = QuarantineChanged { cluster: &cluster, before, now }.kubernetes();
            events.into_iter().map(|event| event.note).collect::<Vec<_>>()
        };
        let (open, known) = (std::slice::from_ref(&open), std::slice::from_ref(&known));
        let first = "db-1:3306 has transactions that the primary lacks, possibly acknowledged: somebody wrote there";
        assert_eq!(told(&[], open), [first]);
        let second = "db-1:3306 has 3 transactions that the primary lacks, not acknowledged: somebody wrote there";
        assert_eq!(told(open, known), [second]);
        assert_eq!(told(known, known), Vec::<String>::new());
        assert_eq!(told(known, &[]), ["db-1:3306 is no longer quarantined"]);
    }
}
