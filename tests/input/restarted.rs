//! All servers of a cluster die at once and come back read-only, as they should boot: the primary that there was is
//! opened again, without an election, and nothing acknowledged is lost.

use std::time::{Duration, Instant};

use baton::testing::{
    topology::Topology,
    writers::{Config, Writers, check},
};
use futures::future::join_all;
use serde_json::{Value, json};

use super::scene::{API_SERVER, Scene, servers};

async fn all_restart(topology: &mut Topology) {
    for server in &mut topology.servers {
        server.crash().unwrap();
    }
    let restarted = join_all(topology.servers.iter_mut().map(|server| server.restart())).await;
    restarted.into_iter().for_each(Result::unwrap);
}

fn problems(status: &Value, server: &str) -> String {
    let servers = status["servers"].as_array().unwrap();
    servers.iter().find(|found| found["address"] == server).unwrap()["problems"].to_string()
}

#[tokio::test]
async fn the_primary_is_opened_again_after_a_restart_of_all_servers() {
    let _calm = API_SERVER.read().await;
    // As docs/mysql.md has it: replicas boot without replication.
    let mut topology = servers(2, &["--skip-replica-start=ON"]).await;
    let scene = Scene::new("restarted").await;
    let kept = json!({ "mode": "SemiSync", "acks": 1 });
    let wish = json!({ "discovery": { "follow": false }, "durability": kept });
    scene.healthy("shop", &topology, &wish).await;
    scene.condition("shop", "Durable", "True", "SemiSync").await;
    let config = Config { writers: 4, rate: 25, ..Config::new(topology.addresses()) };
    let writers = Writers::start(config.clone()).await.unwrap();
    assert!(writers.acknowledged(100, Duration::from_secs(20)).await);

    // Nobody asked for it: it is said, and left to a person.
    all_restart(&mut topology).await;
    let primary = topology.servers[0].addr().to_string();
    scene.condition("shop", "Writable", "False", "ReadOnly").await;
    let told = async || {
        let status = scene.cluster("shop").await.data["status"].clone();
        problems(&status, &primary).contains("failover.readOnlyPrimary is DetectOnly")
    };
    scene.until("the reason is shown", told).await;
    assert!(scene.kubernetes.list("MysqlFailover").await.unwrap().is_empty());

    let wish = json!({
        "discovery": { "follow": false }, "durability": kept, "failover": { "readOnlyPrimary": "Automatic" },
    });
    scene.kubernetes.apply_cluster("shop", &topology.addresses(), "accounts", &wish).await.unwrap();
    let (asked, at_us) = (Instant::now(), writers.mark("asked"));
    let record = scene.record("shop-1", "Succeeded", |status| status["phase"] == "Succeeded").await;
    println!("opened {} ms after it was asked for; {}", asked.elapsed().as_millis(), record["timings"]);
    assert_eq!((&record["oldPrimary"], &record["newPrimary"]), (&json!(primary), &json!(primary)), "{record}");
    scene.condition("shop", "Writable", "True", "Writable").await;
    scene.condition("shop", "Durable", "True", "SemiSync").await;
    scene.condition("shop", "Replicating", "True", "Replicating").await;
    for replica in &topology.servers[1..] {
        let threads = "SELECT COUNT(*) FROM performance_schema.replication_connection_status AS c \
                       JOIN performance_schema.replication_applier_status AS a USING (channel_name) \
                       WHERE c.service_state = 'ON' AND a.service_state = 'ON'";
        assert_eq!(replica.value(threads).await.unwrap(), "1", "receiver and applier run");
    }
    let acknowledged = async || writers.history().longest_pause_ms(at_us).is_some();
    scene.until("clients write again", acknowledged).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let history = writers.stop().await;
    let verdict = check(&config, topology.servers[0].addr(), &history).await.unwrap();
    println!("acknowledged {}, lost {}", history.counts().0, verdict.lost.len());
    assert!(verdict.lost.is_empty(), "{verdict:?}");

    // Once: whoever closes it again meant it, or it needs a person.
    topology.servers[0].query("SET GLOBAL super_read_only = ON").await.unwrap();
    let told = async || {
        let status = scene.cluster("shop").await.data["status"].clone();
        problems(&status, &primary).contains("shop-1 tried that not long ago")
    };
    scene.until("the reason is shown", told).await;
}
