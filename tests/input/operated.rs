//! The operator as those see it who run it: metrics, level, Events, an idle cluster, the end of a
//! process, an API server that is gone for a while.

use std::time::Duration;

use baton::testing::process::{Signal, run};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::scene::{API_SERVER, Scene, curl, request, root, servers};

#[tokio::test]
async fn what_happens_can_be_seen_and_an_idle_cluster_costs_no_write() {
    let _calm = API_SERVER.read().await;
    let mut topology = servers(1, &[]).await;
    let mut scene = Scene::new("operated").await;
    scene.healthy("shop", &topology, &json!({ "discovery": { "follow": false } })).await;
    for line in [
        "baton_leader ",
        "baton_probe_duration_seconds_count",
        "baton_cluster_servers",
        "baton_cluster_condition",
        "baton_lease_renewal_seconds_count{outcome=\"applied\"}",
        "baton_lease_renewed_timestamp_seconds",
        "baton_api_write_seconds_count{kind=\"MysqlCluster\",outcome=\"applied\"}",
    ] {
        assert!(scene.metric(line) > 0.0, "{line}");
    }
    for path in ["healthz", "readyz"] {
        let url = format!("http://{}/{path}", scene.health);
        assert_eq!(curl(&["-sf", &url]).as_deref(), Some("ok\n"));
    }

    // Idle.
    sleep(Duration::from_secs(3)).await;
    let (writes, leases) = ("baton_api_write_seconds_count", "baton_lease_renewal_seconds_count");
    let before = (scene.metric(writes), scene.metric(leases));
    sleep(Duration::from_secs(15)).await;
    assert_eq!(scene.metric(writes), before.0, "{}", scene.log());
    assert!(scene.metric(leases) > before.1 + 10.0);

    // The level.
    let level = format!("http://{}/log-level", scene.admin);
    assert!(!scene.log().contains("\"TRACE\""));
    assert_eq!(curl(&["-s", "-X", "PUT", "-d", "trace", &level]).as_deref(), Some("warn,baton=trace\n"));
    assert_eq!(
        curl(&["-s", "-X", "PUT", "-d", "baton=loud", "-o", "/dev/null", "-w", "%{http_code}", &level]).as_deref(),
        Some("400")
    );
    assert_eq!(curl(&["-s", &level]).as_deref(), Some("baton=trace,warn\n"));
    for address in [&scene.health, &scene.metrics] {
        let url = format!("http://{address}/log-level");
        assert_eq!(curl(&["-s", "-o", "/dev/null", "-w", "%{http_code}", &url]).as_deref(), Some("404"));
    }
    scene.until("trace lines", async || scene.log().contains("\"TRACE\"")).await;
    assert!(curl(&["-s", "-X", "PUT", "-d", "info", &level]).is_some());

    // A failure is an Event, and so is its end.
    let said = async |reason: &str| {
        let events = scene.kubernetes.list("Event").await.unwrap();
        events.iter().any(|event| event.data["reason"] == reason && event.data["regarding"]["kind"] == "MysqlCluster")
    };
    topology.servers[1].crash().unwrap();
    scene.until("told", async || said("PrimarySingleReplicaDead").await).await;
    assert!(scene.metric("baton_analysis{") > 0.0 && scene.metric("baton_probe_failures_total") > 0.0);
    topology.servers[1].restart().await.unwrap();
    scene.condition("shop", "Replicating", "True", "Replicating").await;

    // A recovery is told on cluster and record.
    scene.kubernetes.apply("MysqlFailover", request("drill", "shop", None)).await.unwrap();
    scene.record("drill", "Succeeded", |status| status["phase"] == "Succeeded").await;
    scene.until("told", async || said("FailoverSucceeded").await).await;
    let events = scene.kubernetes.list("Event").await.unwrap();
    assert!(events.iter().any(|event| event.data["regarding"]["name"] == "drill"), "{events:?}");
    for line in ["baton_recovery_phase_seconds_count", "baton_recovery_step_seconds_count", "baton_recoveries_total"] {
        assert!(scene.metric(line) > 0.0, "{line}");
    }
    assert!((scene.metric("baton_cluster_epoch") - 1.0).abs() < 0.1);

    // Series go with their cluster, the Lease with an orderly end.
    scene.kubernetes.delete("MysqlCluster", "shop").await.unwrap();
    scene.until("forgotten", async || scene.metric("baton_cluster_servers") < 0.5).await;
    scene.operator.signal(Signal::Terminate).unwrap();
    assert_eq!(scene.operator.ended(Duration::from_secs(15)).await, Some(0), "{}", scene.log());
    let leases = scene.kubernetes.list("Lease").await.unwrap();
    let holder = leases[0].data.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default();
    assert_eq!(holder, "", "given back at once");
}

/// Freezes the API server; dropping it lets it go on.
struct Frozen;

impl Frozen {
    fn now() -> Self {
        apiserver("pause");
        Self
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        apiserver("resume");
    }
}

fn apiserver(what: &str) {
    let script = root().join("dev/kubernetes/apiserver.sh");
    run(&script.to_string_lossy(), &[what]).unwrap();
}

#[tokio::test]
async fn without_the_api_server_nothing_is_demoted_and_all_goes_on_when_it_is_back() {
    let _alone = API_SERVER.write().await;
    let topology = servers(1, &[]).await;
    let mut scene = Scene::new("frozen").await;
    scene.healthy("shop", &topology, &json!({ "discovery": { "follow": false } })).await;
    let writable = "SELECT NOT @@global.super_read_only AND NOT @@global.read_only AND NOT @@global.offline_mode";
    let frozen = Frozen::now();
    assert_eq!(scene.operator.ended(Duration::from_secs(20)).await, Some(3), "leadership is lost: {}", scene.log());
    // What a kubelet does, again and again.
    for _ in 0..4 {
        scene.restart();
        for _ in 0..15 {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(topology.servers[0].value(writable).await.unwrap(), "1");
            if !scene.operator.is_running() {
                scene.restart();
            }
        }
    }
    // A second signal does not wait for what cannot be reached.
    scene.operator.signal(Signal::Terminate).unwrap();
    sleep(Duration::from_millis(100)).await;
    if scene.operator.is_running() {
        scene.operator.signal(Signal::Terminate).unwrap();
        assert_eq!(scene.operator.ended(Duration::from_secs(5)).await, Some(143));
    }
    scene.restart();
    drop(frozen);
    scene.until("leading again", async || scene.metric("baton_leader ") > 0.5).await;
    scene.condition("shop", "FailoverReady", "True", "Ready").await;
    assert!(scene.kubernetes.list("MysqlFailover").await.unwrap().is_empty(), "nothing was failed over");
    scene.kubernetes.apply("MysqlFailover", request("drill", "shop", None)).await.unwrap();
    scene.record("drill", "Succeeded", |status| status["phase"] == "Succeeded").await;
}
