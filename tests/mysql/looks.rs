//! What a watch reports besides plain looks: facts, refused connections, what an account may not see,
//! and texts that are up to no good.

use std::{path::Path, sync::Arc, time::Duration};

use baton::{
    core::{
        id::ServerAddr,
        observation::{Channel, FailureKind, Look, Observation},
        step::{Action, ActionError},
    },
    mysql::{
        execute::MysqlServers,
        options::{Options as Reach, Pem, Queries, Tls, TlsMode},
        watch::{Pace, Watch},
    },
    testing::{
        folder::Folder,
        process::run,
        series::Series,
        topology::{Options, Topology, eventually},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::setup::{Acts, account, clock, options};

const HOSTILE: &str = "a'b\"c\\\n$(id)`;--<b>";

/// A running watch and what it says.
pub(crate) struct Watched {
    reach: watch::Sender<Arc<Reach>>,
    pace: watch::Sender<Pace>,
    looks: mpsc::Receiver<(ServerAddr, Look)>,
    task: JoinHandle<()>,
}

impl Watched {
    pub(crate) fn start(addr: &ServerAddr, reach: Reach, pace: Pace) -> Self {
        let (reach, options) = watch::channel(Arc::new(reach));
        let (pace, paces) = watch::channel(pace);
        let (sender, looks) = mpsc::channel(64);
        let servers = Some(Arc::new(MysqlServers::new(options.clone(), clock())));
        let watch = Watch { addr: addr.clone(), options, pace: paces, looks: sender, servers, now: clock() };
        Self { reach, pace, looks, task: tokio::spawn(watch.run()) }
    }

    pub(crate) async fn next(&mut self) -> Look {
        timeout(Duration::from_secs(10), self.looks.recv()).await.unwrap().unwrap().1
    }

    /// The first look that satisfies `wanted`, with how long it took and the longest gap between looks.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Look) -> bool) -> (Look, Duration, Duration) {
        let started = Instant::now();
        let (mut last, mut gap) = (started, Duration::ZERO);
        loop {
            let look = self.next().await;
            gap = gap.max(last.elapsed());
            last = Instant::now();
            if wanted(&look) {
                return (look, started.elapsed(), gap);
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{look:?}");
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn pace(interval_ms: u64) -> Pace {
    Pace { interval_ms, answer_ms: 1000, hurry_ms: None, held: true }
}

fn query(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The user's queries give facts, never changes, and a slow one holds up nobody.
async fn facts(series: Series) {
    let topology = Topology::start(&Options::new(series, 0)).await.unwrap();
    let server = &topology.servers[0];
    server.query("CREATE TABLE app.meta (cluster VARCHAR(999), behind DOUBLE)").await.unwrap();
    let text = HOSTILE.replace('\\', "\\\\").replace('\'', "''");
    server
        .query(&format!("INSERT INTO app.meta VALUES (CONCAT('{text}', REPEAT('x', 500)), 1.5), ('no', 2)"))
        .await
        .unwrap();
    let queries = Queries {
        cluster_name: query("SELECT cluster, 1 FROM app.meta ORDER BY behind"),
        lag: query("SELECT MIN(behind) FROM app.meta"),
        semi_sync_priority: query("SELECT 3"),
        zone: query("SET GLOBAL max_connections = 77"),
        region: query("SELECT 'r'; DROP TABLE app.meta"),
        environment: query("SELECT nothing FROM app.meta"),
        domain: query("SELECT SLEEP(20)"),
        server_alias: query("SELECT NULL"),
        promotion_rule: query("SELECT 'prefer' FROM app.meta WHERE 1 = 0"),
    };
    let mut watched = Watched::start(server.addr(), Reach { queries, ..options() }, pace(100));
    let known = |look: &Look| look.as_ref().is_ok_and(|seen| seen.facts.cluster_name.is_some());
    let (look, _, gap) = watched.until(known).await;
    assert!(gap < Duration::from_secs(2), "{series:?}: looks went on: {gap:?}");
    let facts = look.unwrap().facts;
    let name = facts.cluster_name.unwrap();
    assert!(name.starts_with(HOSTILE) && name.chars().count() == 255, "{series:?}: {name:?}");
    assert_eq!((facts.lag_s, facts.semi_sync_priority), (Some(1.5), Some(3)), "{series:?}");
    for none in [facts.zone, facts.region, facts.environment, facts.domain, facts.server_alias, facts.promotion_rule] {
        assert_eq!(none, None, "{series:?}");
    }
    assert_eq!(server.value("SELECT @@global.max_connections = 77").await.unwrap(), "0", "{series:?}");
    assert_eq!(server.value("SELECT COUNT(*) FROM app.meta").await.unwrap(), "2", "{series:?}");
    sleep(Duration::from_millis(500)).await;
    let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'";
    assert_eq!(server.value(running).await.unwrap(), "0", "{series:?}: the slow query was ended");
    assert!(watched.next().await.is_ok());
}

#[tokio::test]
async fn facts_of_mysql_56() {
    facts(Series::Mysql56).await;
}

#[tokio::test]
async fn facts_of_mysql_97() {
    facts(Series::Mysql97).await;
}

#[tokio::test]
async fn facts_of_mariadb_1011() {
    facts(Series::MariaDb1011).await;
}

/// A full server that serves the standing connection is alive, and its refusals are told apart.
#[tokio::test]
async fn a_full_server_is_alive() {
    let topology = Topology::start(&Options::new(Series::Mysql97, 0)).await.unwrap();
    let server = &topology.servers[0];
    server.query("CREATE USER 'plain'@'%' IDENTIFIED BY 'plain'").await.unwrap();
    server.query("GRANT REPLICATION CLIENT, PROCESS ON *.* TO 'plain'@'%'").await.unwrap();
    let mut plain = Watched::start(server.addr(), Reach { operator: account("plain"), ..options() }, pace(100));
    assert_eq!(plain.next().await.unwrap().refuses_new, None);
    server.query("SET GLOBAL max_connections = 1").await.unwrap();
    let refuses = |look: &Look| look.as_ref().is_ok_and(|seen| seen.refuses_new.is_some());
    let (seen, ..) = plain.until(refuses).await;
    assert_eq!(seen.unwrap().refuses_new.unwrap().kind, FailureKind::Saturated, "the standing connection is served");
    let new = Watched::start(server.addr(), Reach { operator: account("plain"), ..options() }, pace(100)).next().await;
    assert_eq!(new.unwrap_err().kind, FailureKind::Saturated);
    // The place that is kept for administrators is free only between two attempts of the watcher.
    let wider = async || Ok(server.query("SET GLOBAL max_connections = 50").await.is_ok());
    eventually("an administrator gets in", Duration::from_secs(10), wider).await.unwrap();
    let (served, ..) = plain.until(|look| look.as_ref().is_ok_and(|seen| seen.refuses_new.is_none())).await;
    assert!(served.is_ok());
}

/// An account that may not see a part gets the rest of the look.
async fn few_privileges(series: Series) {
    let topology = Topology::start(&Options { heartbeat_ms: Some(300), ..Options::new(series, 1) }).await.unwrap();
    topology.servers[0].query("CREATE USER 'few'@'%' IDENTIFIED BY 'few'").await.unwrap();
    topology.servers[0].query("GRANT REPLICATION CLIENT ON *.* TO 'few'@'%'").await.unwrap();
    if series == Series::MariaDb1011 {
        topology.servers[0].query("GRANT SLAVE MONITOR ON *.* TO 'few'@'%'").await.unwrap();
    }
    topology.caught_up(&topology.servers[1], &topology.servers[0]).await.unwrap();
    let acts = Acts::new(Reach { operator: account("few"), ..options() });
    let seen = acts.act(topology.servers[1].addr(), Action::Look).await;
    assert_eq!(seen.channels.len(), 1, "{series:?}");
    assert!(!seen.executed.is_empty(), "{series:?}");
    let refused = acts.try_act(topology.servers[1].addr(), Action::SetReadOnly).await.unwrap_err().to_string();
    assert!(refused.contains("set read only: 1227"), "{series:?}: {refused}");
}

#[tokio::test]
async fn few_privileges_on_mysql_56() {
    few_privileges(Series::Mysql56).await;
}

#[tokio::test]
async fn few_privileges_on_mysql_97() {
    few_privileges(Series::Mysql97).await;
}

#[tokio::test]
async fn few_privileges_on_mariadb_1011() {
    few_privileges(Series::MariaDb1011).await;
}

/// Every field that a server can fill is filled.
async fn complete(series: Series) {
    let more = [format!("--report-host={HOSTILE}").replace('\n', " ")].to_vec();
    let topology =
        Topology::start(&Options { more, heartbeat_ms: Some(300), ..Options::new(series, 1) }).await.unwrap();
    let acts = Acts::new(options());
    // The applier has just been started and reads up to where the receiver is.
    let even = |channel: &Channel| channel.read_position.1 > 0 && channel.read_position == channel.applied_position;
    let level = async || Ok(acts.act(topology.servers[1].addr(), Action::Look).await.channels.iter().all(even));
    eventually("the applier is where the receiver is", Duration::from_secs(10), level).await.unwrap();
    let seen: Observation = *acts.act(topology.servers[1].addr(), Action::Look).await;
    assert_eq!(seen.identity.reported, None, "{series:?}: no address, so none");
    assert_eq!(seen.identity.server_id, 2);
    assert!(!seen.identity.hostname.is_empty() && !seen.identity.uuid.is_empty());
    let settings = &seen.settings;
    assert!(settings.read_only && settings.log_bin && settings.log_replica_updates && settings.durable_commits);
    assert_eq!(settings.super_read_only, series == Series::Mysql97);
    assert!(settings.net_timeout_s > 0 && !settings.relay_log_recovery);
    let channel = &seen.channels[0];
    assert_eq!(channel.source.as_ref(), Some(topology.servers[0].addr()));
    assert_eq!((channel.delay_s, channel.filtered, channel.seconds_behind), (0, false, Some(0)), "{series:?}");
    assert!(channel.connect_retry_s > 0 && channel.retry_count > 0);
    assert_eq!(channel.heartbeat_interval_ms, Some(300));
    let mut watched = Watched::start(topology.servers[0].addr(), options(), pace(100));
    let look = watched.next().await.unwrap();
    let hosts: Vec<_> = look.downstream.iter().map(|replica| (replica.host.as_str(), replica.server_id)).collect();
    assert!(hosts.contains(&("127.0.0.1", None)), "{series:?}: {hosts:?}");
    assert!(hosts.iter().any(|(host, id)| host.starts_with("a'b") && *id == Some(2)), "{series:?}: {hosts:?}");
}

#[tokio::test]
async fn looks_are_complete_on_mysql_56() {
    complete(Series::Mysql56).await;
}

#[tokio::test]
async fn looks_are_complete_on_mysql_97() {
    complete(Series::Mysql97).await;
}

#[tokio::test]
async fn looks_are_complete_on_mariadb_1011() {
    complete(Series::MariaDb1011).await;
}

/// A standing connection notices a crash while it waits, and urgency ends the wait.
#[tokio::test]
async fn a_long_wait_is_no_blind_one() {
    let mut topology = Topology::start(&Options::new(Series::Mysql97, 0)).await.unwrap();
    let mut watched = Watched::start(topology.servers[0].addr(), options(), pace(5000));
    assert!(watched.next().await.is_ok());
    sleep(Duration::from_millis(300)).await;
    watched.pace.send_modify(|pace| pace.hurry_ms = Some(20));
    let started = Instant::now();
    for _ in 0..5 {
        assert!(watched.next().await.is_ok());
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    watched.pace.send_modify(|pace| pace.hurry_ms = None);
    while timeout(Duration::from_secs(1), watched.looks.recv()).await.is_ok() {}
    topology.servers[0].crash().unwrap();
    let (_, took, _) = watched.until(Result::is_err).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (look, ..) =
        watched.until(|look| look.as_ref().is_err_and(|failure| failure.message == "connection refused")).await;
    assert_eq!(look.unwrap_err().kind, FailureKind::Refused);
    topology.servers[0].restart().await.unwrap();
    let (_, took, _) = watched.until(Result::is_ok).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// A changed Secret is used at once.
#[tokio::test]
async fn a_changed_secret_is_used_at_once() {
    let topology = Topology::start(&Options::new(Series::Mysql97, 0)).await.unwrap();
    let wrong = Reach { operator: account("nobody"), ..options() };
    let mut watched = Watched::start(topology.servers[0].addr(), wrong.clone(), pace(100));
    assert_eq!(watched.next().await.unwrap_err().kind, FailureKind::Credentials);
    watched.reach.send_replace(Arc::new(options()));
    let (_, took, _) = watched.until(Result::is_ok).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    watched.reach.send_replace(Arc::new(wrong));
    let (look, ..) = watched.until(Result::is_err).await;
    assert_eq!(look.unwrap_err().kind, FailureKind::Credentials);
}

fn tls(mode: TlsMode, ca: Option<Pem>, client: Option<(Pem, Pem)>) -> Tls {
    Tls::new(mode, ca, client, std::collections::BTreeMap::new())
}

/// An authority, and a certificate by it for 127.0.0.1; all PEM files in `folder`.
fn certificates(folder: &Path) {
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let openssl = |args: &str| {
        let args: Vec<_> = args.split(' ').map(|arg| arg.strip_prefix('@').map_or(arg.to_owned(), file)).collect();
        run("openssl", &args.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    };
    for name in ["ca", "other-ca"] {
        openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout @{name}-key.pem -out @{name}.pem"
        ));
    }
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
    openssl("req -newkey rsa:2048 -nodes -subj /CN=server -keyout @key.pem -out @request.pem");
    openssl(
        "x509 -req -in @request.pem -CA @ca.pem -CAkey @ca-key.pem -set_serial 2 -days 2 -extfile @names -out @cert.pem",
    );
}

/// Every mode of TLS does what it says.
#[tokio::test]
async fn tls_is_what_was_asked_for() {
    let folder = Folder::new().unwrap();
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name);
    let pem = |name: &str| Pem(std::fs::read(file(name)).unwrap());
    let option = |name: &str, path: &str| format!("--ssl-{name}={}", file(path).to_string_lossy());
    let more = vec![option("ca", "ca.pem"), option("cert", "cert.pem"), option("key", "key.pem")];
    let topology = Topology::start(&Options { more, ..Options::new(Series::Mysql97, 0) }).await.unwrap();
    let server = &topology.servers[0];
    let reach = |mode: TlsMode, ca: Option<&str>| Reach { tls: tls(mode, ca.map(pem), None), ..options() };
    let sessions = "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_USER = 'baton' AND \
                    CONNECTION_TYPE = 'SSL/TLS'";
    for (mode, ca, encrypted) in [
        (TlsMode::Disabled, None, "0"),
        (TlsMode::Preferred, None, "1"),
        (TlsMode::Required, None, "1"),
        (TlsMode::VerifyCa, Some("ca.pem"), "1"),
        (TlsMode::VerifyIdentity, Some("ca.pem"), "1"),
    ] {
        let acts = Acts::new(reach(mode, ca));
        acts.act(server.addr(), Action::Look).await;
        assert_eq!(server.value(sessions).await.unwrap(), encrypted, "{mode:?}");
        drop(acts);
        while server.value(sessions).await.unwrap() != "0" {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let kind = async |reach: Reach, addr: &ServerAddr| {
        let failed = Acts::new(reach).try_act(addr, Action::Look).await;
        let Err(ActionError::Contact { failure, .. }) = failed else { panic!("{failed:?}") };
        failure.kind
    };
    let localhost = ServerAddr::new("localhost", server.addr().port()).unwrap();
    assert_eq!(kind(reach(TlsMode::VerifyCa, Some("other-ca.pem")), server.addr()).await, FailureKind::Tls);
    assert_eq!(kind(reach(TlsMode::VerifyIdentity, Some("ca.pem")), &localhost).await, FailureKind::Tls);

    server.query("CREATE USER 'certified'@'%' IDENTIFIED BY 'certified' REQUIRE X509").await.unwrap();
    server.query("GRANT REPLICATION CLIENT ON *.* TO 'certified'@'%'").await.unwrap();
    let without = Reach { operator: account("certified"), ..reach(TlsMode::Required, None) };
    assert_eq!(kind(without.clone(), server.addr()).await, FailureKind::Credentials);
    let client = Some((pem("cert.pem"), pem("key.pem")));
    let with = Reach { tls: tls(TlsMode::Required, None, client), ..without };
    Acts::new(with).act(server.addr(), Action::Look).await;

    let old = Topology::start(&Options::new(Series::Mysql56, 0)).await.unwrap();
    assert_eq!(kind(reach(TlsMode::Required, None), old.servers[0].addr()).await, FailureKind::Tls);
    Acts::new(reach(TlsMode::Preferred, None)).act(old.servers[0].addr(), Action::Look).await;
}

/// TLS of replication is stated for a new channel as its owner wants it, and survives every move.
#[tokio::test]
async fn replication_keeps_its_tls() {
    let folder = Folder::new().unwrap();
    certificates(folder.path());
    let option = |name: &str, path: &str| format!("--ssl-{name}={}", folder.path().join(path).to_string_lossy());
    let more = vec![option("ca", "ca.pem"), option("cert", "cert.pem"), option("key", "key.pem")];
    let topology = Topology::start(&Options { more, ..Options::new(Series::Mysql97, 2) }).await.unwrap();
    let addrs = topology.addresses();
    let ca = Some(Pem(std::fs::read(folder.path().join("ca.pem")).unwrap()));
    let verify = Reach { tls: tls(TlsMode::VerifyIdentity, ca, None), ..options() };
    let acts = Acts::new(verify);
    acts.act(&addrs[1], Action::ForgetSource).await;
    let repoint = |source: &ServerAddr| Action::Repoint { source: source.clone(), semi_sync: None };
    let status = "SELECT CONCAT_WS(' ', SSL_ALLOWED, SSL_VERIFY_SERVER_CERTIFICATE, SSL_CA_FILE) \
                  FROM performance_schema.replication_connection_configuration";
    for (mover, source) in [(&acts, &addrs[0]), (&Acts::new(options()), &addrs[2])] {
        mover.act(&addrs[1], repoint(source)).await;
        topology.replicating(&topology.servers[1]).await.unwrap();
        let found = topology.servers[1].value(status).await.unwrap();
        assert!(found.starts_with("YES YES /") && found.ends_with("/ca.pem"), "{found}");
    }
    assert!(acts.act(&addrs[1], Action::Look).await.channels[0].tls);
}

/// The primary names the replicas that acknowledge, so that a connection that lingers counts for nobody.
#[tokio::test]
async fn who_acknowledges_is_known_by_name() {
    let options = Options { semi_sync_acks: Some(1), ..Options::new(Series::Mysql97, 2) };
    let topology = Topology::start(&options).await.unwrap();
    let acts = Acts::new(super::setup::options());
    let addrs = topology.addresses();
    let source = acts.act(&addrs[0], Action::Look).await.semi_sync.source.unwrap();
    let mut uuids = std::collections::BTreeSet::new();
    for replica in &addrs[1..] {
        uuids.insert(acts.act(replica, Action::Look).await.identity.uuid);
    }
    assert_eq!((source.clients, source.replicas), (2, Some(uuids)));
}
