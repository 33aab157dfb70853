//! What goes on beside a standing watch, on connections of its own, because it may be slow: a new
//! connection now and then, which notices a server that serves only old ones, and the user's queries.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        dialect::reign,
        error::SessionError,
        execute::MysqlServers,
        look::{self, Beside, Glance, Kept},
        options::{Options, Queries},
        session::{Known, Session},
    },
    Pace,
};
use crate::core::{
    id::ServerAddr,
    observation::{Facts, FailureKind},
    time::Mono,
};

/// Time between two rounds of this task.
const ROUND: Duration = Duration::from_secs(1);
/// The user's queries are asked this often.
const QUERIES_EVERY: Duration = Duration::from_secs(5);
/// Budget of one of the user's queries, in milliseconds.
const QUERY_MS: u64 = 500;
/// A query that did not answer in time is left alone for this long.
const SLOW_QUERY_REST: Duration = Duration::from_secs(60);
/// A new connection is tried this often.
const FRESH_EVERY: Duration = Duration::from_secs(10);
/// The same after one was not taken.
const FRESH_RETRY: Duration = Duration::from_secs(1);
/// New connections that must have failed in a row before it counts: one may be bad luck.
const REFUSALS_MIN: u32 = 2;
/// Number of queries a user can configure.
const QUERIES: usize = 9;

/// The task beside one watch.
pub(super) struct Side {
    pub(super) addr: ServerAddr,
    pub(super) options: watch::Receiver<Arc<Options>>,
    pub(super) pace: watch::Receiver<Pace>,
    /// The standing connection works.
    pub(super) connected: watch::Receiver<bool>,
    pub(super) known: Arc<Known>,
    pub(super) beside: watch::Sender<Beside>,
    pub(super) servers: Option<Arc<MysqlServers>>,
    pub(super) now: Arc<dyn Fn() -> Mono + Send + Sync>,
}

/// The session for queries, and when each may be asked again.
#[derive(Default)]
struct Asking {
    session: Option<Session>,
    rests: [Option<Instant>; QUERIES],
}

impl Side {
    /// Runs until it is aborted with its watch. Rests while the watch fails or is in a hurry.
    pub(super) async fn run(self) {
        let (mut fresh_at, mut refusals) = (None::<Instant>, 0_u32);
        let mut asked_at = None::<Instant>;
        let mut asking = Asking::default();
        let due = |at: Option<Instant>, every: Duration| at.is_none_or(|at| at.elapsed() >= every);
        loop {
            sleep(ROUND).await;
            if !*self.connected.borrow() || self.pace.borrow().hurry_ms.is_some() {
                continue;
            }
            let options = self.options.borrow().clone();
            if due(fresh_at, if refusals == 0 { FRESH_EVERY } else { FRESH_RETRY }) {
                fresh_at = Some(Instant::now());
                refusals = Box::pin(self.try_fresh(&options, refusals)).await;
            }
            if options.queries == Queries::default() {
                asking.session = None;
            } else if due(asked_at, QUERIES_EVERY) {
                asked_at = Some(Instant::now());
                Box::pin(self.ask(&options, &mut asking)).await;
            }
        }
    }

    /// Makes a new connection; `refusals` is how many were not taken in a row, and so is the answer.
    async fn try_fresh(&self, options: &Options, refusals: u32) -> u32 {
        let (session, kept) = match self.new_session(options).await {
            Ok(made) => made,
            Err(error) => {
                let refusals = refusals.saturating_add(1);
                if refusals >= REFUSALS_MIN {
                    let failure = error.failure((self.now)());
                    self.beside.send_modify(|beside| beside.refuses_new = Some(failure));
                }
                return refusals;
            }
        };
        let refused = session.refused.as_ref().map(|error| error.failure((self.now)()));
        let refusals = if refused.is_some() { refusals.saturating_add(1) } else { 0 };
        if refused.is_none() || refusals >= REFUSALS_MIN {
            self.beside.send_if_modified(|beside| {
                let changed = beside.refuses_new.is_some() != refused.is_some();
                beside.refuses_new = refused;
                changed
            });
        }
        let left = match &self.servers {
            Some(servers) => servers.adopt(&self.addr, session, kept),
            None => Some(session),
        };
        if let Some(session) = left {
            session.close().await;
        }
        refusals
    }

    /// A new connection counts when it answers a look.
    async fn new_session(&self, options: &Options) -> Result<(Session, Kept), SessionError> {
        let mut session = Session::connect(&self.addr, options, &self.known, "baton/act", options.connect_ms).await?;
        let mut kept = Kept::default();
        let glance =
            Glance { slow: true, replica_hosts: false, commits: false, pause_ms: None, budget_ms: options.connect_ms };
        let now = Arc::clone(&self.now);
        look::take(&mut session, &mut kept, glance, move || now()).await?;
        Ok((session, kept))
    }

    /// Asks all queries once; one that fails leaves its fact unknown.
    async fn ask(&self, options: &Options, asking: &mut Asking) {
        let queries = &options.queries;
        let texts: [&Option<String>; QUERIES] = [
            &queries.cluster_name,
            &queries.domain,
            &queries.promotion_rule,
            &queries.zone,
            &queries.region,
            &queries.environment,
            &queries.server_alias,
            &queries.semi_sync_priority,
            &queries.lag,
        ];
        let mut values: [Option<String>; QUERIES] = Default::default();
        for ((query, value), index) in texts.into_iter().zip(&mut values).zip(0..) {
            if let Some(query) = query {
                *value = self.value(options, asking, query, index).await;
            }
        }
        let [cluster_name, domain, promotion_rule, zone, region, environment, server_alias, priority, lag] = values;
        let number = |text: Option<String>| text?.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let facts = Facts {
            cluster_name,
            domain,
            promotion_rule,
            zone,
            region,
            environment,
            server_alias,
            semi_sync_priority: priority.and_then(|text| text.trim().parse().ok()),
            lag_s: number(lag),
        };
        self.beside.send_modify(|beside| beside.facts = facts);
    }

    async fn value(&self, options: &Options, asking: &mut Asking, query: &str, index: usize) -> Option<String> {
        let rest = asking.rests.get_mut(index)?;
        if rest.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let asked = async {
            let mut session = match asking.session.take() {
                Some(session) => session,
                None => Session::connect(&self.addr, options, &self.known, "baton/queries", options.connect_ms).await?,
            };
            let value = session.user_query(query, QUERY_MS).await;
            match &value {
                Err(error) if error.kind == FailureKind::Silent => {
                    *rest = Some(Instant::now() + SLOW_QUERY_REST);
                    self.end(options, session.id()).await;
                }
                Err(error) if error.code.is_none() && error.kind != FailureKind::Statement => {}
                _ => asking.session = Some(session),
            }
            value
        };
        asked.await.unwrap_or_else(|error| {
            tracing::debug!(server = %self.addr, "{}: a query of the cluster failed: {error}", self.addr);
            None
        })
    }

    /// Ends a query that goes on without us: the server would run it to its end.
    async fn end(&self, options: &Options, id: u64) {
        let ended: Result<(), SessionError> = async {
            let mut session =
                Session::connect(&self.addr, options, &self.known, "baton/queries", options.connect_ms).await?;
            session.query("end a query", &reign::kill(id), 1, QUERY_MS).await?;
            session.close().await;
            Ok(())
        }
        .await;
        if let Err(error) = ended {
            tracing::debug!(server = %self.addr, "{}: a slow query could not be ended: {error}", self.addr);
        }
    }
}
