//! The node of the tests: commands on it, and the installation and the servers that they share.

use std::{
    future::Future,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep, timeout},
};

/// Namespace of the operator and of the servers; the demo's, whose scripts then work here too.
pub const NAMESPACE: &str = "baton-demo";
/// Name of the Helm release, and so of the Deployment and the Lease.
pub const RELEASE: &str = "baton";
/// The chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/baton");
/// Longest time for one command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(240);
/// Longest time until the servers are started and followed.
const HEALTHY_DEADLINE: Duration = Duration::from_secs(180);

/// Only one test at a time works on the node.
static TURN: Mutex<()> = Mutex::const_new(());

/// The node with the chart installed and a healthy cluster of four servers.
pub struct Node {
    _turn: MutexGuard<'static, ()>,
}

impl Node {
    /// Waits for its turn and puts everything in place that is not.
    pub async fn take() -> Self {
        let turn = TURN.lock().await;
        let node = Self { _turn: turn };
        install(CHART, &[]).await;
        let file = |name| format!("{}/dev/demo/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        kubectl(&["apply", "--server-side", "-f", &file("servers")]).await;
        kubectl(&["rollout", "status", "statefulset/db", "--timeout=180s"]).await;
        kubectl(&["apply", "--server-side", "-f", &file("cluster")]).await;
        node.healthy().await;
        node
    }

    /// Waits until one server of four is the primary, clients are led to it, the others follow it, and a
    /// failover would succeed.
    pub async fn healthy(&self) {
        let fine = || async {
            acknowledge_all().await;
            let (cluster, led_to) = (cluster().await, endpoints().await);
            let led = led_to.iter().map(|ip| format!("{ip}:3306")).eq(cluster["status"]["primary"].as_str());
            let instead = || format!("clients are led to {led_to:?}, status {}", cluster["status"]);
            (led && is_healthy(&cluster)).then_some(()).ok_or_else(instead)
        };
        until("a healthy cluster of four servers", HEALTHY_DEADLINE, fine).await;
    }
}

/// Installs or upgrades the release from `chart` with more `values` and waits until it is ready.
pub async fn install(chart: &str, values: &[&str]) {
    let image = ["image.tag=dev", "image.repository=localhost/baton"];
    let set = image.iter().chain(values).flat_map(|value| ["--set", *value]);
    let words = ["upgrade", "--install", RELEASE, chart, "--namespace", NAMESPACE, "--create-namespace", "--wait"];
    let words: Vec<_> = words.into_iter().chain(["--timeout", "180s"]).chain(set).collect();
    run("helm", &words, "").await;
}

fn is_healthy(cluster: &Value) -> bool {
    let status = &cluster["status"];
    let primary = &status["primary"];
    let servers = status["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let follows = |server: &Value| server["role"] == "Replica" && server["source"] == *primary;
    let placed = |server: &Value| server["state"] == "Answering" && (server["address"] == *primary || follows(server));
    let now = &cluster["metadata"]["generation"];
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let true_now = |condition: &&Value| condition["status"] == "True" && condition["observedGeneration"] == *now;
    let holds = |kind| conditions.iter().filter(true_now).any(|condition| condition["type"] == kind);
    servers.len() == 4 && servers.iter().all(placed) && holds("Ready") && holds("FailoverReady")
}

/// Whom the primary's Service leads to, as addresses without ports.
pub async fn endpoints() -> Vec<String> {
    let slices = get(&["endpointslices", "--selector", "kubernetes.io/service-name=shop-primary"]).await;
    let slices = slices["items"].as_array().unwrap().iter().flat_map(|slice| slice["endpoints"].as_array());
    let addresses = slices.flatten().flat_map(|endpoint| endpoint["addresses"].as_array()).flatten();
    addresses.map(|address| address.as_str().unwrap().to_owned()).collect()
}

/// Takes note of every failover, so that none holds back the next.
async fn acknowledge_all() {
    let note = "mysql.baton.dev/acknowledged-by=test";
    kubectl(&["annotate", "mysqlfailovers", "--all", "--overwrite", note]).await;
}

/// The `MysqlCluster`.
pub async fn cluster() -> Value {
    get(&["mysqlcluster", "shop"]).await
}

/// Changes a wish that costs nothing: whoever leads must answer it.
pub async fn keep_records(count: u32) {
    let patch = format!(r#"{{"spec":{{"failover":{{"keepRecords":{count}}}}}}}"#);
    kubectl(&["patch", "mysqlcluster", "shop", "--type=merge", "--patch", &patch]).await;
}

/// Objects as JSON.
pub async fn get(what: &[&str]) -> Value {
    let words: Vec<_> = ["get"].iter().chain(what).chain(&["--output", "json"]).copied().collect();
    serde_json::from_str(&kubectl(&words).await).unwrap()
}

/// Runs kubectl in the namespace of the tests.
pub async fn kubectl(words: &[&str]) -> String {
    let words: Vec<_> = ["--namespace", NAMESPACE].iter().chain(words).copied().collect();
    run("kubectl", &words, "").await
}

/// Runs a command with `input` and gives what it prints.
pub async fn run(program: &str, words: &[&str], input: &str) -> String {
    let output = attempt(program, words, input).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {}: {said}", words.join(" "), output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command with `input`, whatever becomes of it.
pub async fn attempt(program: &str, words: &[&str], input: &str) -> Output {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let work = async {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; see dev/test-node.sh"));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        child.wait_with_output().await.unwrap()
    };
    let late = || panic!("{program} {}: no end within {} s", words.join(" "), COMMAND_DEADLINE.as_secs());
    timeout(COMMAND_DEADLINE, work).await.unwrap_or_else(|_| late())
}

/// Asks until the answer is `Ok`; after `bound`, fails with the last other answer.
pub async fn until<T, F: Future<Output = Result<T, String>>>(what: &str, bound: Duration, ask: impl Fn() -> F) -> T {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(_) if started.elapsed() < bound => sleep(Duration::from_millis(200)).await,
            Err(instead) => panic!("{what}: not within {} s, instead: {instead}", bound.as_secs()),
        }
    }
}

/// Names of the operator's pods that run and are not being deleted.
pub async fn operators() -> Vec<String> {
    let pods = get(&["pods", "--selector", "app.kubernetes.io/instance=baton"]).await;
    let living = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running";
    let pods = pods["items"].as_array().unwrap().iter().filter(living);
    pods.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Who holds the Lease: the name of its pod.
pub async fn leader() -> Option<String> {
    let lease = get(&["lease", RELEASE]).await;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    holder.rsplit_once('_').map(|(pod, _)| pod.to_owned())
}
