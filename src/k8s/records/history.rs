//! What the records of a cluster say together: what is unfinished, what holds back the next automatic
//! failover, what a person asks for, what may go.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};

use super::{
    executor::hold,
    translate::{read_phase, recovery_of},
};
use crate::{
    api::{
        ANNOTATION_ACKNOWLEDGED_BY, LABEL_CLUSTER, MysqlFailover,
        mysql_cluster::FailoverSummary,
        mysql_failover::{FORCED, LostRole},
    },
    core::{
        analysis::code::Code,
        id::{Epoch, ServerAddr},
        recovery::{Hold, Phase, Recovery},
        relocation::hold::Earlier,
        request::Request,
        throttle::Past,
    },
    k8s::deadline::{CallError, call},
};

/// What the records of one cluster say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// Every recovery, newest first.
    pub past: Vec<Past>,
    /// Name of one that was begun and is not finished; the newest if there are several.
    pub unfinished: Option<String>,
    /// Why the leader is not to go on with that one.
    pub hold: Option<Hold>,
    /// The newest that put one server in another's place.
    pub last: Option<Recovery>,
    /// What people ask for and nobody has begun, oldest first.
    pub requests: Vec<Request>,
    /// Every recovery of an intermediate primary.
    pub relocations: Vec<Earlier>,
    /// Name of one of those that was begun and is not finished.
    pub relocating: Option<String>,
    /// Records that cannot be read, with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// Whether Baton made the record, rather than a person.
fn made_by_baton(record: &MysqlFailover) -> bool {
    record.labels().contains_key(LABEL_CLUSTER)
}

fn phase(record: &MysqlFailover) -> Option<Phase> {
    record.status.as_ref()?.phase.map(read_phase)
}

fn epoch(record: &MysqlFailover) -> Epoch {
    let epoch = record.status.as_ref().and_then(|status| status.epoch);
    Epoch(epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or_default())
}

fn began(record: &MysqlFailover) -> Option<Timestamp> {
    let started = record.status.as_ref().and_then(|status| status.started_at.as_ref());
    started.or(record.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

/// What `records` say about `cluster` at `now`. Records of other clusters are passed over.
#[must_use]
pub fn history(records: &[MysqlFailover], cluster: &str, now: Timestamp) -> History {
    let mut own: Vec<_> = records.iter().filter(|record| record.spec.cluster_name == cluster).collect();
    own.sort_by_key(|record| std::cmp::Reverse((epoch(record), record.name_any())));
    let mut waiting: Vec<_> = own.iter().copied().filter(|record| phase(record).is_none()).collect();
    waiting.sort_by_key(|record| (record.creation_timestamp().map(|time| time.0), record.name_any()));
    let requests = waiting.into_iter().filter_map(request).collect();
    let mut history = History { requests, ..History::default() };
    for record in own {
        let Some(phase) = phase(record) else { continue };
        if record.spec.role == LostRole::IntermediatePrimary {
            history.relocations.extend(earlier(record, phase, now));
            if !phase.finished() && history.relocating.is_none() {
                history.relocating = Some(record.name_any());
            }
            continue;
        }
        history.past.push(past(record, phase, now));
        if !phase.finished() && history.unfinished.is_none() {
            history.unfinished = Some(record.name_any());
            history.hold = hold(record);
        }
        match recovery_of(record) {
            Ok(recovery) if phase.promoted() && !recovery.cause.reopens() && history.last.is_none() => {
                history.last = Some(recovery);
            }
            Ok(_) => {}
            // What was refused at once never had more.
            Err(_) if phase == Phase::Refused => {}
            Err(error) => history.unreadable.push((record.name_any(), error.to_string())),
        }
    }
    history
}

/// The newest recovery of `cluster` in brief, for the status of its object.
#[must_use]
pub fn summary(records: &[MysqlFailover], cluster: &str) -> Option<FailoverSummary> {
    let of_primary = |record: &&MysqlFailover| record.spec.role == LostRole::Primary && phase(record).is_some();
    let own = records.iter().filter(|record| record.spec.cluster_name == cluster).filter(of_primary);
    let newest = own.max_by_key(|record| epoch(record))?;
    let status = newest.status.as_ref()?;
    Some(FailoverSummary {
        record: newest.name_any(),
        time: Time(began(newest)?),
        phase: format!("{:?}", phase(newest)?),
        from: status.old_primary.clone(),
        to: status.new_primary.clone(),
    })
}

fn age_ms(record: &MysqlFailover, now: Timestamp) -> u64 {
    let age_ms = began(record).map_or(0, |began| now.as_millisecond().saturating_sub(began.as_millisecond()));
    u64::try_from(age_ms).unwrap_or_default()
}

fn acknowledged(record: &MysqlFailover) -> bool {
    record.status.as_ref().is_some_and(|status| status.acknowledged) || acknowledger(record).is_some()
}

/// `None`: it names no server that can be read, and is about none.
fn earlier(record: &MysqlFailover, phase: Phase, now: Timestamp) -> Option<Earlier> {
    let status = record.status.as_ref()?;
    let left = status.pending_replicas.iter().chain(&status.lost_replicas);
    Some(Earlier {
        record: record.name_any(),
        lost: record.spec.cause.server.as_deref()?.parse().ok()?,
        phase,
        age_ms: age_ms(record, now),
        acknowledged: acknowledged(record),
        left: left.filter_map(|addr| addr.parse().ok()).collect(),
    })
}

fn past(record: &MysqlFailover, phase: Phase, now: Timestamp) -> Past {
    Past {
        name: record.name_any(),
        phase,
        age_ms: age_ms(record, now),
        acknowledged: acknowledged(record),
        made: record.status.as_ref().and_then(|status| status.new_primary.as_deref()?.parse().ok()),
        old: record.status.as_ref().and_then(|status| status.old_primary.as_deref()?.parse().ok()),
        reopened: made_by_baton(record) && phase != Phase::Refused && reopens(record),
    }
}

fn reopens(record: &MysqlFailover) -> bool {
    record.spec.cause.analysis == Code::NoWritablePrimary.name()
}

/// What a record that nobody has begun asks for; `None`: it is Baton's own, on its way.
fn request(record: &MysqlFailover) -> Option<Request> {
    if made_by_baton(record) {
        return None;
    }
    let cause = &record.spec.cause;
    let forced = cause.analysis == FORCED && record.spec.role == LostRole::Primary;
    let mut problem = (!forced).then(|| {
        format!("a failover for {} is made by Baton alone: set spec.cause.analysis to {FORCED}", cause.analysis)
    });
    let mut read = |field: &str, text: &Option<String>| {
        let addr = text.as_deref().map(str::parse::<ServerAddr>).transpose();
        addr.map_err(|error| problem = Some(format!("{field}: {error}"))).ok().flatten()
    };
    let (server, candidate) =
        (read("spec.cause.server", &cause.server), read("spec.candidate", &record.spec.candidate));
    Some(Request {
        record: record.name_any(),
        uid: record.uid().unwrap_or_default(),
        server,
        candidate,
        reason: cause.reason.clone().unwrap_or_default(),
        problem,
    })
}

/// Who has taken note of a record by annotation.
#[must_use]
pub fn acknowledger(record: &MysqlFailover) -> Option<&str> {
    record.annotations().get(ANNOTATION_ACKNOWLEDGED_BY).map(String::as_str).filter(|name| !name.is_empty())
}

/// Writes `status.acknowledged` where the annotation says so and the status does not yet.
///
/// # Errors
/// [`CallError`]; a conflict is none: the next version of the record comes by the watch.
pub async fn acknowledge(api: &Api<MysqlFailover>, record: &MysqlFailover) -> Result<bool, CallError> {
    let Some(mut status) = record.status.clone().filter(|status| !status.acknowledged) else { return Ok(false) };
    if acknowledger(record).is_none() {
        return Ok(false);
    }
    status.acknowledged = true;
    let record = MysqlFailover { status: Some(status), ..record.clone() };
    let (name, params) = (record.name_any(), PostParams::default());
    match call("acknowledge the MysqlFailover", api.replace_status(&name, &params, &record)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Finished records of `cluster` beyond the newest `keep` of the primary and as many of intermediate ones.
#[must_use]
pub fn surplus<'a>(records: &'a [MysqlFailover], cluster: &str, keep: u32) -> Vec<&'a MysqlFailover> {
    let finished = |record: &&MysqlFailover| phase(record).is_some_and(Phase::finished);
    let mut own: Vec<_> =
        records.iter().filter(|record| record.spec.cluster_name == cluster).filter(finished).collect();
    own.sort_by_key(|record| std::cmp::Reverse((epoch(record), began(record))));
    // Who was replaced last is known by it.
    let replaced = |record: &&MysqlFailover| phase(record).is_some_and(Phase::promoted) && !reopens(record);
    let of_primary = |record: &&MysqlFailover| record.spec.role == LostRole::Primary;
    let newest = own.iter().copied().filter(of_primary).find(replaced);
    own.retain(|record| newest.is_none_or(|newest| !std::ptr::eq(newest, *record)));
    let (primary, others): (Vec<_>, Vec<_>) = own.into_iter().partition(|record| record.spec.role == LostRole::Primary);
    let beyond = |records: Vec<&'a MysqlFailover>, keep: u32| {
        records.into_iter().skip(usize::try_from(keep).unwrap_or(usize::MAX))
    };
    let keep_primary = keep.saturating_sub(u32::from(newest.is_some()));
    beyond(primary, keep_primary).chain(beyond(others, keep)).collect()
}

/// Removes what [`surplus`] found.
///
/// # Errors
/// [`CallError`]; records that are gone already are no error.
pub async fn prune(api: &Api<MysqlFailover>, surplus: &[&MysqlFailover]) -> Result<(), CallError> {
    for record in surplus {
        let preconditions = Preconditions { uid: record.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match call("remove an old MysqlFailover", api.delete(&record.name_any(), &params)).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
