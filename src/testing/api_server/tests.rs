//! That the fake API server behaves like the real one where the shell relies on it.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use super::*;
use crate::api::{MysqlCluster, MysqlFailover};

fn config_map(name: &str, label: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "app": label } }, "data": { "key": value },
    }))
    .unwrap()
}

#[tokio::test]
async fn a_stale_resource_version_is_a_conflict() {
    let api: Api<ConfigMap> = Api::default_namespaced(ApiServer::new().client());
    let first = api.create(&PostParams::default(), &config_map("a", "x", "1")).await.unwrap();
    let mut newer = first.clone();
    newer.data = Some(BTreeMap::from([("key".to_owned(), "2".to_owned())]));
    api.replace("a", &PostParams::default(), &newer).await.unwrap();
    let error = api.replace("a", &PostParams::default(), &first).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.is_conflict()), "{error}");
    let error = api.create(&PostParams::default(), &first).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.is_already_exists()), "{error}");
}

#[tokio::test]
async fn apply_creates_changes_and_removes_what_is_no_longer_applied() {
    let server = ApiServer::new();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let apply = PatchParams::apply("baton").force();
    api.patch("a", &apply, &Patch::Apply(config_map("a", "x", "1"))).await.unwrap();
    let merge = json!({ "data": { "foreign": "kept" } });
    api.patch("a", &PatchParams::default(), &Patch::Merge(merge)).await.unwrap();
    let mut without = config_map("a", "x", "1");
    without.data = None;
    let after = api.patch("a", &apply, &Patch::Apply(&without)).await.unwrap();
    assert_eq!(after.data, None, "the manager owned `data` as a whole");
    let version = after.resource_version();
    let again = api.patch("a", &apply, &Patch::Apply(&without)).await.unwrap();
    assert_eq!(again.resource_version(), version, "nothing changed");
}

#[tokio::test]
async fn status_is_another_side_of_a_custom_resource() {
    let server = ApiServer::new();
    let api: Api<MysqlFailover> = Api::default_namespaced(server.client());
    let mut object: MysqlFailover = serde_json::from_value(json!({
        "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlFailover", "metadata": { "name": "a" },
        "spec": { "clusterName": "shop", "cause": { "analysis": "Forced", "reason": "r" } },
        "status": { "phase": "Failed" },
    }))
    .unwrap();
    let created = api.create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(created.status, None);
    object.metadata.resource_version = created.resource_version();
    object.spec.skip_hooks = true;
    let replaced = api.replace_status("a", &PostParams::default(), &object).await.unwrap();
    assert!(!replaced.spec.skip_hooks && replaced.status.is_some());
    assert_eq!(replaced.metadata.generation, Some(1));
}

#[tokio::test]
async fn lists_select_by_label() {
    let server = ApiServer::new();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        api.create(&PostParams::default(), &config_map(name, label, "1")).await.unwrap();
    }
    let names = |selector: &str| {
        let (api, params) = (api.clone(), ListParams::default().labels(selector));
        async move { api.list(&params).await.unwrap().iter().map(ResourceExt::name_any).collect::<Vec<_>>() }
    };
    assert_eq!(names("app=x").await, ["a", "c"]);
    assert_eq!(names("app in (y,z)").await, ["b"]);
    assert_eq!(names("app,app!=x").await, ["b"]);
    assert_eq!(names("!app").await, Vec::<String>::new());
    let all: Api<ConfigMap> = Api::all(server.client());
    assert_eq!(all.list(&ListParams::default()).await.unwrap().items.len(), 3);
}

#[tokio::test]
async fn a_watcher_survives_a_cut_and_a_compaction() {
    let server = ApiServer::new();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    api.create(&PostParams::default(), &config_map("a", "x", "1")).await.unwrap();
    let config = watcher::Config::default().labels("app=x");
    let mut seen = std::pin::pin!(watcher(api.clone(), config).applied_objects().map_ok(|found| found.name_any()));
    assert_eq!(seen.next().await.unwrap().unwrap(), "a");
    api.create(&PostParams::default(), &config_map("b", "x", "1")).await.unwrap();
    assert_eq!(seen.next().await.unwrap().unwrap(), "b");
    server.cut_watches();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &config_map("c", "y", "1")).await.unwrap();
    server.compact();
    server.put("configmaps", &json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "d", "namespace": "default", "labels": { "app": "x" } },
    }));
    loop {
        match seen.next().await.unwrap() {
            Ok(name) if name == "d" => break,
            Ok(name) => assert_eq!(name, "b", "listed again"),
            Err(error) => assert!(error.to_string().contains("too old"), "{error}"),
        }
    }
}

#[tokio::test]
async fn faults_happen_as_asked() {
    let server = ApiServer::new();
    let api: Api<Lease> = Api::default_namespaced(server.client());
    let lease: Lease = serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
    server.set_faults(|call| (call.verb == Verb::Create).then_some(Fault::DoneBut(504)));
    assert!(api.create(&PostParams::default(), &lease).await.is_err());
    assert!(api.get("a").await.is_ok(), "it was done");
    server.set_faults(|_| Some(Fault::Hang));
    assert!(tokio::time::timeout(Duration::from_millis(30), api.get("a")).await.is_err());
    server.clear_faults();
    assert_eq!(server.writes().len(), 1);
    assert_eq!(server.calls().len(), 3);
    let stale: Option<MysqlCluster> = Api::default_namespaced(server.client()).get_opt("nobody").await.unwrap();
    assert!(stale.is_none());
}
