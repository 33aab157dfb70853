//! The texts that find out what is in binary logs; the same for every series.

use super::quote;

/// Lists the binary logs, oldest first.
pub const LIST: &str = "SHOW BINARY LOGS";

/// What makes MariaDB send its own events to a reader, GTIDs among them.
pub const MARIADB_READS_GTIDS: &str = "SET @mariadb_slave_capability = 4";

/// The first events of a binary log: one says what was written before it.
#[must_use]
pub fn beginning(file: &str) -> String {
    format!("SHOW BINLOG EVENTS IN {} LIMIT 4", quote(file))
}
