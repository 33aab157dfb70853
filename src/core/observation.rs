//! What one look at one server showed, and how a look can fail.
//!
//! An observation is complete and immutable: all of it was read in one look on one session. How a look
//! fails is evidence too, and different failures mean different things (safety.md, "Deciding that a
//! primary is dead", 1): they are never merged into one "down".

mod failure;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::failure::{Failure, FailureKind};

use super::{
    gtid::GtidSet,
    id::ServerAddr,
    rules::{Rule, holds},
    time::Mono,
    version::Version,
};

/// Everything one look at a server showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When the answer arrived.
    pub at: Mono,
    /// How long the server took to answer, in milliseconds.
    pub took_ms: u64,
    /// Who the server says it is.
    pub identity: Identity,
    /// Settings that decide what it may do.
    pub settings: Settings,
    /// Transactions committed here (`gtid_executed`; MariaDB: `gtid_current_pos` with `gtid_binlog_pos`).
    pub executed: GtidSet,
    /// Committed transactions whose binary logs are gone.
    pub purged: GtidSet,
    /// MariaDB: newest transactions in the binary log by domain and server ([`GtidSet::of_binlog_state`]), with what
    /// the applier says of its own; empty elsewhere.
    pub written: GtidSet,
    /// Replication channels; one for an ordinary replica, none for a primary.
    pub channels: Vec<Channel>,
    /// Replicas that this server says are connected to it.
    pub downstream: Vec<Downstream>,
    /// Semi-synchronous replication, both sides.
    pub semi_sync: SemiSync,
    /// Commits under way, where they were asked for.
    pub commits: Option<Commits>,
    /// Answers of the user's queries.
    pub facts: Facts,
    /// Why the server took no new connection when that was tried last, again and again.
    pub refuses_new: Option<Failure>,
}

impl Observation {
    /// All transactions the server has received or executed.
    #[must_use]
    pub fn total(&self) -> GtidSet {
        let channels = self.channels.iter().filter(|_| holds(Rule::ReceivedCounts));
        channels.fold(self.executed.clone(), |set, channel| set.union(&channel.received))
    }

    /// When the server was asked.
    #[must_use]
    pub fn began(&self) -> Mono {
        Mono(self.at.0.saturating_sub(self.took_ms))
    }
}

/// Who a server says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `server_uuid`; on MariaDB, which has none, `server-id:<number>`.
    pub uuid: String,
    /// `server_id`.
    pub server_id: u32,
    /// Version and maker.
    pub version: Version,
    /// `hostname`, as data; never resolved.
    pub hostname: String,
    /// `report_host` and `report_port` where set and valid.
    pub reported: Option<ServerAddr>,
}

/// Format of the binary log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BinlogFormat {
    /// Statements.
    Statement,
    /// Statements, rows where unsafe.
    Mixed,
    /// Rows.
    Row,
}

/// `gtid_mode`, or on MariaDB `On` always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GtidMode {
    /// No GTIDs.
    Off,
    /// New transactions have none, others may.
    OffPermissive,
    /// New transactions have one, others may not.
    OnPermissive,
    /// Every transaction has one.
    On,
}

/// Settings that decide what a server may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `read_only` is on.
    pub read_only: bool,
    /// `super_read_only` is on; false where the server has none.
    pub super_read_only: bool,
    /// `offline_mode` is on; false where the server has none.
    pub offline_mode: bool,
    /// `log_bin` is on.
    pub log_bin: bool,
    /// Replicated transactions go to the own binary log.
    pub log_replica_updates: bool,
    /// `binlog_format`.
    pub binlog_format: BinlogFormat,
    /// `gtid_mode`.
    pub gtid_mode: GtidMode,
    /// `relay_log_recovery` is on: a crash discards received transactions (M7).
    pub relay_log_recovery: bool,
    /// `replica_net_timeout`, in seconds.
    pub net_timeout_s: u64,
    /// `sync_binlog` is 1 and `innodb_flush_log_at_trx_commit` is 1.
    pub durable_commits: bool,
}

impl Settings {
    /// Whether ordinary clients can write.
    #[must_use]
    pub fn writable(&self) -> bool {
        !self.read_only && !self.super_read_only && !self.offline_mode
    }
}

/// State of a channel's receiver (IO) thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receiver {
    /// Connected to the source, as far as it knows.
    Running,
    /// Trying to connect.
    Connecting,
    /// Stopped.
    Stopped,
}

/// An error a replication thread reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadError {
    /// MySQL error number.
    pub code: u32,
    /// The server's text: data, never trusted.
    pub message: String,
}

/// One replication channel of a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Channel name; empty for the default one.
    pub name: String,
    /// Where it replicates from, as configured here; `None` when the configured host is no address.
    pub source: Option<ServerAddr>,
    /// UUID of the source, once it was connected to.
    pub source_uuid: Option<String>,
    /// The receiver thread.
    pub receiver: Receiver,
    /// The applier (SQL) threads run.
    pub applier_running: bool,
    /// Why the receiver is not connected.
    pub receiver_error: Option<ThreadError>,
    /// Why the applier stopped.
    pub applier_error: Option<ThreadError>,
    /// Transactions are asked for by GTID (`SOURCE_AUTO_POSITION`; MariaDB `Using_Gtid`).
    pub auto_position: bool,
    /// Transactions received by this channel since its relay logs were made.
    pub received: GtidSet,
    /// Heartbeats received since the receiver started.
    pub heartbeats: u64,
    /// Heartbeat interval asked for, in milliseconds; 0: none; `None`: not readable.
    pub heartbeat_interval_ms: Option<u64>,
    /// Position read from the source: `(file, position)`.
    pub read_position: (String, u64),
    /// Position applied: `(file of the source, position)`.
    pub applied_position: (String, u64),
    /// The server's own estimate of its lag in seconds.
    pub seconds_behind: Option<u64>,
    /// Intended delay in seconds.
    pub delay_s: u64,
    /// `SOURCE_CONNECT_RETRY` in seconds.
    pub connect_retry_s: u64,
    /// `SOURCE_RETRY_COUNT`.
    pub retry_count: u64,
    /// Replication uses TLS.
    pub tls: bool,
    /// Some tables or databases are filtered.
    pub filtered: bool,
}

impl Channel {
    /// Whether something changed that only a living, connected source can cause: a heartbeat, a
    /// transaction, a byte read, a fresh connection (safety.md, "Deciding", 2).
    #[must_use]
    pub fn heard_since(&self, before: &Self) -> bool {
        let connected = self.receiver == Receiver::Running && before.receiver != Receiver::Running;
        connected
            || self.heartbeats > before.heartbeats
            || self.read_position != before.read_position
            || !before.received.contains(&self.received)
    }

    /// Whether every received transaction is in `executed`.
    #[must_use]
    pub fn drained(&self, executed: &GtidSet) -> bool {
        if self.auto_position { executed.contains(&self.received) } else { self.read_position == self.applied_position }
    }
}

/// A replica that a source lists: by process list or by `SHOW REPLICAS`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Downstream {
    /// Host as the source sees it.
    pub host: String,
    /// Replication port, where the source knows it.
    pub port: Option<u16>,
    /// The replica's `server_id`, where known.
    pub server_id: Option<u32>,
    /// The replica's UUID, where known.
    pub uuid: Option<String>,
}

/// Semi-synchronous replication as a server reports it; `None` where the plugin is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SemiSync {
    /// The source side.
    pub source: Option<SemiSyncSource>,
    /// The replica side: enabled.
    pub replica_enabled: Option<bool>,
    /// The replica side: the receiver that runs now acknowledges.
    pub replica_active: bool,
}

impl SemiSync {
    /// Whether the server acknowledges now as a replica, or would with its next connection.
    #[must_use]
    pub fn acknowledges(&self) -> bool {
        self.replica_active || self.replica_enabled == Some(true)
    }
}

/// Commits under way on a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Commits {
    /// Statements of at least a second that are in their commit.
    pub waiting: u32,
    /// Writes to binary logs that ended since the server started; `None`: it does not count them.
    pub binlog_writes: Option<u64>,
}

/// The source side of semi-synchronous replication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemiSyncSource {
    /// Switched on.
    pub enabled: bool,
    /// In effect now (not fallen back to asynchronous).
    pub active: bool,
    /// Connections of replicas that acknowledge. A replica that connected anew counts twice until the
    /// server notices that its old connection is gone.
    pub clients: u32,
    /// UUIDs of the replicas behind all those connections, where the server can name every one.
    pub replicas: Option<BTreeSet<String>>,
    /// Acknowledgements a commit waits for.
    pub wait_count: u32,
    /// `AFTER_SYNC` (lossless).
    pub after_sync: bool,
    /// How long a commit waits before it falls back, in milliseconds.
    pub timeout_ms: u64,
    /// Waits even when too few replicas are connected.
    pub wait_no_replica: bool,
    /// Sessions that wait for an acknowledgement now.
    pub waiting: u32,
}

impl SemiSyncSource {
    /// A timeout from which on a fallback to asynchronous does not happen in practice: ten days.
    pub const TIMEOUT_LOSSLESS_MS: u64 = 10 * 24 * 3600 * 1000;

    /// Whether nothing is acknowledged to a client before `wait_count` replicas have it.
    #[must_use]
    pub fn lossless(&self) -> bool {
        self.enabled
            && self.active
            && self.after_sync
            && self.wait_count > 0
            && self.wait_no_replica
            && self.timeout_ms >= Self::TIMEOUT_LOSSLESS_MS
    }
}

/// Answers of the queries that a user configured; `None` where not asked or not answered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// `queries.clusterName`.
    pub cluster_name: Option<String>,
    /// `queries.domain`.
    pub domain: Option<String>,
    /// `queries.promotionRule`.
    pub promotion_rule: Option<String>,
    /// `queries.zone`.
    pub zone: Option<String>,
    /// `queries.region`.
    pub region: Option<String>,
    /// `queries.environment`.
    pub environment: Option<String>,
    /// `queries.serverAlias`.
    pub server_alias: Option<String>,
    /// `queries.semiSyncPriority`.
    pub semi_sync_priority: Option<u32>,
    /// `promotion.lagQuery`, in seconds.
    pub lag_s: Option<f64>,
}

/// The outcome of one look.
pub type Look = Result<Box<Observation>, Failure>;
