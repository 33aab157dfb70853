//! All SQL that Baton speaks, chosen by what a version can do.
//!
//! Texts are made here and nowhere else, so that quoting has one place and snapshot tests show every
//! statement for every version. What a server reported goes through [`quote`].

pub mod change;
pub mod look;

use crate::core::version::Version;

/// Asks for the version, in every dialect.
pub const VERSION: &str = "SELECT @@version";
/// Opens a transaction that can change nothing.
pub const READ_ONLY_BEGIN: &str = "START TRANSACTION READ ONLY";
/// Ends it.
pub const READ_ONLY_END: &str = "ROLLBACK";

/// Puts a new session into the state that all other texts rely on: no backslash surprises, no
/// transaction, short lock waits.
#[must_use]
pub fn prepare(version: Version) -> String {
    let timeout = if version.has_offline_mode() { ", SESSION max_execution_time = 5000" } else { "" };
    format!(
        "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION', SESSION autocommit = 1, SESSION lock_wait_timeout = 3, SESSION time_zone = '+00:00'{timeout}"
    )
}

/// A text as an SQL string, for sessions prepared with `NO_BACKSLASH_ESCAPES`: only the quote itself
/// is special. NUL cannot be sent and is left out.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// The word of this version: `REPLICA` or `SLAVE`.
fn replica(version: Version) -> &'static str {
    if version.has_replica_words() { "REPLICA" } else { "SLAVE" }
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

    fn replica(self) -> &'static str {
        match self {
            Self::SourceReplica => "rpl_semi_sync_replica",
            Self::MasterSlave => "rpl_semi_sync_slave",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_quoted_text_but_its_quote() {
        assert_eq!(quote("a'b"), "'a''b'");
        assert_eq!(quote("a\\' OR 1=1 -- $(x)\n\0"), "'a\\'' OR 1=1 -- $(x)\n'");
    }
}
