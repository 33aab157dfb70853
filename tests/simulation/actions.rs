//! What an operator says to a server to perform an action: statement by statement, as src/mysql/execute
//! does, so that a frozen process, a cut or a crash can come between any two of them.

use std::sync::Arc;

use baton::{
    core::{
        gtid::GtidSet,
        id::{Epoch, ServerAddr},
        observation::{Channel, Failure, FailureKind, Observation, Receiver},
        rules::{Rule, holds},
        step::Action,
        time::Mono,
    },
    engine::ports::{ActionError, Servers},
};
use tokio::{
    sync::{OwnedMutexGuard, oneshot},
    time::{Duration, timeout},
};

use super::{
    ports::Ports,
    server::{addr, index_of},
    sim::Sim,
    statements::{Answer, Statement},
};

/// A connection to a server. When it goes, the server notices if it can be reached.
#[derive(Debug)]
pub struct Connection {
    sim: Arc<Sim>,
    operator: usize,
    server: usize,
    id: u64,
    /// Until when its claim lasts, as far as this process knows.
    claim: Option<Mono>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (operator, server, id) = (self.operator, self.server, self.id);
        self.sim.with(|state| {
            if !state.seats[operator].unheard.contains(&server) {
                state.fleet.close_session(server, id);
            }
        });
    }
}

/// The connections to one server.
#[derive(Debug, Default)]
pub struct Slot {
    ready: Option<Connection>,
    writer: Option<Connection>,
}

/// Why an action came to nothing.
enum Failed {
    Session(FailureKind),
    /// On the connection for writing: the other one is still good.
    Writer(FailureKind),
    Refused(u16, &'static str),
    Precondition(String),
}

impl Servers for Ports {
    async fn act(&self, addr: &ServerAddr, action: Action, budget_ms: u64) -> Result<Box<Observation>, ActionError> {
        let begun = self.now_here();
        let until = begun.plus_ms(budget_ms);
        self.perform(addr, &action, begun, until).await.map_err(|failed| match failed {
            Failed::Session(kind) | Failed::Writer(kind) => ActionError::Contact {
                server: addr.clone(),
                failure: Failure { at: self.now_here(), kind, message: format!("{kind:?}").to_lowercase() },
            },
            Failed::Refused(code, message) => ActionError::Refused {
                server: addr.clone(),
                statement: action.name(),
                code,
                message: message.to_owned(),
            },
            Failed::Precondition(reason) => ActionError::Precondition { server: addr.clone(), reason },
        })
    }
}

fn needs_claim(action: &Action) -> bool {
    matches!(action, Action::WriteEpoch { .. } | Action::Unfence)
}

impl Ports {
    fn now_here(&self) -> Mono {
        self.process.clock(self.sim.now())
    }

    async fn within<F: Future>(&self, until: Mono, future: F) -> Option<F::Output> {
        let left_ms = self.process.wait_ms(until.since_ms(self.now_here()));
        timeout(Duration::from_millis(left_ms), future).await.ok()
    }

    async fn perform(
        &self,
        addr: &ServerAddr,
        action: &Action,
        begun: Mono,
        until: Mono,
    ) -> Result<Box<Observation>, Failed> {
        let slot = Arc::clone(self.slots.lock().unwrap().entry(addr.clone()).or_default());
        let mut slot = self.within(until, slot.lock_owned()).await.ok_or(Failed::Session(FailureKind::Silent))?;
        let reused = slot.ready.is_some();
        match self.attempt(addr, action, &mut slot, begun, until).await {
            // An idle connection may have ended unnoticed.
            Err(Failed::Session(FailureKind::Refused)) if reused && !needs_claim(action) => {
                self.attempt(addr, action, &mut slot, begun, until).await
            }
            result => result,
        }
    }

    async fn attempt(
        &self,
        addr: &ServerAddr,
        action: &Action,
        slot: &mut OwnedMutexGuard<Slot>,
        begun: Mono,
        until: Mono,
    ) -> Result<Box<Observation>, Failed> {
        let server = index_of(addr);
        let (epoch, found) = match action {
            Action::Claim { epoch, .. } => {
                slot.writer = slot.ready.take().or_else(|| slot.writer.take());
                (Some(*epoch), None)
            }
            _ => (None, slot.ready.take()),
        };
        let claimed = found.as_ref().is_some_and(|ready| ready.claim.is_some());
        if needs_claim(action) && !claimed {
            slot.ready = found;
            return Err(Failed::Precondition("there is no claim, or its session is gone".to_owned()));
        }
        let ready = match found {
            Some(ready) => ready,
            None => self.connect(server, epoch, until).await?,
        };
        let mut work = Work { ports: self, server, begun, until, ready, slot };
        let result = work.run(action).await;
        let Work { ready, .. } = work;
        if !matches!(result, Err(Failed::Session(_))) {
            slot.ready = Some(ready);
        }
        result
    }

    async fn connect(&self, server: usize, epoch: Option<Epoch>, until: Mono) -> Result<Connection, Failed> {
        let operator = self.process.operator;
        let answer = self.sim.send(operator, server, 0, Statement::Connect(epoch));
        match self.answer(answer, until).await? {
            Answer::Session(id) => Ok(Connection { sim: Arc::clone(&self.sim), operator, server, id, claim: None }),
            _ => Err(Failed::Session(FailureKind::Refused)),
        }
    }

    async fn answer(&self, answer: oneshot::Receiver<Answer>, until: Mono) -> Result<Answer, Failed> {
        match self.within(until, answer).await {
            Some(Ok(Answer::Gone)) => Err(Failed::Session(FailureKind::Refused)),
            Some(Ok(Answer::Refused(code, message))) => Err(Failed::Refused(code, message)),
            Some(Ok(answer)) => Ok(answer),
            // No answer will come, which nobody knows before the time is over.
            Some(Err(_)) => {
                self.within(until, std::future::pending::<()>()).await;
                Err(Failed::Session(FailureKind::Silent))
            }
            None => Err(Failed::Session(FailureKind::Silent)),
        }
    }
}

/// An action under way.
struct Work<'a> {
    ports: &'a Ports,
    server: usize,
    begun: Mono,
    until: Mono,
    ready: Connection,
    slot: &'a mut Slot,
}

impl Work<'_> {
    async fn run(&mut self, action: &Action) -> Result<Box<Observation>, Failed> {
        match action {
            Action::Look => {}
            Action::StopReceiver => self.say(Statement::StopReceiver).await?,
            Action::StartReceiver => self.say(Statement::StartReceiver).await?,
            Action::RestartReceiver => self.all([Statement::StopReceiver, Statement::StartReceiver]).await?,
            Action::StartApplier => self.say(Statement::StartApplier).await?,
            Action::WaitApplied { set, wait_ms } => {
                let wait_ms = (*wait_ms).min(self.left_ms());
                self.say(Statement::WaitApplied(set.clone(), wait_ms)).await?;
            }
            Action::Fence => {
                let (offline, off) = (Statement::Offline(true), Statement::SemiSyncSource(false, 0));
                let (first, second) = if holds(Rule::FenceOrder) { (offline, off) } else { (off, offline) };
                self.all([first, second, Statement::ReadOnly, Statement::EndClients]).await?;
            }
            Action::SetReadOnly => self.all([Statement::ReadOnly, Statement::Offline(false)]).await?,
            Action::SemiSyncSource { on, wait_count }
            | Action::LosslessSemiSync { acks: wait_count, on: on @ true } => {
                self.say(Statement::SemiSyncSource(*on, *wait_count)).await?;
            }
            Action::Acknowledge { on } => {
                let replica = Statement::SemiSyncReplica(*on);
                self.all([replica, Statement::StopReceiver, Statement::StartReceiver]).await?;
            }
            // The fleet's plugins are loaded, its timeouts do not end, and it has connections for all.
            Action::LosslessSemiSync { .. } | Action::LoadSemiSync | Action::AllowConnections { .. } => {}
            Action::SemiSyncReplica { on } => self.say(Statement::SemiSyncReplica(*on)).await?,
            Action::Claim { epoch, valid_ms } => self.claim(*epoch, *valid_ms).await?,
            Action::WriteEpoch { epoch, old_primary, wait_ms } => {
                self.write_epoch(*epoch, *wait_ms).await?;
                self.forget_at_once(old_primary.as_ref()).await?;
            }
            Action::Unfence => return self.unfence().await,
            Action::ForgetSource => {
                let seen = self.look().await?;
                self.stop_drained(&seen).await?;
                if !seen.channels.is_empty() {
                    self.say(Statement::ForgetSource).await?;
                }
            }
            Action::Repoint { source, semi_sync } => self.repoint(source, *semi_sync).await?,
            // The fleet's settings are as they should be.
            Action::EnforceReplicationSettings { .. } => {}
        }
        self.look().await
    }

    fn left_ms(&self) -> u64 {
        self.until.since_ms(self.ports.now_here())
    }

    /// A process that was frozen says nothing any more once its time is over.
    async fn ask(&mut self, statement: Statement) -> Result<Answer, Failed> {
        if self.left_ms() == 0 {
            return Err(Failed::Session(FailureKind::Silent));
        }
        let answer = self.ports.sim.send(self.ports.process.operator, self.server, self.ready.id, statement);
        self.ports.answer(answer, self.until).await
    }

    async fn say(&mut self, statement: Statement) -> Result<(), Failed> {
        self.ask(statement).await.map(|_| ())
    }

    async fn all<const COUNT: usize>(&mut self, statements: [Statement; COUNT]) -> Result<(), Failed> {
        for statement in statements {
            self.say(statement).await?;
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<Box<Observation>, Failed> {
        let began = self.ports.now_here();
        let Answer::Seen(mut seen) = self.ask(Statement::Look).await? else {
            return Err(Failed::Session(FailureKind::NotMysql));
        };
        seen.at = self.ports.now_here();
        seen.took_ms = seen.at.since_ms(began);
        Ok(seen)
    }

    async fn newest_epoch(&mut self) -> Result<Epoch, Failed> {
        let answer = self.ask(Statement::NewestEpoch).await?;
        if let Answer::Epoch(newest) = answer { Ok(newest) } else { Err(Failed::Session(FailureKind::NotMysql)) }
    }

    async fn claim(&mut self, epoch: Epoch, valid_ms: u64) -> Result<(), Failed> {
        let newest = self.newest_epoch().await?;
        if newest > epoch {
            return Err(Failed::Precondition(format!("epoch {newest} is written on the server, above {epoch}")));
        }
        if let Answer::Epoch(higher) = self.ask(Statement::EndClaims(epoch)).await? {
            return Err(Failed::Precondition(format!("epoch {higher} claims the server, above {epoch}")));
        }
        self.all([Statement::TakeClaim, Statement::Mark]).await?;
        let rest_ms = self.begun.plus_ms(valid_ms).since_ms(self.ports.now_here());
        if rest_ms == 0 {
            return Err(Failed::Precondition("the claim took longer than it would have been valid".to_owned()));
        }
        self.say(Statement::NoteDeadline(rest_ms)).await?;
        self.ready.claim = Some(self.begun.plus_ms(valid_ms));
        Ok(())
    }

    async fn still_claimed(&mut self) -> Result<(), Failed> {
        let holds = matches!(self.ask(Statement::HoldsClaim).await?, Answer::Holds(true));
        let in_time = self.ready.claim.is_some_and(|until| until > self.ports.now_here());
        if holds && in_time { Ok(()) } else { Err(Failed::Precondition("the claim has ended".to_owned())) }
    }

    async fn write_epoch(&mut self, epoch: Epoch, wait_ms: u64) -> Result<(), Failed> {
        self.look().await?;
        self.say(Statement::StopReplication).await?;
        self.still_claimed().await?;
        self.say(Statement::AdministratorsOnly).await?;
        let newest = self.newest_epoch().await?;
        if newest > epoch {
            return Err(Failed::Precondition(format!("a higher epoch than {epoch} is written on the server")));
        }
        if newest == epoch {
            return Ok(());
        }
        self.still_claimed().await?;
        let until = self.until.min(self.ports.now_here().plus_ms(wait_ms));
        let reused = self.slot.writer.is_some();
        match self.insert_epoch(epoch, until).await {
            Err(Failed::Writer(FailureKind::Refused)) if reused => self.insert_epoch(epoch, until).await,
            result => result,
        }
    }

    async fn forget_at_once(&mut self, old_primary: Option<&ServerAddr>) -> Result<(), Failed> {
        let seen = self.look().await?;
        let gone = |channel: &Channel| channel.receiver == Receiver::Stopped && drained(channel, &seen).is_ok();
        let due = !seen.channels.is_empty() && seen.channels.iter().all(gone);
        if due && old_primary != Some(&addr(self.server)) { self.say(Statement::ForgetSource).await } else { Ok(()) }
    }

    /// On the connection for writing, which is lost when there is no answer.
    async fn insert_epoch(&mut self, epoch: Epoch, until: Mono) -> Result<(), Failed> {
        let on_writer = |failed| match failed {
            Failed::Session(kind) => Failed::Writer(kind),
            Failed::Refused(..) => Failed::Writer(FailureKind::Statement),
            other => other,
        };
        let writer = match self.slot.writer.take() {
            Some(writer) => writer,
            None => self.ports.connect(self.server, Some(epoch), self.until).await.map_err(on_writer)?,
        };
        let operator = self.ports.process.operator;
        let answer = self.ports.sim.send(operator, self.server, writer.id, Statement::WriteEpoch(epoch));
        self.ports.answer(answer, until).await.map_err(on_writer)?;
        self.slot.writer = Some(writer);
        Ok(())
    }

    async fn unfence(&mut self) -> Result<Box<Observation>, Failed> {
        self.still_claimed().await?;
        self.say(Statement::Unfence).await?;
        let seen = self.look().await?;
        if !seen.settings.writable() {
            return Err(Failed::Precondition("the claim has ended: the server stays as it is".to_owned()));
        }
        self.ready.claim = None;
        self.slot.writer = None;
        drop(self.say(Statement::GiveClaimBack).await);
        Ok(seen)
    }

    async fn stop_drained(&mut self, before: &Observation) -> Result<(), Failed> {
        let idle = |channel: &&Channel| !channel.applier_running;
        before.channels.iter().filter(idle).try_for_each(|channel| drained(channel, before))?;
        let receives = before.channels.iter().any(|channel| channel.receiver != Receiver::Stopped);
        if receives || before.channels.iter().any(|channel| drained(channel, before).is_err()) {
            self.say(Statement::StopReceiver).await?;
            let now = self.look().await?;
            let received = now.channels.iter().fold(GtidSet::default(), |set, it| set.union(&it.received));
            let wait_ms = self.left_ms() / 2;
            self.say(Statement::WaitApplied(received, wait_ms)).await?;
            let stopped = self.look().await?;
            let settled = stopped.channels.iter().try_for_each(|channel| drained(channel, &stopped));
            if settled.is_err() && receives {
                self.say(Statement::StartReceiver).await?;
            }
            settled?;
        }
        self.say(Statement::StopReplication).await
    }

    async fn repoint(&mut self, source: &ServerAddr, semi_sync: Option<bool>) -> Result<(), Failed> {
        let seen = self.look().await?;
        let live = seen.channels.first().is_some_and(|channel| channel.applier_running);
        if live { self.say(Statement::StopReceiver).await } else { self.stop_drained(&seen).await }?;
        self.say(Statement::ChangeSource(index_of(source))).await?;
        if let Some(on) = semi_sync {
            self.say(Statement::SemiSyncReplica(on)).await?;
        }
        self.say(Statement::StartReceiver).await?;
        if live { Ok(()) } else { self.say(Statement::StartApplier).await }
    }
}

/// Refuses when something is received and not applied.
fn drained(channel: &Channel, seen: &Observation) -> Result<(), Failed> {
    match channel.received.subtract(&seen.executed).count() {
        waiting if waiting == 0 || !holds(Rule::DrainBeforeRepoint) => Ok(()),
        waiting => Err(Failed::Precondition(format!("{waiting} transactions are received and not applied"))),
    }
}
