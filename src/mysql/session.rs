//! One connection to one server, with a deadline on everything.
//!
//! A session whose deadline passed is dropped and never used again: the answer may still come, and it
//! would be taken for the answer to something else.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mysql_async::{Conn, OptsBuilder, Row, SslOpts, prelude::Queryable};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout};

use super::{
    dialect,
    error::SessionError,
    options::{Account, Options, Tls, TlsMode},
    rows,
};
use crate::core::{id::ServerAddr, observation::FailureKind, version::Version};

/// Longest answer accepted, in bytes.
const PACKET_MAX: usize = 16 * 1024 * 1024;
/// The server ends a session that is idle for longer, in seconds.
const IDLE_S: usize = 3600;

/// Remembers that a server offers no TLS, so that it is asked for it once only.
#[derive(Debug, Default)]
pub struct Plain(AtomicBool);

/// A connection in a known state: fixed SQL mode, no transaction.
pub struct Session {
    conn: Conn,
    /// Who made the server and which version it is.
    pub version: Version,
    /// The connection is encrypted.
    pub tls: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("version", &self.version).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects within `budget_ms`; `program` is shown by the server as the client's name.
    ///
    /// # Errors
    /// [`SessionError`] with the kind of failure.
    pub async fn connect(
        addr: &ServerAddr,
        options: &Options,
        plain: &Plain,
        program: &str,
        budget_ms: u64,
    ) -> Result<Self, SessionError> {
        let connect = async {
            let first = Self::connect_as(addr, options, &options.operator, plain, program).await;
            match (first, &options.operator_before) {
                (Err(error), Some(before)) if error.kind == FailureKind::Credentials => {
                    Self::connect_as(addr, options, before, plain, program).await
                }
                (result, _) => result,
            }
        };
        let limit = Duration::from_millis(budget_ms);
        timeout(limit, connect).await.unwrap_or_else(|_| Err(SessionError::silent("the connection", budget_ms)))
    }

    async fn connect_as(
        addr: &ServerAddr,
        options: &Options,
        account: &Account,
        plain: &Plain,
        program: &str,
    ) -> Result<Self, SessionError> {
        let ips = resolve(addr).await?;
        let builder = |ssl: Option<SslOpts>| {
            OptsBuilder::default()
                .ip_or_hostname(addr.host())
                .tcp_port(addr.port())
                .resolved_ips(Some(ips.clone()))
                .user(Some(account.user.clone()))
                .pass(Some(account.password.expose_secret().to_owned()))
                .prefer_socket(false)
                .stmt_cache_size(0)
                .tcp_nodelay(true)
                .tcp_keepalive(Some(Duration::from_secs(10)))
                .max_allowed_packet(Some(PACKET_MAX))
                .wait_timeout(Some(IDLE_S))
                .ssl_opts(ssl)
                .connect_attribute("program_name", program)
        };
        let wanted = ssl_opts(&options.tls);
        let preferred = options.tls.mode == TlsMode::Preferred;
        if wanted.is_some() && !(preferred && plain.0.load(Ordering::Relaxed)) {
            match Conn::new(builder(wanted)).await.map_err(SessionError::from) {
                Err(error) if preferred && error.kind == FailureKind::Tls => plain.0.store(true, Ordering::Relaxed),
                other => return Self::prepare(other?, true).await,
            }
        }
        let conn = Conn::new(builder(None)).await.map_err(SessionError::from)?;
        Self::prepare(conn, false).await
    }

    async fn prepare(mut conn: Conn, tls: bool) -> Result<Self, SessionError> {
        let version: Option<String> = conn.query_first(dialect::VERSION).await.map_err(SessionError::from)?;
        let version = version.unwrap_or_default();
        let version: Version =
            version.parse().map_err(|error| SessionError::new(FailureKind::NotMysql, &format!("{error}")))?;
        let mut session = Self { conn, version, tls };
        session.run_all(&dialect::prepare(version), 1).await?;
        Ok(session)
    }

    /// Runs statements as one text and answers with the rows of each, within `budget_ms`.
    ///
    /// # Errors
    /// [`SessionError`]; after `Silent` the session must be dropped.
    pub async fn query(
        &mut self,
        what: &str,
        text: &str,
        results: usize,
        budget_ms: u64,
    ) -> Result<Vec<Vec<Row>>, SessionError> {
        let limit = Duration::from_millis(budget_ms);
        timeout(limit, self.run_all(text, results)).await.unwrap_or_else(|_| Err(SessionError::silent(what, budget_ms)))
    }

    async fn run_all(&mut self, text: &str, results: usize) -> Result<Vec<Vec<Row>>, SessionError> {
        let mut answer = self.conn.query_iter(text).await.map_err(SessionError::from)?;
        let mut all = Vec::with_capacity(results);
        for _ in 0..results {
            all.push(answer.collect::<Row>().await.map_err(SessionError::from)?);
        }
        answer.drop_result().await.map_err(SessionError::from)?;
        Ok(all)
    }

    /// One value of a user's query: prepared, so that it is one statement, and read only.
    ///
    /// # Errors
    /// [`SessionError`]; after `Silent` the session must be dropped.
    pub async fn user_query(&mut self, text: &str, budget_ms: u64) -> Result<Option<String>, SessionError> {
        let ask = async {
            self.conn.query_drop(dialect::READ_ONLY_BEGIN).await?;
            let row: Result<Option<Row>, _> = self.conn.exec_first(text, ()).await;
            self.conn.query_drop(dialect::READ_ONLY_END).await?;
            row
        };
        let limit = Duration::from_millis(budget_ms);
        let row = timeout(limit, ask).await.map_err(|_| SessionError::silent("a query of the cluster", budget_ms))?;
        Ok(row.map_err(SessionError::from)?.and_then(|row| rows::first_text(&row)))
    }

    /// Ends the session politely; the server may not answer any more.
    pub async fn close(self) {
        let _ended = timeout(Duration::from_millis(200), self.conn.disconnect()).await;
    }
}

/// Addresses of a host; an IP is not asked about.
async fn resolve(addr: &ServerAddr) -> Result<Vec<IpAddr>, SessionError> {
    if let Ok(ip) = addr.host().parse() {
        return Ok(vec![ip]);
    }
    let started = Instant::now();
    let unknown = |why: String| {
        let waited_ms = started.elapsed().as_millis();
        SessionError::new(FailureKind::Address, &format!("cannot resolve {}: {why} ({waited_ms} ms)", addr.host()))
    };
    let found =
        tokio::net::lookup_host((addr.host(), addr.port())).await.map_err(|error| unknown(error.to_string()))?;
    let ips: Vec<_> = found.map(|socket| socket.ip()).collect();
    if ips.is_empty() { Err(unknown("no address".to_owned())) } else { Ok(ips) }
}

fn ssl_opts(tls: &Tls) -> Option<SslOpts> {
    if tls.mode == TlsMode::Disabled {
        return None;
    }
    let verify = matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
    let roots = tls.ca.iter().map(|ca| ca.clone().into()).collect();
    let identity = tls
        .client
        .as_ref()
        .map(|(cert, key)| mysql_async::ClientIdentity::new(cert.clone().into(), key.clone().into()));
    let options = SslOpts::default()
        .with_root_certs(roots)
        .with_disable_built_in_roots(tls.ca.is_some())
        .with_danger_accept_invalid_certs(!verify)
        .with_danger_skip_domain_validation(tls.mode != TlsMode::VerifyIdentity)
        .with_client_identity(identity);
    Some(options)
}
