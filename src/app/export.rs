//! `baton job export`: saves transactions that only one server has as a binary log in a folder, before anything
//! is discarded.
//!
//! The file appears under its name only when it is whole and on the disk: written beside it, synced, checked,
//! renamed; its manifest after it. Run again it finds both and is done.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::{
    core::{gtid::GtidSet, id::ServerAddr},
    mysql::{
        binlog::{self, ExportError, Exported},
        options::{Account, Options, Queries, Tls},
    },
};

/// What is to be saved and where.
#[derive(Debug)]
pub struct Order {
    /// The server that has it.
    pub server: ServerAddr,
    /// The account to read it with.
    pub account: Account,
    /// TLS of the connection.
    pub tls: Tls,
    /// The transactions.
    pub extra: GtidSet,
    /// Whose they are, for people.
    pub cluster: String,
    /// The failover that left them behind; empty: none.
    pub record: String,
    /// Folder; it must be there.
    pub folder: PathBuf,
    /// Name of the files in it, without their endings.
    pub name: String,
    /// Longest time it may take.
    pub deadline: Duration,
}

/// Why it was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The server, or what it has.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The folder.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It took too long.
    #[error("not done within {0:?}")]
    Late(Duration),
    /// A name that would leave the folder.
    #[error("{0:?} is no file name")]
    Name(String),
}

/// What stands beside the file, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Name of the binary log in the same folder.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// The cluster, as namespace/name.
    pub cluster: String,
    /// The failover that left the transactions behind; empty: none.
    pub record: String,
    /// The server that had them.
    pub server: String,
    /// Its version.
    pub server_version: String,
    /// The transactions that were asked for.
    pub asked: String,
    /// The transactions in the file.
    pub transactions: String,
    /// How many they are.
    pub count: u64,
}

/// Saves what is ordered, unless that was done before.
///
/// # Errors
/// [`SaveError`].
pub async fn save(order: &Order) -> Result<Manifest, SaveError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if order.name.is_empty() || order.name.starts_with('.') || !order.name.chars().all(plain) {
        return Err(SaveError::Name(order.name.clone()));
    }
    if let Some(done) = saved(order) {
        return Ok(done);
    }
    timeout(order.deadline, write(order)).await.map_err(|_| SaveError::Late(order.deadline))?
}

/// What was saved before, if it is whole and the same was asked for.
fn saved(order: &Order) -> Option<Manifest> {
    let text = fs::read_to_string(order.folder.join(format!("{}.json", order.name))).ok()?;
    let manifest: Manifest = serde_json::from_str(&text).ok()?;
    let (bytes, sha256) = digest(&order.folder.join(binlog_name(order))).ok()?;
    let same = manifest.asked == order.extra.to_string() && manifest.server == order.server.to_string();
    (same && (manifest.bytes, &manifest.sha256) == (bytes, &sha256)).then_some(manifest)
}

fn binlog_name(order: &Order) -> String {
    format!("{}.binlog", order.name)
}

async fn write(order: &Order) -> Result<Manifest, SaveError> {
    let (path, partial) = paths(order, "binlog");
    let file = File::create(&partial).map_err(at(&partial))?;
    let mut out = BufWriter::new(file);
    let options = Options {
        operator: order.account.clone(),
        operator_before: None,
        replication: None,
        tls: order.tls.clone(),
        queries: Queries::default(),
        read_replica_hosts: false,
        keeps_semi_sync: false,
        connect_ms: 10_000,
    };
    let exported = binlog::export(&order.server, &options, &order.extra, |bytes| out.write_all(bytes)).await?;
    let file = out.into_inner().map_err(|error| at(&partial)(error.into_error()))?;
    file.sync_all().map_err(at(&partial))?;
    // What is on the disk counts, not what was sent to it.
    let (bytes, sha256) = digest(&partial).map_err(at(&partial))?;
    fs::rename(&partial, &path).map_err(at(&path))?;
    let manifest = manifest(order, &exported, bytes, sha256);
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| at(&path)(error.into()))?;
    let (path, partial) = paths(order, "json");
    let put = || {
        let mut file = File::create(&partial)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(&order.folder)?.sync_all()
    };
    put().map_err(at(&path))?;
    Ok(manifest)
}

fn manifest(order: &Order, exported: &Exported, bytes: u64, sha256: String) -> Manifest {
    Manifest {
        file: binlog_name(order),
        bytes,
        sha256,
        cluster: order.cluster.clone(),
        record: order.record.clone(),
        server: order.server.to_string(),
        server_version: exported.version.clone(),
        asked: order.extra.to_string(),
        transactions: exported.found.to_string(),
        count: exported.found.count(),
    }
}

/// A file's name, and the one under which it is written first.
fn paths(order: &Order, ending: &str) -> (PathBuf, PathBuf) {
    let path = |more: &str| order.folder.join(format!("{}.{ending}{more}", order.name));
    (path(""), path(".partial"))
}

fn at(path: &Path) -> impl Fn(io::Error) -> SaveError + use<> {
    let path = path.to_owned();
    move |error| SaveError::File { path: path.clone(), error }
}

/// Size and SHA-256 of a file.
fn digest(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hash, mut size) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
        hash.update(piece);
        size += read as u64;
    }
    Ok((size, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}
