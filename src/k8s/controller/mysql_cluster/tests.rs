//! The controller over the fake API server: what is told to the engine, when, and when nothing is.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{super::validate::Desired, *};
use crate::testing::api_server::{ApiServer, Fault, Verb};

/// A controller on a fake API server.
struct Fixture {
    server: ApiServer,
    controller: Controller,
    changes: mpsc::Receiver<ClusterChange>,
    stop: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fixture {
    fn start(server: &ApiServer) -> Self {
        let (sender, changes) = mpsc::channel(16);
        let controller = Controller::new(&server.client(), Scope::All, sender);
        let stop = CancellationToken::new();
        tokio::spawn(controller.clone().run(stop.clone()));
        Self { server: server.clone(), controller, changes, stop }
    }

    async fn next(&mut self) -> ClusterChange {
        timeout(Duration::from_secs(5), self.changes.recv()).await.expect("within 5 s").unwrap()
    }

    /// The next change, which is about `name` and is something to work by.
    async fn desired(&mut self, name: &str) -> Desired {
        let change = self.next().await;
        assert_eq!(change.key.name, name);
        match change.what {
            Change::Desired(desired) => *desired,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self, name: &str) -> Problem {
        let change = self.next().await;
        assert_eq!(change.key.name, name, "{change:?}");
        match change.what {
            Change::Invalid(refusal) => refusal.problem,
            other => panic!("{other:?}"),
        }
    }

    async fn silence(&mut self) {
        if let Ok(change) = timeout(Duration::from_millis(200), self.changes.recv()).await {
            panic!("{change:?}");
        }
    }
}

fn put_secret(server: &ApiServer, password: &str) {
    server.put(
        "secrets",
        &json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "namespace": "default" },
            "data": { "username": "YmF0b24=", "password": password },
        }),
    );
}

fn put_cluster(server: &ApiServer, name: &str, second: u32, spec: &Value) {
    let mut whole = json!({ "credentials": { "secretName": "s" } });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    server.put(
        "mysqlclusters",
        &json!({
            "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlCluster", "spec": whole,
            "metadata": {
                "name": name, "namespace": "default", "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
        }),
    );
}

fn put_pod(server: &ApiServer, name: &str, app: &str, ip: &str) {
    server.put(
        "pods",
        &json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
            "spec": { "containers": [], "nodeName": "node-1" }, "status": { "podIP": ip, "phase": "Running" },
        }),
    );
}

fn servers(host: &str) -> Value {
    json!({ "servers": [{ "host": host }] })
}

fn addresses(desired: &Desired) -> Vec<String> {
    desired.policy.servers.keys().map(ToString::to_string).collect()
}

#[tokio::test]
async fn an_object_is_told_once_changed_and_gone() {
    let server = ApiServer::new();
    put_secret(&server, "YQ==");
    put_cluster(&server, "shop", 1, &servers("db-1"));
    let mut fixture = Fixture::start(&server);
    assert_eq!(addresses(&fixture.desired("shop").await), ["db-1:3306"]);
    fixture.silence().await;
    put_cluster(&server, "shop", 1, &servers("db-2"));
    assert_eq!(addresses(&fixture.desired("shop").await), ["db-2:3306"]);
    server.remove("mysqlclusters", "default", "shop");
    assert!(matches!(fixture.next().await.what, Change::Gone));
    put_cluster(&server, "shop", 1, &servers("db-3"));
    assert_eq!(addresses(&fixture.desired("shop").await), ["db-3:3306"]);
    assert_eq!(server.writes().len(), 0, "the controller never writes");
}

#[tokio::test]
async fn a_missing_secret_is_told_with_a_hint_and_taken_when_it_comes() {
    let server = ApiServer::new();
    put_cluster(&server, "shop", 1, &servers("db-1"));
    let mut fixture = Fixture::start(&server);
    let problem = fixture.refused("shop").await;
    assert_eq!(problem.category, "SecretMissing");
    assert!(problem.message.contains("create it"), "{}", problem.message);
    put_secret(&server, "YQ==");
    fixture.controller.reread_secrets(&ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() });
    fixture.desired("shop").await;
    let reads = server.calls().iter().filter(|call| call.resource == "secrets").count();
    assert!(reads <= 3, "no hot loop: {reads} reads");
}

#[tokio::test]
async fn a_changed_secret_is_used_with_the_old_account_in_reserve() {
    use secrecy::ExposeSecret;
    let server = ApiServer::new();
    put_secret(&server, "b2xk");
    put_cluster(&server, "shop", 1, &servers("db-1"));
    let mut fixture = Fixture::start(&server);
    fixture.desired("shop").await;
    put_secret(&server, "bmV3");
    fixture.controller.reread_secrets(&ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() });
    let connect = fixture.desired("shop").await.connect;
    assert_eq!(connect.account.password.expose_secret(), "new");
    assert_eq!(connect.account_before.unwrap().password.expose_secret(), "old");
}

#[tokio::test]
async fn pods_come_and_go_with_the_place_of_their_node() {
    let server = ApiServer::new();
    put_secret(&server, "YQ==");
    server.put(
        "nodes",
        &json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "node-1", "labels": { "topology.kubernetes.io/zone": "z1" } },
        }),
    );
    put_pod(&server, "a", "shop", "10.0.0.1");
    put_pod(&server, "x", "other", "10.0.0.9");
    let mut fixture = Fixture::start(&server);
    sleep(Duration::from_millis(50)).await;
    put_cluster(&server, "shop", 1, &json!({ "podSelector": { "matchLabels": { "app": "shop" } }, "port": 3307 }));
    let first = fixture.desired("shop").await;
    assert_eq!(addresses(&first), ["10.0.0.1:3307"]);
    assert_eq!(first.policy.servers.values().next().unwrap().zone.as_deref(), Some("z1"));
    put_pod(&server, "b", "shop", "10.0.0.2");
    assert_eq!(addresses(&fixture.desired("shop").await), ["10.0.0.1:3307", "10.0.0.2:3307"]);
    server.remove("pods", "default", "a");
    assert_eq!(addresses(&fixture.desired("shop").await), ["10.0.0.2:3307"]);
}

#[tokio::test]
async fn without_the_permission_for_nodes_pods_have_no_place() {
    let server = ApiServer::new();
    put_secret(&server, "YQ==");
    put_pod(&server, "a", "shop", "10.0.0.1");
    server.set_faults(|call| (call.resource == "nodes").then_some(Fault::Refuse(403)));
    put_cluster(&server, "shop", 1, &json!({ "podSelector": { "matchLabels": { "app": "shop" } } }));
    let desired = Fixture::start(&server).desired("shop").await;
    assert_eq!(desired.policy.servers.values().next().unwrap().zone, None);
}

#[tokio::test]
async fn of_two_that_claim_one_server_the_older_is_served() {
    let server = ApiServer::new();
    put_secret(&server, "YQ==");
    put_cluster(&server, "old", 1, &servers("db-1"));
    let mut fixture = Fixture::start(&server);
    fixture.desired("old").await;
    put_cluster(&server, "young", 2, &servers("db-1"));
    let problem = fixture.refused("young").await;
    assert_eq!(problem.category, "DuplicateServer");
    assert!(problem.message.contains("default/old"), "{}", problem.message);
    fixture.silence().await;
    server.remove("mysqlclusters", "default", "old");
    let mut told = [fixture.next().await, fixture.next().await];
    told.sort_by_key(|change| change.key.clone());
    assert!(matches!(told[0].what, Change::Gone), "{:?}", told[0]);
    assert!(matches!(told[1].what, Change::Desired(_)), "{:?}", told[1]);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_disturbs_no_other() {
    let server = ApiServer::new();
    put_secret(&server, "YQ==");
    put_cluster(&server, "bad", 1, &json!({ "servers": "none" }));
    put_cluster(&server, "good", 2, &servers("db-1"));
    let mut fixture = Fixture::start(&server);
    let mut told = [fixture.next().await, fixture.next().await];
    told.sort_by_key(|change| change.key.clone());
    assert!(matches!(&told[0].what, Change::Invalid(refusal) if refusal.problem.category == "Unreadable"));
    assert!(matches!(told[1].what, Change::Desired(_)));
}

#[tokio::test]
async fn nothing_is_told_while_the_api_server_is_gone_and_it_goes_on_by_itself() {
    let server = ApiServer::new();
    put_secret(&server, "YQ==");
    put_cluster(&server, "shop", 1, &servers("db-1"));
    let mut fixture = Fixture::start(&server);
    fixture.desired("shop").await;
    server.set_faults(|_| Some(Fault::Refuse(503)));
    server.cut_watches();
    fixture.controller.reread_secrets(&ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() });
    fixture.silence().await;
    put_cluster(&server, "shop", 1, &servers("db-2"));
    server.compact();
    server.clear_faults();
    assert_eq!(addresses(&fixture.desired("shop").await), ["db-2:3306"]);
}

#[tokio::test]
async fn records_are_told_by_cluster() {
    let server = ApiServer::new();
    let record = |name: &str, cluster: &str| {
        json!({
            "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlFailover",
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "clusterName": cluster, "cause": { "analysis": "Forced", "reason": "r" } },
        })
    };
    server.put("mysqlfailovers", &record("a-1", "a"));
    server.put("mysqlfailovers", &record("b-1", "b"));
    let mut fixture = Fixture::start(&server);
    let mut told = BTreeMap::new();
    for _ in 0..2 {
        let change = fixture.next().await;
        let Change::Records(records) = change.what else { panic!("{change:?}") };
        told.insert(change.key.name, records.len());
    }
    assert_eq!(told, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1)]));
    server.put("mysqlfailovers", &record("a-2", "a"));
    assert!(matches!(fixture.next().await.what, Change::Records(records) if records.len() == 2));
    fixture.silence().await;
    server.remove("mysqlfailovers", "default", "b-1");
    let change = fixture.next().await;
    assert!(change.key.name == "b" && matches!(change.what, Change::Records(records) if records.is_empty()));
}

#[tokio::test]
async fn nothing_is_listed_that_need_not_be() {
    let server = ApiServer::new();
    put_secret(&server, "YQ==");
    put_cluster(&server, "shop", 1, &servers("db-1"));
    let mut fixture = Fixture::start(&server);
    fixture.desired("shop").await;
    let listed = |verb| matches!(verb, Verb::List | Verb::Watch);
    let calls = fixture.server.calls();
    let wide = calls.iter().filter(|call| listed(call.verb) && matches!(call.resource.as_str(), "secrets" | "pods"));
    assert_eq!(wide.count(), 0, "{calls:?}");
}
