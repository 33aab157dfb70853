//! One operator in a namespace of its own, and what the cases ask of it.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use baton::testing::{
    folder::Folder,
    job_runner::JobRunner,
    kubernetes::{Kubernetes, Operator},
    process::run,
    series::Series,
    topology::{Options, Topology},
};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::RwLock;

/// Whoever freezes the API server does it alone.
pub static API_SERVER: RwLock<()> = RwLock::const_new(());

/// Generous: the bound of the requirement is printed, not asserted, because machines differ.
const PATIENCE: Duration = Duration::from_secs(40);

pub struct Scene {
    pub kubernetes: Kubernetes,
    pub operator: Operator,
    pub metrics: String,
    pub health: String,
    pub admin: String,
    namespace: String,
    args: Vec<String>,
    folder: Folder,
    starts: u32,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Scene {
    pub async fn new(name: &str) -> Self {
        Self::with(name, &[]).await
    }

    /// With more arguments for the operator.
    pub async fn with(name: &str, given: &[&str]) -> Self {
        let namespace = format!("input-{name}-{}", std::process::id());
        let kubernetes = Kubernetes::prepare(&root().join("crds"), &namespace).await.expect(
            "hint: dev/kubernetes/up.sh --control-plane, then dev/kubernetes/enter.sh cargo test --features testing --test input",
        );
        kubernetes.apply_credentials("accounts").await.unwrap();
        let [health, metrics, admin] = [(); 3].map(|()| free_address());
        // A busy machine must not cost the leadership.
        let args = ["operator", "--lease-tier", "Standard", "--namespace", &namespace, "--admin-address", &admin];
        let more = ["--health-address", &health, "--metrics-address", &metrics];
        let args: Vec<String> = args.into_iter().chain(more).chain(given.iter().copied()).map(str::to_owned).collect();
        let folder = Folder::new().unwrap();
        let operator = start(&args, &namespace, &folder, 0);
        Self { kubernetes, operator, metrics, health, admin, namespace, args, folder, starts: 0 }
    }

    /// A runner of this namespace's Jobs.
    pub fn jobs(&self) -> JobRunner {
        JobRunner::new(&self.kubernetes, Path::new(env!("CARGO_BIN_EXE_baton")), self.folder.path())
    }

    /// The environment of a process that strikes itself once: a signal and a point, as `KILL before:Claim`.
    pub fn strike(&self, what: &str) -> String {
        let file = self.folder.path().join(what.replace([' ', ':'], "-"));
        std::fs::write(&file, what).unwrap();
        format!("BATON_STRIKE={}", file.display())
    }

    /// A file with the rights that the chart gives to Jobs, and no others, as a kubeconfig.
    pub fn rights_of_jobs(&self) -> String {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let (objects, config) = (path("jobs.yaml"), path("job-kubeconfig"));
        let helm = run(&root().join("dev/kubernetes/build.sh").to_string_lossy(), &["helm"]).unwrap();
        let (helm, chart) = (format!("{}/helm", helm.trim()), root().join("charts/baton"));
        let more = ["--set", "jobs.enabled=true", "--show-only", "templates/jobs.yaml"];
        let args = ["template", "baton", &chart.to_string_lossy(), "--namespace", &self.namespace];
        let rendered = run(&helm, &[&args[..], &more[..]].concat()).unwrap();
        std::fs::write(&objects, rendered).unwrap();
        run("kubectl", &["apply", "-f", &objects]).unwrap();
        let token = run("kubectl", &["-n", &self.namespace, "create", "token", "baton-job"]).unwrap();
        std::fs::write(&config, run("kubectl", &["config", "view", "--raw", "--minify"]).unwrap()).unwrap();
        let token = format!("--token={}", token.trim());
        run("kubectl", &["--kubeconfig", &config, "config", "set-credentials", "job", &token]).unwrap();
        run("kubectl", &["--kubeconfig", &config, "config", "set-context", "--current", "--user=job"]).unwrap();
        config
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Starts the operator again, as a kubelet does with a container that ended.
    pub fn restart(&mut self) {
        self.starts += 1;
        self.operator = start(&self.args, &self.namespace, &self.folder, self.starts);
    }

    /// Waits until condition `kind` of cluster `name` has `status` and `reason`, and tells how long it took.
    pub async fn condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> Value {
        let what = format!("{kind} {status} for {reason}");
        let started = Instant::now();
        let is = |object: &DynamicObject| {
            condition(object, kind).is_some_and(|found| found["status"] == status && found["reason"] == reason)
        };
        let waited = self.kubernetes.wait("MysqlCluster", name, &what, PATIENCE, is).await;
        let object = waited.unwrap_or_else(|error| panic!("{error}\n{}", self.log_tail()));
        println!("{name}: {what} after {} ms", started.elapsed().as_millis());
        condition(&object, kind).unwrap()
    }

    pub async fn record(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let status = |object: &DynamicObject| object.data.get("status").cloned().unwrap_or_default();
        let waited = self.kubernetes.wait("MysqlFailover", name, what, PATIENCE, |object| is(&status(object))).await;
        status(&waited.unwrap_or_else(|error| panic!("{error}\n{}", self.log_tail())))
    }

    pub async fn cluster(&self, name: &str) -> DynamicObject {
        let all = self.kubernetes.list("MysqlCluster").await.unwrap();
        all.into_iter().find(|object| object.metadata.name.as_deref() == Some(name)).unwrap()
    }

    pub async fn healthy(&self, name: &str, topology: &Topology, more: &Value) {
        self.kubernetes.apply_cluster(name, &topology.addresses(), "accounts", more).await.unwrap();
        self.condition(name, "FailoverReady", "True", "Ready").await;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.operator.log()).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The values of all metrics whose line begins so, added up.
    pub fn metric(&self, line: &str) -> f64 {
        let text = curl(&["-s", &format!("http://{}/metrics", self.metrics)]).unwrap_or_default();
        let found = text.lines().filter(|found| found.starts_with(line));
        found.filter_map(|found| found.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < PATIENCE, "not {what}\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn start(args: &[String], namespace: &str, folder: &Folder, starts: u32) -> Operator {
    let log: PathBuf = folder.path().join(format!("operator-{starts}.log"));
    Operator::start(Path::new(env!("CARGO_BIN_EXE_baton")), args, namespace, &log).unwrap()
}

/// What curl says; `None`: it failed.
pub fn curl(args: &[&str]) -> Option<String> {
    run("curl", args).ok()
}

/// A condition of an object.
pub fn condition(object: &DynamicObject, kind: &str) -> Option<Value> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).cloned()
}

/// A primary with replicas on 127.0.0.1.
pub async fn servers(replicas: u32, more: &[&str]) -> Topology {
    let more = more.iter().map(|option| (*option).to_owned()).collect();
    let options = Options {
        durable: false,
        more,
        heartbeat_ms: Some(500),
        connect_retry_s: Some(1),
        ..Options::new(Series::Mysql97, replicas)
    };
    Topology::start(&options).await.unwrap()
}

/// A failover that a person asks for.
pub fn request(name: &str, cluster: &str, candidate: Option<&str>) -> Value {
    let mut spec = json!({ "clusterName": cluster, "cause": { "analysis": "Forced", "reason": "a drill" } });
    if let Some(candidate) = candidate {
        spec["candidate"] = json!(candidate);
    }
    json!({ "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlFailover", "metadata": { "name": name }, "spec": spec })
}
