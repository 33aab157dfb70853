//! One replica of the operator: a process on a host of its own, its way to the API server, and somebody who
//! starts it again when it ends, as a kubelet does.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use baton::testing::{
    api_proxy::ApiProxy,
    clock::Clock,
    kubernetes::{Kubernetes, Operator},
    network::Host,
    process::Signal,
};
use tokio::time::sleep;

/// How soon a process that ended is started again.
const RESTART: Duration = Duration::from_millis(500);

/// One replica.
pub struct Pod {
    pub number: usize,
    pub host: Host,
    pub api: ApiProxy,
    /// When it has one of its own.
    pub clock: Option<Clock>,
    namespace: String,
    folder: PathBuf,
    args: Vec<String>,
    operator: Mutex<Option<Operator>>,
    /// It is set up to leave failovers to Jobs.
    jobs: bool,
    rests: AtomicBool,
    starts: AtomicU32,
}

impl Pod {
    /// Starts a replica, and keeps it running until the pod is dropped.
    pub async fn start(
        number: usize,
        (host, outside): (Host, Ipv4Addr),
        kubernetes: &Kubernetes,
        folder: &Path,
        jobs: bool,
        clock: Option<Clock>,
    ) -> anyhow::Result<Arc<Self>> {
        let api = ApiProxy::start(kubernetes.client().clone(), outside).await?;
        std::fs::write(folder.join(format!("kubeconfig-{number}")), api.kubeconfig())?;
        let namespace = kubernetes.namespace();
        let args = ["operator", "--namespace", namespace].map(str::to_owned).to_vec();
        let pod = Self {
            number,
            host,
            api,
            clock,
            namespace: namespace.to_owned(),
            folder: folder.to_owned(),
            args,
            operator: Mutex::default(),
            jobs,
            rests: AtomicBool::new(false),
            starts: AtomicU32::new(0),
        };
        pod.launch()?;
        let pod = Arc::new(pod);
        let kept = Arc::downgrade(&pod);
        tokio::spawn(async move {
            loop {
                sleep(RESTART).await;
                let Some(pod) = kept.upgrade() else { return };
                let ended = pod.operator().as_mut().is_some_and(|operator| !operator.is_running());
                if ended && !pod.rests.load(Ordering::Relaxed) {
                    pod.launch().unwrap();
                }
            }
        });
        Ok(pod)
    }

    fn operator(&self) -> MutexGuard<'_, Option<Operator>> {
        self.operator.lock().unwrap()
    }

    fn launch(&self) -> anyhow::Result<()> {
        let mut environment = vec![
            format!("POD_NAMESPACE={}", self.namespace),
            format!("POD_NAME=operator-{}", self.number),
            format!("KUBECONFIG={}", self.folder.join(format!("kubeconfig-{}", self.number)).display()),
        ];
        environment.push(format!("BATON_STRIKE={}", self.strikes().display()));
        // No kubelet runs it.
        environment.extend(self.jobs.then(|| "BATON_JOB_IMAGE=baton".to_owned()));
        environment.extend(self.clock.iter().flat_map(Clock::environment));
        self.starts.fetch_add(1, Ordering::Relaxed);
        let program = Path::new(env!("CARGO_BIN_EXE_baton"));
        let started = Operator::start_on(Some(&self.host), program, &self.args, &environment, &self.log_file())?;
        *self.operator() = Some(started);
        Ok(())
    }

    fn strikes(&self) -> PathBuf {
        self.folder.join(format!("strikes-{}", self.number))
    }

    /// Lets it strike itself, from now on, each once: a signal and a point, as `KILL before:Claim`.
    pub fn arm(&self, strikes: &[String]) -> anyhow::Result<()> {
        Ok(std::fs::write(self.strikes(), strikes.join("\n"))?)
    }

    /// Whether it is left as it is when it ends.
    pub fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    /// Its log, of all starts.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join(format!("operator-{}.log", self.number))
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts.load(Ordering::Relaxed)
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(self.operator().as_mut().expect("it was started").signal(signal)?)
    }

    /// Ends it at once, and leaves it so.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.rest(true);
        self.signal(Signal::Kill)
    }

    /// What `/proc/PID/NAME` says, or nothing.
    pub fn proc(&self, name: &str) -> String {
        let pid = self.operator().as_ref().map_or(0, Operator::pid);
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
    }

    /// Whether it is stopped by a signal.
    pub fn is_frozen(&self) -> bool {
        self.proc("stat").rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }
}

/// Who holds a Lease.
pub fn holder(lease: &kube::core::DynamicObject) -> Option<String> {
    lease.data.pointer("/spec/holderIdentity")?.as_str().filter(|holder| !holder.is_empty()).map(str::to_owned)
}
