//! An old primary that is back with rows of its own: fenced, judged, saved by a Job, and told what to do.

use std::{collections::BTreeMap, path::Path};

use baton::{
    app::export::Manifest,
    testing::{
        folder::Folder,
        kubelet::Kubelet,
        process::{Signal, run},
        series::Series,
        topology::{Options, Topology},
    },
};
use serde_json::{Value, json};

use super::scene::{API_SERVER, Scene, servers};

pub fn quarantined(cluster: &kube::core::DynamicObject, server: &str) -> Option<Value> {
    let all = cluster.data.pointer("/status/quarantined")?.as_array()?;
    all.iter().find(|one| one["address"] == server).cloned()
}

/// Waits until the entry of `server` is as it should be.
pub async fn entry(scene: &Scene, server: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    scene
        .until(what, async || {
            let found = quarantined(&scene.cluster("shop").await, server);
            found.is_some_and(|found| is(&found))
        })
        .await;
    quarantined(&scene.cluster("shop").await, server).unwrap()
}

pub async fn claim(scene: &Scene, name: &str) {
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    let claim =
        json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name }, "spec": spec });
    scene.kubernetes.apply("PersistentVolumeClaim", claim).await.unwrap();
}

/// The primary dies with rows that its replicas never got, and comes back with them.
pub async fn left_behind(scene: &Scene, topology: &mut Topology, rows: u32) -> String {
    let stop = if topology.servers[0].series() == Series::Mysql97 { "STOP REPLICA" } else { "STOP SLAVE" };
    let start = stop.replace("STOP", "START");
    topology.servers[0].query("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
    for index in [1, 2] {
        topology.caught_up(&topology.servers[index], &topology.servers[0]).await.unwrap();
        topology.servers[index].query(&format!("{stop} IO_THREAD")).await.unwrap();
    }
    for id in 0..rows {
        topology.servers[0].query(&format!("INSERT INTO app.t VALUES ({id})")).await.unwrap();
    }
    topology.servers[0].crash().unwrap();
    for index in [1, 2] {
        topology.servers[index].query(&format!("{start} IO_THREAD")).await.unwrap();
    }
    replaced_and_back(scene, topology).await
}

/// Waits until the first server is replaced, and starts it again.
pub async fn replaced_and_back(scene: &Scene, topology: &mut Topology) -> String {
    let old = topology.servers[0].addr().to_string();
    scene
        .until("failed over", async || {
            let status = scene.cluster("shop").await.data["status"].clone();
            status["primary"].as_str().is_some_and(|primary| primary != old)
                && status["lastFailover"]["phase"] == "Succeeded"
        })
        .await;
    topology.servers[0].restart().await.unwrap();
    old
}

/// The operator dies and is started again, as a kubelet does until it stays: somebody may have taken its ports.
pub async fn again(scene: &mut Scene) {
    scene.operator.signal(Signal::Kill).unwrap();
    for _ in 0..20 {
        scene.restart();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        if scene.operator.is_running() {
            return;
        }
    }
    panic!("it does not start: {}", scene.log());
}

async fn saved(series: Series, name: &str) {
    let _calm = API_SERVER.read().await;
    let options =
        Options { durable: false, heartbeat_ms: Some(500), connect_retry_s: Some(1), ..Options::new(series, 2) };
    let mut topology = Topology::start(&options).await.unwrap();
    let mut scene = Scene::with(name, &["--job-image", "localhost/baton:test"]).await;
    claim(&scene, "saved").await;
    let (volume, logs) = (Folder::new().unwrap(), Folder::new().unwrap());
    let program = Path::new(env!("CARGO_BIN_EXE_baton"));
    let wish = json!({ "discovery": { "follow": false }, "failover": { "export": { "volumeClaimName": "saved" } } });
    scene.healthy("shop", &topology, &wish).await;
    let old = left_behind(&scene, &mut topology, 7).await;

    // Nobody runs Jobs yet: it is fenced and judged all the same, and the Job is there once.
    let found = entry(&scene, &old, "told", |found| found["export"]["state"] != Value::Null).await;
    assert_eq!(found["extra"]["count"], 7, "{found}");
    assert_eq!(found["acknowledged"], "Possible", "its commits waited for nobody: {found}");
    assert_eq!(found["record"], "shop-1", "{found}");
    let instructions = found["instructions"].to_string();
    assert!(instructions.contains("Save them: ") && instructions.contains("Rebuild "), "{instructions}");
    let problems = scene.cluster("shop").await.data["status"]["servers"].to_string();
    assert!(problems.contains("quarantined: it has 7 transactions"), "{problems}");

    // The leader dies: the next one makes no second Job.
    again(&mut scene).await;
    let claims = BTreeMap::from([("saved".to_owned(), volume.path().to_owned())]);
    let runner = Kubelet::start(scene.kubernetes.client(), scene.namespace(), program, claims, logs.path());
    let found = entry(&scene, &old, "saved", |found| found["export"]["state"] == "Succeeded").await;
    let jobs = scene.kubernetes.list("Job").await.unwrap();
    let exports = |job: &kube::core::DynamicObject| {
        job.metadata.name.as_ref().is_some_and(|name| name.starts_with("baton-export-"))
    };
    let jobs: Vec<_> = jobs.into_iter().filter(exports).collect();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert!(jobs[0].data.to_string().contains("secretKeyRef"));
    let job = found["export"]["job"].as_str().unwrap();
    assert_eq!(jobs[0].metadata.name.as_deref(), Some(job));

    // What is in the volume is what only the old primary has.
    let place = found["export"]["place"].as_str().unwrap().strip_prefix("saved/").unwrap().to_owned();
    let file = volume.path().join(&place);
    let manifest = std::fs::read(file.with_extension("json")).unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    assert_eq!((manifest.count, manifest.record.as_str(), manifest.file), (7, "shop-1", place));
    let reader = series.binlog_reader().unwrap();
    let args = ["--base64-output=DECODE-ROWS", "--verbose", &file.to_string_lossy()];
    let text = run(&reader.to_string_lossy(), &args).unwrap();
    assert_eq!(text.matches("### INSERT INTO `app`.`t`").count(), 7, "{text}");
    assert!(found["instructions"].to_string().contains(&format!("They are saved: saved/{}", manifest_name(&file))));

    // The Job goes, as after its time to live: what is written down is not done again.
    drop(runner);
    scene.kubernetes.delete("Job", job).await.unwrap();
    again(&mut scene).await;
    scene.until("leading again", async || scene.metric("baton_leader ") > 0.5).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let left: Vec<_> = scene.kubernetes.list("Job").await.unwrap().into_iter().filter(exports).collect();
    assert!(left.iter().all(|job| job.metadata.deletion_timestamp.is_some()), "{left:?}");
    let found = quarantined(&scene.cluster("shop").await, &old).unwrap();
    assert_eq!(found["export"]["state"], "Succeeded");

    // An idle cluster with a server in quarantine costs no write.
    let writes = "baton_api_write_seconds_count";
    let (before, shown) = (scene.metric(writes), scene.cluster("shop").await.data["status"].clone());
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let now = scene.cluster("shop").await.data["status"].clone();
    assert!((scene.metric(writes) - before).abs() < 0.5, "{shown:#}\n{now:#}\n{}", scene.log_tail());
}

fn manifest_name(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

#[tokio::test]
async fn what_an_old_primary_has_alone_is_saved_by_a_job_once() {
    saved(Series::Mysql97, "export").await;
}

#[tokio::test]
async fn an_old_primary_of_mariadb_with_rows_of_its_own_is_told_and_saved() {
    saved(Series::MariaDb1011, "export-mariadb").await;
}

/// No volume is wished for: it is told all the same, and no Job is made.
#[tokio::test]
async fn without_a_volume_the_instructions_tell_how_to_save_it() {
    let _calm = API_SERVER.read().await;
    let mut topology = servers(2, &[]).await;
    let scene = Scene::new("no-export").await;
    scene.healthy("shop", &topology, &json!({ "discovery": { "follow": false } })).await;
    let old = left_behind(&scene, &mut topology, 3).await;
    let found = entry(&scene, &old, "told", |found| found["extra"]["count"] == 3).await;
    assert_eq!(found["export"], Value::Null);
    assert!(found["instructions"].to_string().contains("Save them: mysqlbinlog"), "{found}");
    assert!(scene.kubernetes.list("Job").await.unwrap().is_empty());
    let events = scene.kubernetes.list("Event").await.unwrap();
    let judged = events.iter().find(|event| event.data["reason"] == "Quarantined" && event.data["action"] == "Judge");
    let note = judged.map(|event| event.data["note"].to_string()).unwrap_or_default();
    assert!(note.contains("3 transactions that the primary lacks, possibly acknowledged"), "{note}");
    // The old primary takes no writes.
    assert_eq!(topology.servers[0].value("SELECT @@global.super_read_only").await.unwrap(), "1");
}
