//! A primary with replicas, replicating by GTID, as a user's servers would be before Baton comes.
//!
//! The statements are written out here on purpose: fixtures that used the operator's own dialect could
//! not show that it is wrong.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    clock::Clock,
    folder::Folder,
    network::{Host, Network},
    series::Series,
    servers::{FixtureError, Server},
};
use crate::core::id::ServerAddr;

/// How long replication may take to run, and replicas to catch up.
const REPLICATION_DEADLINE: Duration = Duration::from_secs(60);
/// Port of servers that have an address of their own.
const PORT: u16 = 3306;
/// First port of servers on 127.0.0.1.
const PORT_FIRST: u16 = 20_000;
/// How many ports they may use.
const PORTS: u32 = 12_000;
/// Ports of this process so far.
static PORTS_USED: AtomicU32 = AtomicU32::new(0);

/// Where the servers live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// 127.0.0.1, a free port each.
    Loopback,
    /// A namespace and an address each, on one switch: links can be cut. Needs root.
    Network,
}

/// How a topology is set up. `None` leaves a server's default as found.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which servers.
    pub series: Series,
    /// How many replicas; the primary comes on top.
    pub replicas: u32,
    /// Where they live.
    pub place: Place,
    /// Semi-sync, lossless, with an infinite timeout, waiting for that many replicas (9.7 only).
    pub semi_sync_acks: Option<u32>,
    /// Heartbeats of the channel.
    pub heartbeat_ms: Option<u32>,
    /// `replica_net_timeout`, `slave_net_timeout`.
    pub net_timeout_s: Option<u32>,
    /// Connect retry of the channel.
    pub connect_retry_s: Option<u32>,
    /// `read_only` (and `super_read_only`) at every boot, so that a returning primary is fenced.
    pub boots_read_only: bool,
    /// Flushes at every commit; off, a machine's crash loses data but a process' crash does not.
    pub durable: bool,
    /// More options for every server.
    pub more: Vec<String>,
    /// Data directories on a file system of their own, by server id: its size in MiB. Needs root.
    pub volumes: BTreeMap<u32, u32>,
    /// Each server has a clock of its own.
    pub clocks: bool,
}

impl Options {
    /// A primary and `replicas`, asynchronous, all else as found, durable, fenced at boot.
    #[must_use]
    pub fn new(series: Series, replicas: u32) -> Self {
        Self {
            series,
            replicas,
            place: Place::Loopback,
            semi_sync_acks: None,
            heartbeat_ms: None,
            net_timeout_s: None,
            connect_retry_s: None,
            boots_read_only: true,
            durable: true,
            more: Vec::new(),
            volumes: BTreeMap::new(),
            clocks: false,
        }
    }
}

/// Running servers: the first was started as primary, the others as its replicas.
#[derive(Debug)]
pub struct Topology {
    /// The servers, the first primary first.
    pub servers: Vec<Server>,
    options: Options,
    network: Option<Network>,
    folder: Folder,
}

impl Topology {
    /// Starts all servers at once and waits until every replica replicates.
    ///
    /// # Errors
    /// When anything does not come up in time; nothing is left running then.
    pub async fn start(options: &Options) -> Result<Self, FixtureError> {
        if options.semi_sync_acks.is_some() && options.series != Series::Mysql97 {
            return Err(FixtureError::Unfit(format!("no semi-sync in {} here", options.series.name())));
        }
        let folder = Folder::new()?;
        let mut network = (options.place == Place::Network).then(Network::new).transpose()?;
        let mut servers = Vec::new();
        for id in 1..=options.replicas.saturating_add(1) {
            let host = network.as_mut().map(Network::add_host).transpose()?;
            let addr = match &host {
                Some(host) => address(&host.address().to_string(), PORT)?,
                None => free_port()?,
            };
            let mut server = match options.volumes.get(&id) {
                Some(size) => Server::prepare_on_volume(options.series, id, addr, folder.path(), host, *size)?,
                None => Server::prepare(options.series, id, addr, folder.path(), host)?,
            };
            server.add_options(server_options(options));
            if options.clocks {
                server.set_clock(Clock::new(folder.path(), &format!("clock-{id}"))?);
            }
            servers.push(server);
        }
        let mut topology = Self { servers, options: options.clone(), network, folder };
        topology.boot().await?;
        topology.link().await?;
        Ok(topology)
    }

    async fn boot(&mut self) -> Result<(), FixtureError> {
        for server in &mut self.servers {
            server.start()?;
        }
        for server in &mut self.servers {
            server.ready().await?;
        }
        Ok(())
    }

    /// Makes the first server writable and the others its replicas.
    async fn link(&self) -> Result<(), FixtureError> {
        let Some((primary, replicas)) = self.servers.split_first() else { return Ok(()) };
        for replica in replicas {
            for statement in channel(&self.options, primary.addr()) {
                replica.query(&statement).await?;
            }
        }
        for replica in replicas {
            self.replicating(replica).await?;
        }
        if self.options.semi_sync_acks.is_some() {
            primary.query("SET GLOBAL rpl_semi_sync_source_enabled = ON").await?;
            let clients = "SHOW GLOBAL STATUS WHERE variable_name = 'Rpl_semi_sync_source_clients' AND value = '";
            eventually("all replicas acknowledge", REPLICATION_DEADLINE, async || {
                Ok(!primary.query(&format!("{clients}{}'", replicas.len())).await?.is_empty())
            })
            .await?;
        }
        if self.options.boots_read_only {
            primary.query("SET GLOBAL read_only = OFF").await?;
        }
        Ok(())
    }

    /// Waits until both threads of `replica` run.
    ///
    /// # Errors
    /// When they do not within a minute.
    pub async fn replicating(&self, replica: &Server) -> Result<(), FixtureError> {
        let words: [&str; 3] = match self.options.series {
            Series::Mysql97 => ["SHOW REPLICA STATUS", "Replica_IO_Running", "Replica_SQL_Running"],
            _ => ["SHOW SLAVE STATUS", "Slave_IO_Running", "Slave_SQL_Running"],
        };
        let [statement, receiver, applier] = words;
        eventually(&format!("{} replicates", replica.addr()), REPLICATION_DEADLINE, async || {
            let rows = replica.query(statement).await?;
            let yes = |name| {
                let value = rows.first().and_then(|row| row.get_opt::<String, _>(name));
                value.is_some_and(|value| value.is_ok_and(|text| text == "Yes"))
            };
            Ok(yes(receiver) && yes(applier))
        })
        .await
    }

    /// Waits until `replica` has applied everything that `source` has executed now.
    ///
    /// # Errors
    /// When it has not within a minute.
    pub async fn caught_up(&self, replica: &Server, source: &Server) -> Result<(), FixtureError> {
        let (read, check): (&str, fn(&str) -> String) = match self.options.series {
            Series::MariaDb1011 => ("SELECT @@gtid_binlog_pos", |set| format!("SELECT @@gtid_binlog_pos = '{set}'")),
            _ => ("SELECT @@global.gtid_executed", |set| {
                format!("SELECT GTID_SUBSET('{}', @@global.gtid_executed)", set.replace('\n', ""))
            }),
        };
        let check = check(&source.value(read).await?);
        eventually(&format!("{} has caught up", replica.addr()), REPLICATION_DEADLINE, async || {
            Ok(replica.value(&check).await? == "1")
        })
        .await
    }

    /// One more host on the servers' switch, and our own address there.
    ///
    /// # Errors
    /// When the servers are on the loopback address, or the kernel refuses.
    pub fn add_host(&mut self) -> Result<(Host, Ipv4Addr), FixtureError> {
        let unfit = || FixtureError::Unfit("only servers in a network have a switch".to_owned());
        let network = self.network.as_mut().ok_or_else(unfit)?;
        Ok((network.add_host()?, network.outside()))
    }

    /// One more server on the switch, started and read-only, that follows nobody yet.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn add_server(&mut self) -> Result<&Server, FixtureError> {
        let (host, _) = self.add_host()?;
        let id = u32::try_from(self.servers.len()).unwrap_or(u32::MAX).saturating_add(1);
        let addr = address(&host.address().to_string(), PORT)?;
        let mut server = Server::prepare(self.options.series, id, addr, self.folder.path(), Some(host))?;
        server.add_options(server_options(&self.options));
        if self.options.clocks {
            server.set_clock(Clock::new(self.folder.path(), &format!("clock-{id}"))?);
        }
        server.start()?;
        server.ready().await?;
        self.servers.push(server);
        self.servers.last().ok_or_else(|| FixtureError::Unfit("no server".to_owned()))
    }

    /// Addresses of all servers, the first primary first.
    #[must_use]
    pub fn addresses(&self) -> Vec<ServerAddr> {
        self.servers.iter().map(|server| server.addr().clone()).collect()
    }
}

/// Asks `condition` every 20 ms until it holds.
///
/// # Errors
/// What it answers, or [`FixtureError::Late`] after `bound`.
pub async fn eventually(
    what: &str,
    bound: Duration,
    condition: impl AsyncFn() -> Result<bool, FixtureError>,
) -> Result<(), FixtureError> {
    let started = Instant::now();
    while !condition().await? {
        if started.elapsed() > bound {
            return Err(FixtureError::Late { what: what.to_owned(), seconds: bound.as_secs(), hint: String::new() });
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The statements that make a server a replica of `source` and start it.
#[must_use]
pub fn channel(options: &Options, source: &ServerAddr) -> Vec<String> {
    let mysql97 = options.series == Series::Mysql97;
    let word = if mysql97 { "SOURCE" } else { "MASTER" };
    let mut parts = vec![
        format!("{word}_HOST='{}', {word}_PORT={}", source.host(), source.port()),
        format!("{word}_USER='repl', {word}_PASSWORD='repl'"),
        match options.series {
            Series::MariaDb1011 => "MASTER_USE_GTID=slave_pos".to_owned(),
            _ => format!("{word}_AUTO_POSITION=1"),
        },
    ];
    parts.extend(mysql97.then(|| "GET_SOURCE_PUBLIC_KEY=1".to_owned()));
    parts.extend(options.heartbeat_ms.map(|ms| format!("{word}_HEARTBEAT_PERIOD={}.{:03}", ms / 1000, ms % 1000)));
    parts.extend(options.connect_retry_s.map(|seconds| format!("{word}_CONNECT_RETRY={seconds}")));
    let parts = parts.join(", ");
    if mysql97 {
        vec![format!("CHANGE REPLICATION SOURCE TO {parts}"), "START REPLICA".to_owned()]
    } else {
        vec![format!("CHANGE MASTER TO {parts}"), "START SLAVE".to_owned()]
    }
}

fn server_options(options: &Options) -> Vec<String> {
    let mut more = options.more.clone();
    let mysql97 = options.series == Series::Mysql97;
    let flush = u8::from(options.durable);
    more.push(format!("--sync-binlog={flush}"));
    more.push(format!("--innodb-flush-log-at-trx-commit={}", 2 - flush));
    if options.boots_read_only {
        more.push("--read-only=ON".to_owned());
        more.extend(mysql97.then(|| "--super-read-only=ON".to_owned()));
    }
    let net_timeout = if mysql97 { "replica" } else { "slave" };
    more.extend(options.net_timeout_s.map(|seconds| format!("--{net_timeout}-net-timeout={seconds}")));
    if let Some(acks) = options.semi_sync_acks {
        more.extend(
            [
                "--plugin-load-add=semisync_source.so;semisync_replica.so",
                "--rpl-semi-sync-replica-enabled=ON",
                "--rpl-semi-sync-source-timeout=18446744073709551615",
                "--rpl-semi-sync-source-wait-point=AFTER_SYNC",
            ]
            .map(str::to_owned),
        );
        more.push(format!("--rpl-semi-sync-source-wait-for-replica-count={acks}"));
    }
    more
}

/// A port of 127.0.0.1 that nobody uses. It is below those that the kernel gives to clients (32768 and
/// up), so that nobody takes it while its server is down.
fn free_port() -> Result<ServerAddr, FixtureError> {
    for _ in 0..PORTS {
        let start = std::process::id().wrapping_mul(64);
        let offset = start.wrapping_add(PORTS_USED.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = PORT_FIRST.saturating_add(u16::try_from(offset).unwrap_or_default());
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return address("127.0.0.1", port);
        }
    }
    Err(FixtureError::Unfit("no port is free on 127.0.0.1".to_owned()))
}

fn address(host: &str, port: u16) -> Result<ServerAddr, FixtureError> {
    ServerAddr::new(host, port).map_err(|error| FixtureError::Unfit(error.to_string()))
}
