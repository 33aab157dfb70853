//! The numbers of a running operator: one registry, one struct, a method for each thing that is counted.
//!
//! Names start with `baton_` and end with their base unit. Labels are bounded: names of clusters, and
//! words that the code itself chooses; never addresses, messages or anything a server says. The series
//! of a cluster go when the cluster goes ([`Metrics::forget`]).

mod per_cluster;

use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder, core::Collector,
    process_collector::ProcessCollector,
};

use crate::core::{
    id::{ClusterKey, Epoch},
    observation::FailureKind,
    recovery::Phase,
};
use per_cluster::PerCluster;

/// Why metrics cannot be made or shown.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A name or label is not allowed or taken: a defect of this program.
    #[error("cannot collect metrics")]
    Collect(#[from] prometheus::Error),
}

/// From a loopback answer to the longest deadline of a look, in seconds.
const PROBE_BUCKETS_S: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0];
/// A failover's phases, in seconds: the target for all of them together is one.
const PHASE_BUCKETS_S: [f64; 12] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0, 120.0];
/// Requests to the API server, in seconds.
const REQUEST_BUCKETS_S: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// How a recovery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryOutcome {
    /// The cluster is writable and in order.
    Succeeded,
    /// Given up.
    Failed,
    /// Not begun, for a reason that is written down.
    Refused,
}

impl RecoveryOutcome {
    /// The outcome a phase stands for; none while it is not the end.
    #[must_use]
    pub fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Succeeded => Some(Self::Succeeded),
            Phase::Failed => Some(Self::Failed),
            Phase::Refused => Some(Self::Refused),
            _ => None,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// How a write to the API server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Applied.
    Applied,
    /// Refused because the object had changed.
    Conflict,
    /// Refused for good: forbidden, invalid.
    Refused,
    /// No answer in time, or an error that may pass.
    Failed,
}

impl WriteOutcome {
    /// One word for labels and lines.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Everything that is counted. Shared by reference; all methods can be called from anywhere.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    probe_duration: PerCluster<HistogramVec>,
    probe_failures: PerCluster<IntCounterVec>,
    analyses: PerCluster<prometheus::IntGaugeVec>,
    conditions: PerCluster<prometheus::IntGaugeVec>,
    servers: PerCluster<prometheus::IntGaugeVec>,
    epoch: PerCluster<prometheus::IntGaugeVec>,
    recoveries: PerCluster<IntCounterVec>,
    recovery_phase: HistogramVec,
    recovery_step: HistogramVec,
    leader: IntGauge,
    leader_transitions: IntCounterVec,
    lease_renewal: HistogramVec,
    lease_renewed: Gauge,
    api_write: HistogramVec,
}

impl Metrics {
    /// Makes the registry with everything in it, and the figures of the process itself.
    ///
    /// # Errors
    /// [`MetricsError`]: a defect of this program.
    pub fn new(version: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let add = &registry;
        let metrics = Self {
            probe_duration: per_cluster_histogram(add)?,
            probe_failures: counter(add, "baton_probe_failures_total", "Looks that failed.", &["cluster", "kind"])?
                .into(),
            analyses: gauge(add, "baton_analysis", "Servers with this analysis.", &["cluster", "code"])?.into(),
            conditions: gauge(add, "baton_cluster_condition", "1: true, 0: false, -1: unknown.", &["cluster", "type"])?
                .into(),
            servers: gauge(add, "baton_cluster_servers", "Servers of the cluster.", &["cluster"])?.into(),
            epoch: gauge(add, "baton_cluster_epoch", "Number of the cluster's reign.", &["cluster"])?.into(),
            recoveries: counter(add, "baton_recoveries_total", "Recoveries that ended.", &["cluster", "outcome"])?
                .into(),
            recovery_phase: phase_histogram(add, "baton_recovery_phase_seconds", "Time spent in a phase.", "phase")?,
            recovery_step: phase_histogram(add, "baton_recovery_step_seconds", "Time a step took.", "step")?,
            leader: registered(add, IntGauge::new("baton_leader", "1 on the replica that may act.")?)?,
            leader_transitions: counter(add, "baton_leader_transitions_total", "Leadership gained or lost.", &["to"])?,
            lease_renewal: request_histogram(
                add,
                "baton_lease_renewal_seconds",
                "Time a write of the Lease took.",
                &["outcome"],
            )?,
            lease_renewed: registered(
                add,
                Gauge::new("baton_lease_renewed_timestamp_seconds", "When the Lease was last renewed.")?,
            )?,
            api_write: request_histogram(
                add,
                "baton_api_write_seconds",
                "Time a write to the API server took, Leases apart.",
                &["kind", "outcome"],
            )?,
            registry: registry.clone(),
        };
        gauge(&registry, "baton_build_info", "Always 1; the version is a label.", &["version"])?
            .with_label_values(&[version])
            .set(1);
        Ok(metrics)
    }

    /// One look at a server of `cluster` was answered after `took_ms`.
    pub fn probed(&self, cluster: &ClusterKey, took_ms: u64) {
        self.probe_duration.with(cluster, &[]).observe(seconds(took_ms));
    }

    /// One look at a server of `cluster` failed.
    pub fn probe_failed(&self, cluster: &ClusterKey, kind: FailureKind) {
        self.probe_failures.with(cluster, &[kind.reason()]).inc();
    }

    /// The analyses of `cluster` as they are now: one code for each server it concerns.
    pub fn analyses<'a>(&self, cluster: &ClusterKey, codes: impl IntoIterator<Item = &'a str>) {
        self.analyses.each(cluster, |gauge| gauge.set(0));
        for code in codes {
            self.analyses.with(cluster, &[code]).inc();
        }
    }

    /// A condition of `cluster`: true, false or not known.
    pub fn condition(&self, cluster: &ClusterKey, kind: &'static str, value: Option<bool>) {
        self.conditions.with(cluster, &[kind]).set(value.map_or(-1, i64::from));
    }

    /// How many servers `cluster` has and which reign it is.
    pub fn cluster(&self, cluster: &ClusterKey, servers: usize, epoch: Epoch) {
        self.servers.with(cluster, &[]).set(i64::try_from(servers).unwrap_or(i64::MAX));
        self.epoch.with(cluster, &[]).set(i64::try_from(epoch.0).unwrap_or(i64::MAX));
    }

    /// A recovery left `phase` after `took_ms`.
    pub fn recovery_phase(&self, phase: Phase, took_ms: u64) {
        self.recovery_phase.with_label_values(&[phase_name(phase)]).observe(seconds(took_ms));
    }

    /// A recovery's step (an action's name) took `took_ms`.
    pub fn recovery_step(&self, step: &str, took_ms: u64) {
        self.recovery_step.with_label_values(&[step]).observe(seconds(took_ms));
    }

    /// A recovery of `cluster` ended.
    pub fn recovered(&self, cluster: &ClusterKey, outcome: RecoveryOutcome) {
        self.recoveries.with(cluster, &[outcome.label()]).inc();
    }

    /// This process gained or lost the right to act.
    pub fn leading(&self, leading: bool) {
        self.leader.set(i64::from(leading));
        self.leader_transitions.with_label_values(&[if leading { "leader" } else { "standby" }]).inc();
    }

    /// A write of the Lease took `took_ms`; when it was applied, `at_unix_ms` is the time of its start.
    pub fn lease_renewal(&self, outcome: WriteOutcome, took_ms: u64, at_unix_ms: u64) {
        self.lease_renewal.with_label_values(&[outcome.label()]).observe(seconds(took_ms));
        if outcome == WriteOutcome::Applied {
            self.lease_renewed.set(seconds(at_unix_ms));
        }
    }

    /// A write of an object of `kind` took `took_ms`.
    pub fn api_write(&self, kind: &'static str, outcome: WriteOutcome, took_ms: u64) {
        self.api_write.with_label_values(&[kind, outcome.label()]).observe(seconds(took_ms));
    }

    /// Drops every series of `cluster`; to be called when nothing counts for it any more.
    pub fn forget(&self, cluster: &ClusterKey) {
        self.probe_duration.forget(cluster);
        self.probe_failures.forget(cluster);
        self.analyses.forget(cluster);
        self.conditions.forget(cluster);
        self.servers.forget(cluster);
        self.epoch.forget(cluster);
        self.recoveries.forget(cluster);
    }

    /// All of it in Prometheus' text format.
    ///
    /// # Errors
    /// [`MetricsError`]: a defect of this program.
    pub fn text(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

/// A phase's name as records have it.
#[must_use]
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Fencing => "Fencing",
        Phase::Choosing => "Choosing",
        Phase::Promoting => "Promoting",
        Phase::Writable => "Writable",
        Phase::Completing => "Completing",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
        Phase::Refused => "Refused",
    }
}

/// Milliseconds as seconds; exact far beyond any duration here.
#[expect(clippy::cast_precision_loss, reason = "exact up to 285 000 years")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<prometheus::IntGaugeVec, prometheus::Error> {
    registered(registry, prometheus::IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn per_cluster_histogram(registry: &Registry) -> Result<PerCluster<HistogramVec>, prometheus::Error> {
    let opts = HistogramOpts::new("baton_probe_duration_seconds", "Time until a server answered a look.");
    let opts = opts.buckets(PROBE_BUCKETS_S.to_vec());
    Ok(registered(registry, HistogramVec::new(opts, &["cluster"])?)?.into())
}

fn phase_histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(name, help).buckets(PHASE_BUCKETS_S.to_vec());
    registered(registry, HistogramVec::new(opts, &[label])?)
}

fn request_histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(name, help).buckets(REQUEST_BUCKETS_S.to_vec());
    registered(registry, HistogramVec::new(opts, labels)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ClusterKey {
        ClusterKey { namespace: "prod".to_owned(), name: name.to_owned() }
    }

    fn shown(metrics: &Metrics, prefix: &str) -> Vec<String> {
        let text = metrics.text().unwrap();
        text.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
    }

    #[test]
    fn counts_have_names_units_and_bounded_labels() {
        let metrics = Metrics::new("1.2.3").unwrap();
        metrics.probed(&key("shop"), 3);
        metrics.probed(&key("shop"), 500);
        metrics.probe_failed(&key("shop"), FailureKind::Silent);
        metrics.lease_renewal(WriteOutcome::Applied, 12, 1_700_000_000_250);
        metrics.leading(true);
        assert_eq!(
            shown(&metrics, "baton_probe_failures_total"),
            [r#"baton_probe_failures_total{cluster="prod/shop",kind="NoAnswer"} 1"#]
        );
        assert_eq!(
            shown(&metrics, "baton_probe_duration_seconds_sum"),
            [r#"baton_probe_duration_seconds_sum{cluster="prod/shop"} 0.503"#]
        );
        assert_eq!(shown(&metrics, "baton_lease_renewed_t"), ["baton_lease_renewed_timestamp_seconds 1700000000.25"]);
        assert_eq!(shown(&metrics, "baton_leader "), ["baton_leader 1"]);
        assert_eq!(shown(&metrics, "baton_build_info"), [r#"baton_build_info{version="1.2.3"} 1"#]);
        assert_eq!(shown(&metrics, "process_resident_memory_bytes").len(), 1);
    }

    #[test]
    fn a_failed_renewal_does_not_look_like_a_renewal() {
        let metrics = Metrics::new("1").unwrap();
        metrics.lease_renewal(WriteOutcome::Failed, 400, 1_700_000_000_000);
        assert_eq!(shown(&metrics, "baton_lease_renewed_t"), ["baton_lease_renewed_timestamp_seconds 0"]);
    }

    #[test]
    fn an_analysis_that_ended_reads_zero_and_two_servers_read_two() {
        let metrics = Metrics::new("1").unwrap();
        metrics.analyses(&key("shop"), ["DeadReplica", "DeadReplica", "DeadPrimary"]);
        metrics.analyses(&key("shop"), ["DeadReplica", "DeadReplica"]);
        assert_eq!(
            shown(&metrics, "baton_analysis"),
            [
                r#"baton_analysis{cluster="prod/shop",code="DeadPrimary"} 0"#,
                r#"baton_analysis{cluster="prod/shop",code="DeadReplica"} 2"#,
            ]
        );
    }

    #[test]
    fn series_go_with_their_cluster_and_only_with_it() {
        let metrics = Metrics::new("1").unwrap();
        for name in ["shop", "shop2"] {
            let key = key(name);
            metrics.probed(&key, 3);
            metrics.probe_failed(&key, FailureKind::Refused);
            metrics.analyses(&key, ["DeadPrimary"]);
            metrics.condition(&key, "Ready", None);
            metrics.cluster(&key, 4, Epoch(2));
            metrics.recovered(&key, RecoveryOutcome::Succeeded);
        }
        assert!(metrics.text().unwrap().contains("\"prod/shop\""));
        metrics.forget(&key("shop"));
        let text = metrics.text().unwrap();
        assert!(!text.contains("\"prod/shop\""), "{text}");
        assert_eq!(shown(&metrics, "baton_cluster_epoch"), [r#"baton_cluster_epoch{cluster="prod/shop2"} 2"#]);
    }

    #[test]
    fn only_the_end_of_a_recovery_is_an_outcome() {
        let outcomes = [Phase::Pending, Phase::Writable, Phase::Succeeded, Phase::Failed, Phase::Refused];
        let outcomes = outcomes.map(|phase| RecoveryOutcome::of(phase).map(RecoveryOutcome::label));
        assert_eq!(outcomes, [None, None, Some("succeeded"), Some("failed"), Some("refused")]);
    }
}
