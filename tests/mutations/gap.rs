//! An operator that did not run for a while, in the middle of making sure that a primary is dead: the task of a
//! cluster over a world whose clock jumps.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use baton::{
    core::{
        id::{ClusterKey, Epoch, ServerAddr},
        membership::Membership,
        observation::{Failure, FailureKind, Look, Observation},
        recovery::{Hold, Recovery},
        step::Action,
        time::Mono,
    },
    engine::{
        cluster::{Cluster, Inputs, Outputs},
        decide::Watching,
        facts::{Desired, History},
        ports::{ActionError, Clock, Journal, JournalError, Leadership, NoJobs, Servers},
    },
    testing::snapshot::{self, addr, policy},
};
use tokio::{
    runtime::Builder,
    sync::{mpsc, watch},
    time::{Duration, Instant, sleep},
};

/// How long the operator does not run, in milliseconds: its leadership lasts longer.
const GAP_MS: u64 = 1500;
/// How long leadership is sure from any moment on, in milliseconds.
const SURE_MS: u64 = 800;

struct World {
    start: Instant,
    skipped_ms: AtomicU64,
    begun: AtomicU64,
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
    async fn act(&self, addr: &ServerAddr, _: Action, _: u64) -> Result<Box<Observation>, ActionError> {
        let failure = Failure { at: self.now(), kind: FailureKind::Silent, message: "no answer".to_owned() };
        Err(ActionError::Contact { server: addr.clone(), failure })
    }
}

fn unavailable<R>() -> Result<R, JournalError> {
    Err(JournalError::Unavailable("not here".to_owned()))
}

impl Journal for World {
    async fn begin(&self, _: &Recovery) -> Result<(), JournalError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    async fn save(&self, _: &Recovery) -> Result<(), JournalError> {
        unavailable()
    }
    async fn claim(&self, _: &str, _: &str, _: Option<&Hold>) -> Result<Recovery, JournalError> {
        unavailable()
    }
    async fn refuse(&self, _: &str, _: &str) -> Result<(), JournalError> {
        unavailable()
    }
    async fn members(&self, _: Option<&Membership>, _: &Membership) -> Result<(), JournalError> {
        unavailable()
    }
    async fn route(&self, _: Option<&ServerAddr>) -> Result<(), JournalError> {
        unavailable()
    }
}

/// A running task with what feeds it.
struct Task {
    world: Arc<World>,
    servers: snapshot::Cluster,
    looks: mpsc::Sender<(ServerAddr, Look)>,
    /// Their other ends must last.
    _rest: (watch::Sender<Desired>, watch::Sender<History>),
}

impl Task {
    fn start(servers: snapshot::Cluster) -> Self {
        let world = World { start: Instant::now(), skipped_ms: AtomicU64::default(), begun: AtomicU64::default() };
        let world = Arc::new(world);
        let mut policy = policy();
        policy.servers = servers.names().iter().map(|name| (addr(name), Default::default())).collect();
        let wanted = Desired { policy, primary: Some(addr("p")), epoch: Epoch(7), semi_sync: None };
        let (desired, desired_receiver) = watch::channel(wanted);
        let (history, history_receiver) = watch::channel(History::default());
        let (looks, looks_receiver) = mpsc::channel(64);
        let inputs = Inputs { looks: looks_receiver, desired: desired_receiver, history: history_receiver };
        let outputs = Outputs { view: watch::channel(None).0, watching: watch::channel(Watching::default()).0 };
        let key = ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() };
        tokio::spawn(Cluster::new(key, "b", Arc::clone(&world), inputs, outputs).run());
        Self { world, servers, looks, _rest: (desired, history) }
    }

    /// Looks at every server so many times, the primary first.
    async fn look(&mut self, rounds: u32) {
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
        }
    }

    fn begun(&self) -> u64 {
        self.world.begun.load(Ordering::Relaxed)
    }
}

/// A primary that did not answer two looks before the gap, and nobody has looked at it since: it may be back.
pub fn a_death_that_only_a_gap_made_long() -> bool {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut task = Task::start(snapshot::Cluster::primary_and_replicas(2));
        task.look(3).await;
        task.servers.fail("p", FailureKind::Silent);
        ["r1", "r2"].into_iter().for_each(|name| task.servers.lose_source(name));
        task.look(2).await;
        assert_eq!(task.begun(), 0, "not for long yet");
        task.world.skipped_ms.fetch_add(GAP_MS, Ordering::Relaxed);
        sleep(Duration::from_millis(200)).await;
        let begun = task.begun();
        // It stays away: then it is replaced.
        task.look(100).await;
        assert!(task.begun() > 0, "nothing begins at all");
        begun == 0
    })
}
