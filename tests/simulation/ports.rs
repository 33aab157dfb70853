//! The ports of one process: its clock, its leadership, and the journal as src/k8s/records keeps it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use baton::{
    core::{
        id::ServerAddr,
        membership::Membership,
        recovery::{Hold, Part, Phase, Recovery},
        status::ClusterView,
        time::Mono,
    },
    engine::{
        facts::History,
        ports::{Clock, Jobs, Journal, JournalError, Leadership},
    },
};
use tokio::{
    sync::watch,
    time::{Duration, timeout},
};

use super::{
    actions::Slot,
    api::{Api, Ground, Stored, is_job},
    job,
    operator::Process,
    sim::{Sim, pause},
};

/// Longest wait for one call of the journal, in milliseconds.
const BUDGET_MS: u64 = 2000;

type Shown = watch::Receiver<Option<ClusterView>>;

#[derive(Debug)]
pub struct Ports {
    pub sim: Arc<Sim>,
    pub process: Arc<Process>,
    pub slots: Mutex<BTreeMap<ServerAddr, Arc<tokio::sync::Mutex<Slot>>>>,
    /// Where clients are routed, as far as this process knows.
    routed: tokio::sync::Mutex<Option<Option<ServerAddr>>>,
    /// The primary that the status shows, as far as this process knows.
    shown: Mutex<Option<ServerAddr>>,
}

impl Ports {
    pub fn new(sim: Arc<Sim>, process: Arc<Process>) -> Self {
        let (slots, routed) = (Mutex::default(), tokio::sync::Mutex::new(None));
        Self { sim, process, slots, routed, shown: Mutex::default() }
    }

    async fn call<R: Send + 'static>(
        &self,
        what: &str,
        change: impl FnOnce(&mut Api, u64) -> R + Send + 'static,
    ) -> Result<R, JournalError> {
        let budget = Duration::from_millis(self.process.wait_ms(BUDGET_MS));
        let answer = timeout(budget, self.sim.call(self.process.operator, change)).await;
        let answer = answer.ok().flatten().ok_or_else(|| JournalError::Unavailable(format!("no answer to {what}")));
        if answer.is_err() {
            // An error is an answer as well; it takes a moment.
            pause(1).await;
        }
        answer
    }

    /// A write that decides by what is there: without an answer it is read whether it was done.
    async fn swap(
        &self,
        what: &str,
        change: impl FnOnce(&mut Api, u64) -> Result<(), JournalError> + Send + 'static,
        done: impl FnOnce(&Api) -> bool + Send + 'static,
    ) -> Result<(), JournalError> {
        match self.call(what, change).await {
            Ok(result) => result,
            Err(error) => match self.call("the read after it", move |api, _| done(api)).await {
                Ok(true) => Ok(()),
                _ => Err(error),
            },
        }
    }

    async fn write(&self, recovery: &Recovery, ground: Ground) -> Result<(), JournalError> {
        let (name, wanted, same) = (recovery.record.clone(), recovery.clone(), recovery.clone());
        let read = name.clone();
        let write = move |api: &mut Api, _| api.write(&name, &wanted, &ground);
        let written = self
            .swap("the record's status", write, move |api| api.read(&read).is_some_and(|found| found == same))
            .await;
        self.sim.with(|state| {
            let Recovery { record, phase, new_primary, message, executor, .. } = recovery;
            state.say(|| format!("{executor} writes {record}: {phase:?}, {new_primary:?}, {message:?}: {written:?}"));
        });
        written
    }

    async fn win(&self, recovery: &Recovery) -> Result<(), JournalError> {
        let (name, epoch) = (recovery.record.clone(), recovery.epoch);
        if recovery.part == Part::IntermediatePrimary {
            return self.call("the epoch", move |api, _| api.still(epoch)).await?;
        }
        let read = name.clone();
        let win = move |api: &mut Api, _| api.win(&name, epoch);
        self.swap("the epoch", win, move |api| api.may_win(&read, epoch) == Ok(false)).await
    }

    /// Shows the primary in the status.
    pub async fn show(&self, view: &ClusterView) {
        let primary = view.primary.clone();
        if primary.is_none() || *self.shown.lock().unwrap() == primary {
            return;
        }
        let written = primary.clone();
        let write = move |api: &mut Api, _| {
            if api.primary != written {
                api.writes += 1;
                api.primary.clone_from(&written);
            }
        };
        if self.call("the status", write).await.is_ok() {
            *self.shown.lock().unwrap() = primary;
        }
    }

    /// Keeps clients routed to the writable primary, unless what was shown holds no more when it is its turn.
    pub async fn keep_routed(&self, primary: Option<&ServerAddr>, compare: bool, view: &Shown) {
        let mut routed = self.routed.lock().await;
        if primary.is_none() || (!compare && routed.as_ref() == Some(&primary.cloned())) {
            return;
        }
        let holds = |shown: &ClusterView| shown.recovering.is_none() && shown.primary.as_ref() == primary;
        if view.borrow().as_ref().is_some_and(holds) {
            *routed = None;
            *routed = self.publish(primary).await.is_ok().then(|| primary.cloned());
        }
    }

    pub fn forget_route(&self) {
        if let Ok(mut routed) = self.routed.try_lock() {
            *routed = None;
        }
    }

    async fn publish(&self, target: Option<&ServerAddr>) -> Result<(), JournalError> {
        let target = target.cloned();
        let publish = move |api: &mut Api, _| {
            if api.route != target {
                api.publish(target.as_ref());
            }
        };
        self.call("the routing", publish).await
    }
}

impl Clock for Ports {
    fn now(&self) -> Mono {
        self.process.clock(self.sim.now())
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    async fn sleep_ms(&self, ms: u64) {
        pause(self.process.wait_ms(ms)).await;
    }
}

impl Jobs for Ports {
    fn job_for(&self, record: &str, _: &str) -> Option<String> {
        self.sim.with(|state| state.jobs.as_ref().map(|_| format!("job-{record}")))
    }

    async fn start_job(&self, recovery: &Recovery) -> Result<(), String> {
        let Some(policy) = self.sim.with(|state| state.jobs.clone()) else { return Err("no Jobs".to_owned()) };
        let (sim, record) = (Arc::clone(&self.sim), recovery.record.clone());
        let create = move |api: &mut Api, _| {
            if api.jobs.insert(record.clone()) {
                tokio::spawn(job::start(sim, record, policy));
            }
        };
        self.call("the Job", create).await.map_err(|error| error.to_string())
    }

    async fn leave(&self, recovery: &Recovery) -> Result<(), JournalError> {
        let (name, wanted, read) = (recovery.record.clone(), recovery.clone(), recovery.record.clone());
        let leave = move |api: &mut Api, _| {
            if api.is_left(&name) { Ok(()) } else { api.write(&name, &wanted, &Ground::Leave) }
        };
        let left = self.swap("the leaving", leave, move |api| api.is_left(&read)).await;
        self.sim.with(|state| {
            state.say(|| format!("{} leaves {}: {left:?}", recovery.executor, recovery.record));
            if left.is_ok() {
                // Whoever it was may begin it again.
                state.faults.recoveries.insert(recovery.record.clone(), String::new());
            }
        });
        left
    }
}

impl Leadership for Ports {
    fn leader_until(&self) -> Option<Mono> {
        *self.process.leader_until.lock().unwrap()
    }
}

impl Journal for Ports {
    async fn begin(&self, recovery: &Recovery) -> Result<(), JournalError> {
        let (name, epoch) = (recovery.record.clone(), recovery.epoch);
        let read = name.clone();
        match recovery.part {
            Part::Primary => self.call("the cluster", move |api, _| api.may_win(&read, epoch)).await?.map(drop)?,
            Part::IntermediatePrimary => self.call("the cluster", move |api, _| api.still(epoch)).await??,
        }
        let create = move |api: &mut Api, now| {
            api.create(&name, now);
            Ok(())
        };
        let created = recovery.record.clone();
        self.swap("the new record", create, move |api| api.records.contains_key(&created)).await?;
        let (written, won) = tokio::join!(self.write(recovery, Ground::Begin), self.win(recovery));
        let began = written.and(won);
        self.sim.with(|state| state.began(self.process.operator, recovery, &began));
        began
    }

    async fn save(&self, recovery: &Recovery) -> Result<(), JournalError> {
        self.write(recovery, Ground::Own).await
    }

    async fn history(&self) -> Result<History, JournalError> {
        self.call("the records", |api, now| api.history(now)).await
    }

    async fn claim(&self, name: &str, executor: &str, over: Option<&Hold>) -> Result<Recovery, JournalError> {
        let read = name.to_owned();
        let found = self.call("the record", move |api, _| api.records.get(&read).cloned()).await?;
        let (hold, found) = (found.as_ref().and_then(Stored::hold), found.and_then(|stored| stored.status));
        self.sim.with(|state| state.say(|| format!("{executor} claims {name}")));
        let mut recovery = found.ok_or_else(|| JournalError::Unavailable(format!("{name} is not there")))?;
        if recovery.phase.finished() {
            return Ok(recovery);
        }
        let from = std::mem::replace(&mut recovery.executor, executor.to_owned());
        let ground = match (hold, over) {
            (Some(hold), _) if is_job(executor) && from.is_empty() => Ground::Taken(hold.version),
            (Some(_), Some(over)) => {
                if let Some(job) = &mut recovery.job {
                    job.problem.clone_from(&over.reason);
                }
                Ground::Taken(over.version.clone())
            }
            _ => Ground::Over(from),
        };
        self.write(&recovery, ground).await?;
        match self.win(&recovery).await {
            Err(JournalError::Lost(reason)) => {
                let begun = recovery.phase != Phase::Pending;
                recovery.phase = if begun { Phase::Failed } else { Phase::Refused };
                recovery.message = format!("another recovery went ahead: {reason}");
                self.save(&recovery).await?;
                Ok(recovery)
            }
            won => won.map(|()| recovery),
        }
    }

    async fn refuse(&self, name: &str, reason: &str) -> Result<(), JournalError> {
        let refused = name.to_owned();
        self.sim.with(|state| state.say(|| format!("{name} is refused: {reason}")));
        self.call("the refusal", move |api, _| api.refuse(&refused)).await
    }

    async fn members(&self, from: Option<&Membership>, to: &Membership) -> Result<(), JournalError> {
        let (from, to, read) = (from.cloned(), to.clone(), to.clone());
        let write = move |api: &mut Api, _| api.write_members(from.as_ref(), to);
        self.swap("the ackers", write, move |api| api.members.as_ref() == Some(&read)).await
    }

    async fn route(&self, primary: Option<&ServerAddr>) -> Result<(), JournalError> {
        let mut routed = self.routed.lock().await;
        *routed = None;
        self.publish(primary).await?;
        *routed = Some(primary.cloned());
        Ok(())
    }
}
