//! The servers with the network between them and the time at which things happen: commits, what clients
//! are told, freezes, crashes, starts.
//!
//! Nothing here waits. What comes later is an [`Event`] in a queue, and one task works that queue off.

use std::collections::{BTreeMap, BTreeSet};

use baton::core::{gtid::GtidSet, id::Epoch, observation::Receiver};

use super::{
    random::Random,
    server::{Commit, Power, Server, one},
    unanswered::Unanswered,
};

/// A connection that was never refused is given up after this silence, in milliseconds.
pub const NET_TIMEOUT_MS: u64 = 2000;
/// Pause between two attempts of a receiver to connect, in milliseconds.
pub const CONNECT_RETRY_MS: u64 = 1000;

/// Something that happens later.
#[derive(Debug, Clone)]
pub enum Event {
    /// What its source has arrives at a replica.
    Deliver(usize),
    /// A replica's acknowledgement arrives at its source.
    Ack {
        from: usize,
        to: usize,
        set: GtidSet,
    },
    /// A replica has applied this.
    Apply(usize, GtidSet),
    /// A receiver of this generation tries to connect.
    Connect(usize, u64),
    /// A receiver of this generation may have heard nothing for too long.
    Silence(usize, u64),
    /// A client's write arrives.
    Write(usize),
    /// The next client decides where to write.
    Client,
    /// A fault of the scenario, by number: it begins, it ends.
    Fault(usize),
    Undo(usize),
    Boot(usize),
    /// There are no more faults, and who is away comes back.
    Heal,
}

/// One acknowledgement that a client was given.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub at: u64,
    pub server: usize,
    /// See [`Server::opened`].
    pub opened: u64,
}

#[derive(Debug)]
pub struct Fleet {
    pub now: u64,
    pub servers: Vec<Server>,
    /// Nothing sent by the first arrives at the second.
    pub cut: BTreeSet<(usize, usize)>,
    pub heartbeat_ms: u64,
    /// Commits wait for replicas, without loss: then nothing that was acknowledged may be lost.
    pub semi_sync: bool,
    pub queue: BTreeMap<(u64, u64), Event>,
    pub random: Random,
    sequence: u64,
    pub sessions: u64,
    /// Transactions that are an epoch's.
    pub epochs: Vec<(GtidSet, Epoch)>,
    /// What people wrote on replicas.
    pub strays: GtidSet,
    /// Where the last of them was written, and when.
    pub stray_at: Option<(usize, u64)>,
    pub acknowledged: GtidSet,
    pub unanswered: Unanswered,
    /// What clients saw on a server they were routed to.
    pub read: GtidSet,
    pub told: Option<Told>,
    pub count_told: u64,
    /// How often Baton let clients in.
    pub openings: u64,
    /// What broke a rule, as soon as it did.
    pub broken: Option<String>,
}

impl Fleet {
    pub fn new(servers: Vec<Server>, heartbeat_ms: u64, random: Random, semi_sync: bool) -> Self {
        Self {
            now: 0,
            servers,
            cut: BTreeSet::new(),
            heartbeat_ms,
            semi_sync,
            queue: BTreeMap::new(),
            random,
            sequence: 0,
            sessions: 0,
            epochs: Vec::new(),
            strays: GtidSet::default(),
            stray_at: None,
            acknowledged: GtidSet::default(),
            unanswered: Unanswered::default(),
            read: GtidSet::default(),
            told: None,
            count_told: 0,
            openings: 0,
            broken: None,
        }
    }

    pub fn after(&mut self, ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + ms, self.sequence), event);
    }

    pub fn arrives(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Notes that a rule is broken; the first word counts.
    pub fn fail(&mut self, reason: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(reason());
        }
    }

    pub fn replicas_of(&self, source: usize) -> Vec<usize> {
        let follows = |server: &&Server| server.channel.as_ref().is_some_and(|channel| channel.source == source);
        self.servers.iter().filter(follows).map(|server| server.index).collect()
    }

    /// Whether a replica's receiver gets what its source sends.
    pub fn live(&self, replica: usize) -> bool {
        let server = &self.servers[replica];
        let running = |channel: &&super::server::Channel| channel.receiver == Receiver::Running;
        server.runs()
            && server
                .channel
                .as_ref()
                .filter(running)
                .is_some_and(|channel| self.servers[channel.source].runs() && self.arrives(channel.source, replica))
    }

    /// Replicas whose acknowledgements count for a server, as it sees it.
    pub fn ackers(&self, source: usize) -> BTreeSet<usize> {
        let acks = |index: &usize| {
            let channel = self.servers[*index].channel.as_ref();
            channel.is_some_and(|channel| channel.acks && channel.receiver == Receiver::Running)
        };
        self.replicas_of(source).into_iter().filter(acks).collect()
    }

    /// Whether a commit on this server would be acknowledged to its client now.
    pub fn acknowledges(&self, index: usize) -> bool {
        let server = &self.servers[index];
        let reaches = |replica: &usize| self.live(*replica) && self.arrives(*replica, index);
        server.runs()
            && server.open()
            && self.ackers(index).iter().filter(|it| reaches(it)).count() >= server.waits_for()
    }

    /// The newest epoch that a server's rows show.
    pub fn newest_epoch(&self, index: usize) -> Epoch {
        let executed = &self.servers[index].executed;
        let found = self.epochs.iter().filter(|(set, _)| executed.contains(set));
        found.map(|(_, epoch)| *epoch).max().unwrap_or_default()
    }

    /// A transaction enters the binary log. It commits once enough replicas have it.
    pub fn commit(&mut self, index: usize, client: bool) -> GtidSet {
        let server = &mut self.servers[index];
        server.written += 1;
        let set = one(index, server.written);
        server.waiting.push(Commit { set: set.clone(), client, acked_by: BTreeSet::new() });
        self.release(index);
        self.spread(index);
        set
    }

    /// An epoch's row.
    pub fn commit_epoch(&mut self, index: usize, epoch: Epoch) {
        let newest = self.newest_epoch(index);
        if newest >= epoch {
            self.fail(|| format!("I8: epoch {epoch} is written on {index} after {newest}"));
        }
        // Noted before it can commit, so that it is found at once.
        let set = one(index, self.servers[index].written + 1);
        self.epochs.push((set, epoch));
        self.commit(index, false);
    }

    /// Commits what has enough acknowledgements, in order, and tells the clients that are still there.
    pub fn release(&mut self, index: usize) {
        let needed = self.servers[index].waits_for();
        while self.servers[index].waiting.first().is_some_and(|commit| commit.acked_by.len() >= needed) {
            let server = &mut self.servers[index];
            let commit = server.waiting.remove(0);
            server.executed = server.executed.union(&commit.set);
            if commit.client {
                self.acknowledged = self.acknowledged.union(&commit.set);
                self.count_told += 1;
                self.note_told(index, &commit.set);
            }
        }
    }

    /// I3 by what clients are told: once a server that was opened later acknowledged something, an earlier
    /// one tells at most what was on its way to it, and that the later one has.
    fn note_told(&mut self, index: usize, set: &GtidSet) {
        let told = Told { at: self.now, server: index, opened: self.servers[index].opened };
        if self.semi_sync && self.told.is_some_and(|before| before.opened == told.opened && before.server != index) {
            self.fail(|| format!("I3: {index} acknowledges {set} and was never opened"));
        }
        let Some(before) = self.told.filter(|before| before.opened > told.opened) else {
            self.told = Some(told);
            return;
        };
        if self.semi_sync && !self.servers[before.server].log().contains(set) {
            self.fail(|| format!("I3: {index} acknowledges {set} after {} did, which was opened later", before.server));
        }
    }

    /// Clients of a server are cut off; what they wait for they never learn.
    pub fn cut_off_clients(&mut self, index: usize) {
        self.leave_unanswered(index);
        self.servers[index].waiting.iter_mut().for_each(|commit| commit.client = false);
    }

    pub fn kill(&mut self, index: usize) {
        if self.servers[index].power != Power::Dead {
            self.leave_unanswered(index);
            self.servers[index].crash();
            self.servers[index].died_at = Some(self.now);
            self.settle();
        }
    }

    pub fn boot(&mut self, index: usize, replicates: bool) {
        self.servers[index].boot();
        self.servers[index].idle = !replicates;
        if replicates {
            self.start_receiver(index);
            self.start_applier(index);
        }
        self.settle();
    }

    pub fn freeze(&mut self, index: usize, frozen: bool) {
        let server = &mut self.servers[index];
        server.power = match (server.power, frozen) {
            (Power::Running, true) => Power::Frozen,
            (Power::Frozen, false) => Power::Running,
            (power, _) => power,
        };
        self.settle();
        if !frozen {
            self.spread(index);
            self.hear(index);
            self.apply_soon(index);
            let generation = self.servers[index].channel.as_ref().map_or(0, |channel| channel.generation);
            self.after(NET_TIMEOUT_MS, Event::Silence(index, generation));
        }
    }

    /// A client writes to a server that lets it.
    pub fn write(&mut self, index: usize) -> bool {
        let server = &self.servers[index];
        // Clients give up waiting at some point, and there are not that many.
        let open = server.runs() && server.open() && server.waiting.len() < 8;
        if open {
            self.commit(index, true);
        }
        open
    }
}
