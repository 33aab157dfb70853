//! The texts that begin and end a reign: fence, claim, epoch, unfence (safety.md, "Failing over", 6
//! and 7).

use super::{quote, seconds, switch};
use crate::core::{
    id::{Epoch, ServerAddr},
    version::Version,
};

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

/// Remembers the server's clock in the session, when the statement runs and not when it arrived.
pub const MARK_NOW: &str = "SET @baton_now = SYSDATE(6)";

/// Notes until when, counted from [`MARK_NOW`], [`unfence`] may take effect.
#[must_use]
pub fn note_deadline(valid_ms: u64) -> String {
    format!(
        "SET @baton_deadline = CAST(@baton_now AS DATETIME(6)) + INTERVAL {} SECOND_MICROSECOND",
        quote(&seconds(valid_ms))
    )
}

/// The one statement that lets clients write. The server compares its clock with the deadline that
/// this very session noted; without one, or too late, everything stays as it is (M8).
#[must_use]
pub fn unfence(version: Version) -> String {
    let set = |name: &&str| {
        format!("GLOBAL {name} = IF(SYSDATE(6) < CAST(@baton_deadline AS DATETIME(6)), 0, @@global.{name})")
    };
    let names: &[&str] = if version.has_offline_mode() { &["offline_mode", "read_only"] } else { &["read_only"] };
    format!("SET {}", names.iter().map(set).collect::<Vec<_>>().join(", "))
}

/// Marks a session as one of a reign, for [`claimants`].
#[must_use]
pub fn mark(epoch: Epoch) -> String {
    format!("SET @baton_epoch = {epoch}")
}

/// Other sessions of some reign. What a client says about itself when it connects, which is all that there is before
/// 5.7 and in MariaDB, is lost with TLS: the driver announces it too late.
#[must_use]
pub fn claimants(version: Version) -> &'static str {
    if version.has_replication_tables() {
        "SELECT t.PROCESSLIST_ID AS id, v.VARIABLE_VALUE AS epoch FROM performance_schema.user_variables_by_thread v \
         JOIN performance_schema.threads t ON t.THREAD_ID = v.THREAD_ID \
         WHERE v.VARIABLE_NAME = 'baton_epoch' AND t.PROCESSLIST_ID <> CONNECTION_ID()"
    } else {
        "SELECT PROCESSLIST_ID AS id, SUBSTRING_INDEX(ATTR_VALUE, '=', -1) AS epoch \
         FROM performance_schema.session_connect_attrs \
         WHERE ATTR_NAME = 'program_name' AND ATTR_VALUE LIKE 'baton/epoch=%' AND PROCESSLIST_ID <> CONNECTION_ID()"
    }
}

/// Takes the server's claim lock, waiting up to a second for a session that was ended; 1: taken.
pub const LOCK: &str = "SELECT GET_LOCK('baton.claim', 1) AS locked";

/// Gives the claim lock back.
pub const UNLOCK: &str = "DO RELEASE_LOCK('baton.claim')";

/// Who holds the claim lock, and who asks.
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

/// Writes the epoch of a reign; `server` is its primary's UUID.
#[must_use]
pub fn epoch_write(epoch: Epoch, server: &str, old_primary: Option<&ServerAddr>) -> String {
    let old = old_primary.map(ToString::to_string).unwrap_or_default();
    format!(
        "INSERT INTO baton.epoch (epoch, server_uuid, old_primary, written_at) VALUES ({epoch}, {}, {}, UTC_TIMESTAMP())",
        quote(server),
        quote(&old)
    )
}

/// Ends a connection.
#[must_use]
pub fn kill(id: u64) -> String {
    format!("KILL {id}")
}
