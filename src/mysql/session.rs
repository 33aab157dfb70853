//! One connection to one server, with a deadline on everything.
//!
//! A session whose deadline passed is dropped and never used again: the answer may still come, and it
//! would be taken for the answer to something else.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, OptsBuilder, Row, SslOpts, prelude::Queryable};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout};

use super::{
    dialect,
    error::SessionError,
    options::{Account, Options, Tls, TlsMode},
    rows,
};
use crate::core::{
    id::ServerAddr,
    observation::FailureKind,
    version::{Flavor, Version},
};

/// Longest answer accepted, in bytes.
const PACKET_MAX: usize = 16 * 1024 * 1024;
/// The server ends a session that is idle for longer, in seconds.
const IDLE_S: usize = 3600;

/// Server ids under which binary logs are read.
const READER_ID: u32 = 4_294_900_000;
const READERS: u32 = 60_000;

/// Share of a connection's budget that finding the address may take: its failure must not look like a
/// silent server.
const RESOLVE_SHARE: u32 = 2;
/// How long what a connection taught is taken to hold.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// What connections to a server taught.
#[derive(Debug, Default)]
pub struct Known(Mutex<Lessons>);

#[derive(Debug, Default)]
struct Lessons {
    /// When it was found to offer no TLS. It is not asked with every connection: a handshake that is broken off
    /// counts against our host there (`max_connect_errors`).
    plain: Option<Instant>,
    /// Where it takes administrators when it has no connection left, and when it was asked.
    admin: Option<(String, u16)>,
    asked: Option<Instant>,
}

impl Known {
    fn lessons(&self) -> MutexGuard<'_, Lessons> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_plain(&self) -> bool {
        self.lessons().plain.is_some_and(|since| since.elapsed() < KNOWN_FOR)
    }
}

/// A connection in a known state: fixed SQL mode, no transaction.
pub struct Session {
    conn: Conn,
    /// Who made the server and which version it is.
    pub version: Version,
    /// `performance_schema` is on.
    pub performance_schema: bool,
    /// The connection is encrypted.
    pub tls: bool,
    /// Why it goes through the port for administrators: the ordinary one took no connection.
    pub refused: Option<SessionError>,
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
        known: &Known,
        program: &str,
        budget_ms: u64,
    ) -> Result<Self, SessionError> {
        let limit = Duration::from_millis(budget_ms);
        let connect = async {
            let ips = resolve(addr, limit / RESOLVE_SHARE).await?;
            let target = Target { addr, port: addr.port(), ips, options, known, program };
            let first = target.connect(&options.operator).await;
            match (first, &options.operator_before) {
                (Err(error), Some(before)) if error.kind == FailureKind::Credentials => target.connect(before).await,
                (Err(error), _) if error.kind == FailureKind::Saturated => target.connect_admin(error).await,
                (result, _) => result,
            }
        };
        let connect = async {
            let mut session = connect.await?;
            session.learn(known).await?;
            Ok(session)
        };
        timeout(limit, connect).await.unwrap_or_else(|_| Err(SessionError::silent("the connection", budget_ms)))
    }

    async fn prepare(mut conn: Conn, tls: bool) -> Result<Self, SessionError> {
        let row: Option<Row> = conn.query_first(dialect::VERSION).await.map_err(SessionError::from)?;
        let row = row.as_ref().map(rows::Named);
        let text = row.as_ref().and_then(|row| row.text(&["version"])).unwrap_or_default();
        let performance_schema = row.and_then(|row| row.flag(&["performance_schema"])).unwrap_or(false);
        let version: Version =
            text.parse().map_err(|error| SessionError::new(FailureKind::NotMysql, &format!("{error}")))?;
        let mut session = Self { conn, version, performance_schema, tls, refused: None };
        session.run_all(&dialect::prepare(version), 1).await?;
        Ok(session)
    }

    /// Asks now and then where the server takes administrators.
    async fn learn(&mut self, known: &Known) -> Result<(), SessionError> {
        let fresh = known.lessons().asked.is_some_and(|at| at.elapsed() < KNOWN_FOR);
        let Some(text) = dialect::admin(self.version).filter(|_| !fresh) else { return Ok(()) };
        let rows = self.run_all(text, 1).await?;
        let row = rows.first().and_then(|rows| rows.first()).map(rows::Named);
        let found = row.and_then(|row| Some((row.text(&["address"])?, row.number(&["port"])?)));
        let mut lessons = known.lessons();
        (lessons.admin, lessons.asked) = (found.filter(|(_, port)| *port > 0), Some(Instant::now()));
        Ok(())
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
        let (begun, limit) = (Instant::now(), Duration::from_millis(budget_ms));
        let answered = timeout(limit, self.run_all(text, results)).await;
        tracing::trace!(session = self.id(), took_us = begun.elapsed().as_micros(), "{what}");
        answered.unwrap_or_else(|_| Err(SessionError::silent(what, budget_ms)))
    }

    async fn run_all(&mut self, text: &str, results: usize) -> Result<Vec<Vec<Row>>, SessionError> {
        let mut answer = self.conn.query_iter(text).await.map_err(SessionError::from)?;
        let mut all = Vec::with_capacity(results);
        for answered in 0..results {
            let rows = answer.collect::<Row>().await;
            all.push(rows.map_err(|error| SessionError { answered, ..SessionError::from(error) })?);
        }
        answer.drop_result().await.map_err(|error| SessionError { answered: results, ..SessionError::from(error) })?;
        Ok(all)
    }

    /// The server's number of this connection, with which another one can end it.
    #[must_use]
    pub fn id(&self) -> u64 {
        u64::from(self.conn.id())
    }

    /// One value of a user's query: prepared, so that it is one statement, and read only.
    ///
    /// # Errors
    /// [`SessionError`]; after `Silent` the session must be dropped.
    pub async fn user_query(&mut self, text: &str, budget_ms: u64) -> Result<Option<String>, SessionError> {
        if !dialect::only_reads(text) {
            return Err(SessionError::new(FailureKind::Statement, "only a SELECT without INTO or a SHOW is asked"));
        }
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

    /// Asks for a binary log from its beginning on, and for all after it, up to where they end now. The session
    /// becomes the stream.
    ///
    /// # Errors
    /// [`SessionError`].
    pub(super) async fn into_binlog(mut self, file: &str, budget_ms: u64) -> Result<BinlogStream, SessionError> {
        if self.version.flavor == Flavor::MariaDb {
            self.query("prepare to read binary logs", dialect::binlog::MARIADB_READS_GTIDS, 0, budget_ms).await?;
        }
        // A number that no replica has: the server ends another connection of the same.
        let reader = READER_ID + std::process::id() % READERS;
        let request = BinlogStreamRequest::new(reader).with_filename(file.as_bytes()).with_non_blocking();
        let stream = timeout(Duration::from_millis(budget_ms), self.conn.get_binlog_stream(request)).await;
        let stream = stream.map_err(|_| SessionError::silent("the request for binary logs", budget_ms))?;
        stream.map_err(SessionError::from)
    }

    /// Ends the session politely; the server may not answer any more.
    pub async fn close(self) {
        let _ended = timeout(Duration::from_millis(200), self.conn.disconnect()).await;
    }
}

/// Where and how to connect, with the address found.
struct Target<'a> {
    addr: &'a ServerAddr,
    port: u16,
    ips: Vec<IpAddr>,
    options: &'a Options,
    known: &'a Known,
    program: &'a str,
}

impl Target<'_> {
    /// Through the port for administrators, when there is one and the ordinary one takes no connection more.
    async fn connect_admin(self, refused: SessionError) -> Result<Session, SessionError> {
        let Some((address, port)) = self.known.lessons().admin.clone() else { return Err(refused) };
        // Anything but one address of its own means that the server listens where it does for everybody.
        let own = address.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
        let ips = own.map_or(self.ips, |ip| vec![ip]);
        let session = Target { port, ips, ..self }.connect(&self.options.operator).await?;
        Ok(Session { refused: Some(refused), ..session })
    }

    async fn connect(&self, account: &Account) -> Result<Session, SessionError> {
        let tls = &self.options.tls;
        let preferred = tls.mode == TlsMode::Preferred;
        if tls.mode != TlsMode::Disabled && !(preferred && self.known.is_plain()) {
            let conn = Conn::new(self.builder(account, true)).await.map_err(SessionError::from);
            match conn {
                Err(error) if preferred && error.kind == FailureKind::Tls => {
                    self.known.lessons().plain = Some(Instant::now())
                }
                other => return Session::prepare(other?, true).await,
            }
        }
        let conn = Conn::new(self.builder(account, false)).await.map_err(SessionError::from)?;
        Session::prepare(conn, false).await
    }

    /// The name stays the one that TLS checks; the driver gets the addresses and resolves nothing.
    fn builder(&self, account: &Account, encrypted: bool) -> OptsBuilder {
        let tls = &self.options.tls;
        let builder = if encrypted {
            let name = tls.names.get(self.addr);
            OptsBuilder::from_opts(tls.template(name, || OptsBuilder::default().ssl_opts(ssl_opts(tls, name)).into()))
        } else {
            OptsBuilder::default()
        };
        builder
            .ip_or_hostname(self.addr.host())
            .tcp_port(self.port)
            .resolved_ips(Some(self.ips.clone()))
            .user(Some(account.user.clone()))
            .pass(Some(account.password.expose_secret().to_owned()))
            .prefer_socket(false)
            .stmt_cache_size(0)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(10)))
            .max_allowed_packet(Some(PACKET_MAX))
            .wait_timeout(Some(IDLE_S))
            .connect_attribute("program_name", self.program)
    }
}

/// Addresses of a host; an IP is not asked about.
async fn resolve(addr: &ServerAddr, limit: Duration) -> Result<Vec<IpAddr>, SessionError> {
    if let Ok(ip) = addr.host().parse() {
        return Ok(vec![ip]);
    }
    let unknown =
        |why: &str| SessionError::new(FailureKind::Address, &format!("cannot resolve {}: {why}", addr.host()));
    let lookup = timeout(limit, tokio::net::lookup_host((addr.host(), addr.port()))).await;
    let found = lookup.map_err(|_| unknown("no answer in time"))?.map_err(|error| unknown(&error.to_string()))?;
    let ips: Vec<_> = found.map(|socket| socket.ip()).collect();
    if ips.is_empty() { Err(unknown("no address")) } else { Ok(ips) }
}

fn ssl_opts(tls: &Tls, name: Option<&String>) -> Option<SslOpts> {
    let verify = matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
    let roots = tls.ca.iter().map(|ca| ca.0.clone().into()).collect();
    let identity = tls
        .client
        .as_ref()
        .map(|(cert, key)| mysql_async::ClientIdentity::new(cert.0.clone().into(), key.0.clone().into()));
    let options = SslOpts::default()
        .with_root_certs(roots)
        .with_disable_built_in_roots(tls.ca.is_some())
        .with_danger_accept_invalid_certs(!verify)
        .with_danger_skip_domain_validation(tls.mode != TlsMode::VerifyIdentity)
        .with_danger_tls_hostname_override(name.cloned())
        .with_client_identity(identity);
    Some(options)
}
