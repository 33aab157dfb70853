//! From an object and its Secrets to a policy: that every wish arrives, and what is refused and how.

use serde_json::{Value, json};

use super::*;
use crate::{
    core::{
        observation::Identity,
        policy::{DataLoss, Detection, Failover, Mode, OldPrimary, SemiSync, Tier},
    },
    k8s::secrets::fetch,
    testing::api_server::ApiServer,
};

fn cluster(spec: &Value) -> MysqlCluster {
    let mut whole = json!({ "credentials": { "secretName": "s" } });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlCluster",
        "metadata": { "name": "shop", "namespace": "default", "uid": "u", "generation": 3 },
        "spec": whole, "status": { "epoch": 6, "primary": "db-1:3306" },
    }))
    .unwrap()
}

/// `stringData` as a Secret that was read.
async fn secret(data: &Value) -> Loaded {
    let server = ApiServer::new();
    let data: BTreeMap<String, k8s_openapi::ByteString> = data
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.clone(), k8s_openapi::ByteString(value.as_str().unwrap().into())))
        .collect();
    server.put(
        "secrets",
        &json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "namespace": "default" }, "data": data }),
    );
    fetch(&kube::Api::default_namespaced(server.client()), "s").await.unwrap()
}

async fn secrets() -> Secrets {
    Secrets {
        credentials: secret(&json!({ "username": "baton", "password": "hunter2" })).await,
        ca: None,
        client: None,
    }
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

async fn desired(spec: Value) -> Result<Desired, Invalid> {
    validate(&cluster(&spec), &secrets().await, &BTreeMap::new(), now())
}

fn addr(text: &str) -> ServerAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn defaults_are_filled_in() {
    let desired = desired(json!({ "servers": [{ "host": "DB-1" }] })).await.unwrap();
    let policy = &desired.policy;
    assert_eq!(policy.cluster_name, "shop");
    assert_eq!(policy.servers.keys().collect::<Vec<_>>(), [&addr("db-1:3306")]);
    assert_eq!((policy.failover.block_ms, policy.failover.keep_records), (3_600_000, 20));
    assert_eq!(policy.failover.data_loss, None);
    assert_eq!(policy.detection, Detection::of(Tier::Standard, None, false));
    assert!(policy.discovery.follow && !policy.paused);
    assert_eq!((desired.epoch, desired.primary), (Epoch(6), Some(addr("db-1:3306"))));
    assert_eq!(desired.connect.account.user, "baton");
    assert!(!format!("{:?}", desired.connect).contains("hunter2"));
    assert_eq!((desired.routing, policy.semi_sync, &desired.semi_sync), (None, None, &None));
}

#[tokio::test]
async fn every_wish_reaches_the_policy() {
    let desired = desired(json!({
        "clusterName": "Shop", "port": 3307, "paused": true, "domain": "shop.example",
        "servers": [{ "host": "10.0.0.7", "zone": "z", "region": "r", "labels": { "rack": "1" }, "promotion": "Prefer" }],
        "discovery": { "follow": false, "from": "ReplicaHosts", "ignore": ["^10[.]9[.]"] },
        "promotion": {
            "rules": [{ "match": { "host": "db-?.*" }, "rule": "MustNot" }],
            "within": "Zone", "maxLag": "1500ms", "lagQuery": "SELECT 1", "relayLog": "Refuse",
        },
        "detection": { "tier": "Fast", "heartbeatInterval": "200ms", "replicationSettings": "Enforce",
            "stallAfter": "8s", "writeCanary": "On" },
        "failover": {
            "mode": "DetectOnly", "intermediate": "DetectOnly", "stalledPrimary": "DetectOnly",
            "readOnlyPrimary": "Automatic",
            "executor": "Job", "dataLoss": "Accept", "blockPeriod": "0s", "priority": 7, "detachLost": false,
            "oldPrimary": "Leave", "rebuild": "Clone", "rebuildTimeout": "1m", "keepRecords": 1,
        },
        "durability": { "mode": "SemiSync", "acks": 2, "zones": 3 },
        "repair": { "replicas": "Repair" },
        "routing": { "primaryService": "shop" },
    }))
    .await
    .unwrap();
    let policy = &desired.policy;
    let facts = &policy.servers[&addr("10.0.0.7:3306")];
    assert_eq!((facts.zone.as_deref(), facts.region.as_deref()), (Some("z"), Some("r")));
    assert_eq!((facts.labels["rack"].as_str(), facts.promotion), ("1", Some(PromotionRule::Prefer)));
    assert_eq!((policy.discovery.port, policy.discovery.from), (3307, DiscoverFrom::ReplicaHosts));
    assert!(policy.discovery.ignore[0].is_match("10.9.0.1:3306") && !policy.discovery.follow);
    let (rule, verdict) = &policy.promotion.rules[0];
    let matches = |text: &str| rule.matches(&addr(text), &ServerFacts::default(), None::<&Identity>);
    assert!(matches("db-1.example:3306") && !matches("xdb-1.example:3306") && !matches("db-12.example:1"));
    assert_eq!((*verdict, policy.promotion.within), (PromotionRule::MustNot, Within::Zone));
    assert_eq!((policy.promotion.max_lag_s, policy.promotion.relay_log), (Some(1.5), RelayLog::Refuse));
    let detection = Detection { stall_ms: 8000, write_canary: true, ..Detection::of(Tier::Fast, Some(200), true) };
    assert_eq!(policy.detection, detection);
    let failover = Failover {
        mode: Mode::DetectOnly,
        intermediate: Mode::DetectOnly,
        stalled: Mode::DetectOnly,
        read_only: Mode::Automatic,
        by_job: true,
        data_loss: Some(DataLoss::Accept),
        block_ms: 0,
        priority: 7,
        detach_lost: false,
        old_primary: OldPrimary::Leave,
        rebuild: true,
        rebuild_timeout_ms: 60_000,
        keep_records: 1,
    };
    assert_eq!(policy.failover, failover);
    assert_eq!(policy.semi_sync, Some(SemiSync { acks: 2, zones: 3 }));
    assert!(desired.connect.keeps_semi_sync);
    assert!(policy.repair_replicas);
    assert_eq!(desired.routing, Some(Wish { service: "shop".to_owned(), port: 3307 }));
    assert_eq!((policy.cluster_name.as_str(), policy.paused), ("Shop", true));
    assert_eq!(desired.connect.lag_query.as_deref(), Some("SELECT 1"));
}

#[tokio::test]
async fn what_is_given_is_not_asked_for() {
    let queries = json!({ "clusterName": "SELECT 'x'", "domain": "SELECT 'd'", "zone": "SELECT 'z'" });
    let mut spec = json!({ "servers": [{ "host": "a" }], "queries": queries });
    let asked = desired(spec.clone()).await.unwrap().connect.queries;
    assert_eq!((asked.cluster_name.as_deref(), asked.domain.as_deref()), (Some("SELECT 'x'"), Some("SELECT 'd'")));
    let mut object = cluster(&spec);
    object.status.as_mut().unwrap().cluster_name = Some("told".to_owned());
    assert_eq!(cluster_name(&object), "told", "two clusters cannot be told the same name");
    spec["clusterName"] = json!("Given");
    spec["domain"] = json!("given.example");
    let asked = desired(spec.clone()).await.unwrap().connect.queries;
    assert_eq!((asked.cluster_name, asked.domain, asked.zone.as_deref()), (None, None, Some("SELECT 'z'")));
    let mut object = cluster(&spec);
    object.status.as_mut().unwrap().cluster_name = Some("told".to_owned());
    assert_eq!(cluster_name(&object), "Given");
}

#[tokio::test]
async fn what_one_object_cannot_tell_is_refused_here() {
    for (spec, category, words) in [
        (json!({ "servers": [{ "host": "db-1" }, { "host": "DB-1" }] }), "InvalidSpec", "there twice"),
        (json!({ "servers": [{ "host": "a'b" }] }), "InvalidSpec", "servers: host is not"),
        (
            json!({ "servers": [{ "host": "a" }], "discovery": { "ignore": ["("] } }),
            "InvalidSpec",
            "discovery.ignore: \"(\" is not a regular expression",
        ),
    ] {
        let error = desired(spec).await.unwrap_err();
        assert_eq!(error.category(), category);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn maintenance_ends_by_itself_and_a_host_means_all_its_servers() {
    let entry = |servers: Value, until: &str| json!({ "servers": servers, "until": until, "reason": "r" });
    let spec = json!({
        "servers": [{ "host": "db-1" }, { "host": "db-1", "port": 3307 }, { "host": "2001:db8::1" }],
        "maintenance": [
            entry(json!(["db-1", "2001:db8::1", "[2001:db8::2]:3309"]), "2026-06-01T00:00:01Z"),
            entry(json!(["db-9"]), "2026-06-01T00:00:00Z"),
        ],
    });
    let servers = desired(spec.clone()).await.unwrap().policy.maintenance;
    let shown: Vec<_> = servers.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["[2001:db8::1]:3306", "[2001:db8::2]:3309", "db-1:3306", "db-1:3307"]);
    let later = "2026-06-01T00:00:01Z".parse().unwrap();
    let after = validate(&cluster(&spec), &secrets().await, &BTreeMap::new(), later).unwrap();
    assert_eq!(after.policy.maintenance, BTreeSet::new());
}

#[tokio::test]
async fn secrets_have_to_be_complete() {
    let cluster = cluster(&json!({ "servers": [{ "host": "db-1" }] }));
    let check = |secrets: Secrets| validate(&cluster, &secrets, &BTreeMap::new(), now());
    let without = Secrets { credentials: secret(&json!({ "username": "baton" })).await, ..secrets().await };
    assert_eq!(check(without).unwrap_err().to_string(), "secret s has no key password");
    let ca = Secrets { ca: Some(secret(&json!({ "other": "x" })).await), ..secrets().await };
    assert_eq!(check(ca).unwrap_err().category(), "SecretIncomplete");
    let data = json!({ "username": "b", "password": "p", "replication-username": "r", "replication-password": "q\n" });
    let both = check(Secrets { credentials: secret(&data).await, ..secrets().await }).unwrap();
    let replication = both.connect.replication.unwrap();
    assert_eq!((replication.user.as_str(), replication.password.expose_secret()), ("r", "q"));
}

#[tokio::test]
async fn pods_are_servers_with_their_names() {
    let pod = PodServer {
        facts: ServerFacts { zone: Some("z".to_owned()), ..ServerFacts::default() },
        tls_name: Some("shop-0.shop.default.svc".to_owned()),
    };
    let pods = [(addr("10.0.0.1:3306"), pod)].into();
    let spec = json!({ "podSelector": { "matchLabels": { "app": "shop" } } });
    let desired = validate(&cluster(&spec), &secrets().await, &pods, now()).unwrap();
    assert_eq!(desired.policy.servers[&addr("10.0.0.1:3306")].zone.as_deref(), Some("z"));
    assert_eq!(desired.connect.tls_names[&addr("10.0.0.1:3306")], "shop-0.shop.default.svc");
}
