//! Overwrites old primaries with the data of another server, where the owner wishes for it (safety.md, "Rebuilding"):
//! one at a time, written down before it begins, and followed until it is known how it ended, by whoever leads.
//!
//! A task of its own with sessions of its own: a copy takes as long as the data is large, and nothing waits for it.

mod follow;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use self::follow::Following;
use super::super::Shared;
use crate::{
    core::{
        id::{ClusterKey, ServerAddr},
        rebuild::{self, Plan, Rebuild, Refusal, Scene, Seen, State},
        status::{ClusterView, Quarantined},
    },
    engine::{
        facts::History,
        ports::{Clock, JournalError, Leadership},
    },
    k8s::{
        controller::validate::Desired,
        exports::{Export, Wish},
        jobs::{Jobs, Outcome},
        records::{Records, rebuild::Basis},
    },
    mysql::{
        clone::{CloneError, Cloner, Now, checks, words},
        execute::MysqlServers,
        options::Options,
    },
};

/// Pause between rounds.
const AGAIN: Duration = Duration::from_secs(1);
/// What is written down is considered this often while something speaks against it.
const CONSIDER: Duration = Duration::from_secs(5);
/// Servers are looked at again after [`CONSIDER`], then each time after twice as long, so often: a look costs sessions.
const DOUBLINGS_MAX: u32 = 6;
/// How long the engine may take to see what is written down.
const SEEN: Duration = Duration::from_secs(10);

/// What the task works with.
pub(super) struct Rebuilds {
    pub(super) shared: Shared,
    pub(super) key: ClusterKey,
    pub(super) records: Records,
    pub(super) servers: Arc<MysqlServers>,
    pub(super) options: watch::Receiver<Arc<Options>>,
    pub(super) desired: watch::Receiver<Arc<Desired>>,
    pub(super) history: watch::Receiver<History>,
    pub(super) view: watch::Receiver<Option<ClusterView>>,
}

/// A copy that this process has begun.
struct Copy {
    server: ServerAddr,
    task: JoinHandle<Result<(), CloneError>>,
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task.
pub(super) struct Keeper {
    with: Rebuilds,
    now: Now,
    copy: Option<Copy>,
    following: Option<Following>,
    considered: Option<Instant>,
    /// When servers were looked at in vain, and how often in a row.
    looked: BTreeMap<ServerAddr, (Instant, u32)>,
    /// Since when another server has the address of one that needs a person.
    strangers: BTreeMap<ServerAddr, Instant>,
}

impl Keeper {
    pub(super) fn new(with: Rebuilds) -> Self {
        let clock = with.shared.clock.clone();
        let now: Now = Arc::new(move || clock.now());
        Self {
            with,
            now,
            copy: None,
            following: None,
            considered: None,
            looked: BTreeMap::new(),
            strangers: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            if self.with.shared.leads() {
                self.round().await;
            } else {
                self.following = None;
            }
            sleep(AGAIN).await;
        }
    }

    async fn round(&mut self) {
        let desired = Arc::clone(&self.with.desired.borrow());
        let Some(view) = self.with.view.borrow().clone() else { return };
        let part = |addr: &ServerAddr| {
            desired.policy.servers.contains_key(addr) || view.servers.iter().any(|server| server.addr == *addr)
        };
        for (addr, rebuild) in desired.rebuilds.iter().filter(|(addr, rebuild)| rebuild.unusable() && !part(addr)) {
            // Nobody asks about it any more.
            self.write(addr, Some(rebuild), None).await;
        }
        let mut rebuilds = desired.rebuilds.iter().filter(|(addr, _)| part(addr));
        let running = rebuilds.find(|(_, rebuild)| rebuild.state == State::Running);
        if let Some((addr, rebuild)) = running {
            return self.follow(&desired, &view, addr, rebuild).await;
        }
        if self.considered.is_some_and(|at| at.elapsed() < CONSIDER) {
            return;
        }
        self.considered = Some(Instant::now());
        for (addr, rebuild) in desired.rebuilds.iter().filter(|(_, rebuild)| rebuild.stuck()) {
            self.follow(&desired, &view, addr, rebuild).await;
        }
        self.following = None;
        self.looked.retain(|addr, _| view.quarantined.iter().any(|one| one.server == *addr));
        self.strangers.retain(|addr, _| desired.rebuilds.get(addr).is_some_and(Rebuild::stuck));
        for one in &view.quarantined {
            let written = desired.rebuilds.get(&one.server);
            if !desired.policy.failover.rebuild {
                // It has what it had, else it would not be in quarantine: a person has read what failed.
                self.write(&one.server, written, None).await;
            } else if written.is_none_or(|written| !written.stuck())
                && self.consider(&desired, &view, one, written).await
            {
                return;
            }
        }
    }

    /// Writes what is said about a server, if it is something else. Whether it is written.
    async fn write(&self, addr: &ServerAddr, from: Option<&Rebuild>, to: Option<&Rebuild>) -> bool {
        if from == to {
            return true;
        }
        match Box::pin(self.with.records.rebuild(addr, from, to, None)).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(cluster = %self.with.key, server = %addr, "not written about rebuilding {addr}: {error}");
                false
            }
        }
    }

    /// Decides about one server, and begins. Whether something was begun.
    async fn consider(
        &mut self,
        desired: &Arc<Desired>,
        view: &ClusterView,
        one: &Quarantined,
        written: Option<&Rebuild>,
    ) -> bool {
        let planned = match self.saved(desired, one) {
            Ok(_) if self.rests(&one.server) => return false,
            Ok((wish, export)) => match self.plan(desired, view, one).await {
                Ok(plan) => self.ready(desired, &wish, &export, one).await.map(|()| (plan, export)),
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        match planned {
            Ok((plan, export)) => {
                self.looked.remove(&one.server);
                self.begin(desired, view, one, &plan, &export, written).await;
                true
            }
            Err(refusal) => {
                if let (Refusal::Doubt(reason), Some(record)) = (&refusal, &one.record)
                    && let Err(error) = self.with.records.doubt(&one.server, record, reason).await
                {
                    tracing::warn!(cluster = %self.with.key, server = %one.server, "doubt is not written down: {error}");
                }
                self.write(&one.server, written, Some(&Rebuild::refused(&refusal))).await;
                false
            }
        }
    }

    /// Whether servers were looked at in vain for this one, not long ago. If not, they are now.
    fn rests(&mut self, addr: &ServerAddr) -> bool {
        let (at, times) = self.looked.get(addr).copied().map_or((None, 0), |(at, times)| (Some(at), times));
        if at.is_some_and(|at| at.elapsed() < CONSIDER * 2_u32.pow(times.saturating_sub(1))) {
            return true;
        }
        self.looked.insert(addr.clone(), (Instant::now(), (times + 1).min(DOUBLINGS_MAX)));
        false
    }

    /// What is saved of a server. It is written down that it is, before anything else is asked.
    fn saved(&self, desired: &Desired, one: &Quarantined) -> Result<(Wish, Export), Refusal> {
        let wait = |reason: &str| Refusal::Waits(reason.to_owned());
        let wish = desired.export.clone().ok_or_else(|| wait("failover.export names no volume"))?;
        let (nobody, nothing) = (BTreeSet::new(), BTreeMap::new());
        let unwanted = |saved| rebuild::wanted(&Scene { saved, ..scene(desired, one, None, None, &nothing, &nobody) });
        unwanted(true)?;
        let export = Export::of(&self.with.key, &desired.uid, &wish, one);
        let export = export.ok_or_else(|| wait("its transactions may become more"))?;
        unwanted(desired.saved.get(&one.server) == Some(&export.job))?;
        Ok((wish, export))
    }

    /// Looks at all servers, the primary last, and decides about one whose transactions are saved.
    async fn plan(&self, desired: &Desired, view: &ClusterView, one: &Quarantined) -> Result<Plan, Refusal> {
        let open = self.open(view);
        let primary = view.primary.as_ref().map(|addr| (addr, view.writable.value == Some(true)));
        let ackers: BTreeSet<_> = desired.semi_sync.iter().flat_map(|known| known.ackers.iter().cloned()).collect();
        let last = self.with.history.borrow().last.clone().filter(|last| Some(&last.record) == one.record.as_ref());
        let replaced = last.as_ref().and_then(|last| last.old_primary_uuid.as_deref().zip(last.promoted_set.as_ref()));
        let nobody = BTreeMap::new();
        let scene = Scene { saved: true, replaced, ..scene(desired, one, open.as_deref(), primary, &nobody, &ackers) };
        rebuild::wanted(&scene)?;
        let options = self.with.options.borrow().clone();
        let others: Vec<_> = view.servers.iter().map(|server| &server.addr).collect();
        let (last, first): (Vec<_>, Vec<_>) = others.into_iter().partition(|addr| view.primary.as_ref() == Some(*addr));
        let mut looks = BTreeMap::new();
        for group in [first, last] {
            let all = group.into_iter().map(async |addr| (addr.clone(), self.look(addr, &options).await));
            looks.extend(join_all(all).await);
        }
        let account = options.replication.is_some();
        rebuild::plan(&Scene { looks: &looks, verify: checks(&options), account, ..scene })
    }

    async fn look(&self, addr: &ServerAddr, options: &Options) -> Result<Seen, String> {
        let look = async { Cloner::connect(addr, options, &self.now).await?.seen().await };
        Box::pin(look).await.map_err(|error| words(&error))
    }

    /// A failover that is not over, or that somebody asks for.
    fn open(&self, view: &ClusterView) -> Option<String> {
        let history = self.with.history.borrow();
        let asked = history.requests.first().map(|request| request.record.clone());
        let recovering = view.recovering.map(|epoch| format!("of epoch {epoch}"));
        history.unfinished.clone().or_else(|| history.relocating.clone()).or(asked).or(recovering)
    }

    /// The last thing before it is written down: the Job that saved what is discarded has done so. One that is gone is
    /// made again, and looks at the file.
    async fn ready(&self, desired: &Desired, wish: &Wish, export: &Export, one: &Quarantined) -> Result<(), Refusal> {
        let Some(jobs) = &self.with.shared.jobs else {
            return Err(Refusal::Waits("the operator has no image for Jobs: it cannot know what is saved".to_owned()));
        };
        let jobs = Jobs::new(&self.with.shared.client, jobs.setup.clone());
        match jobs.ensure(&export.task(&self.with.key, &desired.uid, wish, one)).await {
            Ok(Outcome::Succeeded) => Ok(()),
            Ok(Outcome::Failed(reason)) => {
                Err(Refusal::Waits(format!("Job {} cannot find what it saved: {reason}", export.job)))
            }
            Ok(_) => Err(Refusal::Waits(format!("Job {} looks whether all is saved", export.job))),
            Err(error) => Err(Refusal::Waits(format!("Job {}: {error}", export.job))),
        }
    }

    /// Writes it down, waits until the engine leaves the server alone, decides once more and begins.
    async fn begin(
        &mut self,
        desired: &Arc<Desired>,
        view: &ClusterView,
        one: &Quarantined,
        plan: &Plan,
        export: &Export,
        written: Option<&Rebuild>,
    ) {
        let (Some(primary), Some(record)) = (view.primary.clone(), one.record.clone()) else { return };
        let (generation, epoch, job) = (desired.generation, view.epoch, export.job.clone());
        let basis = Basis { generation, epoch, primary, record: record.clone(), job, extra: plan.extra.clone() };
        let running = Rebuild {
            state: State::Running,
            donor: Some(plan.donor.clone()),
            uuid: Some(plan.uuid.clone()),
            extra: Some(plan.extra.clone()),
            began: Timestamp::from_second(Timestamp::now().as_second()).ok(),
            message: plan.note.clone(),
        };
        let addr = &one.server;
        let intent = Box::pin(self.with.records.rebuild(addr, written, Some(&running), Some(&basis)));
        match intent.await {
            Ok(()) => {}
            Err(JournalError::Lost(reason)) => {
                self.write(addr, written, Some(&Rebuild::refused(&Refusal::Waits(reason)))).await;
                return;
            }
            // It may be written: whoever follows finds that nothing was begun.
            Err(JournalError::Unavailable(reason)) => {
                tracing::warn!(cluster = %self.with.key, server = %addr, "not written about rebuilding {addr}: {reason}");
                return;
            }
        }
        if let Err(refusal) = self.start(desired, one, plan, (&record, &running)).await {
            self.write(addr, Some(&running), Some(&Rebuild::refused(&refusal))).await;
        }
    }

    async fn start(
        &mut self,
        before: &Desired,
        one: &Quarantined,
        plan: &Plan,
        (record, running): (&str, &Rebuild),
    ) -> Result<(), Refusal> {
        let wait = |reason: &str| Refusal::Waits(reason.to_owned());
        let (desired, view) = self.left_alone(&one.server).await.ok_or_else(|| wait("what is written was not read"))?;
        let same = view.quarantined.iter().any(|now| now == one) && desired.generation == before.generation;
        if !same {
            return Err(wait("what is known of it has changed"));
        }
        let again = self.plan(&desired, &view, one).await?;
        if again.donor != plan.donor || again.uuid != plan.uuid || again.extra != plan.extra {
            return Err(wait("what is known of the servers has changed"));
        }
        let options = self.with.options.borrow().clone();
        let cloner = Box::pin(Cloner::connect(&one.server, &options, &self.now)).await;
        let cloner = cloner.map_err(|error| Refusal::Waits(words(&error)))?;
        let once = self.with.records.rebuilt(&one.server, record, running).await;
        once.map_err(|error| Refusal::Waits(error.to_string()))?;
        let until = self.with.shared.leader.leader_until().filter(|until| *until > (self.now)());
        let until = until.ok_or_else(|| wait("this process does not lead"))?;
        let (key, server, donor) = (self.with.key.clone(), one.server.clone(), again.donor.clone());
        tracing::warn!(
            cluster = %key, server = %server, donor = %donor, extra = %again.extra,
            "{key}: {server} is overwritten with the data of {donor}; what only it had is saved"
        );
        // Somebody ends it earlier; this is for a server that does not answer.
        let budget_ms = desired.policy.failover.rebuild_timeout_ms.saturating_add(60_000);
        let task = tokio::spawn(async move { cloner.overwrite(&again, &options, until, budget_ms).await });
        self.copy = Some(Copy { server, task });
        Ok(())
    }

    /// Waits until the engine knows that the server is being rebuilt, and does nothing to it from then on.
    async fn left_alone(&self, addr: &ServerAddr) -> Option<(Arc<Desired>, ClusterView)> {
        let until = Instant::now() + SEEN;
        while Instant::now() < until {
            let desired = Arc::clone(&self.with.desired.borrow());
            let view = self.with.view.borrow().clone();
            let rests = |view: &ClusterView| view.servers.iter().any(|one| one.addr == *addr && one.rebuilding);
            if let Some(view) = view.filter(rests).filter(|_| desired.policy.rebuilding.contains(addr)) {
                return Some((desired, view));
            }
            sleep(Duration::from_millis(100)).await;
        }
        None
    }
}

fn scene<'a>(
    desired: &'a Desired,
    one: &'a Quarantined,
    open: Option<&'a str>,
    primary: Option<(&'a ServerAddr, bool)>,
    looks: &'a BTreeMap<ServerAddr, Result<Seen, String>>,
    ackers: &'a BTreeSet<ServerAddr>,
) -> Scene<'a> {
    let rebuilt = desired.rebuilt.is_some() && desired.rebuilt == one.record;
    Scene {
        policy: &desired.policy,
        one,
        replaced: None,
        saved: false,
        rebuilt,
        account: false,
        open,
        primary,
        ackers,
        looks,
        verify: false,
    }
}
