//! Server versions and what they can do: the only place where a version becomes a capability.
//!
//! SQL is chosen by capability, never by comparing versions elsewhere. Sources: the release notes of
//! MySQL 5.6 to 9.x and of MariaDB 10 and 11; the forms used are run on real servers by the tests.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Who made the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Flavor {
    /// MySQL and its close relatives (Percona Server).
    MySql,
    /// MariaDB: GTIDs by domain, its own words for replication.
    MariaDb,
}

/// A server version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Who made it.
    pub flavor: Flavor,
    /// Major, minor, patch.
    pub number: (u16, u16, u16),
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a server version: {0:?}")]
pub struct VersionError(String);

impl Version {
    /// A MySQL version.
    #[must_use]
    pub const fn mysql(major: u16, minor: u16, patch: u16) -> Self {
        Self { flavor: Flavor::MySql, number: (major, minor, patch) }
    }

    /// A MariaDB version.
    #[must_use]
    pub const fn mariadb(major: u16, minor: u16, patch: u16) -> Self {
        Self { flavor: Flavor::MariaDb, number: (major, minor, patch) }
    }

    /// Release series: binary logs flow from a lower to the same or a higher one.
    #[must_use]
    pub const fn series(&self) -> (u16, u16) {
        (self.number.0, self.number.1)
    }

    fn mysql_since(&self, number: (u16, u16, u16)) -> bool {
        self.flavor == Flavor::MySql && self.number >= number
    }

    /// `SHOW REPLICA STATUS` and friends (8.0.22).
    #[must_use]
    pub fn has_replica_words(&self) -> bool {
        self.mysql_since((8, 0, 22))
    }

    /// `CHANGE REPLICATION SOURCE TO` (8.0.23).
    #[must_use]
    pub fn has_change_replication_source(&self) -> bool {
        self.mysql_since((8, 0, 23))
    }

    /// `SHOW BINARY LOG STATUS`, `RESET BINARY LOGS AND GTIDS` (8.2).
    #[must_use]
    pub fn has_binary_log_words(&self) -> bool {
        self.mysql_since((8, 2, 0))
    }

    /// Semi-sync variables named source and replica exist when the new plugins are loaded (8.0.26).
    #[must_use]
    pub fn has_semi_sync_source_words(&self) -> bool {
        self.mysql_since((8, 0, 26))
    }

    /// `super_read_only` (5.7.8).
    #[must_use]
    pub fn has_super_read_only(&self) -> bool {
        self.mysql_since((5, 7, 8))
    }

    /// `admin_address` and `admin_port` (8.0.14).
    #[must_use]
    pub fn has_admin_port(&self) -> bool {
        self.mysql_since((8, 0, 14))
    }

    /// `offline_mode` (5.7.5).
    #[must_use]
    pub fn has_offline_mode(&self) -> bool {
        self.mysql_since((5, 7, 5))
    }

    /// Replication tables of `performance_schema` with the heartbeat counter (5.7.2; MariaDB lacks them).
    #[must_use]
    pub fn has_replication_tables(&self) -> bool {
        self.mysql_since((5, 7, 6))
    }

    /// `Retrieved_Gtid_Set` names a transaction as soon as its first event is received (until 5.7.6;
    /// MySQL bug 17943188).
    #[must_use]
    pub fn names_half_received(&self) -> bool {
        self.flavor == Flavor::MySql && !self.mysql_since((5, 7, 6))
    }

    /// `replication_applier_status_by_worker` tells what is being applied (8.0.1; MariaDB lacks it).
    #[must_use]
    pub fn tells_what_is_applied(&self) -> bool {
        self.mysql_since((8, 0, 1))
    }

    /// Queueing time stamps in `replication_connection_status` (8.0.1).
    #[must_use]
    pub fn has_queue_timestamps(&self) -> bool {
        self.mysql_since((8, 0, 1))
    }

    /// `CHANGE MASTER` for the receiver while the applier runs (5.7.4).
    #[must_use]
    pub fn can_change_receiver_alone(&self) -> bool {
        self.mysql_since((5, 7, 4))
    }

    /// Another source for the receiver while the applier runs, with the rest of a transaction that the old
    /// source did not finish rolled back. The server allows it since 5.7.4; here it is relied upon where it
    /// was tried.
    #[must_use]
    pub fn can_repoint_receiver_alone(&self) -> bool {
        self.mysql_since((8, 4, 0))
    }

    /// `replica_net_timeout`, `log_replica_updates` and other variables with new names (8.0.26).
    #[must_use]
    pub fn has_replica_variables(&self) -> bool {
        self.mysql_since((8, 0, 26))
    }

    /// `max_execution_time` (5.7.8).
    #[must_use]
    pub fn has_max_execution_time(&self) -> bool {
        self.mysql_since((5, 7, 8))
    }

    /// Whether `mariadb-binlog` begins to read at a GTID.
    #[must_use]
    pub fn reads_binlog_from_gtid(&self) -> bool {
        self.flavor == Flavor::MariaDb && self.number >= (10, 8, 0)
    }

    /// Whether a server can be rebuilt by `CLONE INSTANCE`.
    #[must_use]
    pub fn has_clone(&self) -> bool {
        self.mysql_since((8, 0, 17))
    }

    /// Named channels, `FOR CHANNEL` (5.7.6); MariaDB names them otherwise.
    #[must_use]
    pub fn has_channels(&self) -> bool {
        self.mysql_since((5, 7, 6))
    }

    /// `GET_SOURCE_PUBLIC_KEY` or `GET_MASTER_PUBLIC_KEY` (8.0.4).
    #[must_use]
    pub fn has_public_key_request(&self) -> bool {
        self.mysql_since((8, 0, 4))
    }

    /// `WAIT_FOR_EXECUTED_GTID_SET` (5.7.5).
    #[must_use]
    pub fn has_wait_for_executed(&self) -> bool {
        self.mysql_since((5, 7, 5))
    }

    /// Timeouts of waits may have a fraction (8.0).
    #[must_use]
    pub fn has_fractional_waits(&self) -> bool {
        self.mysql_since((8, 0, 0))
    }

    /// Semi-sync can wait for more than one acknowledgement (5.7.3; never in MariaDB).
    #[must_use]
    pub fn has_semi_sync_count(&self) -> bool {
        self.mysql_since((5, 7, 3))
    }

    /// Semi-sync can wait before a transaction is shown (5.7.2; MariaDB).
    #[must_use]
    pub fn has_semi_sync_wait_point(&self) -> bool {
        self.flavor == Flavor::MariaDb || self.mysql_since((5, 7, 2))
    }

    /// GTIDs at all: MySQL 5.6.5, MariaDB 10.0.2.
    #[must_use]
    pub fn has_gtid(&self) -> bool {
        match self.flavor {
            Flavor::MySql => self.number >= (5, 6, 5),
            Flavor::MariaDb => self.number >= (10, 0, 2),
        }
    }
}

impl FromStr for Version {
    type Err = VersionError;

    /// Reads `@@version`, for instance `9.7.4`, `5.6.24-log`, `5.5.5-10.11.6-MariaDB-1:10.11.6+deb12`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let flavor = if text.to_ascii_lowercase().contains("mariadb") { Flavor::MariaDb } else { Flavor::MySql };
        let text_of_number = text.strip_prefix("5.5.5-").filter(|_| flavor == Flavor::MariaDb).unwrap_or(text);
        let digits = text_of_number.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap_or_default();
        let mut parts = digits.split('.').map(str::parse::<u16>);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Ok(Self { flavor, number: (major, minor, patch) }),
            _ => Err(VersionError(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        match self.flavor {
            Flavor::MySql => write!(f, "{major}.{minor}.{patch}"),
            Flavor::MariaDb => write!(f, "{major}.{minor}.{patch}-MariaDB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, version) in [
            ("9.7.4", Version::mysql(9, 7, 4)),
            ("5.6.24-log", Version::mysql(5, 6, 24)),
            ("8.0.36-28.1", Version::mysql(8, 0, 36)),
            ("10.11.6-MariaDB-0+deb12u1-log", Version::mariadb(10, 11, 6)),
            ("5.5.5-10.11.6-MariaDB", Version::mariadb(10, 11, 6)),
        ] {
            assert_eq!(text.parse(), Ok(version), "{text}");
        }
        assert!("".parse::<Version>().is_err());
        assert!("eight".parse::<Version>().is_err());
    }

    #[test]
    fn mariadb_is_never_newer_than_mysql() {
        assert!(!Version::mariadb(11, 8, 1).has_replica_words());
        assert!(Version::mysql(8, 0, 22).has_replica_words());
    }
}
