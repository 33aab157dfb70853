//! The texts that change something on a server, by what its version understands.

use super::{SemiSyncWords, quote, replica};
use crate::core::{
    id::{Epoch, ServerAddr},
    version::{Flavor, Version},
};

/// Stops all receiver threads.
#[must_use]
pub fn stop_receiver(version: Version) -> String {
    format!("STOP {} IO_THREAD", replica(version))
}

/// Starts all receiver threads.
#[must_use]
pub fn start_receiver(version: Version) -> String {
    format!("START {} IO_THREAD", replica(version))
}

/// Starts all applier threads.
#[must_use]
pub fn start_applier(version: Version) -> String {
    format!("START {} SQL_THREAD", replica(version))
}

/// Stops receivers and appliers.
#[must_use]
pub fn stop_replication(version: Version) -> String {
    format!("STOP {}", replica(version))
}

/// Starts receivers and appliers.
#[must_use]
pub fn start_replication(version: Version) -> String {
    format!("START {}", replica(version))
}

/// Forgets the replication configuration.
#[must_use]
pub fn forget_source(version: Version) -> String {
    format!("RESET {} ALL", replica(version))
}

/// Waits until a set is applied, at most `wait_ms`.
#[must_use]
pub fn wait_applied(version: Version, set: &str, wait_ms: u64) -> String {
    let (set, seconds) = (quote(set), format!("{}.{:03}", wait_ms / 1000, wait_ms % 1000));
    match version.flavor {
        Flavor::MariaDb => format!("SELECT MASTER_GTID_WAIT({set}, {seconds})"),
        Flavor::MySql if version.has_offline_mode() => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({set}, {seconds})"),
        Flavor::MySql => format!("SELECT WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS({set}, {})", wait_ms.div_ceil(1000)),
    }
}

/// Refuses all clients but administrators; `None` where a server cannot.
#[must_use]
pub fn offline(version: Version, on: bool) -> Option<String> {
    version.has_offline_mode().then(|| format!("SET GLOBAL offline_mode = {}", switch(on)))
}

/// Refuses writes, of administrators too where a server can.
#[must_use]
pub fn read_only(version: Version) -> String {
    let name = if version.has_super_read_only() { "super_read_only" } else { "read_only" };
    format!("SET GLOBAL {name} = ON")
}

/// Lets administrators write and nobody else.
#[must_use]
pub fn administrators_only(version: Version) -> Vec<String> {
    let mut statements = vec!["SET GLOBAL read_only = ON".to_owned()];
    if version.has_super_read_only() {
        statements.push("SET GLOBAL super_read_only = OFF".to_owned());
    }
    statements
}

/// Notes in the session until when, on the server's own clock, [`unfence`] may take effect.
#[must_use]
pub fn note_deadline(valid_ms: u64) -> String {
    format!("SET @baton_deadline = UNIX_TIMESTAMP(NOW(6)) + {}.{:03}", valid_ms / 1000, valid_ms % 1000)
}

/// The one statement that lets clients write. The server compares its clock with the deadline that
/// this very session noted; without one, or too late, the server stays read only (M8).
pub const UNFENCE: &str = "SET GLOBAL read_only = IF(UNIX_TIMESTAMP(NOW(6)) < @baton_deadline, 0, 1)";

/// Connections whose client calls itself Baton of some reign.
pub const CLAIMANTS: &str = "SELECT PROCESSLIST_ID AS id, ATTR_VALUE AS program \
    FROM performance_schema.session_connect_attrs \
    WHERE ATTR_NAME = 'program_name' AND ATTR_VALUE LIKE 'baton/epoch=%' AND PROCESSLIST_ID <> CONNECTION_ID()";

/// Takes the server's claim lock; 1: taken.
pub const LOCK: &str = "SELECT GET_LOCK('baton.claim', 1) AS locked";

/// Who holds the claim lock.
pub const LOCK_HOLDER: &str = "SELECT IS_USED_LOCK('baton.claim') AS id, CONNECTION_ID() AS me";

/// Whether there is a table of epochs.
pub const EPOCH_TABLE: &str =
    "SELECT COUNT(*) AS tables FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'baton' AND TABLE_NAME = 'epoch'";

/// The newest epoch written.
pub const EPOCH_NEWEST: &str = "SELECT MAX(epoch) AS epoch FROM baton.epoch";

/// Makes the table of epochs.
#[must_use]
pub fn epoch_table_make() -> [&'static str; 2] {
    [
        "CREATE DATABASE IF NOT EXISTS baton",
        "CREATE TABLE IF NOT EXISTS baton.epoch (epoch BIGINT UNSIGNED NOT NULL PRIMARY KEY, \
         server_uuid VARCHAR(64) NOT NULL, old_primary VARCHAR(300) NOT NULL, written_at DATETIME NOT NULL) ENGINE = InnoDB",
    ]
}

/// Writes the epoch of a reign.
#[must_use]
pub fn epoch_write(epoch: Epoch, server: &str, old_primary: Option<&ServerAddr>) -> String {
    let old = old_primary.map(ToString::to_string).unwrap_or_default();
    format!(
        "INSERT INTO baton.epoch (epoch, server_uuid, old_primary, written_at) VALUES ({epoch}, {}, {}, UTC_TIMESTAMP())",
        quote(server),
        quote(&old)
    )
}

/// Connections of ordinary clients: no replication, no system thread, not this one.
#[must_use]
pub fn clients(version: Version) -> String {
    let table =
        if version.has_replica_words() { "performance_schema.processlist" } else { "information_schema.PROCESSLIST" };
    format!(
        "SELECT ID AS id FROM {table} WHERE ID <> CONNECTION_ID() AND COMMAND NOT LIKE 'Binlog Dump%' \
         AND COMMAND NOT IN ('Daemon', 'Connect') \
         AND USER NOT IN ('system user', 'event_scheduler', SUBSTRING_INDEX(USER(), '@', 1))"
    )
}

/// Ends a connection.
#[must_use]
pub fn kill(id: u64) -> String {
    format!("KILL {id}")
}

/// Switches the source side of semi-sync.
#[must_use]
pub fn semi_sync_source(words: SemiSyncWords, on: bool, wait_count: Option<u32>) -> Vec<String> {
    let name = words.source();
    let mut statements = Vec::new();
    if let (true, Some(count)) = (on, wait_count) {
        let variable = match words {
            SemiSyncWords::SourceReplica => "wait_for_replica_count",
            SemiSyncWords::MasterSlave => "wait_for_slave_count",
        };
        statements.push(format!("SET GLOBAL {name}_{variable} = {count}"));
    }
    statements.push(format!("SET GLOBAL {name}_enabled = {}", switch(on)));
    statements
}

/// Switches the replica side of semi-sync.
#[must_use]
pub fn semi_sync_replica(words: SemiSyncWords, on: bool) -> String {
    format!("SET GLOBAL {}_enabled = {}", words.replica(), switch(on))
}

/// What a channel needs to be pointed somewhere else; what is not given stays as the channel has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repoint {
    /// Account, when it is to be set.
    pub account: Option<(String, String)>,
    /// TLS on; always restated.
    pub tls: bool,
    /// Verify the source's certificate.
    pub tls_verify: bool,
    /// File with the authority's certificate on the replica.
    pub tls_ca: Option<String>,
    /// Heartbeat interval in milliseconds; a change of source resets it unless restated.
    pub heartbeat_ms: Option<u64>,
    /// Seconds between connection attempts and their number, when they are to be set.
    pub retry: Option<(u64, u64)>,
}

/// Points the default channel at a source, by GTID.
#[must_use]
pub fn repoint(version: Version, source: &ServerAddr, how: &Repoint) -> String {
    let (verb, word) = if version.has_change_replication_source() {
        ("CHANGE REPLICATION SOURCE TO", "SOURCE")
    } else {
        ("CHANGE MASTER TO", "MASTER")
    };
    let mut parts = vec![format!("{word}_HOST = {}", quote(source.host())), format!("{word}_PORT = {}", source.port())];
    if let Some((user, password)) = &how.account {
        parts.push(format!("{word}_USER = {}", quote(user)));
        parts.push(format!("{word}_PASSWORD = {}", quote(password)));
    }
    parts.push(match version.flavor {
        Flavor::MariaDb => "MASTER_USE_GTID = slave_pos".to_owned(),
        Flavor::MySql => format!("{word}_AUTO_POSITION = 1"),
    });
    parts.push(format!("{word}_SSL = {}", u8::from(how.tls)));
    if how.tls {
        parts.push(format!("{word}_SSL_VERIFY_SERVER_CERT = {}", u8::from(how.tls_verify)));
    }
    if let Some(ca) = how.tls_ca.as_ref().filter(|_| how.tls) {
        parts.push(format!("{word}_SSL_CA = {}", quote(ca)));
    }
    if version.has_change_replication_source() {
        parts.push("GET_SOURCE_PUBLIC_KEY = 1".to_owned());
    }
    parts.extend(settings(word, how.heartbeat_ms, how.retry));
    format!("{verb} {}", parts.join(", "))
}

/// Sets only how quickly silence is noticed.
#[must_use]
pub fn replication_settings(version: Version, heartbeat_ms: u64) -> String {
    let (verb, word) = if version.has_change_replication_source() {
        ("CHANGE REPLICATION SOURCE TO", "SOURCE")
    } else {
        ("CHANGE MASTER TO", "MASTER")
    };
    format!("{verb} {}", settings(word, Some(heartbeat_ms), Some((1, 86_400))).join(", "))
}

fn settings(word: &str, heartbeat_ms: Option<u64>, retry: Option<(u64, u64)>) -> Vec<String> {
    let heartbeat = heartbeat_ms.map(|ms| format!("{word}_HEARTBEAT_PERIOD = {}.{:03}", ms / 1000, ms % 1000));
    let retry = retry.map(|(seconds, count)| {
        // MariaDB takes the number of attempts as a server option only.
        let count = if word == "SOURCE" { format!(", SOURCE_RETRY_COUNT = {count}") } else { String::new() };
        format!("{word}_CONNECT_RETRY = {seconds}{count}")
    });
    heartbeat.into_iter().chain(retry).collect()
}

/// Sets `replica_net_timeout`.
#[must_use]
pub fn net_timeout(version: Version, seconds: u64) -> String {
    let name = if version.has_semi_sync_source_words() { "replica_net_timeout" } else { "slave_net_timeout" };
    format!("SET GLOBAL {name} = {seconds}")
}

fn switch(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}
