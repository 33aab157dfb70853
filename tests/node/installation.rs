//! Installing, upgrading and removing: custom resource definitions are upgraded with the chart, nothing a
//! user made goes with it, and the plain manifests run as well.

use std::{path::Path, time::Duration};

use baton::testing::folder::Folder;
use serde_json::{Value, json};

use super::place::{
    CHART, NAMESPACE, Node, RELEASE, cluster, get, install, keep_records, kubectl, operators, run, until,
};

const CRD: &str = "mysqlclusters.mysql.baton.dev";

/// The chart as an earlier version might have been: without the short name `myc`.
fn earlier_chart(folder: &Path) -> String {
    let chart = folder.join("baton");
    baton::testing::process::run("cp", &["-r", CHART, &chart.to_string_lossy()]).unwrap();
    let file = chart.join(format!("templates/crds/{CRD}.yaml"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("- myc\n"), "the definition has the short name");
    std::fs::write(&file, text.replacen("- myc\n", "- oldmyc\n", 1)).unwrap();
    chart.to_string_lossy().into_owned()
}

async fn short_names() -> Value {
    get(&["crd", CRD]).await["spec"]["names"]["shortNames"].clone()
}

/// What must survive: the object, its primary and its reign.
async fn identity() -> [Value; 3] {
    let cluster = cluster().await;
    [cluster["metadata"]["uid"].clone(), cluster["status"]["primary"].clone(), cluster["status"]["epoch"].clone()]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_brings_new_definitions_and_settings_and_no_failover() {
    let node = Node::take().await;
    let before = identity().await;
    let folder = Folder::new().unwrap();
    install(&earlier_chart(folder.path()), &[]).await;
    assert_eq!(short_names().await, json!(["oldmyc"]));

    // Roles in one namespace take the place of the ClusterRole.
    let values = [format!("namespaces={{{NAMESPACE}}}"), "lease.tier=Standard".into(), "log.format=text".into()];
    install(CHART, &values.each_ref().map(String::as_str)).await;
    assert_eq!(short_names().await, json!(["myc"]));
    let taken = || async {
        let lease = get(&["lease", RELEASE]).await;
        let seconds = lease["spec"]["leaseDurationSeconds"].as_u64();
        if seconds == Some(6) { Ok(()) } else { Err(lease["spec"].to_string()) }
    };
    until("the Lease of the new tier", Duration::from_secs(60), taken).await;
    node.healthy().await;
    assert_eq!(identity().await, before);
    for pod in operators().await {
        let log = kubectl(&["logs", &pod]).await;
        assert!(!log.contains("forbidden"), "Roles are enough for {pod}: {log}");
        assert!(!log.trim_start().starts_with('{'), "text as wished: {log}");
    }
    install(CHART, &["namespaces=null", "lease.tier=Fast", "log.format=json"]).await;
    node.healthy().await;
}

/// `manifests/baton.yaml` with the image that this node has.
fn plain_manifests() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/baton.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let image = format!("localhost/baton:{}", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&image), "{image} is in {file}");
    text.replace(&image, "localhost/baton:dev")
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_keeps_what_users_made_and_plain_manifests_take_over() {
    let node = Node::take().await;
    let before = identity().await;
    run("helm", &["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"], "").await;
    assert!(get(&["deployments"]).await["items"].as_array().unwrap().is_empty());
    assert_eq!(identity().await, before, "the cluster stays, with its definition");
    let slice = get(&["endpointslice", "shop-primary-baton"]).await;
    let endpoint = format!("{}:3306", slice["endpoints"][0]["addresses"][0].as_str().unwrap());
    assert_eq!(endpoint, before[1], "clients are led to the primary still");

    run("kubectl", &["apply", "--server-side", "-f", "-"], &plain_manifests()).await;
    run("kubectl", &["--namespace", "baton", "rollout", "status", "deployment/baton", "--timeout=120s"], "").await;
    keep_records(8).await;
    node.healthy().await;
    run("kubectl", &["delete", "namespace", "baton", "--timeout=120s"], "").await;
    let made = "app.kubernetes.io/managed-by=kubectl,app.kubernetes.io/name=baton";
    run("kubectl", &["delete", "clusterroles,clusterrolebindings", "--selector", made], "").await;

    install(CHART, &[]).await;
    for crd in [CRD, "mysqlfailovers.mysql.baton.dev"] {
        give_back(crd).await;
    }
    node.healthy().await;
    assert_eq!(identity().await, before);
}

/// Ends kubectl's say over a definition that is Helm's again: a later upgrade would otherwise conflict
/// (elsewhere `helm upgrade --force-conflicts` decides that).
async fn give_back(crd: &str) {
    let nothing = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": crd } });
    run("kubectl", &["apply", "--server-side", "-f", "-"], &nothing.to_string()).await;
}
