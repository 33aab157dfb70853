//! Builds clusters as they would be seen: servers with good settings that a test then spoils, looked at
//! again and again through the same folding as real looks.
//!
//! Time stands still until a test advances it; nothing is random.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use crate::core::{
    gtid::GtidSet,
    id::ServerAddr,
    observation::{
        BinlogFormat, Channel, Facts, Failure, FailureKind, GtidMode, Identity, Observation, Receiver, SemiSync,
        SemiSyncSource, Settings,
    },
    policy::{
        Detection, DiscoverFrom, Discovery, Failover, Mode, OldPrimary, Policy, Promotion, RelayLog, Tier, Within,
    },
    snapshot::Snapshot,
    time::Mono,
    version::Version,
};

/// Address of a server by the name a test gives it.
///
/// # Panics
/// When the name is no host name.
#[must_use]
pub fn addr(name: &str) -> ServerAddr {
    ServerAddr::new(name, 3306).expect("test names are host names")
}

/// A policy with every default; heartbeats every 500 ms are assumed by the tier.
#[must_use]
pub fn policy() -> Policy {
    Policy {
        cluster_name: "test".to_owned(),
        servers: BTreeMap::new(),
        discovery: Discovery { follow: true, from: DiscoverFrom::ProcessList, ignore: Vec::new(), port: 3306 },
        promotion: Promotion {
            rules: Vec::new(),
            within: Within::Anywhere,
            max_lag_s: None,
            relay_log: RelayLog::Wait,
        },
        detection: Detection::of(Tier::Standard, None, false),
        failover: Failover {
            mode: Mode::Automatic,
            intermediate: Mode::Automatic,
            stalled: Mode::Automatic,
            read_only: Mode::DetectOnly,
            by_job: false,
            data_loss: None,
            block_ms: 3_600_000,
            priority: 0,
            detach_lost: true,
            old_primary: OldPrimary::Rejoin,
            rebuild: false,
            rebuild_timeout_ms: 3_600_000,
            keep_records: 20,
        },
        semi_sync: None,
        repair_replicas: false,
        paused: false,
        maintenance: std::collections::BTreeSet::new(),
        rebuilding: std::collections::BTreeSet::new(),
    }
}

/// `uuid` of the server with this number.
#[must_use]
pub fn uuid(number: u32) -> String {
    format!("{number:08}-0000-0000-0000-000000000000")
}

/// Transactions `1..=last` of the server with this number.
///
/// # Panics
/// Never: the text is a set.
#[must_use]
pub fn transactions(number: u32, last: u64) -> GtidSet {
    if last == 0 { GtidSet::default() } else { format!("{}:1-{last}", uuid(number)).parse().expect("a set") }
}

/// One server as the next look will show it.
#[derive(Debug, Clone)]
pub struct Server {
    /// What a look shows, when it succeeds; `at` is filled in.
    pub observation: Observation,
    /// How looks fail instead.
    pub failure: Option<FailureKind>,
    /// Looks are made; without, what is known of it grows old.
    pub looked_at: bool,
    /// Its channels show a heartbeat more with every look.
    pub hears: bool,
}

/// A cluster under construction.
#[derive(Debug, Clone)]
pub struct Cluster {
    names: Vec<String>,
    servers: BTreeMap<String, Server>,
    /// What was seen so far.
    pub snapshot: Snapshot,
}

impl Default for Cluster {
    fn default() -> Self {
        // Not zero, so that "before" exists.
        let start = Mono(100_000);
        let snapshot = Snapshot { at: start, watching_since: start, ..Snapshot::default() };
        Self { names: Vec::new(), servers: BTreeMap::new(), snapshot }
    }
}

impl Cluster {
    /// A healthy primary `p` with replicas `r1`, `r2`, ... and a recorded primary.
    #[must_use]
    pub fn primary_and_replicas(count: usize) -> Self {
        let mut cluster = Self::default();
        cluster.add("p");
        for index in 1..=count {
            cluster.add(&format!("r{index}"));
            cluster.follow(&format!("r{index}"), "p");
        }
        cluster.snapshot.primary = Some(addr("p"));
        cluster
    }

    /// Adds a healthy writable server.
    pub fn add(&mut self, name: &str) -> &mut Server {
        self.names.push(name.to_owned());
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let server = Server { observation: observation(name, number), failure: None, looked_at: true, hears: true };
        self.snapshot.servers.insert(addr(name), crate::core::snapshot::ServerState::default());
        self.servers.entry(name.to_owned()).or_insert(server)
    }

    /// Makes a server a healthy read-only replica of another; a second call adds a second channel.
    pub fn follow(&mut self, name: &str, source: &str) -> &mut Channel {
        let number = self.number(source);
        let own = uuid(self.number(name));
        let upstream = self.server(source).observation.executed.clone();
        let server = self.server(name);
        server.observation.settings.read_only = true;
        server.observation.settings.super_read_only = true;
        let executed = &server.observation.executed;
        server.observation.executed = executed.subtract(&executed.of_source(&own)).union(&upstream);
        let channel =
            Channel { received: upstream.clone(), ..channel(server.observation.channels.len(), addr(source), number) };
        server.observation.channels.push(channel);
        server.observation.channels.last_mut().expect("just added")
    }

    /// The server's number: 1 for the first added.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn number(&self, name: &str) -> u32 {
        let index = self.names.iter().position(|known| known == name).unwrap_or_else(|| unknown(name));
        u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// A server, to be changed.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn server(&mut self, name: &str) -> &mut Server {
        self.servers.get_mut(name).unwrap_or_else(|| unknown(name))
    }

    /// Names in the order of addition.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Looks at the server fail from now on.
    pub fn fail(&mut self, name: &str, kind: FailureKind) {
        self.server(name).failure = Some(kind);
    }

    /// The server's source is gone: it notices by itself and cannot connect.
    pub fn lose_source(&mut self, name: &str) {
        for channel in &mut self.server(name).observation.channels {
            channel.receiver = Receiver::Connecting;
            channel.receiver_error = Some(crate::core::observation::ThreadError {
                code: 2003,
                message: "Error connecting to source. This was attempt 1".to_owned(),
            });
        }
    }

    /// Semi-sync on everywhere: the primary `p` waits for `wait_count` of its replicas.
    pub fn semi_sync(&mut self, wait_count: u32) {
        let replicas: Vec<_> = self.names.iter().filter(|name| *name != "p").cloned().collect();
        let clients = u32::try_from(replicas.len()).unwrap_or(u32::MAX);
        for name in replicas {
            let semi_sync = &mut self.server(&name).observation.semi_sync;
            semi_sync.replica_enabled = Some(true);
            semi_sync.replica_active = true;
        }
        self.server("p").observation.semi_sync.source = Some(SemiSyncSource {
            enabled: true,
            active: true,
            clients,
            replicas: None,
            wait_count,
            after_sync: true,
            timeout_ms: SemiSyncSource::TIMEOUT_LOSSLESS_MS,
            wait_no_replica: true,
            waiting: 0,
        });
    }

    /// Lets time pass without looks.
    pub fn advance(&mut self, ms: u64) {
        self.snapshot.at = self.snapshot.at.plus_ms(ms);
    }

    /// One look at every server, 10 ms apart in the order of addition, the primary `p` last.
    pub fn look(&mut self) -> Snapshot {
        let mut names = self.names.clone();
        names.sort_by_key(|name| name == "p");
        for name in names {
            self.advance(10);
            self.look_at(&name);
        }
        self.snapshot.clone()
    }

    /// One look at one server now.
    pub fn look_at(&mut self, name: &str) {
        let at = self.snapshot.at;
        let server = self.server(name);
        if !server.looked_at {
            return;
        }
        if server.hears {
            for channel in server.observation.channels.iter_mut().filter(|one| one.receiver == Receiver::Running) {
                channel.heartbeats += 1;
            }
        }
        let look = match server.failure {
            Some(kind) => Err(Failure { at, kind, message: format!("{kind:?}").to_lowercase() }),
            None => Ok(Box::new(Observation { at, ..server.observation.clone() })),
        };
        self.snapshot.apply(&addr(name), look);
    }
}

fn unknown(name: &str) -> ! {
    #[allow(clippy::panic)]
    {
        panic!("no server named {name:?}")
    }
}

fn observation(name: &str, number: u32) -> Observation {
    Observation {
        at: Mono(0),
        took_ms: 1,
        identity: Identity {
            uuid: uuid(number),
            server_id: number,
            version: Version::mysql(9, 7, 4),
            hostname: name.to_owned(),
            reported: None,
        },
        settings: Settings {
            read_only: false,
            super_read_only: false,
            offline_mode: false,
            log_bin: true,
            log_replica_updates: true,
            binlog_format: BinlogFormat::Row,
            gtid_mode: GtidMode::On,
            relay_log_recovery: false,
            net_timeout_s: 4,
            durable_commits: true,
        },
        executed: transactions(number, 100),
        purged: GtidSet::default(),
        written: GtidSet::default(),
        channels: Vec::new(),
        downstream: Vec::new(),
        semi_sync: SemiSync::default(),
        facts: Facts::default(),
        commits: None,
        refuses_new: None,
    }
}

fn channel(index: usize, source: ServerAddr, source_number: u32) -> Channel {
    Channel {
        name: if index == 0 { String::new() } else { format!("channel{index}") },
        source: Some(source),
        source_uuid: Some(uuid(source_number)),
        receiver: Receiver::Running,
        applier_running: true,
        receiver_error: None,
        applier_error: None,
        auto_position: true,
        received: transactions(source_number, 100),
        heartbeats: 0,
        heartbeat_interval_ms: Some(500),
        read_position: ("binlog.000001".to_owned(), 4),
        applied_position: ("binlog.000001".to_owned(), 4),
        seconds_behind: Some(0),
        delay_s: 0,
        connect_retry_s: 1,
        retry_count: 86_400,
        tls: true,
        filtered: false,
    }
}
