//! The Kubernetes shell against the real API server: what its unit tests show with the fake one holds
//! there too: compare-and-swap, server-side apply, watches, garbage collection by owner.

use std::time::Duration;

use baton::{
    api::{MysqlCluster, MysqlFailover},
    core::{
        id::{ClusterKey, ServerAddr},
        recovery::{Phase, Recovery},
    },
    engine::ports::JournalError,
    k8s::{
        controller::{
            change::{Change, ClusterChange},
            mysql_cluster::{Controller, Scope},
            show::Shower,
            status::{Problem, Shown},
        },
        records::{
            Records,
            history::{acknowledge, history},
        },
        routing::{Routing, Wish},
    },
};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::setup;

/// A namespace of its own for each test, removed in the end.
struct Place {
    client: Client,
    key: ClusterKey,
}

impl Place {
    async fn new(name: &str) -> Self {
        let client = setup::with_resources().await;
        let api: Api<Namespace> = Api::all(client.clone());
        let namespace = format!("shell-{name}-{}", std::process::id());
        let object = serde_json::from_value(json!({ "metadata": { "name": namespace } })).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        Self { client, key: ClusterKey { namespace, name: "shop".to_owned() } }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.key.namespace)
    }

    async fn cluster(&self, spec: &Value) -> MysqlCluster {
        let mut whole = json!({ "credentials": { "secretName": "s" } });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let object = json!({
            "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlCluster",
            "metadata": { "name": "shop" }, "spec": whole,
        });
        let apply = PatchParams::apply("baton-test").force();
        self.api().patch("shop", &apply, &Patch::Apply(object)).await.unwrap()
    }

    async fn read(&self) -> MysqlCluster {
        self.api().get("shop").await.unwrap()
    }

    async fn end(self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete(&self.key.namespace, &DeleteParams::background()).await.unwrap();
    }
}

fn addr(text: &str) -> ServerAddr {
    text.parse().unwrap()
}

fn seed() -> Value {
    json!({ "servers": [{ "host": "10.0.0.1" }] })
}

fn recovery(epoch: u64, executor: &str) -> Recovery {
    baton::testing::record::recovery(epoch, executor, &addr("10.0.0.1:3306"))
}

#[tokio::test]
async fn the_journal_admits_one() {
    let place = Place::new("journal").await;
    place.cluster(&seed()).await;
    let (a, b) = (Records::new(&place.client, place.key.clone()), Records::new(&place.client, place.key.clone()));
    let (ours, theirs) = (recovery(1, "a"), recovery(1, "b"));
    let (first, second) = tokio::join!(Box::pin(a.begin(&ours)), Box::pin(b.begin(&theirs)));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    assert!(matches!(first.and(second), Err(JournalError::Lost(_))));
    assert_eq!(place.read().await.status.unwrap().epoch, Some(1));
    let taken = Box::pin(a.claim("shop-1", "c", None)).await.unwrap();
    assert_eq!(taken.executor, "c");
    for executor in ["a", "b"] {
        let late = Recovery { phase: Phase::Fencing, ..recovery(1, executor) };
        let late = Box::pin(Records::new(&place.client, place.key.clone()).save(&late)).await;
        assert!(matches!(late, Err(JournalError::Lost(_))), "{late:?}");
    }
    Box::pin(a.save(&Recovery { phase: Phase::Succeeded, ..taken })).await.unwrap();
    let records: Api<MysqlFailover> = place.api();
    let annotation = json!({ "metadata": { "annotations": { "mysql.baton.dev/acknowledged-by": "ada" } } });
    let record = records.patch("shop-1", &PatchParams::default(), &Patch::Merge(annotation)).await.unwrap();
    assert!(acknowledge(&records, &record).await.unwrap());
    let found = history(&[records.get("shop-1").await.unwrap()], "shop", Timestamp::now());
    assert!(found.past[0].acknowledged && found.unfinished.is_none());
    place.end().await;
}

#[tokio::test]
async fn clients_are_led_by_service_and_slice() {
    let place = Place::new("routing").await;
    let uid = place.cluster(&seed()).await.uid().unwrap();
    let wish = Wish { service: "shop-primary".to_owned(), port: 3306 };
    let routing = Routing::new(&place.client, place.key.clone(), &uid, wish.clone());
    routing.ensure().await.unwrap();
    let slices: Api<EndpointSlice> = place.api();
    for server in ["10.0.0.1:3306", "10.0.0.2:3307", "[2001:db8::1]:3306", "10.0.0.3:3306"] {
        routing.publish(Some(&addr(server))).await.unwrap();
        let all = slices.list(&kube::api::ListParams::default()).await.unwrap();
        let endpoints: Vec<_> = all.iter().flat_map(|slice| slice.endpoints.iter().flatten()).collect();
        assert_eq!(endpoints.len(), 1, "{endpoints:?}");
        assert_eq!(endpoints[0].addresses, [addr(server).host()]);
    }
    let before = slices.get("shop-primary-baton").await.unwrap().resource_version();
    let restarted = Routing::new(&place.client, place.key.clone(), &uid, wish);
    restarted.ensure().await.unwrap();
    restarted.publish(Some(&addr("10.0.0.3:3306"))).await.unwrap();
    assert_eq!(slices.get("shop-primary-baton").await.unwrap().resource_version(), before);
    restarted.withdraw().await.unwrap();
    let left = slices.get("shop-primary-baton").await.unwrap().endpoints;
    assert!(left.unwrap_or_default().is_empty());
    place.api::<MysqlCluster>().delete("shop", &DeleteParams::background()).await.unwrap();
    let services: Api<Service> = place.api();
    let collected = async {
        while services.get_opt("shop-primary").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // The garbage collector learns of a new kind at its next discovery, every 30 s.
    timeout(Duration::from_secs(100), collected).await.expect("the Service goes with its cluster");
    place.end().await;
}

#[tokio::test]
async fn status_is_written_once() {
    let place = Place::new("status").await;
    place.cluster(&seed()).await;
    let problem = Problem { category: "SecretMissing".to_owned(), message: "secret s does not exist".to_owned() };
    let shown = Shown {
        instructions: std::collections::BTreeMap::new(),
        exports: std::collections::BTreeMap::new(),
        generation: Some(1),
        cluster_name: "shop".to_owned(),
        domain: None,
        view: None,
        last_failover: None,
        problem: Some(problem),
        routing: None,
    };
    assert!(Shower::new(&place.client, &place.key).write(&shown).await.unwrap());
    assert!(!Shower::new(&place.client, &place.key).write(&shown).await.unwrap());
    let status = place.read().await.status.unwrap();
    let stalled = status.conditions.iter().find(|condition| condition.type_ == "Stalled").unwrap();
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "SecretMissing"));
    place.end().await;
}

async fn next(changes: &mut mpsc::Receiver<ClusterChange>) -> Change {
    timeout(Duration::from_secs(10), changes.recv()).await.expect("within 10 s").unwrap().what
}

fn pod(name: &str) -> Pod {
    let container = json!({ "name": "mysql", "image": "none" });
    let labels = json!({ "app": "shop" });
    serde_json::from_value(
        json!({ "metadata": { "name": name, "labels": labels }, "spec": { "containers": [container] } }),
    )
    .unwrap()
}

#[tokio::test]
async fn the_controller_follows_objects_pods_and_secrets() {
    let place = Place::new("controller").await;
    let (sender, mut changes) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let scope = Scope::Namespaces(vec![place.key.namespace.clone()]);
    let controller = Controller::new(&place.client, scope, sender);
    tokio::spawn(controller.clone().run(stop.clone()));
    place.cluster(&json!({ "podSelector": { "matchLabels": { "app": "shop" } } })).await;
    let refused = next(&mut changes).await;
    assert!(matches!(&refused, Change::Invalid(refusal) if refusal.problem.category == "SecretMissing"), "{refused:?}");
    let secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": "s" }, "stringData": { "username": "baton", "password": "p" },
    }))
    .unwrap();
    place.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    let Change::Desired(desired) = next(&mut changes).await else { panic!("served with its secret") };
    assert!(desired.policy.servers.is_empty());
    let pods: Api<Pod> = place.api();
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let status = json!({ "status": { "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }], "phase": "Running" } });
    pods.patch_status("a", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let Change::Desired(desired) = next(&mut changes).await else { panic!("served with its pod") };
    assert_eq!(desired.policy.servers.keys().collect::<Vec<_>>(), [&addr("10.0.0.1:3306")]);
    pods.delete("a", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await.unwrap();
    let Change::Desired(desired) = next(&mut changes).await else { panic!("served without its pod") };
    assert!(desired.policy.servers.is_empty());
    place.api::<MysqlCluster>().delete("shop", &DeleteParams::default()).await.unwrap();
    assert!(matches!(next(&mut changes).await, Change::Gone));
    stop.cancel();
    place.end().await;
}
