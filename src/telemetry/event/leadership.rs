//! Who may act: gained, renewed, lost.

use crate::telemetry::{
    event::Event,
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
}

impl Event for LeadershipLost<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { identity, lease, reason } = self;
        metrics.leading(false);
        tracing::warn!(identity, lease, reason, "{identity} no longer leads by the lease {lease}: {reason}");
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
    fn gain_and_loss_are_told_and_counted() {
        let metrics = Metrics::new("1").unwrap();
        let (identity, lease) = ("baton-0_1f", "baton/baton");
        let lines = Lines::of("info", |_| {
            LeadershipGained { identity, lease }.emit(&metrics);
            LeadershipLost { identity, lease, reason: "no renewal in time" }.emit(&metrics);
        });
        let levels: Vec<_> = lines.iter().map(|line| line["level"].as_str().unwrap()).collect();
        assert_eq!(levels, ["INFO", "WARN"]);
        let text = metrics.text().unwrap();
        assert!(text.contains("\nbaton_leader 0\n"));
        assert!(text.contains(r#"baton_leader_transitions_total{to="standby"} 1"#));
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
