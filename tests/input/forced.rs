//! Failovers that a person forces, on real servers.

use serde_json::json;

use super::scene::{API_SERVER, Scene, request, servers};

#[tokio::test]
async fn a_person_moves_the_primary_and_what_cannot_be_done_is_refused() {
    let _calm = API_SERVER.read().await;
    let topology = servers(2, &[]).await;
    let scene = Scene::new("forced").await;
    // It holds back automatic failovers, not people.
    let more = json!({ "failover": { "mode": "DetectOnly" }, "paused": true, "discovery": { "follow": false } });
    scene.kubernetes.apply_cluster("shop", &topology.addresses(), "accounts", &more).await.unwrap();
    scene.condition("shop", "Writable", "True", "Writable").await;
    scene.condition("shop", "Replicating", "True", "Replicating").await;
    let [first, second, third] = [0, 1, 2].map(|index| topology.servers[index].addr().to_string());

    for (name, cluster, candidate, why) in [
        ("no-cluster", "nothing", None, "there is no MysqlCluster nothing"),
        ("no-server", "shop", Some("db-9:3306"), "it is no replica of the primary"),
        ("no-replica", "shop", Some(first.as_str()), "it is no replica of the primary"),
    ] {
        scene.kubernetes.apply("MysqlFailover", request(name, cluster, candidate)).await.unwrap();
        let status = scene.record(name, "Refused", |status| status["phase"] == "Refused").await;
        assert!(status["message"].as_str().unwrap().contains(why), "{status}");
    }
    let writable = "SELECT NOT @@global.super_read_only AND NOT @@global.offline_mode";
    assert_eq!(topology.servers[0].value(writable).await.unwrap(), "1", "nothing was touched");

    let server = &topology.servers[0];
    server.query("CREATE DATABASE IF NOT EXISTS shop").await.unwrap();
    server.query("CREATE TABLE IF NOT EXISTS shop.t (id INT PRIMARY KEY)").await.unwrap();
    for id in 0..50 {
        server.query(&format!("INSERT INTO shop.t VALUES ({id})")).await.unwrap();
    }
    scene.kubernetes.apply("MysqlFailover", request("drill", "shop", Some(&third))).await.unwrap();
    let done = scene.record("drill", "Succeeded", |status| status["phase"] == "Succeeded").await;
    assert_eq!((done["oldPrimary"].as_str(), done["newPrimary"].as_str()), (Some(&*first), Some(&*third)), "{done}");
    assert_eq!((done["epoch"].as_i64(), done["lost"]["known"].as_str()), (Some(1), Some("None")), "{done}");
    println!("forced: {}", done["timings"]);
    assert_eq!(topology.servers[2].value("SELECT COUNT(*) FROM shop.t").await.unwrap(), "50");
    assert_eq!(topology.servers[2].value(writable).await.unwrap(), "1");
    assert_eq!(topology.servers[0].value("SELECT @@global.super_read_only").await.unwrap(), "1");
    // Shown a moment later: no failover waits for what is only shown.
    let shown = async || scene.cluster("shop").await.data["status"]["primary"] == third.as_str();
    scene.until("the new primary is shown", shown).await;

    // A second one at once takes the next reign; there is no block for people.
    scene.kubernetes.apply("MysqlFailover", request("back", "shop", Some(&second))).await.unwrap();
    let done = scene.record("back", "Succeeded", |status| status["phase"] == "Succeeded").await;
    assert_eq!((done["epoch"].as_i64(), done["newPrimary"].as_str()), (Some(2), Some(&*second)), "{done}");
}
