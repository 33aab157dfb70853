//! The process list of servers without the threads table, read as it comes: asking for a part of it makes the server
//! write a temporary table, and a disk that stalls must not hold up a look.

use mysql_async::Row;

use super::super::rows::Named;

/// One connection.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: u64,
    pub(crate) user: String,
    pub(crate) host: String,
    pub(crate) command: String,
    seconds: u64,
    state: String,
    info: String,
}

/// States of a statement in its commit; one that waits for an acknowledgement or a lock is in another.
const IN_COMMIT: [&str; 4] = ["waiting for handler commit", "query end", "Commit", "Commit_implicit"];

impl Process {
    /// Reads one row of `SHOW PROCESSLIST`.
    pub(crate) fn read(row: &Row) -> Option<Self> {
        let row = Named(row);
        let text = |name| row.text(&[name]).unwrap_or_default();
        Some(Self {
            id: row.number(&["Id"])?,
            user: text("User"),
            host: text("Host"),
            command: text("Command"),
            seconds: row.number(&["Time"]).unwrap_or_default(),
            state: text("State"),
            info: text("Info"),
        })
    }

    /// A replica that reads the binary log.
    pub(crate) fn dumps(&self) -> bool {
        self.command.starts_with("Binlog Dump")
    }

    /// An ordinary client: no replication, no system thread, nobody of the account `own`.
    pub(crate) fn is_client(&self, own: &str) -> bool {
        let system = ["Daemon", "Connect", "Slave_IO", "Slave_SQL", "Slave_worker"];
        let nobody = ["system user", "event_scheduler", own];
        !self.dumps() && !system.contains(&self.command.as_str()) && !nobody.contains(&self.user.as_str())
    }

    /// A statement of at least a second that is in its commit.
    pub(crate) fn commits(&self) -> bool {
        let explicit = || {
            ["init", "starting"].contains(&self.state.as_str())
                && self.info.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("commit"))
        };
        let runs = ["Query", "Execute", "Killed"].contains(&self.command.as_str());
        runs && self.seconds >= 1 && (IN_COMMIT.contains(&self.state.as_str()) || explicit())
    }
}
