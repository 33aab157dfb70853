//! What a server does with one statement of an operator, with the semantics of src/mysql/execute and
//! src/mysql/dialect on 9.7.4. One statement is one step: whatever an action says in several can be
//! interrupted between them.

use baton::core::{
    gtid::GtidSet,
    id::Epoch,
    observation::{Observation, Receiver},
    rules::{Rule, holds},
};

use super::{
    fleet::Fleet,
    server::{Channel, Server, Session, uuid},
};

/// How long Baton's sessions wait for a lock (src/mysql/dialect), in milliseconds.
const LOCK_WAIT_MS: u64 = 3000;

#[derive(Debug, Clone)]
pub enum Statement {
    Connect(Option<Epoch>),
    Look,
    StopReceiver,
    StartReceiver,
    StartApplier,
    StopReplication,
    /// The set, and how long the server waits.
    WaitApplied(GtidSet, u64),
    Offline(bool),
    ReadOnly,
    AdministratorsOnly,
    EndClients,
    SemiSyncSource(bool, u32),
    SemiSyncReplica(bool),
    NewestEpoch,
    /// Ends the sessions of lower reigns, unless there is one of a higher.
    EndClaims(Epoch),
    /// Ends whoever holds the claim, and takes it.
    TakeClaim,
    Mark,
    NoteDeadline(u64),
    HoldsClaim,
    WriteEpoch(Epoch),
    Unfence,
    GiveClaimBack,
    ForgetSource,
    ChangeSource(usize),
}

#[derive(Debug)]
pub enum Answer {
    Done,
    Session(u64),
    Epoch(Epoch),
    Holds(bool),
    Seen(Box<Observation>),
    Refused(u16, &'static str),
    /// The connection is gone, or nobody takes one.
    Gone,
    /// Not yet: the server is still at it.
    Wait,
}

impl Fleet {
    /// `since`: how long the server has been at it, in milliseconds.
    pub fn execute(&mut self, index: usize, session: u64, statement: &Statement, since: u64) -> Answer {
        if let Statement::Connect(epoch) = statement {
            self.sessions += 1;
            let fresh = Session { epoch: *epoch, ..Session::default() };
            self.servers[index].sessions.insert(self.sessions, fresh);
            return Answer::Session(self.sessions);
        }
        if !self.servers[index].sessions.contains_key(&session) {
            return Answer::Gone;
        }
        match statement {
            Statement::Look => Answer::Seen(Box::new(self.look(index))),
            Statement::StopReceiver => self.done(|fleet| fleet.stop_receiver(index)),
            Statement::StartReceiver => self.done(|fleet| fleet.start_receiver(index)),
            Statement::StartApplier => self.done(|fleet| fleet.start_applier(index)),
            Statement::StopReplication => self.stop_replication(index),
            Statement::WaitApplied(set, wait_ms) => match self.servers[index].executed.contains(set) {
                false if since < *wait_ms => Answer::Wait,
                _ => Answer::Done,
            },
            Statement::Offline(on) => self.offline(index, *on),
            Statement::ReadOnly => self.read_only(index, since),
            Statement::EndClients => self.done(|fleet| fleet.cut_off_clients(index)),
            Statement::SemiSyncSource(on, wait_count) => self.semi_sync_source(index, *on, *wait_count),
            Statement::ForgetSource | Statement::ChangeSource(_) => self.change_source(index, statement),
            Statement::WriteEpoch(epoch) => self.write_epoch(index, *epoch, since > 0),
            Statement::SemiSyncReplica(on) => {
                self.servers[index].replica_side = *on;
                Answer::Done
            }
            Statement::AdministratorsOnly => {
                (self.servers[index].read_only, self.servers[index].super_read_only) = (true, false);
                Answer::Done
            }
            _ => self.claim(index, session, statement),
        }
    }

    fn done(&mut self, change: impl FnOnce(&mut Self)) -> Answer {
        change(self);
        Answer::Done
    }

    pub fn look(&self, index: usize) -> Observation {
        self.servers[index].observe(self.now, &self.ackers(index), self.heartbeat_ms)
    }

    /// An applier that waits for acknowledgements cannot be stopped (M10).
    fn stop_replication(&mut self, index: usize) -> Answer {
        let server = &self.servers[index];
        let Some(channel) = &server.channel else { return Answer::Done };
        if channel.applier && self.stalls(index) && !server.executed.contains(&channel.received) {
            return Answer::Wait;
        }
        self.stop_receiver(index);
        if let Some(channel) = &mut self.servers[index].channel {
            channel.applier = false;
        }
        Answer::Done
    }

    /// `offline_mode` ends waiting clients without an answer, and replicas' connections (M3).
    fn offline(&mut self, index: usize, on: bool) -> Answer {
        self.servers[index].offline = on;
        if on {
            self.cut_off_clients(index);
            self.replicas_of(index).into_iter().for_each(|replica| {
                if self.live(replica) {
                    self.disconnect(replica);
                }
            });
            self.settle();
        }
        Answer::Done
    }

    /// Blocks while a commit waits for an acknowledgement (M4).
    /// It waits for commits under way as long as Baton's sessions wait for locks (M4).
    fn read_only(&mut self, index: usize, since: u64) -> Answer {
        if !self.servers[index].waiting.is_empty() && since < LOCK_WAIT_MS {
            return Answer::Wait;
        }
        if !self.servers[index].waiting.is_empty() {
            return Answer::Refused(1205, "lock wait timeout exceeded");
        }
        (self.servers[index].read_only, self.servers[index].super_read_only) = (true, true);
        Answer::Done
    }

    /// Switched off, it tells whoever waits that all is done (M2).
    fn semi_sync_source(&mut self, index: usize, on: bool, wait_count: u32) -> Answer {
        self.servers[index].source_side = on;
        if on {
            self.servers[index].wait_count = wait_count;
        }
        self.release(index);
        self.apply_soon(index);
        Answer::Done
    }

    fn change_source(&mut self, index: usize, statement: &Statement) -> Answer {
        let Some(channel) = self.servers[index].channel.clone() else {
            if let Statement::ChangeSource(source) = statement {
                self.servers[index].channel = Some(fresh(*source, GtidSet::default(), false));
            }
            return Answer::Done;
        };
        if channel.receiver != Receiver::Stopped {
            return Answer::Refused(3021, "this operation cannot be performed with a running replica io thread");
        }
        if let Statement::ChangeSource(source) = statement {
            self.judge_source(index, *source);
        }
        // With the applier stopped too, the relay logs go.
        let kept = if channel.applier { channel.received.clone() } else { GtidSet::default() };
        let server = &self.servers[index];
        let lost = channel.received.subtract(&kept).subtract(&server.executed);
        let lost = lost.subtract(&lost.subtract(&self.acknowledged));
        if !lost.is_empty() {
            self.fail(|| format!("I1: relay logs with acknowledged {lost} are thrown away on {}", uuid(index)));
        }
        let generation = channel.generation + 1;
        self.servers[index].channel = match statement {
            Statement::ChangeSource(source) => Some(Channel { generation, ..fresh(*source, kept, channel.applier) }),
            _ => None,
        };
        Answer::Done
    }

    /// `again`: it was inserted, and its commit waits.
    fn write_epoch(&mut self, index: usize, epoch: Epoch, again: bool) -> Answer {
        if self.newest_epoch(index) == epoch {
            return Answer::Done;
        }
        let server = &self.servers[index];
        let is_row = |set: &GtidSet| self.epochs.iter().any(|(row, of)| *of == epoch && row == set);
        let waits = server.waiting.iter().any(|commit| is_row(&commit.set));
        if waits || again {
            return Answer::Wait;
        }
        if server.super_read_only {
            return Answer::Refused(1290, "the server is running with --super-read-only");
        }
        self.commit_epoch(index, epoch);
        Answer::Wait
    }

    fn claim(&mut self, index: usize, session: u64, statement: &Statement) -> Answer {
        let now = self.now;
        let newest = self.newest_epoch(index);
        let server = &mut self.servers[index];
        let clock = server.clock(now);
        let own = server.sessions.get_mut(&session).unwrap();
        match statement {
            Statement::NewestEpoch => return Answer::Epoch(newest),
            Statement::EndClaims(epoch) => {
                if !holds(Rule::ClaimEnds) {
                    return Answer::Done;
                }
                let higher = server.sessions.values().filter_map(|other| other.epoch).find(|other| other > epoch);
                if let Some(higher) = higher {
                    return Answer::Epoch(higher);
                }
                server.sessions.retain(|id, other| *id == session || other.epoch.is_none());
                server.lock = server.lock.filter(|holder| server.sessions.contains_key(holder));
            }
            Statement::TakeClaim if !holds(Rule::ClaimEnds) => {}
            Statement::TakeClaim => {
                if let Some(holder) = server.lock.filter(|holder| *holder != session) {
                    server.sessions.remove(&holder);
                }
                server.lock = Some(session);
            }
            Statement::Mark => own.mark = clock,
            Statement::NoteDeadline(valid_ms) => own.deadline = Some(own.mark + i64::try_from(*valid_ms).unwrap()),
            Statement::HoldsClaim => return Answer::Holds(server.lock == Some(session) || !holds(Rule::ClaimEnds)),
            Statement::Unfence
                if own.deadline.is_some_and(|deadline| clock < deadline || !holds(Rule::ServerDeadline)) =>
            {
                let reign = own.epoch.unwrap_or_default();
                (server.read_only, server.super_read_only, server.offline) = (false, false, false);
                server.reign = reign;
                self.openings += 1;
                server.opened = self.openings;
                self.one_of_a_reign(index, reign);
                self.judge_opening(index, reign);
            }
            Statement::GiveClaimBack => server.lock = server.lock.filter(|holder| *holder != session),
            _ => {}
        }
        Answer::Done
    }

    /// I3 without semi-sync: nobody is opened in the reign in which another was and still accepts writes.
    fn one_of_a_reign(&mut self, index: usize, reign: Epoch) {
        let beside =
            |other: &&Server| other.index != index && other.open() && other.reign == reign && other.waits_for() == 0;
        if let Some(other) = self.servers.iter().find(beside).map(|other| other.index) {
            self.fail(|| format!("I3: {index} and {other} both accept writes in epoch {reign}"));
        }
    }

    /// A connection ends; the server notices.
    pub fn close_session(&mut self, index: usize, session: u64) {
        let server = &mut self.servers[index];
        server.sessions.remove(&session);
        server.lock = server.lock.filter(|holder| *holder != session);
    }
}

fn fresh(source: usize, received: GtidSet, applier: bool) -> Channel {
    Channel {
        source,
        met: false,
        receiver: Receiver::Stopped,
        acks: false,
        generation: 0,
        received,
        applier,
        applier_error: false,
        receiver_error: None,
        attempts: 0,
        beats: 0,
        live_since: None,
        quiet_since: 0,
        position: 4,
        delivering: false,
        applying: false,
    }
}

/// A replica that is set up.
pub fn following(source: usize) -> Channel {
    fresh(source, GtidSet::default(), false)
}
