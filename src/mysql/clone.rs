//! Overwrites a server with the data of another one (`CLONE INSTANCE`), on sessions of its own: it takes as long as the
//! data is large, and neither looks nor failovers wait for it.
//!
//! The server refuses to be overwritten while it is `super_read_only`, so that is off while it lasts; `read_only` and
//! `offline_mode` keep clients out. With the restart at its end it is as its configuration says.

use std::{collections::BTreeSet, sync::Arc};

use mysql_async::Row;
use secrecy::ExposeSecret;

use super::{
    dialect::{self, clone, reign},
    error::SessionError,
    look::{self, Glance, Kept},
    options::{Options, TlsMode},
    rows::Named,
    session::{Known, Session},
};
use crate::core::{
    id::ServerAddr,
    observation::{FailureKind, Observation},
    rebuild::{Copying, Facts, Plan, Seen},
    time::Mono,
};

/// Longest wait for an answer to anything but the copy itself, in milliseconds.
const STEP_MS: u64 = 5000;

/// A server must begin within this time by its own clock, in milliseconds: a process that slept does no harm.
const VALID_MS: u64 = 5000;

/// The process' clock.
pub type Now = Arc<dyn Fn() -> Mono + Send + Sync>;

/// Why a server was not overwritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloneError {
    /// Something did not hold on the server: it has what it had, and is as it was.
    #[error("{0}")]
    Refused(String),
    /// The same, but administrators may still write there.
    #[error("{0}")]
    Open(String),
    /// The copy is complete, and the server waits to be started.
    #[error("the copy is complete, and mysqld must be started there: nothing did (error 3707)")]
    NotRestarted,
    /// Anything else; the server tells how far it came.
    #[error("{0}")]
    Broken(String),
}

/// A session with one server.
pub struct Cloner {
    session: Session,
    now: Now,
}

impl std::fmt::Debug for Cloner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloner").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Cloner {
    /// Connects.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn connect(addr: &ServerAddr, options: &Options, now: &Now) -> Result<Self, SessionError> {
        let known = Known::default();
        let connect = Session::connect(addr, options, &known, "baton/rebuild", STEP_MS);
        Ok(Self { session: Box::pin(connect).await?, now: Arc::clone(now) })
    }

    /// Looks at the server, complete and fresh.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn look(&mut self) -> Result<Box<Observation>, SessionError> {
        let glance = Glance { slow: true, replica_hosts: false, commits: false, pause_ms: None, budget_ms: STEP_MS };
        let now = Arc::clone(&self.now);
        look::take(&mut self.session, &mut Kept::default(), glance, move || now()).await
    }

    /// The same with what it says about copies. A server that cannot be copied has nothing to say.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn seen(&mut self) -> Result<Seen, SessionError> {
        let facts = if self.session.version.has_clone() { self.facts().await? } else { Facts::default() };
        Ok(Seen { look: *self.look().await?, facts })
    }

    async fn facts(&mut self) -> Result<Facts, SessionError> {
        let plugin = self.row("ask for the plugin", &clone::facts()).await?;
        let binlog = self.row("ask for filters", clone::binlog_status(self.session.version)).await?;
        let alike = self.row("ask for settings", clone::ALIKE).await?;
        let ca = self.row("ask for certificates", dialect::SSL_CA).await?;
        let foreign = self.row("ask for tables", clone::FOREIGN).await?;
        let grants = self.ask("ask for rights", clone::GRANTS).await?;
        let text = |row: &Option<Row>, name: &'static str| row.as_ref().and_then(|row| Named(row).text(&[name]));
        let yes = |row: &Option<Row>, name: &'static str| text(row, name).is_some_and(|text| text == "1");
        Ok(Facts {
            plugin: yes(&plugin, "active"),
            closed_since_start: yes(&plugin, "closed"),
            blocks_ddl: yes(&plugin, "blocks"),
            binlog_filtered: ["Binlog_Do_DB", "Binlog_Ignore_DB"]
                .into_iter()
                .any(|name| text(&binlog, name).is_none_or(|found| !found.is_empty())),
            alike: clone::alike(|name| text(&alike, name)),
            rights: grants.iter().filter_map(grant_text).flat_map(|grant| rights(&grant)).collect(),
            account: account(&text(&plugin, "account").unwrap_or_default()),
            foreign: text(&foreign, "name"),
            checks_certificates: text(&ca, "ssl_ca").is_some_and(|file| !file.is_empty()),
        })
    }

    /// The newest copy that the server received; `None`: it knows of none.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn copying(&mut self) -> Result<Option<Copying>, SessionError> {
        match self.row("ask for the copy", clone::STATUS).await {
            Ok(row) => Ok(row.as_ref().map(Named).map(|row| Copying {
                state: row.text(&["state"]).unwrap_or_default(),
                session: row.number(&["session"]),
                took_ms: row.number(&["took_ms"]).unwrap_or_default(),
                error: row.text(&["error"]).unwrap_or_default(),
            })),
            // There is no such table without the plugin.
            Err(error) if error.code == Some(1146) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses everybody's writes again, if this is the server that was to be overwritten and nobody has opened it since.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn close(&mut self, uuid: &str) -> Result<(), SessionError> {
        let closed = self.row("ask whether it refuses writes", clone::CLOSED).await?;
        if closed.and_then(|row| Named(&row).number::<u8>(&["closed"])) == Some(1) {
            // To set it once more would hide that it was never open.
            return Ok(());
        }
        self.say("refuse writes again", &clone::undo(uuid)).await
    }

    /// Ends the copy that a connection makes.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn end(&mut self, session: u64) -> Result<(), SessionError> {
        self.say("end the copy", &reign::kill(session)).await
    }

    /// Overwrites the server, within `budget_ms`. It must begin before `until`, and soon, by the server's clock.
    ///
    /// # Errors
    /// [`CloneError`].
    pub async fn overwrite(
        mut self,
        plan: &Plan,
        options: &Options,
        until: Mono,
        budget_ms: u64,
    ) -> Result<(), CloneError> {
        let refused = |error: SessionError| CloneError::Refused(error.to_string());
        // Counted from before the answer: a process that sleeps from here on does not get more time.
        self.say("ask for the time", reign::MARK_NOW).await.map_err(refused)?;
        let valid_ms = until.since_ms((self.now)()).min(VALID_MS);
        self.say("note the deadline", &reign::note_deadline(valid_ms)).await.map_err(refused)?;
        let replica = !self.look().await.map_err(refused)?.channels.is_empty();
        let locked = self.row("take the right to rebuild", clone::LOCK).await.map_err(refused)?;
        if locked.and_then(|row| Named(&row).number::<u8>(&["locked"])) != Some(1) {
            return Err(CloneError::Refused("somebody else is about to rebuild it".to_owned()));
        }
        match self.copy(plan, options, replica, budget_ms).await {
            Err(CloneError::Refused(reason)) => match self.undone(&plan.uuid).await {
                Ok(()) => Err(CloneError::Refused(reason)),
                Err(_) => Err(CloneError::Open(reason)),
            },
            other => other,
        }
    }

    /// It has what it had, and is as it was.
    async fn undone(&mut self, uuid: &str) -> Result<(), SessionError> {
        let touched = self.row("ask what was changed", clone::TOUCHED).await?;
        if touched.and_then(|row| Named(&row).number::<u8>(&["touched"])) == Some(0) {
            return Ok(());
        }
        self.say("undo what was changed", &clone::undo(uuid)).await
    }

    async fn copy(&mut self, plan: &Plan, options: &Options, replica: bool, budget_ms: u64) -> Result<(), CloneError> {
        let guard = clone::Guard { uuid: &plan.uuid, extra: &plan.extra, allowed: &plan.allowed };
        let account = &options.operator;
        let copy = clone::Copy {
            donor: &plan.donor,
            user: &account.user,
            password: account.password.expose_secret(),
            encrypted: checks(options) || options.tls.mode == TlsMode::Required,
            verify: checks(options),
            replica,
        };
        let texts = clone::begin(&guard, &copy);
        match self.session.query("overwrite the server", &texts.join("; "), texts.len(), budget_ms).await {
            Ok(_) => Ok(()),
            Err(error) if error.code == Some(clone::REFUSED) => {
                let reason = "in the moment in which it was to begin, it was not as it had been";
                Err(CloneError::Refused(reason.to_owned()))
            }
            Err(error) if error.code == Some(clone::NOT_RESTARTED) => Err(CloneError::NotRestarted),
            // Its words may repeat the text.
            Err(error) if error.code == Some(1064) => Err(CloneError::Refused(error.without_words().to_string())),
            // What the server answers before it does anything: it lacks a right, or an option forbids it.
            Err(error) if matches!(error.code, Some(1227 | 1290)) => Err(CloneError::Refused(error.to_string())),
            Err(error) => Err(CloneError::Broken(error.to_string())),
        }
    }

    async fn say(&mut self, what: &str, text: &str) -> Result<(), SessionError> {
        self.ask(what, text).await.map(|_| ())
    }

    async fn row(&mut self, what: &str, text: &str) -> Result<Option<Row>, SessionError> {
        Ok(self.ask(what, text).await?.into_iter().next())
    }

    async fn ask(&mut self, what: &str, text: &str) -> Result<Vec<Row>, SessionError> {
        Ok(self.session.query(what, text, 1, STEP_MS).await?.into_iter().flatten().collect())
    }
}

/// Whether certificates are to be checked.
#[must_use]
pub fn checks(options: &Options) -> bool {
    matches!(options.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity)
}

fn grant_text(row: &Row) -> Option<String> {
    row.as_ref(0).and_then(|value| match value {
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    })
}

/// Rights that a line of `SHOW GRANTS` gives for everything.
fn rights(grant: &str) -> BTreeSet<String> {
    let all = grant.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON *.* TO "));
    let names = all.map(|(names, _)| names.split(',').map(|name| name.trim().to_ascii_uppercase()));
    names.into_iter().flatten().collect()
}

/// `user@host` as GRANT takes it.
fn account(current: &str) -> String {
    let (user, host) = current.rsplit_once('@').unwrap_or((current, "%"));
    format!("{}@{}", dialect::quote(user), dialect::quote(host))
}

/// A failed look, in words.
#[must_use]
pub fn words(error: &SessionError) -> String {
    match error.kind {
        FailureKind::Silent => "no answer in time".to_owned(),
        _ => error.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::gtid::GtidSet;

    #[test]
    fn rights_for_everything_are_told_from_others() {
        let found = rights("GRANT BACKUP_ADMIN,clone_admin ON *.* TO `baton`@`%` WITH GRANT OPTION");
        assert_eq!(found, ["BACKUP_ADMIN", "CLONE_ADMIN"].map(str::to_owned).into());
        assert!(rights("GRANT CLONE_ADMIN ON `a`.* TO `baton`@`%`").is_empty());
        assert!(rights("GRANT `CLONE_ADMIN`@`%` TO `baton`@`%`").is_empty(), "a role of that name");
        assert_eq!(account("o'ne@10.%"), "'o''ne'@'10.%'");
    }

    #[test]
    fn what_begins_says_what_must_hold() {
        let set = |text: &str| text.parse::<GtidSet>().unwrap();
        let (extra, allowed) =
            (set("3e11fa47-71ca-11e1-9e33-c80aa9429562:9"), set("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9"));
        let guard = clone::Guard { uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562", extra: &extra, allowed: &allowed };
        let donor: ServerAddr = "db-2.example:3307".parse().unwrap();
        let copy = clone::Copy {
            donor: &donor,
            user: "ba'ton",
            password: "se'cret",
            encrypted: true,
            verify: true,
            replica: true,
        };
        insta::assert_snapshot!(clone::begin(&guard, &copy).join(";\n"));
    }
}
