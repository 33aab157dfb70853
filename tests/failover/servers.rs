//! One fake server with the parts of MySQL's behaviour that a failover depends on, and a policy for
//! clusters of them.

use baton::core::{
    gtid::GtidSet,
    id::{Epoch, ServerAddr},
    observation::{
        BinlogFormat, Channel, Facts, GtidMode, Identity, Observation, Receiver, SemiSync, SemiSyncSource, Settings,
        ThreadError,
    },
    policy::{Detection, Failover, Policy, Tier},
    time::Mono,
    version::Version,
};

pub fn addr(index: usize) -> ServerAddr {
    ServerAddr::new(&format!("10.0.0.{}", index + 1), 3306).unwrap()
}

pub fn uuid(index: usize) -> String {
    format!("{index:08}-0000-0000-0000-000000000000")
}

/// Transactions 1..=n of the server with this index.
pub fn trx(index: usize, count: u64) -> GtidSet {
    if count == 0 { GtidSet::default() } else { format!("{}:1-{count}", uuid(index)).parse().unwrap() }
}

#[derive(Debug, Clone)]
pub struct Server {
    pub index: usize,
    pub alive: bool,
    pub executed: GtidSet,
    pub received: GtidSet,
    pub source: Option<usize>,
    pub receiver: bool,
    pub applier: bool,
    pub applier_error: bool,
    pub read_only: bool,
    pub acker: bool,
    pub source_side: bool,
    /// The newest epoch that claimed it, who did, and until when that may unfence.
    pub claimed: Option<(Epoch, String, Mono)>,
    /// It runs, but the operator does not reach it.
    pub cut: bool,
    /// The operator does not know it.
    pub hidden: bool,
    /// Written here, waiting for acknowledgements.
    pub stuck: GtidSet,
    /// It was started again and is fenced by its configuration.
    pub restarted: bool,
    /// Clients are refused.
    pub offline: bool,
    /// Actions answered until it dies.
    pub dies_after: Option<u32>,
}

impl Server {
    pub fn replica(index: usize, executed: u64, received: u64) -> Self {
        Self {
            index,
            alive: true,
            executed: trx(0, executed),
            received: trx(0, received),
            source: Some(0),
            receiver: true,
            applier: true,
            applier_error: false,
            read_only: true,
            acker: true,
            source_side: false,
            claimed: None,
            cut: false,
            hidden: false,
            stuck: GtidSet::default(),
            offline: false,
            restarted: false,
            dies_after: None,
        }
    }

    fn channel(&self, connected: bool) -> Option<Channel> {
        let source = self.source?;
        Some(Channel {
            name: String::new(),
            source: Some(addr(source)),
            source_uuid: Some(uuid(source)),
            receiver: match (self.receiver, connected) {
                (false, _) => Receiver::Stopped,
                (true, true) => Receiver::Running,
                (true, false) => Receiver::Connecting,
            },
            applier_running: self.applier,
            receiver_error: None,
            applier_error: self.applier_error.then(|| ThreadError { code: 1062, message: String::new() }),
            auto_position: true,
            received: self.received.clone(),
            heartbeats: 0,
            heartbeat_interval_ms: Some(100),
            read_position: ("bin.1".to_owned(), 4),
            applied_position: ("bin.1".to_owned(), 4),
            seconds_behind: None,
            delay_s: 0,
            connect_retry_s: 1,
            retry_count: 86400,
            tls: false,
            filtered: false,
        })
    }

    /// Whether ordinary clients can write.
    pub fn writable(&self) -> bool {
        self.alive && !self.read_only && !self.offline
    }

    /// All it has received or executed.
    pub fn total(&self) -> GtidSet {
        self.executed.union(&self.received)
    }

    /// What a look shows; `connected`: receivers that run have their source.
    pub fn observe(&self, at: Mono, clients: u32, wait_count: u32, connected: bool) -> Observation {
        Observation {
            at,
            took_ms: 1,
            identity: Identity {
                uuid: uuid(self.index),
                server_id: u32::try_from(self.index).unwrap() + 1,
                version: Version::mysql(9, 7, 4),
                hostname: format!("db{}", self.index),
                reported: None,
            },
            settings: Settings {
                read_only: self.read_only,
                super_read_only: self.read_only,
                offline_mode: self.offline,
                log_bin: true,
                log_replica_updates: true,
                binlog_format: BinlogFormat::Row,
                gtid_mode: GtidMode::On,
                relay_log_recovery: false,
                net_timeout_s: 2,
                durable_commits: true,
            },
            executed: self.executed.clone(),
            purged: GtidSet::default(),
            written: GtidSet::default(),
            channels: self.channel(connected).into_iter().collect(),
            downstream: Vec::new(),
            semi_sync: SemiSync {
                source: (wait_count > 0).then_some(SemiSyncSource {
                    enabled: self.source_side,
                    active: self.source_side,
                    clients,
                    replicas: None,
                    wait_count,
                    after_sync: true,
                    timeout_ms: u64::MAX,
                    wait_no_replica: true,
                    waiting: 0,
                }),
                replica_enabled: (wait_count > 0).then_some(self.acker),
                replica_active: self.acker && self.receiver,
            },
            facts: Facts::default(),
            commits: None,
            refuses_new: None,
        }
    }
}

pub fn policy(count: usize) -> Policy {
    let defaults = baton::testing::snapshot::policy();
    Policy {
        servers: (0..count).map(|index| (addr(index), Default::default())).collect(),
        detection: Detection::of(Tier::Fast, None, false),
        failover: Failover { block_ms: 0, ..defaults.failover },
        ..defaults
    }
}

/// One transaction of a server.
pub fn one(index: usize, number: u64) -> GtidSet {
    format!("{}:{number}", uuid(index)).parse().unwrap()
}
