//! The standing watch of one server: looks as often as asked, reports every failure at once, and
//! never waits for anything without a deadline.
//!
//! At the primary the server itself waits before each look (`DO SLEEP`), so the client is always in a
//! read and a closed socket is seen the moment it closes. At replicas the pause is ours, so that the
//! session is free when a look is wanted at once.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::{
    error::SessionError,
    look::{self, Kept},
    options::{Options, Queries},
    session::{Plain, Session},
};
use crate::core::{
    id::ServerAddr,
    observation::{Facts, Failure, FailureKind, Look},
    time::Mono,
};

/// Pause between looks when something is wrong, in milliseconds.
const URGENT_PAUSE_MS: u64 = 20;
/// First and longest pause between connection attempts, in milliseconds.
const RETRY_MS: (u64, u64) = (50, 2000);
/// What changes rarely is asked for this often, in milliseconds.
const SLOW_EVERY_MS: u64 = 1000;
/// The user's queries are asked this often, in milliseconds.
const QUERIES_EVERY_MS: u64 = 5000;
/// Budget of one of the user's queries, in milliseconds.
const QUERY_MS: u64 = 500;
/// A second connection is tried this often, to notice a server that serves only old ones, in
/// milliseconds.
const FRESH_EVERY_MS: u64 = 10_000;

/// How a server is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Time between looks, in milliseconds.
    pub interval_ms: u64,
    /// A look that takes longer counts as silence, in milliseconds.
    pub answer_ms: u64,
    /// Look back to back.
    pub urgent: bool,
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
    /// Where looks go; bounded.
    pub looks: mpsc::Sender<(ServerAddr, Look)>,
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

/// What the watch keeps between looks.
struct State {
    plain: Plain,
    kept: Kept,
    retry_ms: u64,
    slow_at: Option<Instant>,
    queries_at: Option<Instant>,
    fresh_at: Instant,
}

impl Watch {
    /// Runs until nobody listens.
    pub async fn run(mut self) {
        let mut state = State {
            plain: Plain::default(),
            kept: Kept::default(),
            retry_ms: 0,
            slow_at: None,
            queries_at: None,
            fresh_at: Instant::now(),
        };
        while !self.looks.is_closed() {
            let error = match self.serve(&mut state).await {
                Ok(Ended::OptionsChanged) => continue,
                Ok(Ended::NobodyListens) => return,
                Err(error) => error,
            };
            if self.report(Err(error.failure((self.now)()))).await.is_err() {
                return;
            }
            state.slow_at = None;
            self.pause(state.retry_ms).await;
            state.retry_ms = (state.retry_ms * 2).clamp(RETRY_MS.0, RETRY_MS.1);
        }
    }

    /// Looks on one connection until it fails or has to end.
    async fn serve(&mut self, state: &mut State) -> Result<Ended, SessionError> {
        let options = self.options.borrow_and_update().clone();
        let answer_ms = self.pace.borrow().answer_ms;
        let budget_ms = options.connect_ms.max(answer_ms);
        let mut session = Session::connect(&self.addr, &options, &state.plain, "baton/watch", budget_ms).await?;
        loop {
            let pace = self.pace.borrow_and_update().clone();
            let held = (pace.held && !pace.urgent && state.slow_at.is_some()).then_some(pace.interval_ms);
            let slow = state.slow_at.is_none_or(|at| at.elapsed() >= Duration::from_millis(SLOW_EVERY_MS));
            let now = Arc::clone(&self.now);
            let taken = look::take(
                &mut session,
                &mut state.kept,
                slow,
                options.read_replica_hosts,
                held,
                pace.answer_ms,
                move || now(),
            );
            let seen = taken.await?;
            if slow {
                state.slow_at = Some(Instant::now());
            }
            state.retry_ms = 0;
            if self.report(Ok(seen)).await.is_err() {
                return Ok(Ended::NobodyListens);
            }
            self.ask(&mut session, &options.queries, state).await?;
            self.try_fresh(&options, state).await?;
            match self.options.has_changed() {
                Ok(false) => {}
                Ok(true) => {
                    session.close().await;
                    return Ok(Ended::OptionsChanged);
                }
                Err(_) => return Ok(Ended::NobodyListens),
            }
            if held.is_none() {
                self.pause(if pace.urgent { URGENT_PAUSE_MS } else { pace.interval_ms }).await;
            }
        }
    }

    /// A look that nobody takes within its interval is dropped: the next one is newer.
    async fn report(&self, look: Look) -> Result<(), mpsc::error::SendError<(ServerAddr, Look)>> {
        self.looks.send((self.addr.clone(), look)).await
    }

    /// Waits, but not when the pace becomes urgent.
    async fn pause(&mut self, ms: u64) {
        let urgent = async {
            while self.pace.changed().await.is_ok() {
                if self.pace.borrow_and_update().urgent {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            () = sleep(Duration::from_millis(ms)) => {}
            () = urgent => {}
        }
    }

    /// Asks the user's queries now and then; one that fails leaves its fact unknown.
    async fn ask(&self, session: &mut Session, queries: &Queries, state: &mut State) -> Result<(), SessionError> {
        let due = state.queries_at.is_none_or(|at| at.elapsed() >= Duration::from_millis(QUERIES_EVERY_MS));
        if !due || *queries == Queries::default() || self.pace.borrow().urgent {
            return Ok(());
        }
        state.queries_at = Some(Instant::now());
        let mut facts = Facts::default();
        let texts = [
            (&queries.cluster_name, &mut facts.cluster_name),
            (&queries.domain, &mut facts.domain),
            (&queries.promotion_rule, &mut facts.promotion_rule),
            (&queries.zone, &mut facts.zone),
            (&queries.region, &mut facts.region),
            (&queries.environment, &mut facts.environment),
            (&queries.server_alias, &mut facts.server_alias),
        ];
        for (query, fact) in texts {
            *fact = value(session, query.as_ref()).await?;
        }
        let priority = value(session, queries.semi_sync_priority.as_ref()).await?;
        facts.semi_sync_priority = priority.and_then(|text| text.trim().parse().ok());
        let lag = value(session, queries.lag.as_ref()).await?;
        facts.lag_s = lag.and_then(|text| text.trim().parse().ok()).filter(|lag: &f64| lag.is_finite());
        state.kept.facts = facts;
        Ok(())
    }

    /// A server that answers old connections may refuse new ones; that is no failure of this look, so
    /// it is reported apart and the old connection stays.
    async fn try_fresh(&self, options: &Options, state: &mut State) -> Result<(), SessionError> {
        if state.fresh_at.elapsed() < Duration::from_millis(FRESH_EVERY_MS) || self.pace.borrow().urgent {
            return Ok(());
        }
        state.fresh_at = Instant::now();
        match Session::connect(&self.addr, options, &state.plain, "baton/watch", options.connect_ms).await {
            Ok(session) => session.close().await,
            Err(error) => {
                let failure: Failure = error.failure((self.now)());
                tracing::warn!(server = %self.addr, "{} answers on an old connection and refuses a new one: {}", self.addr, failure.message);
                state.kept.fresh = Some(failure);
                return Ok(());
            }
        }
        state.kept.fresh = None;
        Ok(())
    }
}

async fn value(session: &mut Session, query: Option<&String>) -> Result<Option<String>, SessionError> {
    let Some(query) = query else {
        return Ok(None);
    };
    match session.user_query(query, QUERY_MS).await {
        Ok(value) => Ok(value),
        Err(error) if error.kind == FailureKind::Statement => {
            tracing::debug!("a query of the cluster failed: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
