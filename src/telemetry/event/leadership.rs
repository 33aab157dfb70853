//! Who may act: gained, renewed, lost.

use crate::telemetry::{
    event::{Event, EventType, KubernetesEvent},
    metrics::{Metrics, WriteOutcome},
};

/// This process may act from now on.
#[derive(Debug, Clone, Copy)]
pub struct LeadershipGained<'a> {
    /// This process.
    pub identity: &'a str,
    /// The Lease, `namespace/name`.
    pub lease: &'a str,
}

impl Event for LeadershipGained<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { identity, lease } = self;
        metrics.leading(true);
        tracing::info!(identity, lease, "{identity} leads: it holds the lease {lease}");
    }

    fn kubernetes(&self) -> Vec<KubernetesEvent> {
        let note = format!("{} leads", self.identity);
        vec![KubernetesEvent::new(EventType::Normal, "LeaderElected", "Lead", &note)]
    }
}

/// This process may act no more.
#[derive(Debug, Clone, Copy)]
pub struct LeadershipLost<'a> {
    /// This process.
    pub identity: &'a str,
    /// The Lease, `namespace/name`.
    pub lease: &'a str,
    /// Why, as a sentence.
    pub reason: &'a str,
    /// It was given up on purpose.
    pub released: bool,
}

impl Event for LeadershipLost<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { identity, lease, reason, released } = self;
        metrics.leading(false);
        if *released {
            tracing::info!(identity, lease, "{identity} gave up the lease {lease}");
        } else {
            tracing::error!(identity, lease, reason, "{identity} lost the lease {lease}: {reason}");
        }
    }
}

/// The Lease was written, or could not be.
#[derive(Debug, Clone, Copy)]
pub struct LeaseWritten<'a> {
    /// The Lease, `namespace/name`.
    pub lease: &'a str,
    /// How it ended.
    pub outcome: WriteOutcome,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// When it began, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The error's words; empty when applied.
    pub error: &'a str,
}

impl Event for LeaseWritten<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { lease, outcome, took_ms, at_unix_ms, error } = *self;
        metrics.lease_renewal(outcome, took_ms, at_unix_ms);
        if outcome == WriteOutcome::Applied {
            tracing::trace!(lease, took_ms, "wrote the lease {lease} in {took_ms} ms");
        } else {
            tracing::warn!(lease, took_ms, error, "cannot write the lease {lease}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::logging::tests::Lines;

    #[test]
    fn a_lost_lease_is_an_error_and_a_released_one_is_not() {
        let metrics = Metrics::new("1").unwrap();
        let (identity, lease) = ("baton-0_1f", "baton/baton");
        let lines = Lines::of("info", |_| {
            LeadershipGained { identity, lease }.emit(&metrics);
            LeadershipLost { identity, lease, reason: "no renewal in time", released: false }.emit(&metrics);
            LeadershipLost { identity, lease, reason: "", released: true }.emit(&metrics);
        });
        let levels: Vec<_> = lines.iter().map(|line| line["level"].as_str().unwrap()).collect();
        assert_eq!(levels, ["INFO", "ERROR", "INFO"]);
        let text = metrics.text().unwrap();
        assert!(text.contains("\nbaton_leader 0\n"));
        assert!(text.contains(r#"baton_leader_transitions_total{to="standby"} 2"#));
    }

    #[test]
    fn renewals_are_silent_and_failures_are_not() {
        let metrics = Metrics::new("1").unwrap();
        let write =
            |outcome, error| LeaseWritten { lease: "baton/baton", outcome, took_ms: 7, at_unix_ms: 1500, error };
        let lines = Lines::of("info", |_| {
            write(WriteOutcome::Applied, "").emit(&metrics);
            write(WriteOutcome::Failed, "no answer within 400 ms").emit(&metrics);
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["message"], "cannot write the lease baton/baton: no answer within 400 ms");
    }
}
