//! Actions on servers: one session per server kept ready for them, apart from the observing one.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Mutex, watch};
use tokio::time::{Duration, Instant, timeout};

use super::{
    dialect::{SemiSyncWords, change},
    error::SessionError,
    look::{self, Kept},
    options::Options,
    rows::Named,
    session::{Plain, Session},
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
    sessions: std::sync::Mutex<BTreeMap<ServerAddr, Arc<Mutex<Slot>>>>,
    now: Arc<dyn Fn() -> Mono + Send + Sync>,
}

impl std::fmt::Debug for MysqlServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlServers").finish_non_exhaustive()
    }
}

/// The session of one server, if there is one.
#[derive(Debug, Default)]
struct Slot {
    session: Option<Session>,
    plain: Plain,
    kept: Kept,
}

/// One action under way: the session, the server's words and what is left of the budget.
pub(super) struct Work<'a> {
    pub(super) addr: &'a ServerAddr,
    pub(super) session: &'a mut Session,
    pub(super) kept: &'a mut Kept,
    pub(super) options: &'a Options,
    pub(super) until: Instant,
    pub(super) now: Arc<dyn Fn() -> Mono + Send + Sync>,
}

impl MysqlServers {
    /// Sessions are made when they are first needed, or by [`MysqlServers::warm`].
    #[must_use]
    pub fn new(options: watch::Receiver<Arc<Options>>, now: Arc<dyn Fn() -> Mono + Send + Sync>) -> Self {
        Self { options, sessions: std::sync::Mutex::default(), now }
    }

    fn slot(&self, addr: &ServerAddr) -> Arc<Mutex<Slot>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(sessions.entry(addr.clone()).or_default())
    }

    /// Forgets the sessions of servers that left.
    pub fn keep_only(&self, keep: impl Fn(&ServerAddr) -> bool) {
        let mut sessions = self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sessions.retain(|addr, _| keep(addr));
    }

    /// Makes sure that a session is ready, so that a recovery need not connect first.
    ///
    /// # Errors
    /// [`ActionError::Contact`].
    pub async fn warm(&self, addr: &ServerAddr, budget_ms: u64) -> Result<(), ActionError> {
        self.act(addr, Action::Look, budget_ms).await.map(|_| ())
    }

    async fn perform(&self, addr: &ServerAddr, action: &Action, until: Instant) -> Result<Box<Observation>, Failed> {
        let slot = self.slot(addr);
        let mut slot = timeout(left(until), slot.lock_owned())
            .await
            .map_err(|_| SessionError::new(FailureKind::Silent, "another action is still under way"))?;
        let options = self.options.borrow().clone();
        let Slot { session, plain, kept } = &mut *slot;
        let epoch = match action {
            Action::Claim { epoch, .. } => Some(*epoch),
            _ => None,
        };
        if epoch.is_some() {
            *session = None;
        }
        let reused = session.is_some();
        let result = match self.attempt(addr, action, &options, (session, plain, kept), until).await {
            // A warm session may have died unnoticed, with its server long since back.
            Err(Failed::Session(error)) if reused && error.kind == FailureKind::Refused && !needs_claim(action) => {
                *session = None;
                self.attempt(addr, action, &options, (session, plain, kept), until).await
            }
            result => result,
        };
        if let Err(Failed::Session(error)) = &result
            && error.code.is_none()
        {
            *session = None;
        }
        result
    }

    async fn attempt(
        &self,
        addr: &ServerAddr,
        action: &Action,
        options: &Options,
        (session, plain, kept): (&mut Option<Session>, &Plain, &mut Kept),
        until: Instant,
    ) -> Result<Box<Observation>, Failed> {
        if session.is_none() {
            let program = match action {
                Action::Claim { epoch, .. } => format!("baton/epoch={epoch}"),
                _ => "baton/act".to_owned(),
            };
            let budget_ms = left_ms(until).min(options.connect_ms);
            *session = Some(Session::connect(addr, options, plain, &program, budget_ms).await?);
            *kept = Kept::default();
        }
        let Some(session) = session.as_mut() else {
            return Err(SessionError::new(FailureKind::Silent, "no session").into());
        };
        let mut work = Work { addr, session, kept, options, until, now: Arc::clone(&self.now) };
        if !work.kept.filled {
            work.look().await?;
        }
        work.run(action).await
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

/// Why an action came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    Session(SessionError),
    Refused(&'static str, SessionError),
    Precondition(String),
}

impl From<SessionError> for Failed {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl Servers for MysqlServers {
    async fn act(&self, addr: &ServerAddr, action: Action, budget_ms: u64) -> Result<Box<Observation>, ActionError> {
        let until = Instant::now() + Duration::from_millis(budget_ms);
        self.perform(addr, &action, until).await.map_err(|failed| match failed {
            Failed::Session(error) => {
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

impl Work<'_> {
    async fn run(&mut self, action: &Action) -> Result<Box<Observation>, Failed> {
        let version = self.session.version;
        match action {
            Action::Look => {}
            Action::StopReceiver => self.channel_statement("stop receiver", &change::stop_receiver(version)).await?,
            Action::StartReceiver => self.channel_statement("start receiver", &change::start_receiver(version)).await?,
            Action::RestartReceiver => {
                self.channel_statement("stop receiver", &change::stop_receiver(version)).await?;
                self.channel_statement("start receiver", &change::start_receiver(version)).await?;
            }
            Action::StartApplier => self.channel_statement("start applier", &change::start_applier(version)).await?,
            Action::WaitApplied { set, wait_ms } => {
                let text = change::wait_applied(version, &set.to_string(), *wait_ms);
                self.ask("wait for the applier", &text).await?;
            }
            Action::Fence => self.fence().await?,
            Action::SetReadOnly => {
                self.say("set read only", &change::read_only(version)).await?;
                if let Some(text) = change::offline(version, false) {
                    self.say("end offline mode", &text).await?;
                }
            }
            Action::SemiSyncSource { on, wait_count } => self.semi_sync_source(*on, *wait_count).await?,
            Action::SemiSyncReplica { on } => self.semi_sync_replica(*on).await?,
            Action::Claim { epoch, valid_ms } => self.claim(*epoch, *valid_ms).await?,
            Action::WriteEpoch { epoch, old_primary, .. } => self.write_epoch(*epoch, old_primary.as_ref()).await?,
            Action::Unfence => return self.unfence().await,
            Action::ForgetSource => {
                self.channel_statement("stop replication", &change::stop_replication(version)).await?;
                self.say("forget the source", &change::forget_source(version)).await?;
            }
            Action::Repoint { source, semi_sync } => self.repoint(source, *semi_sync).await?,
            Action::EnforceReplicationSettings { heartbeat_ms, net_timeout_s } => {
                self.enforce(*heartbeat_ms, *net_timeout_s).await?;
            }
        }
        Ok(self.look().await?)
    }

    /// A complete look in this session.
    pub(super) async fn look(&mut self) -> Result<Box<Observation>, SessionError> {
        let now = Arc::clone(&self.now);
        let seen = look::take(self.session, self.kept, true, false, None, left_ms(self.until), move || now()).await?;
        self.kept.filled = true;
        Ok(seen)
    }

    /// Says something; a refusal names the statement, never its text.
    pub(super) async fn say(&mut self, what: &'static str, text: &str) -> Result<(), Failed> {
        self.session.query(what, text, 1, left_ms(self.until)).await.map(|_| ()).map_err(|error| refused(what, error))
    }

    /// Asks for rows.
    pub(super) async fn ask(&mut self, what: &'static str, text: &str) -> Result<Vec<mysql_async::Row>, Failed> {
        let results =
            self.session.query(what, text, 1, left_ms(self.until)).await.map_err(|error| refused(what, error))?;
        Ok(results.into_iter().flatten().collect())
    }

    /// Says something about replication; a server without a channel has nothing to do.
    pub(super) async fn channel_statement(&mut self, what: &'static str, text: &str) -> Result<(), Failed> {
        match self.say(what, text).await {
            // Not configured as a replica; already running or stopped (MariaDB and old versions).
            Err(Failed::Refused(_, error)) if matches!(error.code, Some(1198 | 1199 | 1200 | 1254 | 1255)) => Ok(()),
            other => other,
        }
    }

    /// Says something that a server may not know.
    pub(super) async fn say_if_known(&mut self, what: &'static str, text: &str) -> Result<(), Failed> {
        match self.say(what, text).await {
            Err(Failed::Refused(_, error)) if error.code == Some(1193) => Ok(()),
            other => other,
        }
    }

    /// The words of the semi-sync plugins, or why there are none.
    pub(super) fn words(&self) -> Option<SemiSyncWords> {
        self.kept.words()
    }

    async fn semi_sync_source(&mut self, on: bool, wait_count: u32) -> Result<(), Failed> {
        let Some(words) = self.words() else {
            return if on {
                Err(Failed::Precondition("the semi-sync source plugin is not loaded".to_owned()))
            } else {
                Ok(())
            };
        };
        // 5.6 waits for one acknowledgement and has no setting for more.
        let count = (self.session.version.has_offline_mode() && !self.is_mariadb()).then_some(wait_count);
        for text in change::semi_sync_source(words, on, count) {
            self.say("switch semi-sync source", &text).await?;
        }
        Ok(())
    }

    pub(super) fn is_mariadb(&self) -> bool {
        self.session.version.flavor == crate::core::version::Flavor::MariaDb
    }

    pub(super) async fn semi_sync_replica(&mut self, on: bool) -> Result<(), Failed> {
        match self.words() {
            Some(words) => self.say("switch semi-sync replica", &change::semi_sync_replica(words, on)).await,
            None if on => Err(Failed::Precondition("the semi-sync replica plugin is not loaded".to_owned())),
            None => Ok(()),
        }
    }

    /// Numbers in the column `id`.
    pub(super) async fn ids(&mut self, what: &'static str, text: &str) -> Result<Vec<u64>, Failed> {
        let rows = self.ask(what, text).await?;
        Ok(rows.iter().filter_map(|row| Named(row).number(&["id"])).collect())
    }
}

fn refused(what: &'static str, error: SessionError) -> Failed {
    if error.code.is_some() { Failed::Refused(what, error) } else { Failed::Session(error) }
}
