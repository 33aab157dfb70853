//! The task of one cluster over a fake world, in which nothing that is asked of a server is answered.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use baton::{
    core::{
        id::{ClusterKey, Epoch, ServerAddr},
        membership::Membership,
        observation::{Failure, FailureKind, Observation},
        recovery::{Hold, Recovery},
        status::ClusterView,
        step::Action,
        time::Mono,
    },
    engine::{
        cluster::{Cluster, Inputs, Outputs},
        decide::Watching,
        facts::{Desired, History},
        ports::{ActionError, Clock, Journal, JournalError, Leadership, NoJobs, Servers},
        turns::{Turn, Turns},
    },
    testing::snapshot::{self, addr, policy},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Duration, Instant, sleep},
};

/// How long leadership is sure from any moment on, in milliseconds.
pub const SURE_MS: u64 = 800;

pub struct World {
    pub start: Instant,
    /// For how long the process did not run.
    pub skipped_ms: AtomicU64,
    pub acts: Mutex<Vec<(ServerAddr, Action, u64)>>,
    pub begun: AtomicU64,
    pub saved: AtomicU64,
    /// Records can be saved; else another executor has them.
    pub saves: AtomicBool,
    pub turns: Turns,
}

impl Clock for World {
    fn now(&self) -> Mono {
        let passed_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        Mono(100_000 + passed_ms + self.skipped_ms.load(Ordering::Relaxed))
    }
    fn wall_ms(&self) -> u64 {
        0
    }
    async fn sleep_ms(&self, ms: u64) {
        sleep(Duration::from_millis(ms)).await;
    }
}

impl NoJobs for World {}

impl Leadership for World {
    fn leader_until(&self) -> Option<Mono> {
        Some(self.now().plus_ms(SURE_MS))
    }
}

impl Servers for World {
    async fn act(&self, addr: &ServerAddr, action: Action, budget_ms: u64) -> Result<Box<Observation>, ActionError> {
        self.acts.lock().unwrap().push((addr.clone(), action, budget_ms));
        sleep(Duration::from_millis(50)).await;
        let failure = Failure { at: self.now(), kind: FailureKind::Silent, message: "no answer".to_owned() };
        Err(ActionError::Contact { server: addr.clone(), failure })
    }
}

impl Journal for World {
    fn turn(&self, cluster: &ClusterKey, priority: u32, now: Mono) -> Option<Turn> {
        self.turns.ask(cluster, priority, now)
    }
    async fn begin(&self, _: &Recovery) -> Result<(), JournalError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    async fn save(&self, _: &Recovery) -> Result<(), JournalError> {
        self.saved.fetch_add(1, Ordering::Relaxed);
        match self.saves.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(JournalError::Lost("another executor".to_owned())),
        }
    }
    async fn claim(&self, _: &str, _: &str, _: Option<&Hold>) -> Result<Recovery, JournalError> {
        Err(JournalError::Lost("not here".to_owned()))
    }

    async fn refuse(&self, _: &str, _: &str) -> Result<(), JournalError> {
        Ok(())
    }
    async fn members(&self, _: Option<&Membership>, _: &Membership) -> Result<(), JournalError> {
        Err(JournalError::Unavailable("not here".to_owned()))
    }
    async fn route(&self, _: Option<&ServerAddr>) -> Result<(), JournalError> {
        Ok(())
    }
}

/// A running task with what feeds it.
pub struct Task {
    pub world: Arc<World>,
    pub servers: snapshot::Cluster,
    pub looks: mpsc::Sender<(ServerAddr, baton::core::observation::Look)>,
    pub history: watch::Sender<History>,
    pub desired: watch::Sender<Desired>,
    pub view: watch::Receiver<Option<ClusterView>>,
    pub watching: watch::Receiver<Watching>,
}

impl Task {
    pub fn start(servers: snapshot::Cluster, primary: &str, history: History) -> Self {
        let world = Arc::new(World {
            start: Instant::now(),
            skipped_ms: AtomicU64::default(),
            acts: Mutex::default(),
            begun: AtomicU64::default(),
            saved: AtomicU64::default(),
            saves: AtomicBool::default(),
            turns: Turns::default(),
        });
        let mut policy = policy();
        policy.servers = servers.names().iter().map(|name| (addr(name), Default::default())).collect();
        let (desired, desired_receiver) =
            watch::channel(Desired { policy, primary: Some(addr(primary)), epoch: Epoch(7), semi_sync: None });
        let (history, history_receiver) = watch::channel(history);
        let (looks, looks_receiver) = mpsc::channel(64);
        let (view_sender, view) = watch::channel(None);
        let (watching_sender, watching) = watch::channel(Watching::default());
        let inputs = Inputs { looks: looks_receiver, desired: desired_receiver, history: history_receiver };
        let outputs = Outputs { view: view_sender, watching: watching_sender };
        let key = ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() };
        tokio::spawn(Cluster::new(key, "b", Arc::clone(&world), inputs, outputs).run());
        Self { world, servers, looks, history, desired, view, watching }
    }

    /// Looks at every server again and again.
    pub async fn look(&mut self, rounds: u32) {
        for _ in 0..rounds {
            let snapshot = self.servers.look();
            for (server, state) in &snapshot.servers {
                let at = self.world.now();
                let look = match (&state.failure, &state.last) {
                    (Some(failure), _) => Err(Failure { at, ..failure.clone() }),
                    (None, Some(seen)) => Ok(Box::new(Observation { at, ..seen.clone() })),
                    (None, None) => continue,
                };
                self.looks.send((server.clone(), look)).await.unwrap();
                sleep(Duration::from_millis(5)).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// How many recoveries have begun.
    pub fn begun(&self) -> u64 {
        self.world.begun.load(Ordering::Relaxed)
    }

    pub fn primary(&self) -> Option<ServerAddr> {
        self.view.borrow().as_ref().and_then(|view| view.primary.clone())
    }

    pub fn acts(&self) -> Vec<(ServerAddr, Action, u64)> {
        self.world.acts.lock().unwrap().clone()
    }
}
