//! What a scenario is played on: servers, two operators, a cluster that they serve, and writers.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use baton::testing::{
    clock::Clock,
    folder::Folder,
    kubernetes::{Kubernetes, condition},
    network::{Cut, Host},
    series::Series,
    servers::Server,
    topology::{Options, Place, Topology},
    writers::{Config, Writers},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::pod::{Pod, holder};

/// Name of the cluster.
pub const SHOP: &str = "shop";
/// Name of the Service that leads to its primary.
const SERVICE: &str = "shop-primary";
/// How long anything may take that is not a subject of the scenario.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a cluster has to be well before a fault.
const STEADY: Duration = Duration::from_secs(2);

/// What a scenario wants.
pub struct Setup {
    pub series: Series,
    pub replicas: u32,
    /// Semi-sync, lossless, with so many acknowledgements.
    pub acks: Option<u32>,
    /// Merged into the cluster's spec.
    pub spec: Value,
    /// 0: nobody writes.
    pub writers: u32,
    /// Rows per second and writer.
    pub rate: u32,
    /// Options of every server.
    pub more: Vec<&'static str>,
    /// Servers with a file system of their own, and its size in MiB.
    pub volumes: BTreeMap<u32, u32>,
    /// The operators leave failovers to Jobs, which nobody runs here.
    pub jobs: bool,
    /// Every server and operator has a clock of its own.
    pub clocks: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            series: Series::Mysql97,
            replicas: 2,
            acks: Some(1),
            spec: json!({}),
            writers: 8,
            rate: 50,
            // Clients that give up on a commit leave its connection behind.
            more: vec!["--max-connections=500"],
            volumes: BTreeMap::new(),
            jobs: false,
            clocks: false,
        }
    }
}

impl Setup {
    fn options(&self) -> Options {
        Options {
            place: Place::Network,
            semi_sync_acks: self.acks,
            // As Baton would set them: else it restarts receivers while a scenario begins.
            heartbeat_ms: Some(500),
            net_timeout_s: Some(5),
            connect_retry_s: Some(1),
            more: self.more.iter().map(|option| (*option).to_owned()).collect(),
            volumes: self.volumes.clone(),
            clocks: self.clocks,
            ..Options::new(self.series, self.replicas)
        }
    }
}

/// The servers, the operators, the writers.
pub struct Stage {
    // In the order in which they end.
    pub pods: Vec<Arc<Pod>>,
    pub writers: Option<Writers>,
    pub topology: Topology,
    pub kubernetes: Kubernetes,
    pub config: Config,
    pub setup: Setup,
    pub outside: Ipv4Addr,
    /// When the first fault happened: on the writers' clock, and on ours.
    pub since: (u64, Instant),
    /// When what was lost was let back.
    pub returned: Option<Instant>,
    name: String,
    _folder: Folder,
}

impl Stage {
    /// Sets everything up and waits until it runs well.
    pub async fn new(name: &str, setup: Setup) -> anyhow::Result<Self> {
        let namespace = format!("faults-{}-{}", name.to_lowercase().replace([':', '.'], "-"), std::process::id());
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        let kubernetes = Kubernetes::prepare(&crds, &namespace).await.context(
            "hint: dev/kubernetes/up.sh --control-plane, then dev/kubernetes/enter.sh cargo test --test faults",
        )?;
        kubernetes.apply_credentials("accounts").await?;
        let folder = Folder::new()?;
        let options = setup.options();
        let mut topology = Topology::start(&options).await?;
        let mut pods = Vec::new();
        let mut outside = Ipv4Addr::UNSPECIFIED;
        for number in 0..2 {
            let place = topology.add_host()?;
            outside = place.1;
            let clock = setup.clocks.then(|| Clock::new(folder.path(), &format!("clock-{number}"))).transpose()?;
            pods.push(Pod::start(number, place, &kubernetes, folder.path(), setup.jobs, clock).await?);
            if number == 0 {
                // The first leads.
                let led = |lease: &kube::core::DynamicObject| holder(lease).is_some();
                kubernetes.wait("Lease", "baton", "held", PATIENCE, led).await?;
            }
        }
        let config = Config { writers: setup.writers, rate: setup.rate, ..Config::new(topology.addresses()) };
        let since = (0, Instant::now());
        let mut stage = Self {
            pods,
            writers: None,
            topology,
            kubernetes,
            config,
            setup,
            outside,
            since,
            returned: None,
            name: name.to_owned(),
            _folder: folder,
        };
        stage.open().await.with_context(|| stage.logs())?;
        Ok(stage)
    }

    /// Applies the cluster as it was set up, with `more` in its spec.
    pub async fn configure(&self, more: &Value) -> anyhow::Result<()> {
        let mut spec = json!({
            "detection": { "tier": "Fast", "replicationSettings": "Enforce" },
            "routing": { "primaryService": SERVICE },
        });
        for more in [&self.setup.spec, more] {
            spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        }
        Ok(self.kubernetes.apply_cluster(SHOP, &self.topology.addresses(), "accounts", &spec).await?)
    }

    async fn open(&mut self) -> anyhow::Result<()> {
        self.configure(&json!({})).await?;
        self.ready().await?;
        if self.setup.writers > 0 {
            let writers = Writers::start(self.config.clone()).await?;
            if !writers.acknowledged(100, PATIENCE).await {
                bail!("writers cannot write before the fault");
            }
            self.writers = Some(writers);
            self.ready().await?;
        }
        Ok(())
    }

    /// Waits until a failover would succeed, and has been so for a while: right after a connection was made
    /// anew the primary counts it twice (F15-again).
    pub async fn ready(&self) -> anyhow::Result<()> {
        let ready = |object: &_| condition(object, "FailoverReady");
        let mut since = Instant::now();
        let started = Instant::now();
        while since.elapsed() < STEADY {
            let cluster = self.kubernetes.get("MysqlCluster", SHOP).await?;
            if !cluster.as_ref().is_some_and(ready) {
                since = Instant::now();
            }
            if started.elapsed() > PATIENCE {
                bail!("not FailoverReady within {} s: {}", PATIENCE.as_secs(), self.kubernetes.state_of(SHOP).await);
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Remembers that the fault happens now.
    pub fn strike(&mut self, what: &str) {
        let at_us = self.writers.as_ref().map_or(0, |writers| writers.mark(what));
        self.since = (at_us, Instant::now());
    }

    pub fn server(&self, index: usize) -> &Server {
        &self.topology.servers[index]
    }

    pub fn server_mut(&mut self, index: usize) -> &mut Server {
        &mut self.topology.servers[index]
    }

    pub fn host(&self, index: usize) -> &Host {
        self.server(index).host().expect("every server has a host")
    }

    /// Addresses of hosts: of servers by their index.
    pub fn ips(&self, indices: &[usize]) -> Vec<Ipv4Addr> {
        indices.iter().map(|index| self.host(*index).address()).collect()
    }

    pub fn pod_ips(&self) -> Vec<Ipv4Addr> {
        self.pods.iter().map(|pod| pod.host.address()).collect()
    }

    pub fn index_of(&self, addr: &str) -> Option<usize> {
        self.topology.servers.iter().position(|server| server.addr().to_string() == addr)
    }

    /// `status` of the cluster.
    pub async fn status(&self) -> anyhow::Result<Value> {
        let found = self.kubernetes.get("MysqlCluster", SHOP).await?.context("there is no MysqlCluster")?;
        Ok(found.data.get("status").cloned().unwrap_or_default())
    }

    /// Every record of a primary that was replaced, by epoch.
    pub async fn objects(&self) -> anyhow::Result<Vec<Value>> {
        let records = self.kubernetes.list("MysqlFailover").await?.into_iter().map(|record| record.data);
        let mut all: Vec<_> = records.filter(|record| record["spec"]["role"] != "IntermediatePrimary").collect();
        all.sort_by_key(|record| record["status"]["epoch"].as_i64());
        Ok(all)
    }

    /// `status` of each of them that has one.
    pub async fn records(&self) -> anyhow::Result<Vec<Value>> {
        Ok(self
            .objects()
            .await?
            .into_iter()
            .filter_map(|mut record| record.get_mut("status").map(Value::take))
            .collect())
    }

    /// The primary that the cluster's status names.
    pub async fn primary(&self) -> anyhow::Result<usize> {
        let status = self.status().await?;
        let addr = status["primary"].as_str().unwrap_or_default();
        self.index_of(addr).with_context(|| format!("the primary is {addr:?}"))
    }

    /// Addresses that the Service of the primary leads to.
    pub async fn routed(&self) -> anyhow::Result<Vec<String>> {
        let slices = self.kubernetes.list("EndpointSlice").await?;
        let endpoints = slices.iter().filter_map(|slice| slice.data["endpoints"].as_array()).flatten();
        Ok(endpoints.filter_map(|one| one["addresses"][0].as_str().map(str::to_owned)).collect())
    }

    /// The pod that holds the Lease.
    pub async fn leader(&self) -> anyhow::Result<Arc<Pod>> {
        let lease = self.kubernetes.get("Lease", "baton").await?.context("there is no Lease")?;
        let holder = holder(&lease).context("nobody leads")?;
        let name = |pod: &&Arc<Pod>| holder.starts_with(&format!("operator-{}_", pod.number));
        Ok(Arc::clone(self.pods.iter().find(name).context("a stranger leads")?))
    }

    /// Rows acknowledged until now.
    pub fn acknowledged(&self) -> u64 {
        self.writers.as_ref().map_or(0, |writers| writers.history().counts().0)
    }

    /// Sees that clients can write.
    pub async fn writes_go_on(&self) -> anyhow::Result<()> {
        let writers = self.writers.as_ref().context("nobody writes here")?;
        if writers.acknowledged(50, PATIENCE).await { Ok(()) } else { bail!("nobody can write; {}", self.logs()) }
    }

    /// Statements on a server, one after the other.
    pub async fn sql(&self, index: usize, statements: &[&str]) -> anyhow::Result<()> {
        for statement in statements {
            self.server(index).query(statement).await?;
        }
        Ok(())
    }

    /// Cuts two groups of servers apart; each server reaches us, and its own group.
    pub fn part(&self, one: &[usize], other: &[usize], pods_with_other: bool) -> anyhow::Result<()> {
        let mut far = self.ips(other);
        if pods_with_other {
            far.extend(self.pod_ips());
        }
        for index in one {
            self.host(*index).part(&far, Cut::Both)?;
        }
        Ok(())
    }

    /// Ends all cuts.
    pub fn heal(&self) -> anyhow::Result<()> {
        for server in &self.topology.servers {
            server.host().expect("every server has a host").heal()?;
        }
        for pod in &self.pods {
            pod.host.heal()?;
        }
        Ok(())
    }

    /// Whether an analysis of that code is shown.
    pub async fn shows(&self, code: &str) -> anyhow::Result<bool> {
        let status = self.status().await?;
        Ok(status["analyses"].as_array().is_some_and(|all| all.iter().any(|analysis| analysis["code"] == code)))
    }

    /// Status, reason and message of a condition.
    pub async fn condition(&self, kind: &str) -> anyhow::Result<(String, String, String)> {
        let status = self.status().await?;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Ok((text("status"), text("reason"), text("message")))
    }

    /// Where the operators' logs are kept, and what they wrote, for whoever looks into it.
    pub fn logs(&self) -> String {
        let kept = std::env::temp_dir().join("baton-faults");
        let _made = std::fs::create_dir_all(&kept);
        let _written = std::fs::write(kept.join(format!("{}-writes.log", self.name)), self.listed().join("\n"));
        let names = self.pods.iter().map(|pod| {
            let file = kept.join(format!("{}-{}.log", self.name, pod.number));
            let _copied = std::fs::copy(pod.log_file(), &file);
            file.display().to_string()
        });
        format!("logs: {}", names.collect::<Vec<_>>().join(" "))
    }
}
