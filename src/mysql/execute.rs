//! Actions on servers: one session per server kept ready for them, apart from the observing one.

mod reign;
mod replication;
mod semi_sync;
mod work;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use tokio::sync::{Mutex, watch};
use tokio::time::{Duration, Instant, timeout};

use self::work::{Failed, Work};
use super::{
    error::SessionError,
    look::Kept,
    options::Options,
    session::{Known, Session},
};
use crate::{
    core::{
        id::ServerAddr,
        observation::{FailureKind, Observation},
        step::{Action, ActionError},
        time::Mono,
    },
    engine::ports::Servers,
};

/// Sessions for actions on the servers of one cluster.
pub struct MysqlServers {
    options: watch::Receiver<Arc<Options>>,
    slots: std::sync::Mutex<BTreeMap<ServerAddr, Arc<Mutex<Slot>>>>,
    now: Arc<dyn Fn() -> Mono + Send + Sync>,
}

impl std::fmt::Debug for MysqlServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlServers").finish_non_exhaustive()
    }
}

/// The sessions of one server.
#[derive(Debug, Default)]
struct Slot {
    ready: Option<Ready>,
    /// A second session, for the one statement that may hang: the epoch's commit waits for an acker,
    /// and the claim must not be lost with it.
    writer: Option<Session>,
    known: Known,
}

/// A session with what was seen in it.
#[derive(Debug)]
struct Ready {
    session: Session,
    kept: Kept,
    claim: Option<Claim>,
}

/// The right to unfence, as far as this process knows; the server has the last word.
#[derive(Debug, Clone, Copy)]
struct Claim {
    until: Instant,
}

/// When an action was asked for, and until when it may take.
#[derive(Debug, Clone, Copy)]
struct Time {
    begun: Instant,
    until: Instant,
}

impl MysqlServers {
    /// Sessions are made when they are first needed, by [`MysqlServers::warm`], or handed over by the
    /// watch ([`MysqlServers::adopt`]).
    #[must_use]
    pub fn new(options: watch::Receiver<Arc<Options>>, now: Arc<dyn Fn() -> Mono + Send + Sync>) -> Self {
        Self { options, slots: std::sync::Mutex::default(), now }
    }

    fn slot(&self, addr: &ServerAddr) -> Arc<Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(addr.clone()).or_default())
    }

    /// Forgets the sessions of servers that left.
    pub fn keep_only(&self, keep: impl Fn(&ServerAddr) -> bool) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|addr, _| keep(addr));
    }

    /// Makes sure that a session is ready, so that a recovery need not connect first.
    ///
    /// # Errors
    /// [`ActionError::Contact`].
    pub async fn warm(&self, addr: &ServerAddr, budget_ms: u64) -> Result<(), ActionError> {
        let slot = self.slot(addr);
        // Whoever holds the slot has a session. One that is there is exchanged by the watch now and then.
        let ready = slot.try_lock().map_or(true, |slot| slot.ready.is_some());
        if ready {
            return Ok(());
        }
        Box::pin(self.act(addr, Action::Look, budget_ms)).await.map(|_| ())
    }

    /// Takes over a session that was just made and looked through, in place of an older idle one. Gives
    /// it back while an action or a claim uses the older one.
    pub fn adopt(&self, addr: &ServerAddr, session: Session, kept: Kept) -> Option<Session> {
        let slot = self.slot(addr);
        let Ok(mut slot) = slot.try_lock() else {
            return Some(session);
        };
        if slot.ready.as_ref().and_then(|ready| ready.claim).is_some_and(|claim| claim.until > Instant::now()) {
            return Some(session);
        }
        let fresh = Ready { session, kept, claim: None };
        slot.ready.replace(fresh).map(|ready| ready.session)
    }

    async fn perform(&self, addr: &ServerAddr, action: &Action, time: Time) -> Result<Box<Observation>, Failed> {
        let slot = self.slot(addr);
        let mut slot = timeout(left(time.until), slot.lock_owned())
            .await
            .map_err(|_| SessionError::new(FailureKind::Silent, "another action is still under way"))?;
        let options = self.options.borrow().clone();
        let reused = slot.ready.is_some();
        match self.attempt(addr, action, &options, &mut slot, time).await {
            // A warm session may have died unnoticed, with its server long since back.
            Err(Failed::Session(error)) if reused && error.kind == FailureKind::Refused && !needs_claim(action) => {
                self.attempt(addr, action, &options, &mut slot, time).await
            }
            result => result,
        }
    }

    /// The session is taken out of its slot while it is used: whatever breaks off the action, also the
    /// caller who waits no longer, nobody meets a session with an answer outstanding.
    async fn attempt(
        &self,
        addr: &ServerAddr,
        action: &Action,
        options: &Options,
        slot: &mut Slot,
        time: Time,
    ) -> Result<Box<Observation>, Failed> {
        let Time { begun, until } = time;
        let mut ready = self.ready(addr, action, options, slot, until).await?;
        let mut work = Work { addr, ready: &mut ready, slot, options, until, begun, now: Arc::clone(&self.now) };
        let result = async {
            if !work.ready.kept.filled {
                work.look().await?;
            }
            work.run(action).await
        }
        .await;
        let broken = matches!(&result, Err(Failed::Session(error)) if error.code.is_none());
        if !broken {
            slot.ready = Some(ready);
        }
        result
    }

    /// The session for an action: a claim gets one that carries its epoch, and leaves the old one to
    /// write with.
    async fn ready(
        &self,
        addr: &ServerAddr,
        action: &Action,
        options: &Options,
        slot: &mut Slot,
        until: Instant,
    ) -> Result<Ready, Failed> {
        let (program, found) = match action {
            Action::Claim { epoch, .. } => {
                slot.writer = slot.ready.take().map(|ready| ready.session).or(slot.writer.take());
                (format!("baton/epoch={epoch}"), None)
            }
            _ => ("baton/act".to_owned(), slot.ready.take()),
        };
        let claimed = found.as_ref().is_some_and(|ready| ready.claim.is_some());
        if needs_claim(action) && !claimed {
            slot.ready = found;
            return Err(Failed::Precondition("there is no claim, or its session is gone".to_owned()));
        }
        if let Some(ready) = found {
            return Ok(ready);
        }
        let budget_ms = left_ms(until).min(options.connect_ms);
        let session = Box::pin(Session::connect(addr, options, &slot.known, &program, budget_ms)).await?;
        Ok(Ready { session, kept: Kept::default(), claim: None })
    }
}

/// Actions that mean something only in the session that made the claim.
fn needs_claim(action: &Action) -> bool {
    matches!(action, Action::WriteEpoch { .. } | Action::Unfence)
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn left_ms(until: Instant) -> u64 {
    u64::try_from(left(until).as_millis()).unwrap_or(u64::MAX).max(1)
}

impl Servers for MysqlServers {
    async fn act(&self, addr: &ServerAddr, action: Action, budget_ms: u64) -> Result<Box<Observation>, ActionError> {
        let begun = Instant::now();
        let time = Time { begun, until: begun + Duration::from_millis(budget_ms) };
        self.perform(addr, &action, time).await.map_err(|failed| match failed {
            Failed::Session(error) | Failed::Writer(error) => {
                ActionError::Contact { server: addr.clone(), failure: error.failure((self.now)()) }
            }
            Failed::Refused(statement, error) => ActionError::Refused {
                server: addr.clone(),
                statement,
                code: error.code.unwrap_or_default(),
                message: error.message,
            },
            Failed::Precondition(reason) => ActionError::Precondition { server: addr.clone(), reason },
        })
    }
}
