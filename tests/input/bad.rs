//! What people get wrong: a condition with the reason and a hint, and nothing else suffers.

use std::{io::Write, net::TcpListener, thread, time::Duration};

use baton::core::id::ServerAddr;
use serde_json::{Value, json};

use super::scene::{API_SERVER, Scene, condition, servers};

/// A listener that says `words` to everybody and then nothing.
fn says(words: &'static [u8]) -> ServerAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _said = stream.write_all(words);
            held.push(stream);
        }
    });
    ServerAddr::new("127.0.0.1", port).unwrap()
}

async fn apply(scene: &Scene, name: &str, server: &ServerAddr, secret: &str, more: &Value) {
    scene.kubernetes.apply_cluster(name, std::slice::from_ref(server), secret, more).await.unwrap();
}

async fn secret(scene: &Scene, name: &str, data: &Value) {
    let object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
    scene.kubernetes.apply("Secret", object).await.unwrap();
}

fn addr(text: &str) -> ServerAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn each_mistake_is_a_condition_and_the_healthy_cluster_stays_healthy() {
    let _calm = API_SERVER.read().await;
    let (good, spare) = tokio::join!(servers(1, &[]), servers(0, &[]));
    let scene = Scene::new("bad").await;
    scene.healthy("good", &good, &json!({})).await;
    let since = condition(&scene.cluster("good").await, "Ready").unwrap();

    let none = json!({});
    apply(&scene, "no-secret", &addr("127.0.0.1:1"), "nothing", &none).await;
    secret(&scene, "half", &json!({ "username": "baton" })).await;
    apply(&scene, "half-secret", &addr("127.0.0.1:2"), "half", &none).await;
    apply(&scene, "nobody", &addr("127.0.0.1:3"), "accounts", &none).await;
    apply(&scene, "unknown-name", &addr("no-such-host.invalid:3306"), "accounts", &none).await;
    apply(&scene, "http", &says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "accounts", &none).await;
    apply(&scene, "mute", &says(b""), "accounts", &none).await;
    apply(&scene, "same-server", good.servers[0].addr(), "accounts", &none).await;
    apply(&scene, "same-name", &addr("127.0.0.1:4"), "accounts", &json!({ "clusterName": "good" })).await;
    let spare_addr = spare.servers[0].addr();
    secret(&scene, "wrong", &json!({ "username": "baton", "password": "'; $(rm -rf /) \" <b>\n" })).await;
    apply(&scene, "odd", spare_addr, "wrong", &none).await;

    for (name, kind, status, reason, words) in [
        ("no-secret", "Stalled", "True", "SecretMissing", "nothing"),
        ("half-secret", "Stalled", "True", "SecretIncomplete", "password"),
        ("nobody", "Ready", "False", "ConnectionRefused", "hint: is MySQL running"),
        ("unknown-name", "Ready", "False", "UnknownHost", "no-such-host.invalid"),
        ("http", "Ready", "False", "NotMysql", "hint: something else answers"),
        ("mute", "Ready", "False", "NoAnswer", "hint:"),
        ("same-server", "Stalled", "True", "DuplicateServer", "/good"),
        ("same-name", "Stalled", "True", "DuplicateClusterName", "/good"),
        ("odd", "Ready", "False", "WrongCredentials", "hint: check the Secret"),
    ] {
        let found = scene.condition(name, kind, status, reason).await;
        assert!(found["message"].as_str().unwrap().contains(words), "{name}: {found}");
    }
    // Who corrects a mistake needs to do no more.
    let verify = json!({ "tls": { "mode": "VerifyCA", "caSecretName": "other-ca" } });
    secret(&scene, "other-ca", &json!({ "ca.crt": OTHER_CA })).await;
    apply(&scene, "odd", spare_addr, "accounts", &verify).await;
    let found = scene.condition("odd", "Ready", "False", "TlsMismatch").await;
    assert!(found["message"].as_str().unwrap().contains("hint: check spec.tls"), "{found}");
    apply(&scene, "odd", spare_addr, "accounts", &json!({ "tls": { "mode": "Preferred" } })).await;
    scene.condition("odd", "Ready", "True", "Healthy").await;

    // No hot loop: nothing is written again, and little is said.
    let versions = async || -> Vec<_> {
        let all = scene.kubernetes.list("MysqlCluster").await.unwrap();
        all.into_iter().map(|object| (object.metadata.name, object.metadata.resource_version)).collect()
    };
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (before, lines) = (versions().await, scene.log().lines().count());
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(versions().await, before, "an idle operator writes nothing\n{}", scene.log_tail());
    let said = scene.log().lines().count() - lines;
    assert!(said < 20, "{said} lines in 15 s");
    assert_eq!(condition(&scene.cluster("good").await, "Ready").unwrap(), since, "it was never anything but ready");
    assert!(!scene.log().contains("rm -rf"), "a password is in the log");
}

#[tokio::test]
async fn servers_that_cannot_take_part_are_named() {
    let _calm = API_SERVER.read().await;
    let (plain, ring, statement) = tokio::join!(
        servers(0, &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--skip-log-bin"]),
        servers(2, &[]),
        servers(0, &["--binlog-format=STATEMENT"]),
    );
    let scene = Scene::new("weak").await;
    let none = json!({});
    apply(&scene, "plain", plain.servers[0].addr(), "accounts", &none).await;
    apply(&scene, "statement", statement.servers[0].addr(), "accounts", &none).await;
    // 1 <- 2 <- 3 <- 1.
    let [first, second, third] = [0, 1, 2].map(|index| &ring.servers[index]);
    let follow = async |replica: &baton::testing::servers::Server, source: &ServerAddr| {
        let auto = "SOURCE_USER='repl', SOURCE_PASSWORD='repl', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1";
        let (host, port) = (source.host(), source.port());
        replica.query("STOP REPLICA").await.unwrap();
        let change = format!("CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, {auto}");
        replica.query(&change).await.unwrap();
        replica.query("START REPLICA").await.unwrap();
    };
    follow(third, second.addr()).await;
    first.query("SET GLOBAL super_read_only = ON").await.unwrap();
    follow(first, third.addr()).await;
    scene.kubernetes.apply_cluster("ring", &ring.addresses(), "accounts", &none).await.unwrap();

    let found = scene.condition("plain", "Ready", "True", "NoBinaryLog").await;
    assert!(found["message"].as_str().unwrap().contains("cannot be a source"), "{found}");
    let codes = |status: &Value| -> Vec<String> {
        let analyses = status["analyses"].as_array().cloned().unwrap_or_default();
        analyses.iter().map(|analysis| analysis["code"].as_str().unwrap().to_owned()).collect()
    };
    let of = async |name: &str| codes(&scene.cluster(name).await.data["status"]);
    assert!(of("plain").await.contains(&"GtidOff".to_owned()));
    scene.condition("statement", "Ready", "True", "StatementBinlog").await;
    scene.condition("ring", "Writable", "False", "NoPrimary").await;
    assert!(of("ring").await.contains(&"CycleDetected".to_owned()), "{:?}", of("ring").await);
}

#[tokio::test]
async fn what_servers_say_is_data() {
    let _calm = API_SERVER.read().await;
    let long = format!("--report-host={}", "a".repeat(60));
    let long = [long.as_str()];
    let evil = ["--report-host=<img/src=x>$(touch x)'\"`"];
    let (evil, longer) = tokio::join!(servers(1, &evil), servers(0, &long));
    let scene = Scene::new("hostile").await;
    let hostile = "'; DROP TABLE mysql.user; -- $(id) `id` <script>alert(1)</script>\n{{ x }}";
    let value = format!("SELECT '{}'", hostile.replace('\'', "''"));
    let queries = json!({ "queries": { "promotionRule": value, "zone": value, "clusterName": value, "serverAlias": value },
        "discovery": { "from": "ReplicaHosts" } });
    scene.healthy("evil", &evil, &queries).await;
    apply(&scene, "longer", longer.servers[0].addr(), "accounts", &json!({})).await;
    scene.condition("longer", "Ready", "True", "Healthy").await;
    let object = scene.cluster("evil").await;
    for server in object.data["status"]["servers"].as_array().unwrap() {
        assert!(server["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{server}");
        assert_eq!(server["promotion"], "Neutral", "{server}");
    }
    assert!(evil.servers[0].value("SELECT COUNT(*) > 0 FROM mysql.user").await.unwrap() == "1");
    // Text that is refused at the door.
    let more = json!({ "clusterName": "a\"; $(id)" });
    let refused = scene.kubernetes.apply_cluster("bad", &[addr("127.0.0.1:5")], "accounts", &more).await;
    assert!(refused.is_err());
}

/// The certificate of an authority that signed nothing here.
const OTHER_CA: &str = include_str!("other-ca.crt");
