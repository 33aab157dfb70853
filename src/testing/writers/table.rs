//! The writers' table: made before a run, compared with what they were told after it.

use std::{collections::BTreeSet, time::Duration};

use mysql_async::{Conn, Error, OptsBuilder, prelude::Queryable};
use tokio::time::{Instant, sleep, timeout};

use super::Config;
use crate::{
    core::id::ServerAddr,
    testing::history::{History, RowId, Verdict},
};

/// How long the statements before and after a run may take.
const SETUP_DEADLINE: Duration = Duration::from_secs(30);

/// Why a step before or after a run failed.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// A server's answer, or none.
    #[error("{server} refused or broke off")]
    Mysql {
        /// Which server.
        server: ServerAddr,
        /// Why.
        #[source]
        source: Error,
    },
    /// No answer in time.
    #[error("{server} did not answer in time")]
    Late {
        /// Which server.
        server: ServerAddr,
    },
    /// No server takes writes.
    #[error("no address takes writes")]
    NotWritable {
        /// What the last one said.
        #[source]
        last: Option<Box<WriterError>>,
    },
}

/// Reads the rows of the run from `addr` and compares them with `history`, after the writers have ended.
///
/// # Errors
/// When they cannot be read within 30 s.
pub async fn check(config: &Config, addr: &ServerAddr, history: &History) -> Result<Verdict, WriterError> {
    Ok(history.check(&rows(config, addr, history.run).await?))
}

/// The rows of `run` that `addr` has.
///
/// # Errors
/// When they cannot be read within 30 s.
pub async fn rows(config: &Config, addr: &ServerAddr, run: u64) -> Result<BTreeSet<RowId>, WriterError> {
    let mut session = connect(config, addr, SETUP_DEADLINE).await?;
    let statement = format!("SELECT writer, seq FROM {}.writes WHERE run = {run}", config.database);
    let rows: Vec<(u32, u64)> = bounded(addr, SETUP_DEADLINE, session.query(statement)).await?;
    Ok(rows.into_iter().map(|(writer, seq)| RowId { writer, seq }).collect())
}

/// Makes database and table on the address that takes writes.
pub(super) async fn prepare(config: &Config) -> Result<(), WriterError> {
    let deadline = Instant::now() + SETUP_DEADLINE;
    loop {
        let mut last = None;
        for addr in &config.addresses {
            match create(config, addr).await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(Box::new(error)),
            }
        }
        if Instant::now() > deadline {
            return Err(WriterError::NotWritable { last });
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn create(config: &Config, addr: &ServerAddr) -> Result<(), WriterError> {
    let mut session = connect(config, addr, config.connect_timeout * 4).await?;
    let database = &config.database;
    for statement in [
        format!("CREATE DATABASE IF NOT EXISTS {database}"),
        format!(
            "CREATE TABLE IF NOT EXISTS {database}.writes (run BIGINT UNSIGNED NOT NULL, writer INT UNSIGNED NOT NULL, \
             seq BIGINT UNSIGNED NOT NULL, PRIMARY KEY (run, writer, seq)) ENGINE=InnoDB"
        ),
        // A read-only server takes the two above without a word when both are there already.
        format!("DELETE FROM {database}.writes WHERE run = 0"),
    ] {
        bounded(addr, SETUP_DEADLINE, session.query_drop(statement)).await?;
    }
    Ok(())
}

async fn connect(config: &Config, addr: &ServerAddr, bound: Duration) -> Result<Conn, WriterError> {
    bounded(addr, bound, Conn::new(options(config, addr))).await
}

pub(super) async fn bounded<T>(
    addr: &ServerAddr,
    bound: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, WriterError> {
    match timeout(bound, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(WriterError::Mysql { server: addr.clone(), source }),
        Err(_) => Err(WriterError::Late { server: addr.clone() }),
    }
}

/// How the writers reach `addr`: TCP, no TLS, nothing asked at connect.
pub(super) fn options(config: &Config, addr: &ServerAddr) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(addr.host())
        .tcp_port(addr.port())
        .user(Some(config.user.as_str()))
        .pass(Some(config.password.as_str()))
        .prefer_socket(false)
        .tcp_nodelay(true)
        .max_allowed_packet(Some(16 * 1024 * 1024))
        .wait_timeout(Some(28_800))
        .stmt_cache_size(0)
}
