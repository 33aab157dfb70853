//! The text of a look: several statements in one round trip, each with its place in the answer.

use super::replica;
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
    /// A row per registered replica.
    ReplicaHosts,
}

/// A look as text, with the meaning of each result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookText {
    /// The statements.
    pub text: String,
    /// What their results hold, in order.
    pub parts: Vec<Part>,
}

/// The text of a look. `slow` adds what changes rarely or costs more; `pause_ms` lets the server wait
/// first, so that the client is always in a read and sees the connection close.
#[must_use]
pub fn look(version: Version, slow: bool, replica_hosts: bool, pause_ms: Option<u64>) -> LookText {
    let mut statements = Vec::new();
    if let Some(ms) = pause_ms {
        statements.push((Part::Pause, format!("DO SLEEP({}.{:03})", ms / 1000, ms % 1000)));
    }
    statements.push((Part::Settings, settings(version)));
    statements.push((Part::Channels, channels(version)));
    if version.has_replication_tables() {
        statements.push((
            Part::Heartbeats,
            "SELECT CHANNEL_NAME, COUNT_RECEIVED_HEARTBEATS FROM performance_schema.replication_connection_status"
                .to_owned(),
        ));
    }
    if slow || !version.has_replication_tables() {
        statements.push((Part::Status, status(version)));
    }
    if slow {
        statements.push((Part::SemiSyncVariables, "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_%'".to_owned()));
        if version.has_replication_tables() {
            statements.push((
                Part::Intervals,
                "SELECT CHANNEL_NAME, HEARTBEAT_INTERVAL FROM performance_schema.replication_connection_configuration"
                    .to_owned(),
            ));
        }
        statements.push((Part::Dumps, dumps(version)));
        if replica_hosts {
            let words = if version.has_replica_words() { "SHOW REPLICAS" } else { "SHOW SLAVE HOSTS" };
            statements.push((Part::ReplicaHosts, words.to_owned()));
        }
    }
    let (parts, texts): (Vec<_>, Vec<_>) = statements.into_iter().unzip();
    LookText { text: texts.join("; "), parts }
}

fn settings(version: Version) -> String {
    let common = "@@server_id AS server_id, @@hostname AS hostname, @@report_host AS report_host, \
                  @@report_port AS report_port, @@global.read_only AS read_only, @@log_bin AS log_bin, \
                  @@global.binlog_format AS binlog_format, @@relay_log_recovery AS relay_log_recovery, \
                  @@global.sync_binlog AS sync_binlog, \
                  @@global.innodb_flush_log_at_trx_commit AS flush_log";
    let renamed = if version.has_semi_sync_source_words() {
        "@@log_replica_updates AS log_replica_updates, @@global.replica_net_timeout AS net_timeout"
    } else {
        "@@log_slave_updates AS log_replica_updates, @@global.slave_net_timeout AS net_timeout"
    };
    let own = match version.flavor {
        Flavor::MariaDb => "@@gtid_binlog_pos AS gtid_binlog_pos, @@gtid_slave_pos AS gtid_slave_pos",
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

fn dumps(version: Version) -> String {
    if version.has_replication_tables() {
        "SELECT PROCESSLIST_HOST AS host FROM performance_schema.threads WHERE PROCESSLIST_COMMAND LIKE 'Binlog Dump%'"
            .to_owned()
    } else {
        "SELECT SUBSTRING_INDEX(HOST, ':', 1) AS host FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'"
            .to_owned()
    }
}
