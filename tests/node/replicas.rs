//! The operator's two replicas: one leads, both tell how they are, and a leader that is asked to go hands
//! over without letting the Lease run out.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::place::{NAMESPACE, Node, RELEASE, attempt, cluster, keep_records, kubectl, leader, operators, until};

/// Longest time for a change of the leader.
const LEADER_DEADLINE: Duration = Duration::from_secs(60);

/// The one metric of `pod` whose line begins with `name`.
async fn metric(pod: &str, name: &str) -> String {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:9090/proxy/metrics");
    let text = kubectl(&["get", "--raw", &path]).await;
    let line = text.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("{name} is not in: {text}")).to_owned()
}

/// Who holds the Lease, version by version: names of pods, empty for nobody.
struct Holders {
    lines: Lines<BufReader<ChildStdout>>,
    _watch: Child,
}

impl Holders {
    fn watch() -> Self {
        let holder = "jsonpath={.spec.holderIdentity}{\"\\n\"}";
        let mut watch = Command::new("kubectl")
            .args(["--namespace", NAMESPACE, "get", "lease", RELEASE, "--watch", "--output", holder])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { lines: BufReader::new(watch.stdout.take().unwrap()).lines(), _watch: watch }
    }

    async fn next(&mut self) -> String {
        let line = timeout(LEADER_DEADLINE, self.lines.next_line()).await.expect("the Lease is written");
        let line = line.unwrap().expect("the watch goes on");
        line.rsplit_once('_').map_or(line.clone(), |(pod, _)| pod.to_owned())
    }
}

/// The two replicas and which of them leads, once an upgrade is over: one that it replaces may still lead.
async fn two_operators() -> Result<(Vec<String>, String), String> {
    kubectl(&["rollout", "status", "deployment", RELEASE, "--timeout=30s"]).await;
    let (pods, leader) = (operators().await, leader().await.unwrap_or_default());
    if pods.len() == 2 && pods.contains(&leader) { Ok((pods, leader)) } else { Err(format!("{leader} of {pods:?}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_replicas_leads_and_both_are_ready() {
    let _node = Node::take().await;
    let (pods, leader) = until("two replicas, one leads", LEADER_DEADLINE, two_operators).await;
    for pod in &pods {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy");
        for probe in ["healthz", "readyz"] {
            assert_eq!(kubectl(&["get", "--raw", &format!("{path}/{probe}")]).await, "ok\n");
        }
        let leads = metric(pod, "baton_leader ").await;
        assert_eq!(leads, format!("baton_leader {}", u8::from(*pod == leader)), "{pod}");
        let line = kubectl(&["logs", pod, "--tail=1"]).await;
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("not JSON, {error}: {line}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_go_hands_over() {
    let node = Node::take().await;
    let (_, old) = until("two replicas, one leads", LEADER_DEADLINE, two_operators).await;
    let before = cluster().await["status"].clone();
    let mut holders = Holders::watch();
    assert_eq!(holders.next().await, old);
    kubectl(&["delete", "pod", &old, "--wait=false"]).await;
    let mut seen = vec![old.clone()];
    while seen.last().is_none_or(|holder| holder.is_empty() || *holder == old) {
        seen.push(holders.next().await);
    }
    let [.., released, new] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(released, "", "the old leader gave the Lease up, it did not let it run out: {seen:?}");

    // The new one acts: it sees a new wish and answers it.
    let generation = || async {
        let cluster = cluster().await;
        let (wanted, seen) = (&cluster["metadata"]["generation"], &cluster["status"]["observedGeneration"]);
        if wanted == seen { Ok(()) } else { Err(format!("{seen} of {wanted}")) }
    };
    keep_records(7).await;
    until("the new leader's answer", LEADER_DEADLINE, generation).await;
    node.healthy().await;
    let after = cluster().await["status"].clone();
    assert_eq!((&after["primary"], &after["epoch"]), (&before["primary"], &before["epoch"]), "no failover");
    let leads = metric(new, "baton_leader ").await;
    assert_eq!(leads, "baton_leader 1");
}

/// Whether the operator may do this to `what`, a resource with `#subresource` or `/name`, in the namespace of the tests or elsewhere.
async fn may(namespace: &str, verb: &str, what: &str) -> bool {
    let account = format!("system:serviceaccount:{NAMESPACE}:baton");
    let (what, part) = what.split_once('#').unwrap_or((what, ""));
    let words = ["auth", "can-i", verb, what, "--subresource", part, "--namespace", namespace, "--as", &account];
    let answer = attempt("kubectl", &words, "").await;
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "yes" => true,
        "no" => false,
        other => panic!("kubectl {}: {other} {}", words.join(" "), String::from_utf8_lossy(&answer.stderr)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_do_what_it_needs_and_no_more() {
    let _node = Node::take().await;
    let needed = [
        ("list", "mysqlclusters.mysql.baton.dev"),
        ("update", "mysqlclusters.mysql.baton.dev#status"),
        ("create", "mysqlfailovers.mysql.baton.dev"),
        ("get", "secrets"),
        ("watch", "pods"),
        ("patch", "endpointslices.discovery.k8s.io"),
        ("create", "events.events.k8s.io"),
    ];
    let refused = [
        ("update", "mysqlclusters.mysql.baton.dev"),
        ("update", "mysqlfailovers.mysql.baton.dev"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("create", "secrets"),
        ("delete", "pods"),
        ("create", "pods"),
        ("create", "pods#exec"),
        ("delete", "services"),
        ("delete", "endpointslices.discovery.k8s.io"),
        ("update", "deployments.apps"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
    ];
    for namespace in [NAMESPACE, "default"] {
        for (verb, what) in needed {
            assert!(may(namespace, verb, what).await, "{verb} {what} in {namespace}");
        }
        for (verb, what) in refused {
            assert!(!may(namespace, verb, what).await, "{verb} {what} in {namespace}");
        }
    }
    assert!(may(NAMESPACE, "update", "leases.coordination.k8s.io/baton").await);
    assert!(!may(NAMESPACE, "update", "leases.coordination.k8s.io/other").await);
    assert!(!may("default", "create", "leases.coordination.k8s.io").await);
}
