//! One action under way on one session: what it may use, how it speaks, and the actions that are one
//! statement or two.

use std::sync::Arc;

use mysql_async::Row;
use tokio::time::Instant;

use super::{
    super::{
        dialect::{SemiSyncWords, change, reign},
        error::SessionError,
        look::{self, Glance},
        options::Options,
        rows::Named,
    },
    Ready, Slot, left_ms,
};
use crate::core::{
    id::ServerAddr,
    observation::{Channel, FailureKind, Observation, Receiver},
    step::Action,
    time::Mono,
    version::{Flavor, Version},
};

/// Why an action came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// No answer, or none that can be used.
    Session(SessionError),
    /// The same on the session for writing: the other one is still good.
    Writer(SessionError),
    /// The server refused the named statement.
    Refused(&'static str, SessionError),
    /// Something did not hold; nothing was done.
    Precondition(String),
}

impl From<SessionError> for Failed {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// One action under way: the session, the server's words and what is left of the budget.
pub(super) struct Work<'a> {
    pub(super) addr: &'a ServerAddr,
    pub(super) ready: &'a mut Ready,
    pub(super) slot: &'a mut Slot,
    pub(super) options: &'a Options,
    pub(super) until: Instant,
    /// When the action was asked for.
    pub(super) begun: Instant,
    pub(super) now: Arc<dyn Fn() -> Mono + Send + Sync>,
}

impl Work<'_> {
    pub(super) fn version(&self) -> Version {
        self.ready.session.version
    }

    pub(super) fn is_mariadb(&self) -> bool {
        self.version().flavor == Flavor::MariaDb
    }

    pub(super) async fn run(&mut self, action: &Action) -> Result<Box<Observation>, Failed> {
        let version = self.version();
        match action {
            Action::Look => {}
            Action::StopReceiver => self.stop_receiver().await?,
            Action::StartReceiver => self.threads("start receiver", &change::start_receiver(version)).await?,
            Action::RestartReceiver => {
                self.stop_receiver().await?;
                self.threads("start receiver", &change::start_receiver(version)).await?;
            }
            Action::StartApplier => self.start_applier().await?,
            Action::WaitApplied { set, wait_ms } => {
                let wait_ms = (*wait_ms).min(left_ms(self.until));
                self.ask("wait for the applier", &change::wait_applied(version, set, wait_ms)).await?;
            }
            Action::Fence => self.fence().await?,
            Action::SetReadOnly => {
                self.say("set read only", &reign::read_only(version)).await?;
                if let Some(text) = reign::offline(version, false) {
                    self.say("end offline mode", &text).await?;
                }
            }
            Action::SemiSyncSource { on, wait_count } => self.semi_sync_source(*on, *wait_count).await?,
            Action::LosslessSemiSync { acks, on } => self.lossless_semi_sync(*acks, *on).await?,
            Action::Acknowledge { on } => self.acknowledge(*on).await?,
            Action::LoadSemiSync => self.load_semi_sync().await?,
            Action::AllowConnections { more } => self.say("allow connections", &change::connections(*more)).await?,
            Action::SemiSyncReplica { on } => self.semi_sync_replica(*on).await?,
            Action::Claim { epoch, valid_ms } => self.claim(*epoch, *valid_ms).await?,
            Action::WriteEpoch { epoch, old_primary, wait_ms } => {
                self.write_epoch(*epoch, old_primary.as_ref(), *wait_ms).await?;
            }
            Action::Unfence => return self.unfence().await,
            Action::ForgetSource => self.forget_source().await?,
            Action::Repoint { source, semi_sync } => self.repoint(source, *semi_sync).await?,
            Action::EnforceReplicationSettings { heartbeat_ms, net_timeout_s } => {
                self.enforce(*heartbeat_ms, *net_timeout_s).await?;
            }
        }
        Ok(self.look().await?)
    }

    /// A complete look in this session.
    pub(super) async fn look(&mut self) -> Result<Box<Observation>, SessionError> {
        self.glance(true).await
    }

    /// A look within an action; what changes rarely is as it was.
    pub(super) async fn quick_look(&mut self) -> Result<Box<Observation>, SessionError> {
        let whole = self.version().names_half_received();
        self.glance(whole).await
    }

    async fn glance(&mut self, slow: bool) -> Result<Box<Observation>, SessionError> {
        let now = Arc::clone(&self.now);
        let glance =
            Glance { slow, replica_hosts: false, commits: false, pause_ms: None, budget_ms: left_ms(self.until) };
        let Ready { session, kept, .. } = &mut *self.ready;
        look::take(session, kept, glance, move || now()).await
    }

    /// Says something; a refusal names the statement, never its text.
    pub(super) async fn say(&mut self, what: &'static str, text: &str) -> Result<(), Failed> {
        self.ask(what, text).await.map(|_| ())
    }

    /// Fails when the time is over: a statement is sent whether its answer is awaited or not, and a process
    /// that was frozen must not say what it had to say to a server that somebody else works on by now.
    pub(super) fn in_time(&self, what: &str) -> Result<(), SessionError> {
        let in_time = Instant::now() < self.until;
        in_time.then_some(()).ok_or_else(|| SessionError::new(FailureKind::Silent, &format!("too late to {what}")))
    }

    /// Asks for rows.
    pub(super) async fn ask(&mut self, what: &'static str, text: &str) -> Result<Vec<Row>, Failed> {
        self.in_time(what)?;
        let results = self.ready.session.query(what, text, 1, left_ms(self.until)).await;
        Ok(results.map_err(|error| refused(what, error))?.into_iter().flatten().collect())
    }

    /// Says something about replication threads; a server without a channel has nothing to do.
    pub(super) async fn threads(&mut self, what: &'static str, text: &str) -> Result<(), Failed> {
        match self.say(what, text).await {
            // Already running or stopped (MariaDB and old versions).
            Err(Failed::Refused(_, error)) if matches!(error.code, Some(1199 | 1254 | 1255)) => Ok(()),
            // Servers have several numbers for "not configured".
            Err(Failed::Refused(what, error)) => {
                if self.look().await?.channels.is_empty() {
                    Ok(())
                } else {
                    Err(Failed::Refused(what, error))
                }
            }
            other => other,
        }
    }

    /// MariaDB throws its relay logs away when a thread starts while both are stopped, so an applier
    /// that somebody had stopped is started while the receiver still runs.
    pub(super) async fn stop_receiver(&mut self) -> Result<(), Failed> {
        let version = self.version();
        if self.is_mariadb() {
            let seen = self.look().await?;
            let idle = |channel: &Channel| !channel.applier_running && channel.applier_error.is_none();
            if seen.channels.iter().any(|channel| idle(channel) && channel.receiver != Receiver::Stopped) {
                self.threads("start applier", &change::start_applier(version)).await?;
            }
        }
        self.threads("stop receiver", &change::stop_receiver(version)).await
    }

    async fn start_applier(&mut self) -> Result<(), Failed> {
        if self.is_mariadb() {
            let seen = self.look().await?;
            let discards = |channel: &Channel| {
                channel.receiver == Receiver::Stopped && !channel.applier_running && !channel.drained(&seen.executed)
            };
            if seen.channels.iter().any(discards) {
                let reason = "both its threads are stopped: starting one would discard what is not applied";
                return Err(Failed::Precondition(reason.to_owned()));
            }
        }
        self.threads("start applier", &change::start_applier(self.version())).await
    }

    /// Says something that a server may not know.
    pub(super) async fn say_if_known(&mut self, what: &'static str, text: &str) -> Result<(), Failed> {
        match self.say(what, text).await {
            Err(Failed::Refused(_, error)) if error.code == Some(1193) => Ok(()),
            other => other,
        }
    }

    /// The words of the semi-sync plugins; `None`: there are none.
    pub(super) fn words(&self) -> Option<SemiSyncWords> {
        self.ready.kept.words()
    }

    /// Numbers in the column `id`.
    pub(super) async fn ids(&mut self, what: &'static str, text: &str) -> Result<Vec<u64>, Failed> {
        let rows = self.ask(what, text).await?;
        Ok(rows.iter().filter_map(|row| Named(row).number(&["id"])).collect())
    }
}

/// An answer of the server is a refusal; anything else leaves open what happened.
pub(super) fn refused(what: &'static str, error: SessionError) -> Failed {
    if error.code.is_some() { Failed::Refused(what, error) } else { Failed::Session(error) }
}
