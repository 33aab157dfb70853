//! Reads chosen transactions out of a server's binary logs as a replica would, and hands them on as a binary log
//! of their own: byte for byte what the server wrote, readable by the server's `mysqlbinlog`.
//!
//! Reading is by file and position, so that it is the same for every series; the choice is made here, by GTID.
//! Layout of events: MySQL reference manual, "The Binary Log"; MariaDB: "2-Binlog Event Header", "GTID_EVENT".

use std::{collections::BTreeMap, fmt::Write as _, io, time::Duration};

use futures::StreamExt;
use mysql_async::{
    BinlogStream,
    binlog::{
        BinlogChecksumAlg, BinlogVersion,
        events::{Event, GtidEvent},
    },
};
use tokio::time::timeout;

use super::{
    dialect::binlog,
    error::SessionError,
    options::Options,
    rows::Named,
    session::{Known, Session},
};
use crate::core::{gtid::GtidSet, id::ServerAddr, observation::FailureKind, version::Flavor};

/// First bytes of a binary log.
pub const MAGIC: &[u8; 4] = b"\xfebin";
/// Longest wait for an answer or an event, in milliseconds.
const STEP_MS: u64 = 30_000;

/// Types of events, as the header numbers them.
mod kind {
    pub(super) const STOP: u8 = 3;
    pub(super) const ROTATE: u8 = 4;
    pub(super) const FORMAT: u8 = 15;
    pub(super) const HEARTBEATS: [u8; 2] = [27, 41];
    pub(super) const GTID: u8 = 33;
    pub(super) const ANONYMOUS: u8 = 34;
    pub(super) const PREVIOUS_GTIDS: u8 = 35;
    pub(super) const PAYLOAD: u8 = 40;
    pub(super) const GTID_TAGGED: u8 = 42;
    pub(super) const MARIADB_CHECKPOINT: u8 = 161;
    pub(super) const MARIADB_GTID: u8 = 162;
    pub(super) const MARIADB_GTID_LIST: u8 = 163;
    pub(super) const MARIADB_ENCRYPTION: u8 = 164;
}

/// Why the transactions could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The server.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The oldest binary log begins after the first of them.
    #[error("the binary logs of {0} that have the first of these transactions are purged")]
    Purged(ServerAddr),
    /// Some are not in the binary logs.
    #[error("the binary logs of {server} lack {missing}")]
    Missing {
        /// The server.
        server: ServerAddr,
        /// What is missing.
        missing: GtidSet,
    },
    /// An event that makes no sense.
    #[error("the binary log of {0} cannot be read: {1}")]
    Broken(ServerAddr, String),
    /// What was read cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The server's version.
    pub version: String,
    /// The binary log in which the first of them was looked for.
    pub first_file: String,
    /// The transactions.
    pub found: GtidSet,
}

/// Reads the transactions `extra` of `addr`; `write` gets the pieces of a binary log, in order.
///
/// # Errors
/// [`ExportError`]; all are read or it fails.
pub async fn export(
    addr: &ServerAddr,
    options: &Options,
    extra: &GtidSet,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Exported, ExportError> {
    let mut session = Session::connect(addr, options, &Known::default(), "baton/export", STEP_MS).await?;
    let version = session.version;
    let first_file = first_file(&mut session, extra).await?.ok_or_else(|| ExportError::Purged(addr.clone()))?;
    let mut stream = session.into_binlog(&first_file, STEP_MS).await?;
    let mut chooser = Chooser { extra, format: None, inside: false, found: BTreeMap::new() };
    while let Some(event) = next(&mut stream).await? {
        let broken = |error: io::Error| ExportError::Broken(addr.clone(), error.to_string());
        for bytes in chooser.take(&event).map_err(broken)? {
            write(&bytes)?;
        }
    }
    let found = chooser.found();
    let missing = missing(extra, &found, version.flavor);
    if !missing.is_empty() {
        return Err(ExportError::Missing { server: addr.clone(), missing });
    }
    Ok(Exported { version: version.to_string(), first_file, found })
}

/// The newest binary log before which none of `extra` was written.
async fn first_file(session: &mut Session, extra: &GtidSet) -> Result<Option<String>, SessionError> {
    let rows = session.query("list the binary logs", binlog::LIST, 1, STEP_MS).await?;
    let names = rows.iter().flatten().filter_map(|row| Named(row).text(&["Log_name"]));
    for name in names.collect::<Vec<_>>().into_iter().rev() {
        let rows = session.query("look into a binary log", &binlog::beginning(&name), 1, STEP_MS).await?;
        let before =
            rows.iter().flatten().map(Named).find(|row| {
                row.text(&["Event_type"]).is_some_and(|kind| kind == "Previous_gtids" || kind == "Gtid_list")
            });
        let text = before.and_then(|row| row.text(&["Info"])).unwrap_or_default();
        let before = match session.version.flavor {
            Flavor::MySql => text.parse(),
            Flavor::MariaDb => GtidSet::of_binlog_state(text.trim_matches(['[', ']'])),
        };
        let unusable = |error| SessionError::new(FailureKind::Statement, &format!("unusable answer: {error}"));
        if extra.subtract(&before.map_err(unusable)?) == *extra {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

async fn next(stream: &mut BinlogStream) -> Result<Option<Event>, SessionError> {
    let event = timeout(Duration::from_millis(STEP_MS), stream.next()).await;
    let event = event.map_err(|_| SessionError::silent("the request for binary logs", STEP_MS))?;
    event.transpose().map_err(SessionError::from)
}

/// What of `extra` was not found. MariaDB's numbers may belong to others; the last of each run does not.
fn missing(extra: &GtidSet, found: &GtidSet, flavor: Flavor) -> GtidSet {
    let missing = extra.subtract(found);
    let lasts = extra.runs().all(|(source, _, last)| found.has(source, last));
    if flavor == Flavor::MariaDb && lasts { GtidSet::default() } else { missing }
}

/// Picks the events of chosen transactions.
struct Chooser<'a> {
    extra: &'a GtidSet,
    /// Description of the format that was handed on last.
    format: Option<Vec<u8>>,
    /// The event belongs to a chosen transaction.
    inside: bool,
    found: BTreeMap<String, Vec<u64>>,
}

impl Chooser<'_> {
    /// What of an event is handed on.
    fn take(&mut self, event: &Event) -> io::Result<Vec<Vec<u8>>> {
        let number = event.header().event_type_raw();
        match number {
            kind::FORMAT => return self.format(event),
            kind::GTID | kind::GTID_TAGGED | kind::MARIADB_GTID => {
                let (source, number) = gtid(event)?;
                self.inside = self.extra.has(&source, number);
                if self.inside {
                    self.found.entry(source).or_default().push(number);
                }
            }
            kind::ANONYMOUS => self.inside = false,
            kind::STOP | kind::ROTATE | kind::PREVIOUS_GTIDS => return Ok(Vec::new()),
            kind::MARIADB_CHECKPOINT | kind::MARIADB_GTID_LIST | kind::MARIADB_ENCRYPTION => return Ok(Vec::new()),
            _ if kind::HEARTBEATS.contains(&number) => return Ok(Vec::new()),
            _ => {}
        }
        if !self.inside {
            return Ok(Vec::new());
        }
        // What is packed in it follows unpacked.
        self.inside = number != kind::PAYLOAD;
        Ok(vec![bytes(event)?])
    }

    /// Each file begins with its format; where that changes, what follows needs the new one.
    fn format(&mut self, event: &Event) -> io::Result<Vec<Vec<u8>>> {
        let data = event.data().to_vec();
        self.inside = false;
        let first = self.format.is_none();
        // Where a server was started is in there too, and does not matter.
        let same = self.format.as_ref().is_some_and(|known| without_time(known) == without_time(&data));
        if same {
            return Ok(Vec::new());
        }
        self.format = Some(data);
        let magic = first.then(|| MAGIC.to_vec());
        Ok(magic.into_iter().chain([bytes(event)?]).collect())
    }

    fn found(&self) -> GtidSet {
        let mut text = String::new();
        for (source, numbers) in &self.found {
            let _infallible = write!(text, ",{source}");
            for number in numbers {
                let _infallible = write!(text, ":{number}");
            }
        }
        text.parse().unwrap_or_default()
    }
}

/// A description of the format without the time at which the file was made: 4 bytes after version and server.
fn without_time(data: &[u8]) -> (&[u8], &[u8]) {
    (data.get(..52).unwrap_or(data), data.get(56..).unwrap_or_default())
}

/// An event as it stands in the server's file; its checksum must be right.
fn bytes(event: &Event) -> io::Result<Vec<u8>> {
    let alg = event.footer().get_checksum_alg().map_err(io::Error::other)?;
    if let (Some(alg @ BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32), Some(sum)) = (alg, event.checksum())
        && event.calc_checksum(alg).to_le_bytes() != sum
    {
        return Err(io::Error::other("the checksum of an event is wrong"));
    }
    let mut bytes = Vec::with_capacity(event.data().len() + 32);
    event.write(BinlogVersion::Version4, &mut bytes)?;
    Ok(bytes)
}

/// Source and number of a transaction, as sets name them.
fn gtid(event: &Event) -> io::Result<(String, u64)> {
    let data = event.data();
    let short = || io::Error::other("an event is too short");
    let number = |at: usize| {
        let bytes = data.get(at..at + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        bytes.map(u64::from_le_bytes).ok_or_else(short)
    };
    match event.header().event_type_raw() {
        kind::MARIADB_GTID => {
            let domain = data.get(8..12).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).ok_or_else(short)?;
            Ok((format!("{}-{}", u32::from_le_bytes(domain), event.header().server_id()), number(0)?))
        }
        kind::GTID => Ok((uuid(data.get(1..17).ok_or_else(short)?), number(17)?)),
        _ => {
            let tagged: GtidEvent = event.read_event()?;
            let tag = tagged.tag().map(|tag| format!(":{}", tag.as_str())).unwrap_or_default();
            Ok((format!("{}{tag}", uuid(&tagged.sid())), tagged.gno()))
        }
    }
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        let dash = if [4, 6, 8, 10].contains(&index) { "-" } else { "" };
        let _infallible = write!(text, "{dash}{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_must_be_found_and_of_mariadb_the_last_of_each_run() {
        let set = |text: &str| text.parse::<GtidSet>().unwrap();
        let lost = |extra: &str, found: &str, flavor| missing(&set(extra), &set(found), flavor).to_string();
        const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let all = format!("{A}:1-5");
        assert_eq!(lost(&all, &all, Flavor::MySql), "");
        assert_eq!(lost(&all, &format!("{A}:1-3:5"), Flavor::MySql), format!("{A}:4"));
        assert_eq!(lost("0-1:96-130", "0-1:121-130", Flavor::MariaDb), "", "others used the rest");
        assert_eq!(lost("0-1:96-130", "0-1:121-129", Flavor::MariaDb), "0-1:96-120:130");
        assert_eq!(lost("0-1:96-130,1-1:3", "0-1:96-130", Flavor::MariaDb), "1-1:3");
    }

    #[test]
    fn names_are_those_of_sets() {
        assert_eq!(uuid(&(0..16).collect::<Vec<u8>>()), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
