//! Who may act: the election over one Kubernetes Lease, as a state machine without clock or network
//! (safety.md, "Leadership").
//!
//! The shell performs one [`Effect`] at a time and feeds its result back as an [`Input`]. The promise,
//! checked exhaustively in `tests/model/election.rs`: as long as no process' clock runs
//! `lease / deadline` times as fast as another's, no two processes are both before their
//! [`Election::leader_until`], whatever requests and answers are lost, late or applied without an answer,
//! and however long a process is stopped.
//!
//! What it rests on:
//! - every write carries the uid and resource version of the Lease it was decided on;
//! - a renewal counts from before it was sent, and for less than what others wait;
//! - others wait that long after the last change they *saw*; nobody's wall clock is ever compared;
//! - creating a Lease never confers leadership: a Lease that is not there may have been deleted under a
//!   leader, and a create is conditional on nothing but absence, which can come twice. It is created
//!   without a holder, and then waited for like any other.

mod record;
#[cfg(test)]
mod tests;
mod timing;

pub use record::{Claim, Record, Version};
pub use timing::{LEASE_MS_MAX, Timing, TimingError};

use super::{
    rules::{Rule, holds},
    time::Mono,
};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// The wait is over, or something suggests that looking earlier pays.
    Tick,
    /// The Lease was read; `None`: there is none.
    Observed(Option<Record>),
    /// The write was applied and the Lease is now this version.
    Wrote(Version),
    /// The write was refused because the Lease is not as it was read (changed, gone, already there).
    Conflict,
    /// The request failed or was not answered in time: a write may have been applied, or still be.
    Failed,
    /// An orderly stop: whatever this process did as the leader has ended. A request under way is
    /// abandoned; its answer must not be fed in.
    Shutdown,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Read the Lease, from the store and not from a cache.
    Get,
    /// Create the Lease, without a holder.
    Create(Claim),
    /// Update the Lease, on condition that it still is `over`.
    Replace {
        /// The state that was decided on.
        over: Version,
        /// What to write.
        claim: Claim,
    },
    /// Wait, then [`Input::Tick`].
    Sleep {
        /// At most this long, in milliseconds.
        ms: u64,
    },
    /// The machine has ended.
    Stop(Outcome),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Leadership is over; the process must stop acting, and exit.
    Lost(Lost),
    /// The Lease was given up; another process can take it at once.
    Released,
    /// An orderly stop, and the Lease is not ours.
    NotHeld,
    /// An orderly stop, but giving up the Lease did not succeed in time; it expires.
    Unreleased,
}

/// Why leadership ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Lost {
    /// No renewal succeeded in time, or the process did not run in time.
    #[error("no renewal succeeded within the renew deadline")]
    Validity,
    /// Somebody else holds the Lease, or has emptied it.
    #[error("lease is held by {:?}", holder.as_deref().unwrap_or(""))]
    Taken {
        /// The holder it names now.
        holder: Option<String>,
    },
}

/// One contender, from its start to its end. Plain data that depends on differences of times only: the
/// model checker moves it through time; everyone else calls [`Election::step`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Election {
    /// Identity of this start of the process.
    pub me: String,
    /// Its durations.
    pub timing: Timing,
    /// Where it is in its life.
    pub stage: Stage,
    /// The Lease as last known; `None`: never read.
    pub seen: Option<Seen>,
    /// The outcome of a write is unknown: `seen` may be outdated by ourselves.
    pub unsure: bool,
    /// The request under way.
    pub call: Call,
    /// Start of the current attempt; the next begins one retry period later.
    pub round: Mono,
    /// A conflict was already answered by reading again in this attempt.
    pub reread: bool,
    /// See [`Election::leader_until`].
    pub leader_until: Option<Mono>,
}

/// A state of the Lease and how long it is known to last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The Lease; `None`: absent.
    pub record: Option<Record>,
    /// When this state was first seen, later than it came to be.
    pub since: Mono,
}

/// Where a contender is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Wants to lead, or leads.
    Running,
    /// Giving up the Lease, until then at the latest.
    Releasing(Mono),
    /// Does nothing any more.
    Ended,
}

/// The request under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Call {
    /// None.
    None,
    /// The Lease is being read.
    Read,
    /// The Lease is being written.
    Write {
        /// When the request was handed out, before it was sent.
        started: Mono,
        /// What is written.
        claim: Claim,
    },
}

impl Call {
    fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

impl Election {
    /// A contender that knows nothing. `identity` must be unique to this start of the process: a Lease
    /// held by an earlier process of the same name is somebody else's. Begin with [`Input::Tick`].
    #[must_use]
    pub fn new(identity: &str, timing: Timing) -> Self {
        Self {
            me: identity.to_owned(),
            timing,
            stage: Stage::Running,
            seen: None,
            unsure: false,
            call: Call::None,
            round: Mono::default(),
            reread: false,
            leader_until: None,
        }
    }

    /// Until when this process is surely the only leader, on its own clock; compare with the time at the
    /// moment of acting, strictly.
    #[must_use]
    pub fn leader_until(&self) -> Option<Mono> {
        self.leader_until
    }

    /// The Lease as last known.
    #[must_use]
    pub fn lease(&self) -> Option<&Record> {
        self.seen.as_ref().and_then(|seen| seen.record.as_ref())
    }

    /// Takes in what happened and says what to do next.
    pub fn step(&mut self, now: Mono, input: Input) -> Effect {
        let call = std::mem::replace(&mut self.call, Call::None);
        if self.stage == Stage::Ended {
            return Effect::Stop(Outcome::NotHeld);
        }
        if input == Input::Shutdown {
            return self.give_up(now, &call);
        }
        if self.leader_until.is_some_and(|until| now >= until) {
            return self.end(Outcome::Lost(Lost::Validity));
        }
        match (call, input) {
            (Call::Read, Input::Observed(record)) => self.observed(now, record),
            (Call::Write { started, claim }, Input::Wrote(version)) => self.wrote(now, started, claim, version),
            (call, Input::Tick | Input::Shutdown) => {
                self.unsure |= call.is_write();
                self.attempt(now)
            }
            (call, Input::Failed) => {
                self.unsure |= call.is_write();
                self.rest(now)
            }
            // An answer to nothing is treated like a conflict: what is known may be outdated.
            (_, Input::Conflict | Input::Observed(_) | Input::Wrote(_)) => self.read_again(now),
        }
    }

    /// A new attempt. Who holds the Lease renews what it knows with one request, everyone else looks first.
    fn attempt(&mut self, now: Mono) -> Effect {
        self.round = now;
        self.reread = false;
        let holds = self.lease().is_some_and(|record| record.is_held_by(&self.me));
        match self.stage {
            Stage::Running if holds && !self.unsure => self.hold(now),
            _ => self.read(),
        }
    }

    fn read(&mut self) -> Effect {
        self.call = Call::Read;
        Effect::Get
    }

    /// Once per attempt, so that a server which refuses every write is not asked without a pause.
    fn read_again(&mut self, now: Mono) -> Effect {
        self.unsure = true;
        if std::mem::replace(&mut self.reread, true) { self.rest(now) } else { self.read() }
    }

    fn observed(&mut self, now: Mono, record: Option<Record>) -> Effect {
        let version = |record: &Option<Record>| record.as_ref().map(|record| record.version.clone());
        let since = match &self.seen {
            Some(last) if version(&last.record) == version(&record) => last.since,
            _ => now,
        };
        self.seen = Some(Seen { record: record.clone(), since });
        self.unsure = false;
        match (self.stage, record) {
            (Stage::Releasing(_), Some(record)) if record.is_held_by(&self.me) => self.release(now, &record),
            (Stage::Releasing(_), _) => self.end(Outcome::NotHeld),
            (_, Some(record)) if self.leader_until.is_some() && !record.is_held_by(&self.me) => {
                self.end(Outcome::Lost(Lost::Taken { holder: record.holder }))
            }
            (_, record) => self.take_or_wait(now, record.as_ref(), since),
        }
    }

    /// Takes the Lease if it is ours or free, else waits until it may be.
    fn take_or_wait(&mut self, now: Mono, record: Option<&Record>, since: Mono) -> Effect {
        let Some(record) = record else {
            return self.write(now, Claim::unheld(self.timing));
        };
        // Who leads has nobody to wait for when the Lease was deleted and is there again without a holder.
        let still_ours = self.leader_until.is_some() && record.holder().is_none();
        let free = record.is_held_by(&self.me) || record.is_released() || still_ours;
        let free_at = if free || !holds(Rule::LeaseExpires) { now } else { since.plus_ms(record.wait_ms(self.timing)) };
        if now >= free_at {
            return self.hold(now);
        }
        Effect::Sleep { ms: free_at.min(self.round.plus_ms(self.timing.retry_ms())).since_ms(now) }
    }

    /// Takes or renews the Lease as last known.
    fn hold(&mut self, now: Mono) -> Effect {
        match self.lease() {
            Some(record) => {
                let claim = Claim::hold(&self.me, self.timing, record);
                self.write(now, claim)
            }
            None => self.read(),
        }
    }

    fn release(&mut self, now: Mono, record: &Record) -> Effect {
        self.write(now, Claim::release(record))
    }

    fn write(&mut self, now: Mono, claim: Claim) -> Effect {
        self.call = Call::Write { started: now, claim: claim.clone() };
        match self.lease() {
            Some(record) => Effect::Replace { over: record.version.clone(), claim },
            None => Effect::Create(claim),
        }
    }

    fn wrote(&mut self, now: Mono, started: Mono, claim: Claim, version: Version) -> Effect {
        if matches!(self.stage, Stage::Releasing(_)) {
            return self.end(Outcome::Released);
        }
        let held = claim.holder == self.me;
        let record = claim.into_record(version);
        self.seen = Some(Seen { record: Some(record.clone()), since: now });
        self.unsure = false;
        if !held {
            return self.take_or_wait(now, Some(&record), now);
        }
        let from = if holds(Rule::Validity) { started } else { now.plus_ms(self.timing.deadline_ms()) };
        let until = from.plus_ms(self.timing.deadline_ms());
        // An answer that comes after its own validity makes no leader; the renewal that follows may.
        if until > now {
            self.leader_until = Some(until);
        }
        self.rest(now)
    }

    /// Waits for the next attempt, or for the end of validity.
    fn rest(&mut self, now: Mono) -> Effect {
        if matches!(self.stage, Stage::Releasing(until) if now >= until) {
            return self.end(Outcome::Unreleased);
        }
        let next = self.round.plus_ms(self.timing.retry_ms());
        let wake = self.leader_until.map_or(next, |until| until.min(next));
        Effect::Sleep { ms: wake.since_ms(now) }
    }

    fn give_up(&mut self, now: Mono, call: &Call) -> Effect {
        self.leader_until = None;
        self.unsure |= call.is_write();
        self.stage = Stage::Releasing(now.plus_ms(self.timing.deadline_ms()));
        self.round = now;
        self.reread = false;
        match self.lease() {
            _ if self.unsure => self.read(),
            Some(record) if record.is_held_by(&self.me) => {
                let record = record.clone();
                self.release(now, &record)
            }
            _ => self.end(Outcome::NotHeld),
        }
    }

    fn end(&mut self, outcome: Outcome) -> Effect {
        self.leader_until = None;
        self.stage = Stage::Ended;
        Effect::Stop(outcome)
    }
}
