//! Writes to the API server, so that "an idle cluster causes none" can be seen (safety.md, I12).

use crate::telemetry::{
    event::Event,
    metrics::{Metrics, WriteOutcome},
};

/// An object was written, or could not be.
#[derive(Debug, Clone, Copy)]
pub struct ApiWritten<'a> {
    /// Kind of the object; a word the code chooses.
    pub kind: &'static str,
    /// Namespace and name, `/` between.
    pub object: &'a str,
    /// How it ended.
    pub outcome: WriteOutcome,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The error's words; empty when applied.
    pub error: &'a str,
}

impl Event for ApiWritten<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { kind, object, outcome, took_ms, error } = *self;
        metrics.api_write(kind, outcome, took_ms);
        let outcome_word = outcome.label();
        match outcome {
            WriteOutcome::Applied => {
                tracing::debug!(kind, object, outcome = outcome_word, took_ms, "wrote {kind} {object} in {took_ms} ms");
            }
            WriteOutcome::Conflict => {
                tracing::info!(kind, object, outcome = outcome_word, took_ms, "{kind} {object} has changed: {error}");
            }
            WriteOutcome::Refused | WriteOutcome::Failed => {
                tracing::warn!(
                    kind,
                    object,
                    outcome = outcome_word,
                    took_ms,
                    error,
                    "cannot write {kind} {object}: {error}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::logging::tests::Lines;

    #[test]
    fn writes_are_counted_by_kind_and_outcome() {
        let metrics = Metrics::new("1").unwrap();
        let write =
            |outcome, error| ApiWritten { kind: "MysqlCluster", object: "prod/shop", outcome, took_ms: 5, error };
        let lines = Lines::of("info", |_| {
            write(WriteOutcome::Applied, "").emit(&metrics);
            write(WriteOutcome::Refused, "forbidden").emit(&metrics);
        });
        assert_eq!(lines.len(), 1, "what went well is no line at info");
        assert_eq!(lines[0]["message"], "cannot write MysqlCluster prod/shop: forbidden");
        let text = metrics.text().unwrap();
        for outcome in ["applied", "refused"] {
            let count = format!(r#"baton_api_write_seconds_count{{kind="MysqlCluster",outcome="{outcome}"}} 1"#);
            assert!(text.contains(&count), "{text}");
        }
    }
}
