//! Renders what the engine shows of a cluster as the status of its resource. No client needed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    conditions::{self, Wanted},
    validate::Invalid,
};
use crate::{
    api::{
        common::Truth,
        mysql_cluster::{AnalysisStatus, FailoverSummary, MysqlClusterStatus, ServerStatus},
    },
    core::status::{Answer, ClusterView, Reachability, ServerView},
};

/// Analyses shown.
const ANALYSES_MAX: usize = 32;

/// The status of a cluster that is served, after `previous`.
#[must_use]
pub fn served(
    view: &ClusterView,
    previous: &MysqlClusterStatus,
    generation: Option<i64>,
    name: &str,
    last_failover: Option<FailoverSummary>,
    now: Timestamp,
) -> MysqlClusterStatus {
    let answering = view.servers.iter().filter(|server| server.state == Reachability::Answering).count();
    let since = |code: &str, server: &str| {
        let same = |old: &&AnalysisStatus| old.code == code && old.server.as_deref() == Some(server);
        previous.analyses.iter().find(same).map_or(Time(now), |old| old.since.clone())
    };
    let analyses = view.analyses.iter().take(ANALYSES_MAX).map(|analysis| {
        let server = analysis.server.to_string();
        AnalysisStatus {
            since: since(&analysis.code, &server),
            code: analysis.code.clone(),
            server: Some(server),
            message: analysis.message.clone(),
        }
    });
    MysqlClusterStatus {
        observed_generation: generation,
        cluster_name: Some(name.to_owned()),
        primary: view.primary.as_ref().map(ToString::to_string),
        epoch: i64::try_from(view.epoch.0).ok(),
        answering: Some(format!("{answering}/{}", view.servers.len())),
        servers: view.servers.iter().map(server).collect(),
        analyses: analyses.collect(),
        last_failover: last_failover.or_else(|| previous.last_failover.clone()),
        last_switchover: previous.last_switchover.clone(),
        conditions: conditions::render(&previous.conditions, &wanted(view), generation, now),
    }
}

/// The status of a cluster that cannot be served.
#[must_use]
pub fn stalled(
    error: &Invalid,
    previous: &MysqlClusterStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> MysqlClusterStatus {
    let (reason, message) = (error.category(), error.to_string());
    let wanted = [
        Wanted::new("Ready", Truth::False, reason, &message),
        Wanted::new("FailoverReady", Truth::False, reason, &message),
        Wanted::new("Reconciling", Truth::False, reason, ""),
        Wanted::new("Stalled", Truth::True, reason, &message),
    ];
    MysqlClusterStatus {
        observed_generation: generation,
        conditions: conditions::render(&previous.conditions, &wanted, generation, now),
        ..previous.clone()
    }
}

fn wanted(view: &ClusterView) -> Vec<Wanted> {
    let readiness = &view.readiness;
    let failover_ready = Answer::new(Some(readiness.ready), readiness.reason, failover_message(view));
    let reconciling = match view.recovering {
        Some(epoch) => Answer::new(Some(true), "FailingOver", format!("failover of epoch {epoch} is under way")),
        None => Answer::new(Some(false), "Observed", ""),
    };
    let answers = [
        ("Ready", &view.ready),
        ("FailoverReady", &failover_ready),
        ("Replicating", &view.replicating),
        ("Durable", &view.durable),
        ("Writable", &view.writable),
        ("Paused", &view.paused),
        ("Reconciling", &reconciling),
        ("Stalled", &Answer::new(Some(false), "Served", "")),
    ];
    answers.map(|(type_, answer)| Wanted::new(type_, truth(answer.value), answer.reason, &answer.message)).into()
}

/// What would happen, and each server that could not be promoted with its reason.
fn failover_message(view: &ClusterView) -> String {
    use crate::core::recovery::Verdict;
    let excluded = view.readiness.candidates.iter().filter(|candidate| candidate.verdict == Verdict::Excluded);
    let excluded: Vec<_> = excluded.map(|candidate| format!("{}: {}", candidate.server, candidate.reason)).collect();
    if excluded.is_empty() {
        view.readiness.message.clone()
    } else {
        format!("{}; not candidates: {}", view.readiness.message, excluded.join(", "))
    }
}

fn truth(value: Option<bool>) -> Truth {
    match value {
        Some(true) => Truth::True,
        Some(false) => Truth::False,
        None => Truth::Unknown,
    }
}

fn server(server: &ServerView) -> ServerStatus {
    let mut problems = server.problems.clone();
    if server.maintenance {
        problems.push("under maintenance".to_owned());
    }
    ServerStatus {
        address: server.addr.to_string(),
        role: format!("{:?}", server.role),
        source: server.source.as_ref().map(ToString::to_string),
        version: server.version.clone(),
        promotion: Some(format!("{:?}", server.promotion)),
        state: format!("{:?}", server.state),
        problems,
    }
}
