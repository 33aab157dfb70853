//! A write canary: Baton commits a row of its own on the primary, so that commits that hang show up in looks
//! while no client writes.
//!
//! One commit is under way at most, also when another process had begun one that still hangs: whoever writes
//! holds a lock of the server, and a session that hangs holds it until it ends.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use super::{
    dialect::canary as texts,
    error::SessionError,
    options::Options,
    rows::Named,
    session::{Known, Session},
};
use crate::core::{id::ServerAddr, observation::FailureKind};

/// Pause between two commits.
const PAUSE: Duration = Duration::from_secs(1);
/// A commit is waited for so long, in milliseconds; then the session is left to its fate.
const COMMIT_MS: u64 = 600_000;
/// Budget of everything else, in milliseconds.
const ASK_MS: u64 = 2000;

/// The canary of one server; runs until it is dropped.
#[derive(Debug)]
pub struct Canary {
    /// The server.
    pub addr: ServerAddr,
    /// How to reach it.
    pub options: watch::Receiver<Arc<Options>>,
}

impl Canary {
    /// Commits again and again.
    pub async fn run(self) {
        let known = Known::default();
        loop {
            if let Err(error) = self.sing(&known).await {
                tracing::debug!(server = %self.addr, "{}: no write canary: {error}", self.addr);
            }
            sleep(PAUSE).await;
        }
    }

    /// Commits on one connection until that fails, or the server takes no writes.
    async fn sing(&self, known: &Known) -> Result<(), SessionError> {
        let options = self.options.borrow().clone();
        let connected = Session::connect(&self.addr, &options, known, "baton/canary", options.connect_ms);
        let mut session = Box::pin(connected).await?;
        if ask(&mut session, texts::LOCK).await? == Some(1) {
            if ask(&mut session, texts::TABLE).await? == Some(0) {
                for text in texts::MAKE {
                    writable(&mut session).await?;
                    session.query("make the canary's table", text, 1, COMMIT_MS).await?;
                }
            }
            while writable(&mut session).await? {
                session.query("the canary's commit", texts::WRITE, 1, COMMIT_MS).await?;
                sleep(PAUSE).await;
            }
        }
        session.close().await;
        Ok(())
    }
}

/// Whether the server takes writes: where nothing but `read_only` refuses them, Baton's account would pass it.
async fn writable(session: &mut Session) -> Result<bool, SessionError> {
    Ok(ask(session, texts::WRITABLE).await? == Some(1))
}

async fn ask(session: &mut Session, text: &str) -> Result<Option<u64>, SessionError> {
    let rows = session.query("the canary", text, 1, ASK_MS).await?;
    let first = rows.first().and_then(|rows| rows.first()).map(Named);
    first.map(|row| row.number(&["answer"])).ok_or_else(|| SessionError::new(FailureKind::Statement, "no answer"))
}
