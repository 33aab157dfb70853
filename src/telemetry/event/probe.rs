//! Looks at servers. They happen many times a second, so only a change is worth a line.

use crate::{
    core::{
        id::{ClusterKey, ServerAddr},
        observation::{Failure, FailureKind},
    },
    telemetry::{event::Event, metrics::Metrics},
};

/// A look succeeded.
#[derive(Debug, Clone, Copy)]
pub struct Probed<'a> {
    /// Whose server.
    pub cluster: &'a ClusterKey,
    /// The server.
    pub server: &'a ServerAddr,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Event for Probed<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { cluster, server, took_ms } = self;
        metrics.probed(cluster, *took_ms);
        tracing::trace!(%cluster, %server, took_ms, "{cluster}: looked at {server} in {took_ms} ms");
    }
}

/// A look failed.
#[derive(Debug, Clone, Copy)]
pub struct ProbeFailed<'a> {
    /// Whose server.
    pub cluster: &'a ClusterKey,
    /// The server.
    pub server: &'a ServerAddr,
    /// How.
    pub failure: &'a Failure,
    /// How the look before failed; `None`: it did not.
    pub before: Option<FailureKind>,
}

impl Event for ProbeFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { cluster, server, failure, before } = self;
        let (kind, error) = (failure.kind.reason(), failure.message.as_str());
        metrics.probe_failed(cluster, failure.kind);
        if *before == Some(failure.kind) {
            tracing::debug!(%cluster, %server, kind, error, "{cluster}: still no look at {server}: {error}");
        } else {
            tracing::warn!(%cluster, %server, kind, error, "{cluster}: cannot look at {server}: {error}");
        }
    }
}

/// A server that could not be looked at answers again.
#[derive(Debug, Clone, Copy)]
pub struct ServerBack<'a> {
    /// Whose server.
    pub cluster: &'a ClusterKey,
    /// The server.
    pub server: &'a ServerAddr,
    /// How long no look succeeded, in milliseconds.
    pub down_ms: u64,
}

impl Event for ServerBack<'_> {
    fn emit(&self, _: &Metrics) {
        let Self { cluster, server, down_ms } = self;
        tracing::info!(%cluster, %server, down_ms, "{cluster}: {server} answers again after {down_ms} ms");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::time::Mono, telemetry::logging::tests::Lines};

    #[test]
    fn a_dead_server_is_a_line_once_and_counted_always() {
        let metrics = Metrics::new("1").unwrap();
        let cluster = ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let server = "10.0.0.7:3306".parse().unwrap();
        let kind = FailureKind::Refused;
        let failure = Failure { at: Mono(1), kind, message: "connection refused".to_owned() };
        let lines = Lines::of("info", |_| {
            for before in [None, Some(kind), Some(kind), Some(FailureKind::Silent)] {
                ProbeFailed { cluster: &cluster, server: &server, failure: &failure, before }.emit(&metrics);
            }
            ServerBack { cluster: &cluster, server: &server, down_ms: 812 }.emit(&metrics);
        });
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(
            messages,
            [
                "prod/shop: cannot look at 10.0.0.7:3306: connection refused",
                "prod/shop: cannot look at 10.0.0.7:3306: connection refused",
                "prod/shop: 10.0.0.7:3306 answers again after 812 ms",
            ]
        );
        assert_eq!(lines[0]["cluster"], "prod/shop");
        assert_eq!(lines[0]["kind"], "ConnectionRefused");
        let text = metrics.text().unwrap();
        assert!(text.contains(r#"baton_probe_failures_total{cluster="prod/shop",kind="ConnectionRefused"} 4"#));
    }
}
