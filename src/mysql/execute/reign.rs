//! The actions that end one reign and begin the next: fence, claim, epoch, unfence.
//!
//! The order inside each is normative (safety.md, "Failing over" 6 to 8; measurements M1 to M9).

use std::time::Duration;

use mysql_async::Row;
use tokio::time::Instant;

use super::{
    super::{
        dialect::{look::PROCESSES, reign},
        error::SessionError,
        look::processes::Process,
        rows::Named,
        session::Session,
    },
    Claim, left_ms,
    work::{Failed, Work, refused},
};
use crate::core::{
    id::{Epoch, ServerAddr},
    observation::{Channel, FailureKind, Observation, Receiver},
};

/// Client connections ended by one fence.
const KILLS_MAX: usize = 10_000;
/// Longest wait for commits under way where offline mode is on already.
const READ_ONLY_WAIT: Duration = Duration::from_millis(400);
/// Longest wait for a new primary to forget its source before clients are let in.
const FORGET_WAIT: Duration = Duration::from_millis(200);
/// Connections ended with one text.
const KILLS_AT_ONCE: usize = 100;

impl Work<'_> {
    /// `offline_mode` first, because it ends waiting commits without acknowledging them; then semi-sync
    /// off, which now releases nobody; then read only; then whoever is left. A server without
    /// `offline_mode` has its clients' connections ended instead.
    pub(super) async fn fence(&mut self) -> Result<(), Failed> {
        let version = self.version();
        match reign::offline(version, true) {
            Some(text) => self.say("offline mode", &text).await?,
            None => self.end_clients().await?,
        }
        if let Some(words) = self.words() {
            for text in super::super::dialect::semi_sync::source(words, false, None) {
                self.say_if_known("switch semi-sync source", &text).await?;
            }
        }
        self.refuse_writes().await?;
        self.end_clients().await
    }

    /// Refuses writes. That waits for commits under way; when they hang, offline mode has to do: whose commit
    /// hangs is gone by now and is told nothing, and nobody gets in. The server stops waiting with the session.
    async fn refuse_writes(&mut self) -> Result<(), Failed> {
        let version = self.version();
        let patience = if version.has_offline_mode() { READ_ONLY_WAIT } else { Duration::MAX };
        let bound = Instant::now().checked_add(patience).map_or(self.until, |bound| bound.min(self.until));
        let text = reign::read_only(version);
        self.in_time("set read only")?;
        match self.ready.session.query("set read only", &text, 1, left_ms(bound)).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == FailureKind::Silent && bound < self.until => {
                let budget_ms = left_ms(self.until).min(self.options.connect_ms);
                let session = Session::connect(self.addr, self.options, &self.slot.known, "baton/act", budget_ms);
                self.ready.session = Box::pin(session).await?;
                Ok(())
            }
            Err(error) => Err(refused("set read only", error)),
        }
    }

    async fn end_clients(&mut self) -> Result<(), Failed> {
        let rows = self.ask("list clients", PROCESSES).await?;
        let processes: Vec<_> = rows.iter().filter_map(Process::read).collect();
        let me = self.ready.session.id();
        let own = processes.iter().find(|process| process.id == me).map(|process| process.user.clone());
        let own = own.unwrap_or_else(|| self.options.operator.user.clone());
        let clients: Vec<_> = processes.iter().filter(|process| process.is_client(&own)).map(|it| it.id).collect();
        for some in clients.chunks(KILLS_AT_ONCE).take(KILLS_MAX / KILLS_AT_ONCE) {
            self.kill(some).await?;
        }
        Ok(())
    }

    /// Ends connections; one that is gone already is as good. One of an account that is above Baton's spares
    /// no other.
    pub(super) async fn kill(&mut self, ids: &[u64]) -> Result<(), Failed> {
        let (mut open, mut denied) = (ids, None);
        while !open.is_empty() {
            let text: Vec<_> = open.iter().map(|id| reign::kill(*id)).collect();
            self.in_time("end connections")?;
            let budget_ms = left_ms(self.until);
            let ended = self.ready.session.query("end connections", &text.join("; "), open.len(), budget_ms).await;
            match ended {
                Err(error) if matches!(error.code, Some(1094 | 1095)) => {
                    open = open.get(error.answered + 1..).unwrap_or_default();
                    denied = denied.or((error.code == Some(1095)).then_some(error));
                }
                Err(error) => return Err(refused("end connections", error)),
                Ok(_) => break,
            }
        }
        denied.map_or(Ok(()), |error| Err(refused("end connections", error)))
    }

    /// Makes this session the only one that may unfence, until a deadline on the server's clock.
    pub(super) async fn claim(&mut self, epoch: Epoch, valid_ms: u64) -> Result<(), Failed> {
        if let Some(newest) = self.newest_epoch().await?.filter(|newest| *newest > epoch.0) {
            return Err(Failed::Precondition(format!("epoch {newest} is written on the server, above {epoch}")));
        }
        self.end_older_claims(epoch).await?;
        let holder = self.ask("find the claim", reign::LOCK_HOLDER).await?;
        let holder = holder.first().map(Named);
        let id: Option<u64> = holder.as_ref().and_then(|row| row.number(&["id"]));
        let me: Option<u64> = holder.as_ref().and_then(|row| row.number(&["me"]));
        if let Some(id) = id.filter(|id| Some(*id) != me) {
            self.kill(&[id]).await?;
        }
        let locked = self.ask("take the claim", reign::LOCK).await?;
        if locked.first().and_then(|row| Named(row).number::<u8>(&["locked"])) != Some(1) {
            return Err(Failed::Precondition("another session holds the claim on this server".to_owned()));
        }
        self.note_deadline(valid_ms).await
    }

    /// The validity began when the action did. The server's clock is marked first; whatever passed by
    /// the time its answer is here is taken off, so that a server that hung meanwhile cannot make the
    /// claim last longer than the leadership that it rests on.
    async fn note_deadline(&mut self, valid_ms: u64) -> Result<(), Failed> {
        self.say("mark the server's clock", reign::MARK_NOW).await?;
        let valid = Duration::from_millis(valid_ms);
        let rest = valid.saturating_sub(self.begun.elapsed());
        let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        if rest_ms == 0 {
            return Err(Failed::Precondition("the claim took longer than it would have been valid".to_owned()));
        }
        self.say("note the deadline", &reign::note_deadline(rest_ms)).await?;
        self.ready.claim = Some(Claim { until: self.begun + valid });
        Ok(())
    }

    /// Sessions of lower reigns are ended; one of a higher reign ends us.
    async fn end_older_claims(&mut self, epoch: Epoch) -> Result<(), Failed> {
        self.say("mark the session", &reign::mark(epoch)).await?;
        let rows = match self.ask("list claims", reign::claimants(self.version())).await {
            // Without performance_schema the lock alone has to do.
            Err(Failed::Refused(_, error)) if error.lacks_privilege() => return Ok(()),
            other => other?,
        };
        let claim = |row: &Row| {
            let row = Named(row);
            Some((row.number::<u64>(&["id"])?, row.number::<u64>(&["epoch"])?))
        };
        let claims: Vec<_> = rows.iter().filter_map(claim).collect();
        if let Some((_, higher)) = claims.iter().find(|(_, claimed)| *claimed > epoch.0) {
            return Err(Failed::Precondition(format!("epoch {higher} claims the server, above {epoch}")));
        }
        let ids: Vec<_> = claims.into_iter().map(|(id, _)| id).collect();
        self.kill(&ids).await
    }

    /// The newest epoch written on the server; 0: a table without any; `None`: no table.
    async fn newest_epoch(&mut self) -> Result<Option<u64>, Failed> {
        let tables = self.ask("find the epoch table", reign::EPOCH_TABLE).await?;
        if tables.first().and_then(|row| Named(row).number::<u64>(&["tables"])) != Some(1) {
            return Ok(None);
        }
        let newest = self.ask("read the epoch", reign::EPOCH_NEWEST).await?;
        Ok(newest.first().and_then(|row| Named(row).number(&["epoch"])).or(Some(0)))
    }

    /// Ends replication, lets administrators write, writes the epoch, forgets the source. Under semi-sync the commit
    /// waits for an acker: done means that there is one.
    pub(super) async fn write_epoch(
        &mut self,
        epoch: Epoch,
        old_primary: Option<&ServerAddr>,
        wait_ms: u64,
    ) -> Result<(), Failed> {
        let version = self.version();
        let seen = self.quick_look().await?;
        self.end_half_applied().await?;
        self.threads("stop replication", &super::super::dialect::change::stop_replication(version)).await?;
        self.still_claimed().await?;
        for text in reign::administrators_only(version) {
            self.say("let administrators write", &text).await?;
        }
        let newest = self.newest_epoch().await?;
        if newest.is_some_and(|newest| newest > epoch.0) {
            return Err(Failed::Precondition(format!("a higher epoch than {epoch} is written on the server")));
        }
        // One that is opened again keeps what somebody gave it.
        let forgets = old_primary != Some(self.addr);
        if newest == Some(epoch.0) && epoch.0 > 0 {
            return if forgets { self.forget_at_once(epoch).await } else { Ok(()) };
        }
        let mut texts = vec![reign::epoch_write(epoch, &seen.identity.uuid, old_primary)];
        if newest.is_none() {
            texts.splice(0..0, reign::epoch_table_make().map(str::to_owned));
        }
        self.still_claimed().await?;
        let until = self.until.min(Instant::now() + Duration::from_millis(wait_ms));
        texts.insert(0, reign::mark(epoch));
        let mut writer = match self.slot.writer.take() {
            Some(writer) => writer,
            None => self.connect_writer(epoch).await.map_err(Failed::Writer)?,
        };
        // A session that had been idle may be gone; a fresh one tells whether the server is.
        if let Err(error) = write(&mut writer, &texts, until).await {
            if error.kind != FailureKind::Refused {
                return Err(not_written(error));
            }
            writer = self.connect_writer(epoch).await.map_err(Failed::Writer)?;
            write(&mut writer, &texts, until).await.map_err(not_written)?;
        }
        self.slot.writer = Some(writer);
        if forgets { self.forget_at_once(epoch).await } else { Ok(()) }
    }

    /// Forgets the source of a new primary, whose replication was stopped before this looks: started again, it would fetch
    /// what only the old primary has, and acknowledge for it. Only what is received and applied as a whole may go, and
    /// clients do not wait for long: what is left is [`Action::ForgetSource`]'s. In the session for writing, as the claim
    /// must not depend on it.
    ///
    /// [`Action::ForgetSource`]: crate::core::step::Action::ForgetSource
    async fn forget_at_once(&mut self, epoch: Epoch) -> Result<(), Failed> {
        let until = self.until.min(Instant::now() + FORGET_WAIT);
        let Ok(seen) = self.quick_look().await else { return Ok(()) };
        let stopped = |channel: &Channel| channel.receiver == Receiver::Stopped && channel.drained(&seen.executed);
        if seen.channels.is_empty() || !seen.channels.iter().all(stopped) {
            return Ok(());
        }
        let writer = match self.slot.writer.take() {
            Some(writer) => Ok(writer),
            None => self.connect_writer(epoch).await,
        };
        let Ok(mut writer) = writer else { return Ok(()) };
        let forget = |channel: &Channel| super::super::dialect::change::forget_source(self.version(), &channel.name);
        let texts: Vec<_> = [reign::mark(epoch)].into_iter().chain(seen.channels.iter().map(forget)).collect();
        for text in texts {
            let late = Instant::now() >= until || self.still_claimed().await.is_err();
            let said = if late { break } else { writer.query("forget the source", &text, 1, left_ms(until)).await };
            if let Err(error) = said {
                tracing::info!(server = %self.addr, "{}: the source is forgotten later: {error}", self.addr);
                return Ok(());
            }
        }
        self.slot.writer = Some(writer);
        Ok(())
    }

    async fn connect_writer(&self, epoch: Epoch) -> Result<Session, SessionError> {
        let budget_ms = left_ms(self.until).min(self.options.connect_ms);
        let program = format!("baton/epoch={epoch}");
        Session::connect(self.addr, self.options, &self.slot.known, &program, budget_ms).await
    }

    /// Whether the lock is still this session's: a later claim would have ended it.
    async fn still_claimed(&mut self) -> Result<(), Failed> {
        let holder = self.ask("find the claim", reign::LOCK_HOLDER).await?;
        let holder = holder.first().map(Named);
        let id: Option<u64> = holder.as_ref().and_then(|row| row.number(&["id"]));
        let mine = id.is_some() && id == holder.as_ref().and_then(|row| row.number(&["me"]));
        let in_time = self.ready.claim.is_some_and(|claim| claim.until > Instant::now());
        if mine && in_time { Ok(()) } else { Err(Failed::Precondition("the claim has ended".to_owned())) }
    }

    /// Lets clients write unless the claim's deadline has passed on the server's clock, and then gives
    /// the claim back.
    pub(super) async fn unfence(&mut self) -> Result<Box<Observation>, Failed> {
        self.still_claimed().await?;
        self.say("unfence", &reign::unfence(self.version())).await?;
        let seen = self.look().await?;
        if !seen.settings.writable() {
            return Err(Failed::Precondition("the claim has ended: the server stays as it is".to_owned()));
        }
        self.ready.claim = None;
        self.slot.writer = None;
        // The server is writable whatever comes of this; the session's end gives the lock back too.
        drop(self.say("give the claim back", reign::UNLOCK).await);
        Ok(seen)
    }
}

async fn write(writer: &mut Session, texts: &[String], until: Instant) -> Result<(), SessionError> {
    for text in texts {
        match writer.query("the epoch's commit", text, 1, left_ms(until)).await {
            // Written by an attempt whose answer was not awaited.
            Err(error) if error.code == Some(1062) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Only a missing privilege means that the epoch cannot be written at all; anything else may pass.
fn not_written(error: SessionError) -> Failed {
    if error.lacks_privilege() { Failed::Refused("write the epoch", error) } else { Failed::Writer(error) }
}
