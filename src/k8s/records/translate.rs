//! Between the core's [`Recovery`] and the stored [`MysqlFailoverStatus`]: field by field, both ways,
//! losing nothing.

use std::num::TryFromIntError;

use kube::ResourceExt;

use crate::{
    api::{
        MysqlFailover, MysqlFailoverStatus,
        mysql_failover::{
            FORCED, FailoverCause, LostRole,
            status::{
                AcknowledgementStatus, CandidateStatus, CandidateVerdict, EvidenceStatus, FailoverPhase, JobStatus,
                LossKind, LostStatus, StepOutcome, StepStatus, TimingsStatus,
            },
        },
    },
    core::{
        gtid::{GtidError, GtidSet},
        id::{AddrError, Epoch, ServerAddr},
        recovery::{
            CandidateRecord, Cause, Evidence, JobRecord, Loss, Outcome, Part, Phase, Recovery, StepRecord, Timings,
            Verdict,
        },
    },
};

/// Why a stored record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Something is missing that every begun recovery has.
    #[error("the record has no {0}")]
    Missing(&'static str),
    /// An address cannot be read.
    #[error("the record has an unreadable address")]
    Address(#[from] AddrError),
    /// A GTID set cannot be read.
    #[error("the record has an unreadable set of transactions")]
    Gtid(#[from] GtidError),
    /// A number is out of range.
    #[error("the record has a number out of range")]
    Number(#[from] TryFromIntError),
}

/// A number as the API stores it; beyond what it can store: the largest.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn texts(servers: &[ServerAddr]) -> Vec<String> {
    servers.iter().map(ToString::to_string).collect()
}

fn addrs(texts: &[String]) -> Result<Vec<ServerAddr>, RecordError> {
    texts.iter().map(|text| Ok(text.parse()?)).collect()
}

fn set(text: &str) -> Result<GtidSet, RecordError> {
    Ok(GtidSet::try_from(text.to_owned())?)
}

/// `spec.cause` of a record.
#[must_use]
pub fn cause_of(cause: &Cause) -> FailoverCause {
    FailoverCause {
        analysis: cause.analysis.clone(),
        server: Some(cause.server.to_string()),
        reason: Some(cause.reason.clone()).filter(|reason| !reason.is_empty()),
    }
}

/// `spec.role` of a record.
#[must_use]
pub fn role_of(part: Part) -> LostRole {
    match part {
        Part::Primary => LostRole::Primary,
        Part::IntermediatePrimary => LostRole::IntermediatePrimary,
    }
}

/// The core's word for `spec.role`.
#[must_use]
pub fn read_role(role: LostRole) -> Part {
    match role {
        LostRole::Primary => Part::Primary,
        LostRole::IntermediatePrimary => Part::IntermediatePrimary,
    }
}

/// `status` of a record; conditions, the claim and the wall clock are the writer's.
#[must_use]
pub fn status_of(recovery: &Recovery) -> MysqlFailoverStatus {
    MysqlFailoverStatus {
        observed_generation: None,
        phase: Some(phase_of(recovery.phase)),
        epoch: Some(stored(recovery.epoch.0)),
        executor: Some(recovery.executor.clone()).filter(|executor| !executor.is_empty()),
        job: recovery.job.as_ref().map(job_of),
        claim: None,
        started_at: None,
        evidence: recovery.evidence.iter().map(evidence_of).collect(),
        candidates: recovery.candidates.iter().map(candidate_of).collect(),
        old_primary: Some(recovery.old_primary.to_string()),
        old_primary_uuid: recovery.old_primary_uuid.clone(),
        old_primary_set: recovery.old_primary_set.as_ref().map(ToString::to_string),
        old_primary_dead: recovery.old_primary_dead,
        new_primary: recovery.new_primary.as_ref().map(ToString::to_string),
        promoted_set: recovery.promoted_set.as_ref().map(ToString::to_string),
        lost: recovery.lost.as_ref().map(lost_of),
        lost_replicas: texts(&recovery.lost_replicas),
        pending_replicas: texts(&recovery.pending_replicas),
        acknowledgement: Some(AcknowledgementStatus {
            ackers: texts(&recovery.ackers),
            unknown_ackers: recovery.unknown_ackers,
            wait_count: recovery.wait_count,
            lossless: recovery.lossless,
        }),
        steps: recovery.steps.iter().map(step_of).collect(),
        timings: Some(timings_of(&recovery.timings)),
        hooks: Vec::new(),
        message: Some(recovery.message.clone()).filter(|message| !message.is_empty()),
        acknowledged: recovery.acknowledged,
        conditions: Vec::new(),
    }
}

/// A phase as it is stored.
#[must_use]
pub fn phase_of(phase: Phase) -> FailoverPhase {
    match phase {
        Phase::Pending => FailoverPhase::Pending,
        Phase::Fencing => FailoverPhase::Fencing,
        Phase::Choosing => FailoverPhase::Choosing,
        Phase::Promoting => FailoverPhase::Promoting,
        Phase::Writable => FailoverPhase::Writable,
        Phase::Completing => FailoverPhase::Completing,
        Phase::Succeeded => FailoverPhase::Succeeded,
        Phase::Failed => FailoverPhase::Failed,
        Phase::Refused => FailoverPhase::Refused,
    }
}

/// The core's word for a stored phase.
#[must_use]
pub fn read_phase(phase: FailoverPhase) -> Phase {
    match phase {
        FailoverPhase::Pending => Phase::Pending,
        FailoverPhase::Fencing => Phase::Fencing,
        FailoverPhase::Choosing => Phase::Choosing,
        FailoverPhase::Promoting => Phase::Promoting,
        FailoverPhase::Writable => Phase::Writable,
        FailoverPhase::Completing => Phase::Completing,
        FailoverPhase::Succeeded => Phase::Succeeded,
        FailoverPhase::Failed => Phase::Failed,
        FailoverPhase::Refused => Phase::Refused,
    }
}

fn job_of(job: &JobRecord) -> JobStatus {
    let message = Some(job.problem.clone()).filter(|problem| !problem.is_empty());
    JobStatus { name: job.name.clone(), message }
}

fn evidence_of(evidence: &Evidence) -> EvidenceStatus {
    EvidenceStatus { server: evidence.server.to_string(), saw: evidence.saw.clone(), at_ms: evidence.at_ms }
}

fn candidate_of(candidate: &CandidateRecord) -> CandidateStatus {
    let verdict = match candidate.verdict {
        Verdict::Chosen => CandidateVerdict::Chosen,
        Verdict::Eligible => CandidateVerdict::Eligible,
        Verdict::Excluded => CandidateVerdict::Excluded,
    };
    CandidateStatus { server: candidate.server.to_string(), verdict, reason: candidate.reason.clone() }
}

fn lost_of(loss: &Loss) -> LostStatus {
    match loss {
        Loss::None => LostStatus { known: LossKind::None, set: None, count: Some(0) },
        Loss::AtLeast(set) => {
            LostStatus { known: LossKind::AtLeast, set: Some(set.to_string()), count: Some(stored(set.count())) }
        }
        Loss::Unknown => LostStatus { known: LossKind::Unknown, set: None, count: None },
    }
}

fn step_of(step: &StepRecord) -> StepStatus {
    let (outcome, reason) = match &step.outcome {
        Outcome::Done => (StepOutcome::Done, None),
        Outcome::Failed(reason) => (StepOutcome::Failed, Some(reason.clone())),
    };
    StepStatus {
        step: step.step.clone(),
        server: step.server.to_string(),
        started_ms: stored(step.started_ms),
        took_ms: stored(step.took_ms),
        outcome,
        reason,
    }
}

fn timings_of(timings: &Timings) -> TimingsStatus {
    TimingsStatus {
        detected: timings.detected.map(stored),
        recorded: timings.recorded.map(stored),
        fenced: timings.fenced.map(stored),
        chosen: timings.chosen.map(stored),
        writable: timings.writable.map(stored),
        routed: timings.routed.map(stored),
        completed: timings.completed.map(stored),
    }
}

/// Reads a record that a recovery was begun with.
///
/// # Errors
/// [`RecordError`] when it was never begun or was changed by somebody else.
pub fn recovery_of(record: &MysqlFailover) -> Result<Recovery, RecordError> {
    let status = record.status.as_ref().ok_or(RecordError::Missing("status"))?;
    let old_primary: ServerAddr = status.old_primary.as_ref().ok_or(RecordError::Missing("oldPrimary"))?.parse()?;
    let ackers = status.acknowledgement.clone().unwrap_or_default();
    Ok(Recovery {
        record: record.name_any(),
        part: read_role(record.spec.role),
        phase: read_phase(status.phase.ok_or(RecordError::Missing("phase"))?),
        epoch: Epoch(u64::try_from(status.epoch.ok_or(RecordError::Missing("epoch"))?)?),
        executor: status.executor.clone().unwrap_or_default(),
        job: status.job.as_ref().map(read_job),
        cause: read_cause(&record.spec.cause, &old_primary)?,
        candidate: record.spec.candidate.as_ref().map(|text| text.parse()).transpose()?,
        evidence: status.evidence.iter().map(read_evidence).collect::<Result<_, _>>()?,
        candidates: status.candidates.iter().map(read_candidate).collect::<Result<_, _>>()?,
        old_primary,
        old_primary_uuid: status.old_primary_uuid.clone(),
        old_primary_set: status.old_primary_set.as_deref().map(set).transpose()?,
        old_primary_dead: status.old_primary_dead,
        new_primary: status.new_primary.as_ref().map(|text| text.parse()).transpose()?,
        promoted_set: status.promoted_set.as_deref().map(set).transpose()?,
        lost: status.lost.as_ref().map(read_lost).transpose()?,
        lost_replicas: addrs(&status.lost_replicas)?,
        pending_replicas: addrs(&status.pending_replicas)?,
        ackers: addrs(&ackers.ackers)?,
        unknown_ackers: ackers.unknown_ackers,
        wait_count: ackers.wait_count,
        lossless: ackers.lossless,
        steps: status.steps.iter().map(read_step).collect::<Result<_, _>>()?,
        timings: read_timings(&status.timings.clone().unwrap_or_default())?,
        message: status.message.clone().unwrap_or_default(),
        acknowledged: status.acknowledged,
    })
}

fn read_cause(cause: &FailoverCause, old_primary: &ServerAddr) -> Result<Cause, RecordError> {
    let server = match &cause.server {
        Some(server) => server.parse()?,
        None if cause.analysis == FORCED => old_primary.clone(),
        None => return Err(RecordError::Missing("cause.server")),
    };
    Ok(Cause { analysis: cause.analysis.clone(), server, reason: cause.reason.clone().unwrap_or_default() })
}

fn read_job(job: &JobStatus) -> JobRecord {
    JobRecord { name: job.name.clone(), problem: job.message.clone().unwrap_or_default() }
}

fn read_evidence(evidence: &EvidenceStatus) -> Result<Evidence, RecordError> {
    Ok(Evidence { server: evidence.server.parse()?, saw: evidence.saw.clone(), at_ms: evidence.at_ms })
}

fn read_candidate(candidate: &CandidateStatus) -> Result<CandidateRecord, RecordError> {
    let verdict = match candidate.verdict {
        CandidateVerdict::Chosen => Verdict::Chosen,
        CandidateVerdict::Eligible => Verdict::Eligible,
        CandidateVerdict::Excluded => Verdict::Excluded,
    };
    Ok(CandidateRecord { server: candidate.server.parse()?, verdict, reason: candidate.reason.clone() })
}

fn read_lost(lost: &LostStatus) -> Result<Loss, RecordError> {
    Ok(match lost.known {
        LossKind::None => Loss::None,
        LossKind::Unknown => Loss::Unknown,
        LossKind::AtLeast => Loss::AtLeast(set(lost.set.as_deref().ok_or(RecordError::Missing("lost.set"))?)?),
    })
}

fn read_step(step: &StepStatus) -> Result<StepRecord, RecordError> {
    let outcome = match step.outcome {
        StepOutcome::Done => Outcome::Done,
        StepOutcome::Failed => Outcome::Failed(step.reason.clone().unwrap_or_default()),
    };
    Ok(StepRecord {
        step: step.step.clone(),
        server: step.server.parse()?,
        started_ms: u64::try_from(step.started_ms)?,
        took_ms: u64::try_from(step.took_ms)?,
        outcome,
    })
}

fn read_timings(timings: &TimingsStatus) -> Result<Timings, RecordError> {
    let read = |time: Option<i64>| time.map(u64::try_from).transpose();
    Ok(Timings {
        detected: read(timings.detected)?,
        recorded: read(timings.recorded)?,
        fenced: read(timings.fenced)?,
        chosen: read(timings.chosen)?,
        writable: read(timings.writable)?,
        routed: read(timings.routed)?,
        completed: read(timings.completed)?,
    })
}
