//! The texts that start, stop and move replication, by what a version understands.

use super::{quote, replica, seconds};
use crate::core::{
    gtid::GtidSet,
    id::ServerAddr,
    version::{Flavor, Version},
};

/// A statement about the threads of all channels.
fn threads(version: Version, verb: &str, thread: &str) -> String {
    match version.flavor {
        Flavor::MariaDb => format!("{verb} ALL SLAVES{thread}"),
        Flavor::MySql => format!("{verb} {}{thread}", replica(version)),
    }
}

/// Stops all receiver threads.
#[must_use]
pub fn stop_receiver(version: Version) -> String {
    threads(version, "STOP", " IO_THREAD")
}

/// Allows `more` connections than are allowed now.
#[must_use]
pub fn connections(more: u32) -> String {
    format!("SET GLOBAL max_connections = @@GLOBAL.max_connections + {more}")
}

/// Starts all receiver threads.
#[must_use]
pub fn start_receiver(version: Version) -> String {
    threads(version, "START", " IO_THREAD")
}

/// Starts all applier threads.
#[must_use]
pub fn start_applier(version: Version) -> String {
    threads(version, "START", " SQL_THREAD")
}

/// Connections of appliers that are in the middle of a transaction.
pub const APPLYING: &str = "SELECT t.PROCESSLIST_ID AS id FROM performance_schema.replication_applier_status_by_worker w \
    JOIN performance_schema.threads t ON t.THREAD_ID = w.THREAD_ID WHERE w.APPLYING_TRANSACTION <> ''";

/// Appliers that have read all that was received, and handed it out to those that apply it.
pub const READ_ALL: &str = "SELECT PROCESSLIST_ID AS id FROM performance_schema.threads \
    WHERE NAME IN ('thread/sql/replica_sql', 'thread/sql/slave_sql') AND PROCESSLIST_STATE LIKE '%has read all relay log%'";

/// Stops receivers and appliers.
#[must_use]
pub fn stop_replication(version: Version) -> String {
    threads(version, "STOP", "")
}

/// Starts receivers and appliers.
#[must_use]
pub fn start_replication(version: Version) -> String {
    threads(version, "START", "")
}

/// Forgets the configuration of one channel, its relay logs included.
#[must_use]
pub fn forget_source(version: Version, channel: &str) -> String {
    match version.flavor {
        Flavor::MariaDb => format!("RESET SLAVE{} ALL", connection(channel)),
        Flavor::MySql => format!("RESET {} ALL{}", replica(version), for_channel(version, channel)),
    }
}

/// MariaDB's name of a channel, after the verb.
fn connection(channel: &str) -> String {
    if channel.is_empty() { String::new() } else { format!(" {}", quote(channel)) }
}

/// MySQL's name of a channel, at the end.
fn for_channel(version: Version, channel: &str) -> String {
    if version.has_channels() { format!(" FOR CHANNEL {}", quote(channel)) } else { String::new() }
}

/// Waits until a set is applied, at most `wait_ms` (whole seconds before 8.0). Answers at once when it
/// is applied already.
#[must_use]
pub fn wait_applied(version: Version, set: &GtidSet, wait_ms: u64) -> String {
    let text = quote(&set_text(version, set));
    match version.flavor {
        Flavor::MariaDb => format!("SELECT MASTER_GTID_WAIT({text}, {})", seconds(wait_ms)),
        Flavor::MySql if version.has_fractional_waits() => {
            format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({text}, {})", seconds(wait_ms))
        }
        // A timeout of 0 would wait for ever.
        Flavor::MySql if version.has_wait_for_executed() => {
            format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({text}, {})", wait_ms.div_ceil(1000).max(1))
        }
        Flavor::MySql => {
            format!("SELECT WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS({text}, {})", wait_ms.div_ceil(1000).max(1))
        }
    }
}

/// A set as the server writes it. MariaDB's positions get server id 0: waiting compares domain and
/// sequence only.
fn set_text(version: Version, set: &GtidSet) -> String {
    let text = set.to_string();
    if version.flavor == Flavor::MySql {
        return text;
    }
    let position = |part: &str| {
        let (domain, run) = part.split_once(':')?;
        let last = run.rsplit(['-', ':']).next()?;
        Some(format!("{domain}-0-{last}"))
    };
    text.split(',').filter_map(position).collect::<Vec<_>>().join(",")
}

/// TLS of a channel as it was found or as it is to be; empty texts are not stated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChannelTls {
    /// On.
    pub on: bool,
    /// The source's certificate is verified.
    pub verify: bool,
    /// Certificate files and the like on the replica: the option's name after `SSL_`, and its value.
    pub files: Vec<(&'static str, String)>,
    /// Allowed protocol versions.
    pub versions: Option<String>,
}

/// Where a channel is to point, and with what; an account that is not given stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repoint {
    /// Channel name; empty for the default one.
    pub channel: String,
    /// It replicates by GTID already and its applier runs on, so that no relay log is discarded: that is
    /// not said again, because the server would refuse it.
    pub live: bool,
    /// The source.
    pub source: ServerAddr,
    /// TLS; always restated.
    pub tls: ChannelTls,
    /// Heartbeat interval in milliseconds; a change of source resets it unless restated.
    pub heartbeat_ms: Option<u64>,
    /// Seconds between connection attempts.
    pub connect_retry_s: u64,
    /// Number of connection attempts.
    pub retry_count: u64,
}

/// Verb and prefix of the statement that configures a channel, with the channel's name after the verb.
fn change(version: Version, channel: &str) -> (String, &'static str) {
    if version.has_change_replication_source() {
        ("CHANGE REPLICATION SOURCE TO".to_owned(), "SOURCE")
    } else if version.flavor == Flavor::MariaDb {
        (format!("CHANGE MASTER{} TO", connection(channel)), "MASTER")
    } else {
        ("CHANGE MASTER TO".to_owned(), "MASTER")
    }
}

/// Points a channel at a source, by GTID. `account` is user and password.
#[must_use]
pub fn repoint(version: Version, how: &Repoint, account: Option<(&str, &str)>) -> String {
    let (verb, word) = change(version, &how.channel);
    let source = &how.source;
    let mut parts = vec![format!("{word}_HOST = {}", quote(source.host())), format!("{word}_PORT = {}", source.port())];
    if let Some((user, password)) = account {
        parts.push(format!("{word}_USER = {}", quote(user)));
        parts.push(format!("{word}_PASSWORD = {}", quote(password)));
    }
    match version.flavor {
        Flavor::MariaDb => parts.push("MASTER_USE_GTID = slave_pos".to_owned()),
        Flavor::MySql if how.live => {}
        Flavor::MySql => parts.push(format!("{word}_AUTO_POSITION = 1")),
    }
    parts.extend(tls(word, &how.tls));
    if version.has_public_key_request() && !how.tls.on {
        parts.push(format!("GET_{word}_PUBLIC_KEY = 1"));
    }
    parts.extend(settings(version, word, how.heartbeat_ms, how.connect_retry_s, how.retry_count));
    format!("{verb} {}{}", parts.join(", "), for_channel(version, &how.channel))
}

fn tls(word: &str, tls: &ChannelTls) -> Vec<String> {
    let mut parts = vec![format!("{word}_SSL = {}", u8::from(tls.on))];
    parts.push(format!("{word}_SSL_VERIFY_SERVER_CERT = {}", u8::from(tls.on && tls.verify)));
    let files = tls.files.iter().filter(|(_, value)| !value.is_empty());
    parts.extend(files.map(|(name, value)| format!("{word}_SSL_{name} = {}", quote(value))));
    parts.extend(tls.versions.iter().map(|versions| format!("{word}_TLS_VERSION = {}", quote(versions))));
    parts
}

/// Sets only how quickly silence is noticed on a channel.
#[must_use]
pub fn replication_settings(version: Version, channel: &str, heartbeat_ms: u64) -> String {
    let (verb, word) = change(version, channel);
    let parts = settings(version, word, Some(heartbeat_ms), 1, 86_400);
    format!("{verb} {}{}", parts.join(", "), for_channel(version, channel))
}

fn settings(version: Version, word: &str, heartbeat_ms: Option<u64>, retry_s: u64, retry_count: u64) -> Vec<String> {
    let heartbeat = heartbeat_ms.map(|ms| format!("{word}_HEARTBEAT_PERIOD = {}", seconds(ms)));
    let retry = format!("{word}_CONNECT_RETRY = {retry_s}");
    // MariaDB takes the number of attempts as a server option only.
    let count = (version.flavor == Flavor::MySql).then(|| format!("{word}_RETRY_COUNT = {retry_count}"));
    heartbeat.into_iter().chain([retry]).chain(count).collect()
}

/// Sets `replica_net_timeout`.
#[must_use]
pub fn net_timeout(version: Version, seconds: u64) -> String {
    let name = if version.has_replica_variables() { "replica_net_timeout" } else { "slave_net_timeout" };
    format!("SET GLOBAL {name} = {seconds}")
}

/// MariaDB starts a replica where its applier stood; a server that was a primary never had one. This
/// makes it start where its own binary log ends.
pub const MARIADB_START_AT_OWN_END: &str = "SET GLOBAL gtid_slave_pos = @@global.gtid_current_pos";
