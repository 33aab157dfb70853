//! `status` of a `MysqlCluster`: a pure function of what is known, what was written last and the time.
//!
//! Times are kept where nothing changed, so two equal results mean that nothing has to be written (I12).

mod quarantine;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        MysqlClusterStatus,
        common::Truth,
        mysql_cluster::{AnalysisStatus, FailoverSummary, ServerStatus},
    },
    core::{
        id::{Epoch, ServerAddr},
        recovery::Verdict,
        status::{Answer, ClusterView, Reachability, ServerView},
    },
    k8s::conditions::{self, Wanted},
};

/// Analyses shown; the most urgent are the first.
const ANALYSES_MAX: usize = 32;

/// Why a cluster is not served as its object says, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// One word in camel case.
    pub category: String,
    /// The reason and a hint.
    pub message: String,
}

/// How far saving transactions is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The Job is made, or is to be.
    Pending,
    /// It runs.
    Running,
    /// They are saved.
    Succeeded,
    /// They are not, with the reason.
    Failed(String),
}

/// Transactions that are saved, or are being saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The Job.
    pub job: String,
    /// Claim and file.
    pub place: String,
    /// How far it is.
    pub progress: Progress,
}

/// Everything that a status shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Generation of the object that this is about.
    pub generation: Option<i64>,
    /// Name of the cluster for people, unless its primary tells another.
    pub cluster_name: String,
    /// The domain that the object names.
    pub domain: Option<String>,
    /// The cluster as the engine sees it; `None`: nothing was looked at (yet).
    pub view: Option<ClusterView>,
    /// What a person runs about a server in quarantine.
    pub instructions: BTreeMap<ServerAddr, Vec<String>>,
    /// Whether what a server in quarantine has alone is saved.
    pub exports: BTreeMap<ServerAddr, Exported>,
    /// The newest record in brief.
    pub last_failover: Option<FailoverSummary>,
    /// What keeps the object from being served as it is now; an older version of it may be served.
    pub problem: Option<Problem>,
    /// Why clients cannot be routed.
    pub routing: Option<Problem>,
}

impl Shown {
    /// What must be seen at once rather than with the next second: who is primary, whether it can be
    /// written to, and whether a recovery is under way. Its record tells its phases.
    #[must_use]
    pub fn urgent_part(&self) -> impl PartialEq + use<> {
        let view = self.view.as_ref();
        let recovery = self.last_failover.as_ref().map(|last| (last.record.clone(), ended(last)));
        (
            view.map(|view| (view.primary.clone(), view.epoch, view.recovering)),
            view.map(|view| (view.writable.value, view.writable.reason)),
            recovery,
            self.problem.clone(),
        )
    }

    /// Whether a recovery is under way, by its record or by what the engine says: one of them is the first to know.
    #[must_use]
    pub fn under_way(&self) -> bool {
        let recovering = self.view.as_ref().is_some_and(|view| view.recovering.is_some());
        recovering || self.last_failover.as_ref().is_some_and(|last| !ended(last))
    }

    /// The reign that the engine knows of.
    #[must_use]
    pub fn epoch(&self) -> Option<i64> {
        self.view.as_ref().and_then(|view| epoch(view.epoch, None))
    }
}

fn ended(last: &FailoverSummary) -> bool {
    ["Succeeded", "Failed", "Refused"].contains(&last.phase.as_str())
}

/// The status that shows `shown`, where `previous` is the one that is stored.
#[must_use]
pub fn render(shown: &Shown, previous: &MysqlClusterStatus, now: Timestamp) -> MysqlClusterStatus {
    let told = shown.view.as_ref().and_then(|view| view.name.clone());
    let mut status = MysqlClusterStatus {
        observed_generation: shown.generation,
        cluster_name: told.or_else(|| Some(shown.cluster_name.clone())),
        domain: match &shown.view {
            Some(view) => shown.domain.clone().or_else(|| view.domain.clone()),
            None => previous.domain.clone(),
        },
        ..previous.clone()
    };
    if let Some(view) = &shown.view {
        render_view(&mut status, view, previous, now);
        status.quarantined = quarantine::render(shown, view, &previous.quarantined, previous.rebuilt.as_deref());
    }
    if let Some(last) = newer(shown.last_failover.as_ref(), previous.last_failover.as_ref()) {
        status.last_failover = Some(last.clone());
    }
    status.conditions = conditions::render(&previous.conditions, &wanted(shown), shown.generation, now);
    status
}

fn render_view(status: &mut MysqlClusterStatus, view: &ClusterView, previous: &MysqlClusterStatus, now: Timestamp) {
    status.primary = view.primary.as_ref().map(ToString::to_string);
    status.epoch = epoch(view.epoch, previous.epoch);
    let answering = view.servers.iter().filter(|server| server.state == Reachability::Answering).count();
    status.answering = Some(format!("{answering}/{}", view.servers.len()));
    status.servers = view.servers.iter().map(server).collect();
    status.analyses = view
        .analyses
        .iter()
        .take(ANALYSES_MAX)
        .map(|analysis| {
            let server = analysis.server.to_string();
            let same = |old: &&AnalysisStatus| old.code == analysis.code && old.server.as_ref() == Some(&server);
            let since = previous.analyses.iter().find(same).map_or(Time(now), |old| old.since.clone());
            AnalysisStatus {
                code: analysis.code.clone(),
                server: Some(server),
                since,
                message: analysis.message.clone(),
            }
        })
        .collect();
}

/// The reign never falls (I8), whoever writes last; before the first one there is none.
fn epoch(seen: Epoch, previous: Option<i64>) -> Option<i64> {
    let seen = i64::try_from(seen.0).unwrap_or(i64::MAX);
    Some(previous.unwrap_or_default().max(seen))
}

/// The given summary unless the stored one is of a later record that the given one does not know yet.
fn newer<'a>(given: Option<&'a FailoverSummary>, stored: Option<&FailoverSummary>) -> Option<&'a FailoverSummary> {
    given.filter(|given| stored.is_none_or(|stored| stored.record == given.record || stored.time.0 <= given.time.0))
}

fn server(view: &ServerView) -> ServerStatus {
    let mut problems = view.problems.clone();
    if view.maintenance {
        problems.push("it is under maintenance".to_owned());
    }
    if view.rebuilding {
        problems.push("it is being rebuilt; see status.quarantined".to_owned());
    }
    ServerStatus {
        address: view.addr.to_string(),
        role: format!("{:?}", view.role),
        source: view.source.as_ref().map(ToString::to_string),
        version: view.version.clone(),
        promotion: Some(format!("{:?}", view.promotion)),
        alias: view.alias.clone(),
        environment: view.environment.clone(),
        zone: view.zone.clone(),
        region: view.region.clone(),
        state: format!("{:?}", view.state),
        problems,
    }
}

fn answer(type_: &'static str, answer: &Answer) -> Wanted {
    let truth = answer.value.map_or(Truth::Unknown, Truth::from);
    Wanted::new(type_, truth, answer.reason, &answer.message)
}

/// All conditions, in the order they are shown.
fn wanted(shown: &Shown) -> Vec<Wanted> {
    let mut wanted = match &shown.view {
        Some(view) => of_view(view),
        None => of_nothing(shown.problem.is_none()),
    };
    let stalled = shown.problem.as_ref().or(shown.routing.as_ref());
    if let Some(problem) = stalled {
        let concerned = |type_| type_ == "Ready" || (type_ == "FailoverReady" && shown.view.is_none());
        for one in wanted.iter_mut().filter(|one| concerned(one.type_)) {
            *one = Wanted::new(one.type_, Truth::False, &problem.category, &problem.message);
        }
    }
    wanted.push(match stalled {
        Some(problem) => Wanted::new("Stalled", Truth::True, &problem.category, &problem.message),
        None => Wanted::new("Stalled", Truth::False, "Served", ""),
    });
    wanted
}

fn of_view(view: &ClusterView) -> Vec<Wanted> {
    let readiness = &view.readiness;
    let reconciling = match view.recovering {
        Some(epoch) => Wanted::new("Reconciling", Truth::True, "Recovering", &format!("failover {epoch} is under way")),
        None => Wanted::new("Reconciling", Truth::False, "Idle", ""),
    };
    vec![
        answer("Ready", &view.ready),
        Wanted::new("FailoverReady", Truth::from(readiness.ready), readiness.reason, &failover_message(view)),
        answer("Replicating", &view.replicating),
        answer("Durable", &view.durable),
        answer("Writable", &view.writable),
        answer("Paused", &view.paused),
        reconciling,
    ]
}

/// What would happen, and each server that could not be promoted with its reason.
fn failover_message(view: &ClusterView) -> String {
    let excluded = view.readiness.candidates.iter().filter(|candidate| candidate.verdict == Verdict::Excluded);
    let excluded: Vec<_> = excluded.map(|candidate| format!("{}: {}", candidate.server, candidate.reason)).collect();
    if excluded.is_empty() {
        return view.readiness.message.clone();
    }
    format!("{}; not candidates: {}", view.readiness.message, excluded.join(", "))
}

/// Before the first look. `looking`: there will be one.
fn of_nothing(looking: bool) -> Vec<Wanted> {
    let (reason, message) = if looking {
        ("Starting", "the servers are being looked at")
    } else {
        ("NotServed", "see the condition Stalled")
    };
    let unknown = |type_| Wanted::new(type_, Truth::Unknown, reason, message);
    let mut wanted: Vec<_> =
        ["Ready", "FailoverReady", "Replicating", "Durable", "Writable", "Paused"].map(unknown).into();
    wanted.push(Wanted::new("Reconciling", Truth::from(looking), reason, message));
    wanted
}

#[cfg(test)]
pub(crate) mod tests;
