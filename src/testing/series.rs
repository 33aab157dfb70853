//! Which servers the fixtures can start, and the options that make them small and GTID based.

use std::{io, path::PathBuf, str::FromStr, sync::OnceLock};

use super::process::run;

/// A name that no series has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no server is named {0:?}: one of 5.6, 9.7, mariadb10.11")]
pub struct UnknownSeries(String);

/// The servers that `dev/mysql/fetch.sh` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Series {
    /// MySQL 5.6.24: GTIDs, no semi-sync plugin, no `super_read_only`.
    Mysql56,
    /// MySQL 9.7: everything.
    Mysql97,
    /// MariaDB 10.11: its own GTIDs and words.
    MariaDb1011,
}

impl Series {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mysql56, Self::Mysql97, Self::MariaDb1011];

    /// The name that `fetch.sh` and command lines use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mysql56 => "5.6",
            Self::Mysql97 => "9.7",
            Self::MariaDb1011 => "mariadb10.11",
        }
    }

    /// The folder with the server, made when it is not there yet (seconds, once per machine).
    ///
    /// # Errors
    /// When the script fails; its words are in the error.
    pub fn folder(self) -> io::Result<PathBuf> {
        static FOLDERS: [OnceLock<PathBuf>; 3] = [const { OnceLock::new() }; 3];
        let found = FOLDERS.iter().zip(Self::ALL).find(|(_, series)| *series == self).map(|(cell, _)| cell);
        if let Some(folder) = found.and_then(OnceLock::get) {
            return Ok(folder.clone());
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/mysql/fetch.sh");
        let folder = PathBuf::from(run(script, &[self.name()])?.trim());
        Ok(found.map_or(folder.clone(), |cell| cell.get_or_init(|| folder).clone()))
    }

    /// The program that reads the series' binary logs.
    ///
    /// # Errors
    /// When the script that makes the folder fails.
    pub fn binlog_reader(self) -> io::Result<PathBuf> {
        let from = if self == Self::Mysql56 { Self::Mysql97 } else { self };
        Ok(from.folder()?.join("mysqlbinlog"))
    }

    /// Options that every server of the series runs with: GTIDs, row format, little memory.
    pub(super) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Mysql56 => &[
                "--gtid-mode=ON",
                "--enforce-gtid-consistency",
                "--binlog-format=ROW",
                "--log-slave-updates",
                "--master-info-repository=TABLE",
                "--relay-log-info-repository=TABLE",
                "--innodb-log-file-size=4M",
                "--performance-schema=OFF",
            ],
            Self::Mysql97 => &[
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--mysqlx=OFF",
                "--innodb-redo-log-capacity=32M",
                "--relay-log-recovery=OFF",
                "--performance-schema=ON",
            ],
            Self::MariaDb1011 => &[
                "--gtid-strict-mode=ON",
                "--binlog-format=ROW",
                "--log-slave-updates",
                "--innodb-log-file-size=8M",
                "--performance-schema=OFF",
            ],
        }
    }
}

impl FromStr for Series {
    type Err = UnknownSeries;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|series| series.name() == text).ok_or_else(|| UnknownSeries(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for series in Series::ALL {
            assert_eq!(series.name().parse(), Ok(series));
        }
        assert!("5.5".parse::<Series>().unwrap_err().to_string().contains("\"5.5\""));
    }
}
