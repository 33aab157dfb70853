//! One recovery of a lost primary: what is written down about it and how it goes
//! on from any point.
//!
//! [`Recovery`] is the write-ahead journal: it is the `status` of a `MysqlFailover` object. Whoever
//! leads can continue from it and a fresh look at the servers.

mod acking;
mod catching_up;
mod completing;
mod fencing;
mod force;
mod forcing;
#[cfg(feature = "testing")]
mod forget;
mod hanging;
pub mod leave;
mod leaving;
pub mod machine;
mod member;
mod outcomes;
mod promoting;
mod reopening;
mod restoring;
mod shortage;
mod stage;

use serde::{Deserialize, Serialize};

use super::{
    analysis::code::Code,
    durability::Durability,
    gtid::GtidSet,
    id::{Epoch, ServerAddr},
    step::Action,
};

/// How far a recovery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Phase {
    /// Written down, nothing done yet.
    #[default]
    Pending,
    /// Receivers are being stopped, so that the old primary can acknowledge nothing.
    Fencing,
    /// The candidates are compared.
    Choosing,
    /// The chosen server is made the primary.
    Promoting,
    /// Clients can write to the new primary and are routed to it.
    Writable,
    /// The other servers are brought in line.
    Completing,
    /// Done.
    Succeeded,
    /// Given up; what was fenced has been restored where possible.
    Failed,
    /// Not done for a reason that is written down.
    Refused,
}

impl Phase {
    /// Whether nothing will happen any more.
    #[must_use]
    pub fn finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Refused)
    }

    /// Whether the new primary was writable in this phase.
    #[must_use]
    pub fn promoted(self) -> bool {
        matches!(self, Self::Writable | Self::Completing | Self::Succeeded)
    }
}

/// [`Cause::analysis`] of a recovery that a person forces.
pub const FORCED: &str = "Forced";

/// The part that the lost server played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Part {
    /// Clients wrote to it: another server becomes the primary, in a new reign.
    #[default]
    Primary,
    /// Other replicas followed it: they follow somebody else, and the primary stays.
    IntermediatePrimary,
}

/// What made the recovery necessary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Analysis code, or [`FORCED`].
    pub analysis: String,
    /// The server it is about.
    pub server: ServerAddr,
    /// The reason a person gave; empty for automatic recoveries.
    pub reason: String,
}

impl Cause {
    /// Whether a person forces it.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.analysis == FORCED
    }

    /// Whether the primary there is refuses writes and is to accept them again: nobody else is chosen.
    #[must_use]
    pub fn reopens(&self) -> bool {
        self.analysis == Code::NoWritablePrimary.name()
    }

    /// Whether it is no death: the old primary answers, so it has to be fenced before anything else.
    #[must_use]
    pub fn spares_the_living(&self) -> bool {
        self.is_forced() || self.analysis == Code::StalledPrimary.name()
    }
}

/// Name of the record by which Baton begins `epoch`: the same for everybody, so it exists at most once.
#[must_use]
pub fn record_name(cluster: &str, epoch: Epoch) -> String {
    format!("{cluster}-{epoch}")
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Who saw it or showed it.
    pub server: ServerAddr,
    /// What, as a sentence.
    pub saw: String,
    /// Milliseconds before (negative) or after the first sign of the failure.
    pub at_ms: i64,
}

/// What was decided about one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// Became the primary.
    Chosen,
    /// Could have.
    Eligible,
    /// Could not.
    Excluded,
}

/// One candidate with the decision about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateRecord {
    /// The server.
    pub server: ServerAddr,
    /// The decision.
    pub verdict: Verdict,
    /// Why, as a sentence.
    pub reason: String,
}

/// What is known about acknowledged transactions that the new primary does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Proven: nothing that was acknowledged is missing.
    None,
    /// At least these were committed on the old primary and are on no promoted server.
    AtLeast(GtidSet),
    /// Nothing is known to be missing, but nothing proves that nothing is.
    Unknown,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It failed, with the reason.
    Failed(String),
}

impl Outcome {
    /// Whether it is the same but for how long something was waited for.
    fn is_like(&self, other: &Self) -> bool {
        fn untimed(text: &str) -> impl Iterator<Item = &str> {
            let next = text.split(' ').skip(1).chain([""]);
            text.split(' ').zip(next).filter(|(_, next)| !next.starts_with("ms")).map(|(word, _)| word)
        }
        match (self, other) {
            (Self::Failed(one), Self::Failed(other)) => untimed(one).eq(untimed(other)),
            _ => self == other,
        }
    }
}

/// One step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// What (an action's name).
    pub step: String,
    /// On which server.
    pub server: ServerAddr,
    /// When it started, in milliseconds since the first sign.
    pub started_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// When things were reached, in milliseconds since the first sign of the failure.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timings {
    /// The failure was certain enough to act.
    pub detected: Option<u64>,
    /// The intent was written down.
    pub recorded: Option<u64>,
    /// The old primary could acknowledge nothing any more.
    pub fenced: Option<u64>,
    /// The new primary was chosen.
    pub chosen: Option<u64>,
    /// Clients could write again.
    pub writable: Option<u64>,
    /// Clients were routed to the new primary.
    pub routed: Option<u64>,
    /// Everything was done.
    pub completed: Option<u64>,
}

/// The Job that carries a recovery out, or completes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its name; empty: there is none.
    pub name: String,
    /// Why the operator does without it; empty: it does not.
    pub problem: String,
}

/// Why a leader does not go on with an unfinished recovery: it is left to a Job, or a Job has claimed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The version of the record that says so.
    pub version: String,
    /// A record that has this version for so long is nobody's, in milliseconds.
    pub patience_ms: u64,
    /// What is the matter then, as a sentence.
    pub reason: String,
}

/// The journal of one recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Name of the object that records it.
    pub record: String,
    /// What was lost.
    pub part: Part,
    /// How far it is.
    pub phase: Phase,
    /// The reign it begins; of an intermediate primary: in which it happens.
    pub epoch: Epoch,
    /// Who executes it: the identity of the operator's process or of the Job's. Empty: it is left to the Job.
    pub executor: String,
    /// The Job that is to carry it out or to complete it.
    pub job: Option<JobRecord>,
    /// What made it necessary.
    pub cause: Cause,
    /// The server that a person wants promoted, and no other.
    pub candidate: Option<ServerAddr>,
    /// What was seen.
    pub evidence: Vec<Evidence>,
    /// Candidates and decisions.
    pub candidates: Vec<CandidateRecord>,
    /// The primary that was lost.
    pub old_primary: ServerAddr,
    /// `server_uuid` of the lost primary where known.
    pub old_primary_uuid: Option<String>,
    /// What the newest look at the lost primary showed that it had, before anything was done. Who takes over has
    /// never seen it. `None`: it was never seen, or that is too long to be written ([`Self::SET_LEN_MAX`]).
    pub old_primary_set: Option<GtidSet>,
    /// Of a recovery that a person forces: the old primary was dead and did not answer since.
    pub old_primary_dead: bool,
    /// The primary that was made.
    pub new_primary: Option<ServerAddr>,
    /// Transactions the new primary had when it was promoted.
    pub promoted_set: Option<GtidSet>,
    /// Acknowledged transactions that are missing.
    pub lost: Option<Loss>,
    /// Replicas that cannot follow the new primary.
    pub lost_replicas: Vec<ServerAddr>,
    /// Replicas that are still to be repointed.
    pub pending_replicas: Vec<ServerAddr>,
    /// Servers that could have acknowledged (N of safety.md), written down before the fence.
    pub ackers: Vec<ServerAddr>,
    /// Ackers the old primary counted that are not among the known ones.
    pub unknown_ackers: u32,
    /// Acknowledgements a commit needed (W); 0 without semi-sync.
    pub wait_count: u32,
    /// Semi-sync was such that nothing was acknowledged without `wait_count` copies.
    pub lossless: bool,
    /// Steps taken, oldest first, bounded.
    pub steps: Vec<StepRecord>,
    /// When things were reached.
    pub timings: Timings,
    /// Why it waits, failed or was refused; empty otherwise.
    pub message: String,
    /// A person has taken note; lifts the block on the next automatic failover.
    pub acknowledged: bool,
}

impl Recovery {
    /// Steps kept in a record; the rest is in the log.
    pub const STEPS_MAX: usize = 200;

    /// Longest [`Self::old_primary_set`] as text, in bytes.
    pub const SET_LEN_MAX: usize = 65_536;

    /// Name of the step that says that a server had been chosen and then another one was. It is kept
    /// whatever the bound: the next leader must know whose transactions are Baton's.
    pub const LEFT: &str = "LeftForAnother";

    /// Servers that were chosen and then left for another.
    pub fn left(&self) -> impl Iterator<Item = &ServerAddr> {
        self.steps.iter().filter(|step| step.step == Self::LEFT).map(|step| &step.server)
    }

    /// What was known of the lost primary's acknowledgements when it was written down.
    #[must_use]
    pub fn durability(&self) -> Durability {
        Durability {
            ackers: self.ackers.iter().cloned().collect(),
            unknown_ackers: self.unknown_ackers,
            wait_count: self.wait_count,
            lossless: self.lossless,
        }
    }

    /// Appends a step while there is room.
    pub fn note(&mut self, step: StepRecord) {
        let same = |other: &&mut StepRecord| other.step == step.step && other.outcome.is_like(&step.outcome);
        let mut of_server = self.steps.iter_mut().rev().filter(|other| other.server == step.server);
        // What is tried for hours is shown with its first and its newest time.
        let newest = of_server.next().filter(same);
        if let Some(newest) = newest.filter(|_| of_server.next().is_some_and(|before| same(&before))) {
            *newest = step;
        } else if self.steps.len() < Self::STEPS_MAX || step.step == Action::ForgetSource.name() {
            self.steps.push(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_alike_if_they_differ_by_how_long_was_waited() {
        let failed = |text: &str| Outcome::Failed(text.to_owned());
        let one = failed("no answer within 993 ms (1045)");
        assert!(one.is_like(&failed("no answer within 1000 ms (1045)")));
        assert!(!one.is_like(&failed("no answer within 993 ms (1046)")), "another error");
        assert!(!one.is_like(&failed("no answer within 993 s (1045)")) && !one.is_like(&Outcome::Done));
    }
}
