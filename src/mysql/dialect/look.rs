//! The text of a look: several statements in one round trip, each with its place in the answer.

use super::{replica, seconds};
use crate::core::version::{Flavor, Version};

/// What one result of a look holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nothing: the wait before the look.
    Pause,
    /// One row of variables.
    Settings,
    /// A row per replication channel.
    Channels,
    /// One row: what is executed by now, and how many threads apply.
    Executed,
    /// Name and value of semi-sync variables.
    SemiSyncVariables,
    /// Name and value of semi-sync and heartbeat status.
    Status,
    /// A row per channel with heartbeats.
    Heartbeats,
    /// A row per channel with the heartbeat interval.
    Intervals,
    /// A row per connected replica with its host.
    Dumps,
    /// Name and value of the count of ackers once more, after they were listed.
    Clients,
    /// A row per connection, where there is no better way to find replicas and commits.
    Processes,
    /// A row per registered replica.
    ReplicaHosts,
    /// One row: commits that take long, and writes to binary logs.
    Commits,
}

/// A look as text, with the meaning of each result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookText {
    /// The statements.
    pub text: String,
    /// What their results hold, in order.
    pub parts: Vec<Part>,
}

/// What a look is to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Of which server.
    pub version: Version,
    /// `performance_schema` is on.
    pub performance_schema: bool,
    /// Also what changes rarely or costs more.
    pub slow: bool,
    /// Also `SHOW REPLICAS`.
    pub replica_hosts: bool,
    /// Also commits under way.
    pub commits: bool,
    /// The server waits first, so that the client is always in a read and sees the connection close.
    pub pause_ms: Option<u64>,
    /// Parts that this account may not read.
    pub denied: &'a [Part],
}

impl Part {
    /// Whether a look is worth something without this part.
    #[must_use]
    pub fn optional(self) -> bool {
        !matches!(self, Self::Pause | Self::Settings | Self::Channels)
    }
}

/// The text of a look.
#[must_use]
pub fn look(ask: Ask<'_>) -> LookText {
    let version = ask.version;
    let tables = version.has_replication_tables() && ask.performance_schema;
    let parts = [
        (ask.pause_ms.is_some(), Part::Pause),
        (true, Part::Settings),
        (true, Part::Channels),
        (ask.slow && version.names_half_received(), Part::Executed),
        (tables, Part::Heartbeats),
        // MySQL 5.6 counts heartbeats here; MariaDB does so with the channels.
        (ask.slow || version.flavor == Flavor::MySql && !version.has_replication_tables(), Part::Status),
        (ask.slow, Part::SemiSyncVariables),
        (ask.slow && tables, Part::Intervals),
        (ask.slow && tables, Part::Dumps),
        (ask.slow && tables, Part::Clients),
        (ask.slow && !tables, Part::Processes),
        (ask.slow && ask.replica_hosts, Part::ReplicaHosts),
        (ask.slow && tables && ask.commits, Part::Commits),
    ];
    let wanted = |(wanted, part): (bool, Part)| (wanted && !ask.denied.contains(&part)).then_some(part);
    let parts: Vec<_> = parts.into_iter().filter_map(wanted).collect();
    let texts: Vec<_> = parts.iter().map(|part| text(*part, ask)).collect();
    LookText { text: texts.join("; "), parts }
}

fn text(part: Part, ask: Ask<'_>) -> String {
    let version = ask.version;
    match part {
        Part::Pause => format!("DO SLEEP({})", seconds(ask.pause_ms.unwrap_or_default())),
        Part::Settings => settings(version),
        Part::Channels => channels(version),
        Part::Executed => {
            "SELECT @@global.gtid_executed AS gtid_executed, @@global.slave_parallel_workers AS workers".to_owned()
        }
        Part::SemiSyncVariables => "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_%'".to_owned(),
        Part::Status => status(version),
        Part::Heartbeats => {
            "SELECT CHANNEL_NAME, COUNT_RECEIVED_HEARTBEATS FROM performance_schema.replication_connection_status"
                .to_owned()
        }
        Part::Intervals => {
            "SELECT CHANNEL_NAME, HEARTBEAT_INTERVAL FROM performance_schema.replication_connection_configuration"
                .to_owned()
        }
        Part::Dumps => DUMPS.to_owned(),
        Part::Clients => "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%_clients'".to_owned(),
        Part::Commits => COMMITS.to_owned(),
        Part::Processes => PROCESSES.to_owned(),
        Part::ReplicaHosts => if version.has_replica_words() { "SHOW REPLICAS" } else { "SHOW SLAVE HOSTS" }.to_owned(),
    }
}

fn settings(version: Version) -> String {
    let common = "@@server_id AS server_id, @@hostname AS hostname, @@report_host AS report_host, \
                  @@report_port AS report_port, @@global.read_only AS read_only, @@log_bin AS log_bin, \
                  @@global.binlog_format AS binlog_format, @@relay_log_recovery AS relay_log_recovery, \
                  @@global.sync_binlog AS sync_binlog, \
                  @@global.innodb_flush_log_at_trx_commit AS flush_log";
    let renamed = if version.has_replica_variables() {
        "@@log_replica_updates AS log_replica_updates, @@global.replica_net_timeout AS net_timeout"
    } else {
        "@@log_slave_updates AS log_replica_updates, @@global.slave_net_timeout AS net_timeout"
    };
    let own = match version.flavor {
        Flavor::MariaDb => {
            "@@gtid_binlog_pos AS gtid_binlog_pos, @@gtid_slave_pos AS gtid_slave_pos, \
             @@gtid_binlog_state AS gtid_binlog_state"
        }
        Flavor::MySql => {
            "@@server_uuid AS server_uuid, @@global.gtid_mode AS gtid_mode, \
             @@global.gtid_executed AS gtid_executed, @@global.gtid_purged AS gtid_purged"
        }
    };
    let fences = [
        (version.has_super_read_only(), ", @@global.super_read_only AS super_read_only"),
        (version.has_offline_mode(), ", @@global.offline_mode AS offline_mode"),
    ];
    let fences: String = fences.iter().filter(|(has, _)| *has).map(|(_, text)| *text).collect();
    format!("SELECT {common}, {renamed}, {own}{fences}")
}

/// The text that lists replication channels.
#[must_use]
pub fn channels(version: Version) -> String {
    match version.flavor {
        Flavor::MariaDb => "SHOW ALL SLAVES STATUS".to_owned(),
        Flavor::MySql => format!("SHOW {} STATUS", replica(version)),
    }
}

fn status(version: Version) -> String {
    if version.has_replication_tables() {
        "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%'".to_owned()
    } else {
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Slave_received_heartbeats', 'Slave_heartbeat_period', \
         'Rpl_semi_sync_master_status', 'Rpl_semi_sync_master_clients', 'Rpl_semi_sync_master_wait_sessions', \
         'Rpl_semi_sync_slave_status')"
            .to_owned()
    }
}

/// The threads table takes no lock that connecting clients need, so it is asked where there is one. A
/// replica says its UUID, and that it acknowledges, by variables of its session. What Baton itself reads is no replica.
const DUMPS: &str = "SELECT t.PROCESSLIST_HOST AS host, u.VARIABLE_VALUE AS uuid, a.VARIABLE_VALUE AS acknowledges \
    FROM performance_schema.threads t \
    LEFT JOIN performance_schema.user_variables_by_thread u \
    ON u.THREAD_ID = t.THREAD_ID AND u.VARIABLE_NAME = 'slave_uuid' \
    LEFT JOIN performance_schema.user_variables_by_thread a \
    ON a.THREAD_ID = t.THREAD_ID AND a.VARIABLE_NAME IN ('rpl_semi_sync_slave', 'rpl_semi_sync_replica') \
    WHERE t.PROCESSLIST_COMMAND LIKE 'Binlog Dump%' \
    AND NOT EXISTS (SELECT 1 FROM performance_schema.session_connect_attrs c \
    WHERE c.PROCESSLIST_ID = t.PROCESSLIST_ID AND c.ATTR_NAME = 'program_name' AND c.ATTR_VALUE = 'baton/export')";

/// Every connection, with the beginning of what it runs.
pub const PROCESSES: &str = "SHOW PROCESSLIST";

/// Statements of at least a second that are in their commit (8.0.11; before, an explicit one is still `starting`); those
/// that wait for an acknowledgement or a lock are in other states. Writes to binary logs are counted when they end.
const COMMITS: &str = "SELECT COUNT(*) AS waiting, \
    (SELECT SUM(COUNT_WRITE) FROM performance_schema.file_summary_by_event_name \
    WHERE EVENT_NAME = 'wait/io/file/sql/binlog') AS writes FROM performance_schema.threads \
    WHERE PROCESSLIST_COMMAND IN ('Query', 'Execute', 'Killed') AND PROCESSLIST_TIME >= 1 \
    AND (PROCESSLIST_STATE IN ('waiting for handler commit', 'query end') \
    OR PROCESSLIST_STATE = 'starting' AND PROCESSLIST_INFO LIKE 'commit%')";
