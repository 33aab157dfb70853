//! A whole task of the engine over real servers: looks and actions are real, the records are kept here.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use baton::{
    core::{
        id::{ClusterKey, Epoch, ServerAddr},
        membership::Membership,
        observation::Observation,
        policy::Policy,
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
    },
    mysql::{
        execute::MysqlServers,
        options::Options,
        watch::{Pace, Watch},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::setup::{clock, options};

/// The outside of the task.
pub(crate) struct World {
    servers: Arc<MysqlServers>,
    now: Arc<dyn Fn() -> Mono + Send + Sync>,
    pub(crate) records: Mutex<Vec<Recovery>>,
    pub(crate) acts: Mutex<Vec<(ServerAddr, Action)>>,
}

impl World {
    fn write(&self, recovery: &Recovery) {
        let mut records = self.records.lock().unwrap();
        records.retain(|known| known.record != recovery.record);
        records.push(recovery.clone());
    }
}

impl Clock for World {
    fn now(&self) -> Mono {
        (self.now)()
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
        Some(self.now().plus_ms(3000))
    }
}

impl Servers for World {
    async fn act(&self, addr: &ServerAddr, action: Action, budget_ms: u64) -> Result<Box<Observation>, ActionError> {
        self.acts.lock().unwrap().push((addr.clone(), action.clone()));
        self.servers.act(addr, action, budget_ms).await
    }
}

impl Journal for World {
    async fn begin(&self, recovery: &Recovery) -> Result<(), JournalError> {
        self.write(recovery);
        Ok(())
    }
    async fn save(&self, recovery: &Recovery) -> Result<(), JournalError> {
        self.write(recovery);
        Ok(())
    }
    async fn claim(&self, _: &str, _: &str, _: Option<&Hold>) -> Result<Recovery, JournalError> {
        Err(JournalError::Unavailable("nobody else is here".to_owned()))
    }
    async fn refuse(&self, _: &str, _: &str) -> Result<(), JournalError> {
        Ok(())
    }
    async fn members(&self, _: Option<&Membership>, _: &Membership) -> Result<(), JournalError> {
        Err(JournalError::Unavailable("nobody keeps semi-sync here".to_owned()))
    }

    async fn route(&self, _: Option<&ServerAddr>) -> Result<(), JournalError> {
        Ok(())
    }
}

/// A running task.
pub(crate) struct Whole {
    pub(crate) world: Arc<World>,
    pub(crate) view: watch::Receiver<Option<ClusterView>>,
    _desired: watch::Sender<Desired>,
    _history: watch::Sender<History>,
    _options: watch::Sender<Arc<Options>>,
    _tasks: JoinSet<()>,
}

impl Whole {
    /// Serves the servers that `policy` names; `primary` is recorded.
    pub(crate) fn start(policy: Policy, primary: &ServerAddr, epoch: u64) -> Self {
        let (options_sender, options) = watch::channel(Arc::new(options()));
        let now = clock();
        let servers = Arc::new(MysqlServers::new(options.clone(), Arc::clone(&now)));
        let world = Arc::new(World {
            servers: Arc::clone(&servers),
            now: Arc::clone(&now),
            records: Mutex::default(),
            acts: Mutex::default(),
        });
        let (desired, desired_receiver) =
            watch::channel(Desired { policy, primary: Some(primary.clone()), epoch: Epoch(epoch), semi_sync: None });
        let (history, history_receiver) = watch::channel(History::default());
        let (looks, looks_receiver) = mpsc::channel(1024);
        let (view_sender, view) = watch::channel(None);
        let (watching_sender, watching) = watch::channel(Watching::default());
        let inputs = Inputs { looks: looks_receiver, desired: desired_receiver, history: history_receiver };
        let outputs = Outputs { view: view_sender, watching: watching_sender };
        let key = ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() };
        let mut tasks = JoinSet::new();
        tasks.spawn(Cluster::new(key, "a", Arc::clone(&world), inputs, outputs).run());
        tasks.spawn(watches(watching, options, servers, looks, now));
        Self { world, view, _desired: desired, _history: history, _options: options_sender, _tasks: tasks }
    }

    /// Waits until what is shown satisfies `holds`, and tells how long it took.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&ClusterView) -> bool) -> Duration {
        let started = Instant::now();
        while !self.view.borrow().as_ref().is_some_and(&holds) {
            let late = started.elapsed() > Duration::from_secs(60);
            assert!(!late, "not {what}: {:#?}\n{:?}", self.view.borrow(), self.world.acts.lock().unwrap());
            sleep(Duration::from_millis(20)).await;
        }
        started.elapsed()
    }
}

/// One watch for each server, at the pace that is asked for.
async fn watches(
    mut watching: watch::Receiver<Watching>,
    options: watch::Receiver<Arc<Options>>,
    servers: Arc<MysqlServers>,
    looks: mpsc::Sender<(ServerAddr, baton::core::observation::Look)>,
    now: Arc<dyn Fn() -> Mono + Send + Sync>,
) {
    let mut running = std::collections::BTreeMap::<ServerAddr, watch::Sender<Pace>>::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = watching.borrow_and_update().clone();
        for (addr, interval_ms) in &wanted.servers {
            let held = wanted.primary.as_ref() == Some(addr);
            let pace = Pace { interval_ms: *interval_ms, answer_ms: wanted.answer_ms, hurry_ms: wanted.hurry_ms, held };
            if let Some(sender) = running.get(addr) {
                sender.send_replace(pace);
                continue;
            }
            let (sender, pace) = watch::channel(pace);
            let task = Watch {
                addr: addr.clone(),
                options: options.clone(),
                pace,
                looks: looks.clone(),
                servers: Some(Arc::clone(&servers)),
                now: Arc::clone(&now),
            };
            tasks.spawn(task.run());
            running.insert(addr.clone(), sender);
        }
        if watching.changed().await.is_err() {
            return;
        }
    }
}
