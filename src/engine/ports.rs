//! What the engine needs from the outside, as traits: MySQL sessions, durable records, leadership and
//! a clock. The shells implement them, tests and the simulation do too.

use std::future::Future;

use crate::core::{
    id::{ClusterKey, ServerAddr},
    membership::Membership,
    observation::Observation,
    recovery::{Hold, Recovery},
    step::Action,
    time::Mono,
};

use super::{facts::History, turns::Turn};
pub use crate::core::step::ActionError;

/// Acts on MySQL servers: one session per server kept ready for it, apart from the observing one.
pub trait Servers: Send + Sync + 'static {
    /// Does `action` on `addr` within `budget_ms` and answers with a look taken right after it in the
    /// same session (before it where the action closes the session).
    ///
    /// # Errors
    /// [`ActionError`]; after `Contact` the action may or may not have happened.
    fn act(
        &self,
        addr: &ServerAddr,
        action: Action,
        budget_ms: u64,
    ) -> impl Future<Output = Result<Box<Observation>, ActionError>> + Send;
}

/// Time.
pub trait Clock: Send + Sync + 'static {
    /// Now, on the process' monotonic clock.
    fn now(&self) -> Mono;
    /// Seconds since the Unix epoch, for what people read; never for decisions.
    fn wall_ms(&self) -> u64;
    /// Waits.
    fn sleep_ms(&self, ms: u64) -> impl Future<Output = ()> + Send;
}

/// Whether this process may act.
pub trait Leadership: Send + Sync + 'static {
    /// Until when this process is surely the leader; `None` or the past: it is not.
    fn leader_until(&self) -> Option<Mono>;
}

/// Why a record could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Somebody else won the epoch or executes this record, or it is gone: stop acting.
    #[error("another executor has this recovery: {0}")]
    Lost(String),
    /// The API server could not be asked or answered with an error: unknown whether it happened.
    #[error("cannot write the record: {0}")]
    Unavailable(String),
}

/// The durable record of recoveries, and where clients are sent. One per cluster.
pub trait Journal: Send + Sync + 'static {
    /// Creates the record of `recovery` and wins its epoch by compare-and-swap on a fresh read: both
    /// or an error. Doing it twice with the same recovery is the same as once.
    fn begin(&self, recovery: &Recovery) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// All records of this cluster, read freshly. Where nobody else writes there are none but one's own.
    fn history(&self) -> impl Future<Output = Result<History, JournalError>> + Send {
        async { Ok(History::default()) }
    }

    /// The turn of `cluster` to begin a recovery, where many need one at the same moment, higher priorities first; `None`:
    /// others are before it, and it asks again. Where nobody else writes it always is.
    fn turn(&self, _cluster: &ClusterKey, _priority: u32, _now: Mono) -> Option<Turn> {
        Some(Turn::free())
    }

    /// Writes the record.
    fn save(&self, recovery: &Recovery) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Claims the unfinished record `name` for `executor` and reads it freshly. One that cannot go on is
    /// answered as finished. One that is a Job's, or left to one, is claimed only over the very version
    /// that `over` found to be nobody's.
    fn claim(
        &self,
        name: &str,
        executor: &str,
        over: Option<&Hold>,
    ) -> impl Future<Output = Result<Recovery, JournalError>> + Send;

    /// Writes into the request `name`, which nobody has begun, why it is refused.
    fn refuse(&self, name: &str, reason: &str) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Writes down who may acknowledge, where `from` is written; that it is there already is as good.
    fn members(
        &self,
        from: Option<&Membership>,
        to: &Membership,
    ) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Routes writing clients to `primary`, or to nobody.
    fn route(&self, primary: Option<&ServerAddr>) -> impl Future<Output = Result<(), JournalError>> + Send;
}

/// Jobs that recoveries are left to.
pub trait Jobs: Send + Sync + 'static {
    /// Name of the Job for the record `record`, whether it is there or not; `None`: there are no Jobs. `request`: UID of
    /// the object that a person made, whose name may have been another's before; else empty.
    fn job_for(&self, record: &str, request: &str) -> Option<String>;

    /// Creates the Job that `recovery` names; that it is there already is as good. The error says why not.
    fn start_job(&self, recovery: &Recovery) -> impl Future<Output = Result<(), String>> + Send;

    /// Writes the record without its executor, `recovery.executor`: from then on it is its Job's. That it is so
    /// already is as good.
    fn leave(&self, recovery: &Recovery) -> impl Future<Output = Result<(), JournalError>> + Send;
}

/// Says of a world that there are no Jobs.
pub trait NoJobs: Send + Sync + 'static {}

impl<T: NoJobs> Jobs for T {
    fn job_for(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    async fn start_job(&self, _: &Recovery) -> Result<(), String> {
        Err("there are no Jobs".to_owned())
    }

    async fn leave(&self, _: &Recovery) -> Result<(), JournalError> {
        Err(JournalError::Unavailable("there are no Jobs".to_owned()))
    }
}

/// All the ports of one cluster.
pub trait World: Servers + Journal + Jobs + Leadership + Clock {}

impl<T: Servers + Journal + Jobs + Leadership + Clock> World for T {}
