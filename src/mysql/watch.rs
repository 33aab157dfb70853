//! The standing watch of one server: looks as often as asked, reports every failure at once, and
//! never waits for anything without a deadline.
//!
//! At the primary the server itself waits before each look (`DO SLEEP`), so the client is always in a
//! read and a closed socket is seen the moment it closes. At replicas the pause is ours, so that the
//! session is free when a look is wanted at once. What may be slow (new connections, the user's
//! queries) goes through connections of its own (`side`).

mod side;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use self::side::Side;
use super::{
    error::SessionError,
    execute::MysqlServers,
    look::{self, Beside, Glance, Kept},
    options::Options,
    session::{Known, Session},
};
use crate::core::{
    id::ServerAddr,
    observation::{Look, Observation},
    time::Mono,
};

/// What changes rarely is asked for this often.
const SLOW_EVERY: Duration = Duration::from_secs(1);
/// Longest pause between connection attempts in the first ten seconds, and ever, in milliseconds.
const RETRY_MS: (u64, u64) = (250, 2000);

/// How a server is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Time between looks, in milliseconds.
    pub interval_ms: u64,
    /// A look that takes longer counts as silence, in milliseconds.
    pub answer_ms: u64,
    /// Something is wrong: look with this pause, in milliseconds, instead.
    pub hurry_ms: Option<u64>,
    /// Let the server wait, so that a closed connection is seen at once.
    pub held: bool,
}

/// The watch of one server; ends when the receiver of the looks is gone.
pub struct Watch {
    /// The server.
    pub addr: ServerAddr,
    /// How to reach it.
    pub options: watch::Receiver<Arc<Options>>,
    /// How to look at it.
    pub pace: watch::Receiver<Pace>,
    /// Where looks go; bounded: who does not take them is not sent newer ones.
    pub looks: mpsc::Sender<(ServerAddr, Look)>,
    /// Who takes over new connections, so that one is always ready for action.
    pub servers: Option<Arc<MysqlServers>>,
    /// Reads the clock.
    pub now: Arc<dyn Fn() -> Mono + Send + Sync>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// Why a connection ended without having failed.
enum Ended {
    OptionsChanged,
    NobodyListens,
}

/// What the watch keeps between looks and connections.
struct State {
    known: Arc<Known>,
    kept: Kept,
    beside: watch::Receiver<Beside>,
    connected: watch::Sender<bool>,
    slow_at: Option<Instant>,
    failing: Option<(Instant, u32)>,
}

impl Watch {
    /// Runs until nobody listens.
    pub async fn run(mut self) {
        let known = Arc::new(Known::default());
        let (beside_sender, beside) = watch::channel(Beside::default());
        let (connected, connected_receiver) = watch::channel(false);
        let side = Side {
            addr: self.addr.clone(),
            options: self.options.clone(),
            pace: self.pace.clone(),
            connected: connected_receiver,
            known: Arc::clone(&known),
            beside: beside_sender,
            servers: self.servers.clone(),
            now: Arc::clone(&self.now),
        };
        let _side = AbortOnDropHandle::new(tokio::spawn(side.run()));
        let mut state = State { known, kept: Kept::default(), beside, connected, slow_at: None, failing: None };
        while !self.looks.is_closed() {
            let error = match self.serve(&mut state).await {
                Ok(Ended::OptionsChanged) => continue,
                Ok(Ended::NobodyListens) => return,
                Err(error) => error,
            };
            state.connected.send_replace(false);
            if self.report(Err(error.failure((self.now)()))).await.is_err() {
                return;
            }
            let (since, attempts) = *state.failing.get_or_insert((Instant::now(), 0));
            state.failing = Some((since, attempts.saturating_add(1)));
            self.pause(retry_ms(&self.addr, attempts, since.elapsed())).await;
        }
    }

    /// Looks on one connection until it fails or has to end.
    async fn serve(&mut self, state: &mut State) -> Result<Ended, SessionError> {
        let options = self.options.borrow_and_update().clone();
        let mut session = self.reconnect(&options, state).await?;
        loop {
            let pace = self.pace.borrow_and_update().clone();
            let held = pace.held && pace.hurry_ms.is_none() && state.slow_at.is_some();
            state.kept.beside.clone_from(&state.beside.borrow());
            // Where Baton keeps semi-sync, what somebody changes at the primary is to be seen at once, and what
            // Baton has mended must not be shown again as it was.
            let complete = pace.held && options.keeps_semi_sync;
            let glance = Glance {
                slow: complete || state.slow_at.is_none_or(|at| at.elapsed() >= SLOW_EVERY),
                replica_hosts: options.read_replica_hosts,
                commits: pace.held,
                pause_ms: held.then_some(pace.interval_ms),
                budget_ms: pace.answer_ms,
            };
            let Some(seen) = self.look(&mut session, state, glance, &options).await? else {
                continue;
            };
            if glance.slow {
                state.slow_at = Some(Instant::now());
            }
            state.failing = None;
            state.connected.send_replace(true);
            if self.report(Ok(seen)).await.is_err() {
                return Ok(Ended::NobodyListens);
            }
            match self.options.has_changed() {
                Ok(false) => {}
                Ok(true) => {
                    session.close().await;
                    return Ok(Ended::OptionsChanged);
                }
                Err(_) => return Ok(Ended::NobodyListens),
            }
            if !held {
                self.pause(pace.hurry_ms.unwrap_or(pace.interval_ms)).await;
            }
        }
    }

    /// Connects. After a failure, a connection that takes longer than a look may is one more sign of
    /// silence: it is reported at once and still waited for, because a slow server is not a dead one.
    async fn reconnect(&self, options: &Options, state: &mut State) -> Result<Session, SessionError> {
        let answer_ms = self.pace.borrow().answer_ms;
        let failing = state.failing.is_some();
        let connecting = self.connect(options, state);
        tokio::pin!(connecting);
        if failing {
            match timeout(Duration::from_millis(answer_ms), &mut connecting).await {
                Ok(connected) => return connected,
                Err(_) => {
                    let silent = SessionError::silent("a new connection", answer_ms).failure((self.now)());
                    // Whether anybody listens shows with the next look.
                    drop(self.report(Err(silent)).await);
                }
            }
        }
        connecting.await
    }

    async fn connect(&self, options: &Options, state: &mut State) -> Result<Session, SessionError> {
        let budget_ms = options.connect_ms.max(self.pace.borrow().answer_ms);
        // Connecting is rare: its large state must not be part of every watch that only looks.
        let connected = Box::pin(Session::connect(&self.addr, options, &state.known, "baton/watch", budget_ms));
        let session = connected.await?;
        state.kept = Kept::default();
        state.slow_at = None;
        Ok(session)
    }

    /// One look. When there is hurry while the server waits, a new connection takes over; `None`
    /// then: look again.
    async fn look(
        &mut self,
        session: &mut Session,
        state: &mut State,
        glance: Glance,
        options: &Options,
    ) -> Result<Option<Box<Observation>>, SessionError> {
        let now = Arc::clone(&self.now);
        let mut kept = std::mem::take(&mut state.kept);
        let taken = async {
            let taken = look::take(session, &mut kept, glance, move || now());
            tokio::pin!(taken);
            tokio::select! {
                taken = &mut taken => return Ok(taken),
                () = hurry(&mut self.pace), if glance.pause_ms.is_some() => {}
            }
            match self.connect(options, state).await {
                Ok(fresh) => Err(fresh),
                Err(_) => Ok(taken.await),
            }
        }
        .await;
        match taken {
            Ok(taken) => {
                state.kept = kept;
                taken.map(Some)
            }
            Err(fresh) => {
                *session = fresh;
                Ok(None)
            }
        }
    }

    /// Hands over a look, waiting for room.
    async fn report(&self, look: Look) -> Result<(), mpsc::error::SendError<(ServerAddr, Look)>> {
        self.looks.send((self.addr.clone(), look)).await
    }

    /// Waits, but not when there is hurry.
    async fn pause(&mut self, ms: u64) {
        tokio::select! {
            () = sleep(Duration::from_millis(ms)) => {}
            () = hurry(&mut self.pace) => {}
        }
    }
}

/// Waits until there is hurry.
async fn hurry(pace: &mut watch::Receiver<Pace>) {
    while pace.changed().await.is_ok() {
        if pace.borrow_and_update().hurry_ms.is_some() {
            return;
        }
    }
    std::future::pending().await
}

/// Pause before the next attempt to connect: none before the first, short ones for ten seconds, then
/// growing for a minute. Up to a quarter less, differently for each server and attempt, so that many
/// do not come at once.
fn retry_ms(addr: &ServerAddr, attempts: u32, failing_for: Duration) -> u64 {
    let failing_ms = u64::try_from(failing_for.as_millis()).unwrap_or(u64::MAX);
    let growing_ms = match attempts {
        0 => return 0,
        1..=3 => 25_u64 << attempts,
        _ => (failing_ms / 30).clamp(RETRY_MS.0, RETRY_MS.1),
    };
    let mut hasher = DefaultHasher::new();
    (addr, attempts).hash(&mut hasher);
    growing_ms - hasher.finish() % (growing_ms / 4 + 1)
}
