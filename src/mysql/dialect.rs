//! All SQL that Baton speaks, chosen by what a version can do.
//!
//! Texts are made here and nowhere else, so that quoting has one place and snapshot tests show every
//! statement for every version. What a server reported goes through [`quote`].

pub mod binlog;
pub mod canary;
pub mod change;
pub mod clone;
pub mod look;
pub mod quarantine;
pub mod reign;
pub mod semi_sync;

use crate::core::version::{Flavor, Version};

/// Asks for the version and whether there is a `performance_schema` to ask, in every dialect.
pub const VERSION: &str = "SELECT @@version AS version, @@performance_schema AS performance_schema";
/// The file with which the server itself checks certificates.
pub const SSL_CA: &str = "SELECT @@ssl_ca AS ssl_ca";
/// Opens a transaction that can change nothing.
pub const READ_ONLY_BEGIN: &str = "START TRANSACTION READ ONLY";
/// Ends it.
pub const READ_ONLY_END: &str = "ROLLBACK";

/// Puts a new session into the state that all other texts rely on: no backslash surprises, no
/// transaction, short lock waits.
#[must_use]
pub fn prepare(version: Version) -> String {
    let limit = if version.has_max_execution_time() { ", SESSION max_execution_time = 5000" } else { "" };
    format!(
        "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION', SESSION autocommit = 1, \
         SESSION lock_wait_timeout = 3, SESSION innodb_lock_wait_timeout = 2, SESSION time_zone = '+00:00'{limit}"
    )
}

/// Asks for the port that takes administrators when there is no connection left; `None`: it has none.
#[must_use]
pub fn admin(version: Version) -> Option<&'static str> {
    match version.flavor {
        Flavor::MariaDb => Some("SELECT '*' AS address, @@extra_port AS port"),
        Flavor::MySql => version.has_admin_port().then_some("SELECT @@admin_address AS address, @@admin_port AS port"),
    }
}

/// A text as an SQL string, for sessions prepared with `NO_BACKSLASH_ESCAPES`: only the quote itself
/// is special. NUL cannot be sent and is left out.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// Whether a user's query can only read. The transaction it runs in refuses changes of data; this
/// refuses what no transaction holds back: settings, administration, files.
#[must_use]
pub fn only_reads(query: &str) -> bool {
    let mut words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default().to_ascii_uppercase();
    // A comment or anything else before the first word could hide another statement.
    let plain_start = query.trim_start().get(..first.len()).is_some_and(|start| start.eq_ignore_ascii_case(&first));
    let reads = matches!(first.as_str(), "SELECT" | "SHOW" | "WITH" | "TABLE" | "VALUES");
    let changes = |word: &str| {
        let banned = ["INTO", "UPDATE", "DELETE", "GET_LOCK", "RELEASE_LOCK", "RELEASE_ALL_LOCKS"];
        banned.iter().any(|banned| word.eq_ignore_ascii_case(banned))
    };
    plain_start && reads && !words.any(changes)
}

/// The word of this version: `REPLICA` or `SLAVE`.
fn replica(version: Version) -> &'static str {
    if version.has_replica_words() { "REPLICA" } else { "SLAVE" }
}

/// Milliseconds as seconds with a fraction.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn switch(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

/// Which names a server's semi-sync plugins use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SemiSyncWords {
    /// `rpl_semi_sync_source_*`, `rpl_semi_sync_replica_*`.
    SourceReplica,
    /// `rpl_semi_sync_master_*`, `rpl_semi_sync_slave_*`.
    MasterSlave,
}

impl SemiSyncWords {
    fn source(self) -> &'static str {
        match self {
            Self::SourceReplica => "rpl_semi_sync_source",
            Self::MasterSlave => "rpl_semi_sync_master",
        }
    }

    /// The setting for how many acknowledgements a commit waits for.
    fn wait_count(self) -> &'static str {
        match self {
            Self::SourceReplica => "wait_for_replica_count",
            Self::MasterSlave => "wait_for_slave_count",
        }
    }

    fn replica(self) -> &'static str {
        match self {
            Self::SourceReplica => "rpl_semi_sync_replica",
            Self::MasterSlave => "rpl_semi_sync_slave",
        }
    }
}

#[cfg(test)]
mod texts;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_queries_only_read() {
        for query in [
            "SELECT zone FROM meta.facts LIMIT 1",
            " select 1",
            "SHOW GLOBAL STATUS",
            "WITH t AS (SELECT 1) SELECT * FROM t",
            "SELECT (SELECT 1)",
        ] {
            assert!(only_reads(query), "{query}");
        }
        for query in [
            "",
            "SET GLOBAL read_only = 0",
            "/* SELECT */ SET GLOBAL read_only = 0",
            "/*!50000 SET */ GLOBAL read_only = 0",
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            "select x from t for update",
            "KILL 1",
            "CALL p()",
            "SELECT GET_LOCK('baton.claim', 0)",
            "(SELECT 1)",
            "DO SLEEP(9)",
        ] {
            assert!(!only_reads(query), "{query}");
        }
    }

    #[test]
    fn nothing_ends_a_quoted_text_but_its_quote() {
        assert_eq!(quote("a'b"), "'a''b'");
        assert_eq!(quote("a\\' OR 1=1 -- $(x)\n\0"), "'a\\'' OR 1=1 -- $(x)\n'");
    }
}
