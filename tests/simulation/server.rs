//! One simulated mysqld: what survives a crash, what does not, what its configuration says, what a look
//! at it shows. Rules M1-M10 are those measured on 9.7.4 (docs/safety.md rests on them).

use std::collections::{BTreeMap, BTreeSet};

use baton::core::{
    gtid::GtidSet,
    id::{Epoch, ServerAddr},
    observation::{
        self, BinlogFormat, Facts, GtidMode, Identity, Observation, Receiver, SemiSync, SemiSyncSource, Settings,
        ThreadError,
    },
    time::Mono,
    version::Version,
};

pub fn addr(index: usize) -> ServerAddr {
    ServerAddr::new(&format!("10.0.0.{}", index + 1), 3306).unwrap()
}

pub fn index_of(addr: &ServerAddr) -> usize {
    addr.host().rsplit_once('.').unwrap().1.parse::<usize>().unwrap() - 1
}

pub fn uuid(index: usize) -> String {
    format!("{index:08}-0000-0000-0000-000000000000")
}

/// One transaction of a server.
pub fn one(index: usize, number: u64) -> GtidSet {
    format!("{}:{number}", uuid(index)).parse().unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Running,
    /// Stopped by SIGSTOP: connections are accepted by the kernel, nothing answers.
    Frozen,
    Dead,
}

/// What the configuration file says.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub boots_fenced: bool,
    pub skip_replica_start: bool,
    pub relay_log_recovery: bool,
    pub source_side: bool,
    pub names_replicas: bool,
}

/// A transaction in the binary log that the storage engine has not committed yet: it waits for
/// acknowledgements (`AFTER_SYNC`), and nobody sees it.
#[derive(Debug, Clone)]
pub struct Commit {
    pub set: GtidSet,
    /// A client is connected that would be told.
    pub client: bool,
    pub acked_by: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
pub struct Channel {
    pub source: usize,
    /// It was connected once, so the source's UUID is known.
    pub met: bool,
    pub receiver: Receiver,
    /// The receiver that runs acknowledges; decided when it connects.
    pub acks: bool,
    /// Another one with every change of the receiver: timers of the one before are void.
    pub generation: u64,
    pub received: GtidSet,
    pub applier: bool,
    pub applier_error: bool,
    pub receiver_error: Option<(u32, u64)>,
    pub attempts: u64,
    pub beats: u64,
    /// Since when something arrives from the source; `None`: nothing does.
    pub live_since: Option<u64>,
    pub quiet_since: u64,
    pub position: u64,
    pub delivering: bool,
    pub applying: bool,
}

/// One connection of an operator.
#[derive(Debug, Clone, Default)]
pub struct Session {
    pub epoch: Option<Epoch>,
    pub mark: i64,
    /// Until when `Unfence` may take effect, on the server's clock.
    pub deadline: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub index: usize,
    pub power: Power,
    /// Another one with every start of the process.
    pub incarnation: u64,
    pub config: Config,
    pub executed: GtidSet,
    pub waiting: Vec<Commit>,
    /// Transactions of its own so far.
    pub written: u64,
    pub channel: Option<Channel>,
    pub read_only: bool,
    pub super_read_only: bool,
    pub offline: bool,
    pub source_side: bool,
    pub wait_count: u32,
    pub replica_side: bool,
    pub sessions: BTreeMap<u64, Session>,
    pub lock: Option<u64>,
    pub clock_offset_ms: i64,
    /// How fast its clock runs, in thousandths.
    pub clock_rate: i64,
    pub lag_ms: u64,
    /// Its applier meets an error with the next transaction.
    pub poisoned: bool,
    /// The reign in which Baton let clients in last.
    pub reign: Epoch,
    /// How many had been let in before, in the whole fleet: who was opened later is the primary.
    pub opened: u64,
    /// Statements that arrived, and that were begun: they are begun in order.
    pub arrived: u64,
    pub begun: u64,
    /// Nobody knows it: it follows the first primary, and acknowledges.
    pub hidden: bool,
    /// It started without replicating, and nobody has started that since.
    pub idle: bool,
    pub died_at: Option<u64>,
    pub clock_was_set: bool,
}

impl Server {
    pub fn new(index: usize, config: Config) -> Self {
        Self {
            index,
            power: Power::Running,
            incarnation: 0,
            config,
            executed: GtidSet::default(),
            waiting: Vec::new(),
            written: 0,
            channel: None,
            read_only: true,
            super_read_only: true,
            offline: false,
            source_side: false,
            wait_count: 1,
            replica_side: false,
            sessions: BTreeMap::new(),
            lock: None,
            clock_offset_ms: 0,
            clock_rate: 1000,
            lag_ms: 0,
            poisoned: false,
            reign: Epoch(0),
            opened: 0,
            arrived: 0,
            begun: 0,
            hidden: false,
            idle: false,
            died_at: None,
            clock_was_set: false,
        }
    }

    pub fn runs(&self) -> bool {
        self.power == Power::Running
    }

    /// Whether ordinary clients can write once it runs.
    pub fn open(&self) -> bool {
        self.power != Power::Dead && !self.read_only && !self.super_read_only && !self.offline
    }

    /// Whether clients can read what it has committed. One that accepts writes as soon as it starts shows what a
    /// crash brought back (M6), and nobody can keep clients from reading it: that does not count.
    pub fn readable(&self) -> bool {
        self.runs() && self.open() && self.config.boots_fenced
    }

    /// Its own clock, in milliseconds.
    pub fn clock(&self, now: u64) -> i64 {
        i64::try_from(now).unwrap() * self.clock_rate / 1000 + self.clock_offset_ms
    }

    /// All that its binary log has.
    pub fn log(&self) -> GtidSet {
        self.waiting.iter().fold(self.executed.clone(), |set, commit| set.union(&commit.set))
    }

    /// A commit waits for this many.
    pub fn waits_for(&self) -> usize {
        if self.source_side { self.wait_count as usize } else { 0 }
    }

    /// The process is gone. What waited is durable, and nobody was told (M6). Relay logs stay, unless
    /// the next start throws them away (M7).
    pub fn crash(&mut self) {
        self.power = Power::Dead;
        self.incarnation += 1;
        self.executed = self.log();
        self.waiting.clear();
        self.sessions.clear();
        self.lock = None;
        (self.arrived, self.begun) = (0, 0);
        if let Some(channel) = &mut self.channel {
            channel.receiver = Receiver::Stopped;
            channel.generation += 1;
            channel.applier = false;
            channel.receiver_error = None;
            if self.config.relay_log_recovery {
                channel.received = GtidSet::default();
            }
        }
    }

    /// Its applier waits for acknowledgements with what it received (M10).
    fn applier_waits(&self, clients: usize) -> bool {
        let behind = |channel: &Channel| channel.applier && !self.executed.contains(&channel.received);
        clients < self.waits_for() && self.channel.as_ref().is_some_and(behind)
    }

    /// Takes a statement, if a process is there: which process, and the statement's number in the queue.
    pub fn take(&mut self) -> Option<(u64, u64)> {
        self.arrived += u64::from(self.power != Power::Dead);
        (self.power != Power::Dead).then_some((self.incarnation, self.arrived))
    }

    /// The process starts as its configuration says. Whether replication starts is for the caller. What
    /// was made a replica once is configured as one.
    pub fn boot(&mut self) {
        self.power = Power::Running;
        let fenced = self.config.boots_fenced || self.channel.is_some();
        (self.read_only, self.super_read_only) = (fenced, fenced);
        self.offline = false;
        self.source_side = self.config.source_side;
    }

    pub fn observe(&self, now: u64, clients: &BTreeSet<usize>, heartbeat_ms: u64) -> Observation {
        Observation {
            commits: None,
            at: Mono(0),
            took_ms: 0,
            identity: Identity {
                uuid: uuid(self.index),
                server_id: u32::try_from(self.index).unwrap() + 1,
                version: Version::mysql(9, 7, 4),
                hostname: String::new(),
                reported: None,
            },
            settings: Settings {
                read_only: self.read_only,
                super_read_only: self.super_read_only,
                offline_mode: self.offline,
                log_bin: true,
                log_replica_updates: true,
                binlog_format: BinlogFormat::Row,
                gtid_mode: GtidMode::On,
                relay_log_recovery: self.config.relay_log_recovery,
                net_timeout_s: 2,
                durable_commits: true,
            },
            executed: self.executed.clone(),
            purged: GtidSet::default(),
            written: GtidSet::default(),
            channels: self.channel.iter().map(|channel| shown(channel, now, heartbeat_ms)).collect(),
            downstream: Vec::new(),
            semi_sync: SemiSync {
                source: Some(SemiSyncSource {
                    enabled: self.source_side,
                    active: self.source_side,
                    clients: u32::try_from(clients.len()).unwrap(),
                    replicas: self.config.names_replicas.then(|| clients.iter().map(|index| uuid(*index)).collect()),
                    wait_count: self.wait_count,
                    after_sync: true,
                    timeout_ms: u64::MAX,
                    wait_no_replica: true,
                    waiting: u32::try_from(self.waiting.len()).unwrap() + u32::from(self.applier_waits(clients.len())),
                }),
                replica_enabled: Some(self.replica_side),
                replica_active: self
                    .channel
                    .as_ref()
                    .is_some_and(|channel| channel.acks && channel.receiver == Receiver::Running),
            },
            facts: Facts::default(),
            refuses_new: None,
        }
    }
}

fn shown(channel: &Channel, now: u64, heartbeat_ms: u64) -> observation::Channel {
    let live_ms = channel.live_since.map_or(0, |since| now - since);
    let position = ("bin.1".to_owned(), channel.position);
    observation::Channel {
        name: String::new(),
        source: Some(addr(channel.source)),
        source_uuid: channel.met.then(|| uuid(channel.source)),
        receiver: channel.receiver,
        applier_running: channel.applier,
        receiver_error: channel
            .receiver_error
            .map(|(code, attempts)| ThreadError { code, message: format!("retries: {attempts}") }),
        applier_error: channel.applier_error.then(|| ThreadError { code: 1062, message: String::new() }),
        auto_position: true,
        received: channel.received.clone(),
        heartbeats: channel.beats + live_ms / heartbeat_ms,
        heartbeat_interval_ms: Some(heartbeat_ms),
        read_position: position.clone(),
        applied_position: position,
        seconds_behind: Some(0),
        delay_s: 0,
        connect_retry_s: 1,
        retry_count: 86_400,
        tls: false,
        filtered: false,
    }
}
