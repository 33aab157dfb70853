//! An old primary that is back with rows that nobody was told are committed: saved, overwritten with the data of a
//! replica, and a replica itself then; whoever leads, and whatever dies meanwhile.

use std::{collections::BTreeMap, path::Path, time::Duration};

use baton::testing::{
    folder::Folder,
    kubelet::Kubelet,
    process::Signal,
    series::Series,
    servers::Account,
    topology::{Options, Topology, eventually},
};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

use super::{
    quarantine::{again, claim, entry, quarantined, replaced_and_back},
    scene::{API_SERVER, Scene},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Options with which a copy takes some seconds.
const SLOW: [&str; 4] = [
    "--skip-replica-start=ON",
    "--clone-max-data-bandwidth=8",
    "--clone-autotune-concurrency=OFF",
    "--clone-max-concurrency=1",
];

async fn servers(semi_sync_acks: Option<u32>, more: &[&str]) -> Topology {
    let more = more.iter().chain(&["--plugin-load-add=mysql_clone.so"]).map(|option| (*option).to_owned()).collect();
    let options = Options {
        durable: false,
        semi_sync_acks,
        more,
        heartbeat_ms: Some(500),
        connect_retry_s: Some(1),
        ..Options::new(Series::Mysql97, 2)
    };
    Topology::start(&options).await.unwrap()
}

fn wish() -> Value {
    let export = json!({ "volumeClaimName": "saved" });
    json!({ "discovery": { "follow": false }, "failover": { "export": export, "rebuild": "Clone" } })
}

/// The primary dies with a row that no replica has received, whose writer waits for one, and comes back.
async fn left_behind(scene: &Scene, topology: &mut Topology) -> String {
    let primary = &topology.servers[0];
    primary.query("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
    primary.query("INSERT INTO app.t VALUES (1)").await.unwrap();
    for replica in &topology.servers[1..] {
        topology.caught_up(replica, primary).await.unwrap();
    }
    // Empty servers may have lost what they acknowledged, until they are seen to have all that the primary has.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ready = async || {
        let conditions = scene.cluster("shop").await.data["status"]["conditions"].clone();
        let all = conditions.as_array().cloned().unwrap_or_default();
        all.iter().any(|condition| condition["type"] == "FailoverReady" && condition["status"] == "True")
    };
    scene.until("ready to fail over", ready).await;
    for replica in &topology.servers[1..] {
        replica.query("STOP REPLICA IO_THREAD").await.unwrap();
    }
    let mut writer = primary.connect(Account::Baton).await.unwrap();
    let told = tokio::spawn(async move { writer.query_drop("INSERT INTO app.t VALUES (100)").await });
    let written = async || {
        let waits = "SELECT COUNT(*) FROM performance_schema.processlist WHERE STATE LIKE 'Waiting for semi-sync%'";
        Ok(topology.servers[0].value(waits).await? == "1")
    };
    let waiting = eventually("the row waits", Duration::from_secs(10), written).await;
    topology.servers[0].crash().unwrap();
    for replica in &topology.servers[1..] {
        replica.query("START REPLICA IO_THREAD").await.unwrap();
    }
    waiting.unwrap();
    assert!(told.await.unwrap().is_err(), "nobody was told that it is committed");
    let old = replaced_and_back(scene, topology).await;
    let row = topology.servers[0].value("SELECT COUNT(*) FROM app.t WHERE id = 100").await.unwrap();
    assert_eq!(row, "1", "it is there after the crash");
    old
}

async fn new_primary(scene: &Scene, topology: &Topology) -> usize {
    let primary = scene.cluster("shop").await.data["status"]["primary"].as_str().unwrap().to_owned();
    topology.servers.iter().position(|server| server.addr().to_string() == primary).unwrap()
}

/// Plays the supervisor of the old primary's process until `done` holds; whatever was seen of its entry meanwhile.
async fn supervised(
    scene: &Scene,
    topology: &mut Topology,
    old: &str,
    done: impl AsyncFn(&Scene, &Topology) -> bool,
) -> Vec<Value> {
    let (began, mut seen) = (std::time::Instant::now(), Vec::new());
    while !done(scene, topology).await {
        assert!(began.elapsed() < PATIENCE, "not done: {seen:#?}\n{}", scene.log_tail());
        if topology.servers[0].has_ended() {
            topology.servers[0].restart().await.unwrap();
        }
        let found =
            quarantined(&scene.cluster("shop").await, old).map_or(Value::Null, |found| found["rebuild"].clone());
        if seen.last() != Some(&found) {
            seen.push(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    seen
}

/// The old primary is as every replica is.
async fn rejoined(scene: &Scene, topology: &Topology) -> bool {
    let cluster = scene.cluster("shop").await;
    let old = topology.servers[0].addr().to_string();
    let primary = cluster.data["status"]["primary"].clone();
    let servers = cluster.data["status"]["servers"].as_array().cloned().unwrap_or_default();
    let found = servers.iter().find(|server| server["address"] == old.as_str());
    quarantined(&cluster, &old).is_none()
        && found.is_some_and(|server| server["source"] == primary && server["role"] == "Replica")
}

async fn converged(scene: &Scene, topology: &Topology) {
    let primary = new_primary(scene, topology).await;
    topology.servers[primary].query("INSERT INTO app.t VALUES (3)").await.unwrap();
    for server in topology.servers.iter().filter(|server| server.addr() != topology.servers[primary].addr()) {
        topology.caught_up(server, &topology.servers[primary]).await.unwrap();
        assert_eq!(server.value("SELECT GROUP_CONCAT(id) FROM app.t").await.unwrap(), "1,2,3");
        assert_eq!(server.value("SELECT @@super_read_only + 2 * @@offline_mode").await.unwrap(), "1");
    }
}

/// The old primary is being overwritten.
async fn copying(_: &Scene, topology: &Topology) -> bool {
    let state = "SELECT STATE FROM performance_schema.clone_progress WHERE STAGE = 'FILE COPY'";
    topology.servers[0].value(state).await.is_ok_and(|state| state == "In Progress")
}

/// How often data was discarded there.
fn discarded(topology: &Topology) -> usize {
    let log = std::fs::read_to_string(topology.servers[0].log()).unwrap();
    log.matches("Clone removing all user data for provisioning: Started").count()
}

async fn stage(name: &str, more: &[&str]) -> (Topology, Scene, Folder, Folder, Kubelet) {
    let topology = servers(Some(1), more).await;
    let scene = Scene::with(name, &["--job-image", "localhost/baton:test"]).await;
    claim(&scene, "saved").await;
    let (volume, logs) = (Folder::new().unwrap(), Folder::new().unwrap());
    let claims = BTreeMap::from([("saved".to_owned(), volume.path().to_owned())]);
    let program = Path::new(env!("CARGO_BIN_EXE_baton"));
    let runner = Kubelet::start(scene.kubernetes.client(), scene.namespace(), program, claims, logs.path());
    scene.healthy("shop", &topology, &wish()).await;
    (topology, scene, volume, logs, runner)
}

#[tokio::test]
async fn an_old_primary_is_overwritten_and_becomes_a_replica() {
    let _calm = API_SERVER.read().await;
    let (mut topology, scene, volume, _logs, _runner) = stage("rebuild", &["--skip-replica-start=ON"]).await;
    let old = left_behind(&scene, &mut topology).await;
    let primary = new_primary(&scene, &topology).await;
    topology.servers[primary].query("INSERT INTO app.t VALUES (2)").await.unwrap();
    let began = std::time::Instant::now();
    let seen = supervised(&scene, &mut topology, &old, rejoined).await;
    println!("a replica again {} ms after its return", began.elapsed().as_millis());
    let running: Vec<_> = seen.iter().filter(|rebuild| rebuild["state"] == "Running").collect();
    assert!(!running.is_empty() && seen.iter().all(|rebuild| rebuild["state"] != "Failed"), "{seen:#?}");
    let donor = topology.servers[3 - primary].addr().to_string();
    assert!(
        running.iter().all(|rebuild| rebuild["donor"] == donor.as_str() && rebuild["began"] != Value::Null),
        "{seen:#?}"
    );
    converged(&scene, &topology).await;
    assert_eq!(discarded(&topology), 1);
    let saved: Vec<_> = std::fs::read_dir(volume.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(saved.len(), 2, "a binary log and its manifest: {saved:?}");
    assert!(!scene.log().contains("'baton'@"), "no statement with a password is logged");
}

#[tokio::test]
async fn a_leader_that_dies_leaves_a_copy_that_the_next_one_follows() {
    let _calm = API_SERVER.read().await;
    let (mut topology, mut scene, _volume, _logs, _runner) = stage("rebuild-killed", &SLOW).await;
    let old = left_behind(&scene, &mut topology).await;
    let primary = new_primary(&scene, &topology).await;
    topology.servers[primary].query("INSERT INTO app.t VALUES (2)").await.unwrap();
    supervised(&scene, &mut topology, &old, copying).await;
    let secret = topology.servers[0]
        .value("SELECT COUNT(*) FROM performance_schema.processlist WHERE INFO LIKE '%IDENTIFIED BY ''baton''%'")
        .await
        .unwrap();
    assert_eq!(secret, "0", "the server shows no password");
    // The server goes on without us.
    scene.operator.signal(Signal::Kill).unwrap();
    again(&mut scene).await;
    let seen = supervised(&scene, &mut topology, &old, rejoined).await;
    assert!(seen.iter().all(|rebuild| rebuild["state"] != "Failed"), "{seen:#?}");
    assert_eq!(discarded(&topology), 1, "never twice");
    converged(&scene, &topology).await;
}

/// Its process dies in the middle: it is empty then and seems to have nothing of its own. It is left alone until a person
/// has rebuilt it by hand.
#[tokio::test]
async fn a_copy_that_is_broken_off_is_left_to_a_person() {
    let _calm = API_SERVER.read().await;
    let (mut topology, scene, _volume, _logs, _runner) = stage("rebuild-broken", &SLOW).await;
    let old = left_behind(&scene, &mut topology).await;
    let primary = new_primary(&scene, &topology).await;
    topology.servers[primary].query("INSERT INTO app.t VALUES (2)").await.unwrap();
    supervised(&scene, &mut topology, &old, copying).await;
    topology.servers[0].crash().unwrap();
    let failed = async |scene: &Scene, _: &Topology| {
        let found = quarantined(&scene.cluster("shop").await, &old);
        found.is_some_and(|found| found["rebuild"]["state"] == "Failed" && found["rebuild"]["began"] != Value::Null)
    };
    supervised(&scene, &mut topology, &old, failed).await;
    assert_eq!(topology.servers[0].value("SELECT @@gtid_executed").await.unwrap(), "", "its data is gone");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(failed(&scene, &topology).await, "{}", scene.log_tail());
    let channels = "SELECT COUNT(*) FROM performance_schema.replication_connection_configuration";
    assert_eq!(topology.servers[0].value(channels).await.unwrap(), "0", "nobody made it a replica");
    assert_eq!(discarded(&topology), 1);

    // By the instructions, with the other server as the donor.
    let donor = topology.servers[3 - primary].addr().clone();
    let statements = [
        "SET GLOBAL offline_mode = ON; SET GLOBAL read_only = ON; SET GLOBAL super_read_only = OFF".to_owned(),
        format!("SET GLOBAL clone_valid_donor_list = '{donor}'; SET GLOBAL clone_max_data_bandwidth = 0"),
        format!("CLONE INSTANCE FROM 'baton'@'{}':{} IDENTIFIED BY 'baton'", donor.host(), donor.port()),
    ];
    let mut person = topology.servers[0].connect(Account::Baton).await.unwrap();
    for statement in &statements {
        // The last one ends with the server.
        let _restarts = person.query_drop(statement).await;
    }
    supervised(&scene, &mut topology, &old, rejoined).await;
    converged(&scene, &topology).await;
}

/// A person puts another server into its place in the middle of it.
#[tokio::test]
async fn another_server_at_its_address_is_left_alone() {
    let _calm = API_SERVER.read().await;
    let (mut topology, scene, _volume, _logs, _runner) = stage("rebuild-strange", &SLOW).await;
    let old = left_behind(&scene, &mut topology).await;
    supervised(&scene, &mut topology, &old, copying).await;
    let folder = topology.servers[0].value("SELECT @@datadir").await.unwrap();
    topology.servers[0].crash().unwrap();
    std::fs::remove_file(Path::new(&folder).join("auto.cnf")).unwrap();
    let strange = async |scene: &Scene, _: &Topology| {
        let found = quarantined(&scene.cluster("shop").await, &old).unwrap_or_default();
        let message = found["rebuild"]["message"].as_str().unwrap_or_default();
        found["rebuild"]["state"] == "Failed" && message == "another server has its address by now"
    };
    supervised(&scene, &mut topology, &old, strange).await;
    let its_own = "SET GLOBAL super_read_only = OFF; CREATE DATABASE other; SET GLOBAL super_read_only = ON";
    topology.servers[0].query(its_own).await.unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(strange(&scene, &topology).await, "{}", scene.log_tail());
    assert_eq!(topology.servers[0].value("SHOW DATABASES LIKE 'other'").await.unwrap(), "other");
    assert_eq!(topology.servers[0].value("SELECT @@super_read_only + 2 * @@offline_mode").await.unwrap(), "1");

    // The owner wishes for it no longer: nothing is said about it any more.
    let never = json!({ "discovery": { "follow": false }, "failover": { "export": { "volumeClaimName": "saved" } } });
    scene.kubernetes.apply_cluster("shop", &topology.addresses(), "accounts", &never).await.unwrap();
    let ended = async |scene: &Scene, _: &Topology| {
        quarantined(&scene.cluster("shop").await, &old).unwrap_or_default()["rebuild"] == Value::Null
    };
    supervised(&scene, &mut topology, &old, ended).await;
    assert_eq!(discarded(&topology), 1);
}

/// Its commits waited for nobody: whoever wrote them was told.
#[tokio::test]
async fn what_may_have_been_acknowledged_is_left_to_a_person() {
    let _calm = API_SERVER.read().await;
    let mut topology = servers(None, &[]).await;
    let scene = Scene::with("rebuild-possible", &["--job-image", "localhost/baton:test"]).await;
    claim(&scene, "saved").await;
    scene.healthy("shop", &topology, &wish()).await;
    let old = super::quarantine::left_behind(&scene, &mut topology, 3).await;
    let found = entry(&scene, &old, "told", |found| found["rebuild"]["message"] != Value::Null).await;
    assert_eq!((&found["rebuild"]["state"], &found["rebuild"]["began"]), (&json!("Waiting"), &Value::Null), "{found}");
    let message = found["rebuild"]["message"].as_str().unwrap();
    assert!(message.starts_with("a person decides, because clients may have been told"), "{found}");
    assert_eq!(topology.servers[0].value("SELECT COUNT(*) FROM app.t").await.unwrap(), "3");
    assert_eq!(discarded(&topology), 0);
}
