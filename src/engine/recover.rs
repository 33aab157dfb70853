//! Carries out a recovery: performs what the state machine asks for, side by side, and feeds the
//! outcomes back, as long as this process surely leads.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, pending},
    stream::FuturesUnordered,
};

use super::ports::{JournalError, World};
use crate::core::{
    id::ServerAddr,
    observation::Observation,
    recovery::{
        Recovery,
        machine::{Effect, Event, Gate, Machine},
    },
    step::Action,
};

/// A recovery under way.
pub struct Runner<W> {
    world: Arc<W>,
    machine: Machine,
    flight: FuturesUnordered<BoxFuture<'static, Event>>,
    saving: bool,
    save_again: bool,
    /// The record is to be left when no write of it is under way.
    leave: bool,
    /// The record is carried out by another process.
    replaced: Arc<AtomicBool>,
    /// The record that was to be begun, or its epoch, is another's.
    taken: Arc<AtomicBool>,
}

impl<W> std::fmt::Debug for Runner<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("phase", &self.machine.record().phase)
            .field("in_flight", &self.flight.len())
            .finish()
    }
}

/// Leadership is not sure any more: whoever leads now continues from the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("leadership is not sure any more")]
pub struct NotLeading;

impl<W: World> Runner<W> {
    /// Begins (or continues) the recovery that `machine` describes.
    ///
    /// # Errors
    /// [`NotLeading`]: nothing was done.
    pub fn start(world: Arc<W>, machine: Machine) -> Result<Self, NotLeading> {
        let (flight, replaced, taken) = (FuturesUnordered::new(), Arc::default(), Arc::default());
        let mut runner =
            Self { world, machine, flight, saving: false, save_again: false, leave: false, replaced, taken };
        runner.feed(Event::Start)?;
        Ok(runner)
    }

    /// The record as it is now.
    pub fn record(&self) -> &Recovery {
        self.machine.record()
    }

    /// As [`Machine::bar_leaving`].
    pub fn bar_leaving(&mut self, barred: bool) {
        self.machine.bar_leaving(barred);
    }

    /// The record was left to a Job.
    pub fn left(&self) -> bool {
        self.machine.left()
    }

    /// The record that was to be begun, or its epoch, is another's.
    pub fn taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// Nothing more will happen.
    pub fn finished(&self) -> bool {
        self.machine.finished() && self.flight.is_empty()
    }

    /// Tells the machine what a look at a server showed.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn looked(&mut self, addr: &ServerAddr, seen: &Observation) -> Result<(), NotLeading> {
        let seen = Box::new(seen.clone());
        let old = *addr == self.record().old_primary;
        self.feed(if old { Event::OldAnswers(seen) } else { Event::Looked(addr.clone(), seen) })
    }

    /// Waits for something to end. Never ends while nothing is under way.
    pub async fn next(&mut self) -> Event {
        match self.flight.next().await {
            Some(event) => event,
            None => pending().await,
        }
    }

    /// Tells the machine what happened and performs what it asks for.
    ///
    /// # Errors
    /// [`NotLeading`]: the machine was told nothing, and the runner is to be dropped.
    pub fn feed(&mut self, event: Event) -> Result<(), NotLeading> {
        let now = self.world.now();
        let leader_until = self.world.leader_until().filter(|until| *until > now).ok_or(NotLeading)?;
        if self.replaced.load(Ordering::Relaxed) {
            return Err(NotLeading);
        }
        if matches!(event, Event::Saved(..)) {
            self.saving = false;
        }
        let effects = self.machine.step(Gate { now, leader_until }, event);
        let sure_ms = leader_until.since_ms(now);
        for effect in effects {
            self.perform(effect, sure_ms);
        }
        if self.save_again && !self.saving {
            self.save();
        }
        if self.leave && !self.saving {
            self.leave();
        }
        Ok(())
    }

    /// `sure_ms`: for how long leadership is sure. What has not been said to a server by then is not said
    /// any more, so that a process that freezes meanwhile does not wake up into another's work.
    fn perform(&mut self, effect: Effect, sure_ms: u64) {
        let world = Arc::clone(&self.world);
        match effect {
            Effect::Begin => {
                let (record, taken) = (self.machine.record().clone(), Arc::clone(&self.taken));
                let begin = async move {
                    let result = world.begin(&record).await;
                    taken.fetch_or(matches!(result, Err(JournalError::Lost(_))), Ordering::Relaxed);
                    Event::Begun(result.map_err(|error| error.to_string()))
                };
                self.flight.push(begin.boxed());
            }
            Effect::Save => self.save(),
            Effect::StartJob => {
                let record = self.machine.record().clone();
                let start = async move { Event::JobStarted(world.start_job(&record).await) };
                self.flight.push(start.boxed());
            }
            Effect::Leave => self.leave = true,
            Effect::Route(target) => {
                let route = async move {
                    let result = world.route(target.as_ref()).await.map_err(|error| error.to_string());
                    Event::Routed(target, result)
                };
                self.flight.push(route.boxed());
            }
            Effect::Act(server, action, budget_ms) => {
                let decided = world.now();
                let act = async move {
                    // A process that froze between the decision and its first word has that much less time.
                    let late_ms = world.now().since_ms(decided);
                    let action = begun_late(action, late_ms);
                    let result = world.act(&server, action, budget_ms.min(sure_ms).saturating_sub(late_ms)).await;
                    Event::Acted(server, result)
                };
                self.flight.push(act.boxed());
            }
            Effect::Finish => {}
        }
    }

    fn leave(&mut self) {
        self.leave = false;
        let (world, record) = (Arc::clone(&self.world), self.machine.record().clone());
        let replaced = Arc::clone(&self.replaced);
        let leave = async move {
            let result = world.leave(&record).await;
            replaced.fetch_or(matches!(result, Err(JournalError::Lost(_))), Ordering::Relaxed);
            Event::Left(result.map_err(|error| error.to_string()))
        };
        self.flight.push(leave.boxed());
    }

    /// One write at a time; what changes meanwhile is written by the next.
    fn save(&mut self) {
        self.save_again = self.saving;
        if self.saving {
            return;
        }
        self.saving = true;
        let (world, record) = (Arc::clone(&self.world), self.machine.record().clone());
        let replaced = Arc::clone(&self.replaced);
        let save = async move {
            let result = world.save(&record).await;
            replaced.fetch_or(matches!(result, Err(JournalError::Lost(_))), Ordering::Relaxed);
            let result = result.map_err(|error| error.to_string());
            Event::Saved(record.new_primary, result)
        };
        self.flight.push(save.boxed());
    }
}

/// The action as it is `late_ms` after it was decided: a claim does not outlast the right that it rests on.
fn begun_late(action: Action, late_ms: u64) -> Action {
    match action {
        Action::Claim { epoch, valid_ms } => Action::Claim { epoch, valid_ms: valid_ms.saturating_sub(late_ms) },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicU64};

    use super::*;
    use crate::{
        core::{
            id::Epoch,
            membership::Membership,
            recovery::{Cause, Hold},
            step::ActionError,
            time::Mono,
        },
        engine::ports::{Clock, Journal, Leadership, NoJobs, Servers},
        testing::snapshot::{Cluster, addr, policy},
    };

    /// Leads until 1500; remembers the budgets of what is done.
    #[derive(Default)]
    struct Leader {
        now: AtomicU64,
        budgets: Mutex<Vec<u64>>,
    }

    impl Servers for Leader {
        async fn act(&self, addr: &ServerAddr, _: Action, budget_ms: u64) -> Result<Box<Observation>, ActionError> {
            self.budgets.lock().unwrap().push(budget_ms);
            Err(ActionError::Precondition { server: addr.clone(), reason: "a test".to_owned() })
        }
    }

    impl Journal for Leader {
        async fn begin(&self, _: &Recovery) -> Result<(), JournalError> {
            Ok(())
        }

        async fn save(&self, _: &Recovery) -> Result<(), JournalError> {
            Ok(())
        }

        async fn claim(&self, _: &str, _: &str, _: Option<&Hold>) -> Result<Recovery, JournalError> {
            Err(JournalError::Lost("a test".to_owned()))
        }

        async fn refuse(&self, _: &str, _: &str) -> Result<(), JournalError> {
            Ok(())
        }

        async fn members(&self, _: Option<&Membership>, _: &Membership) -> Result<(), JournalError> {
            Ok(())
        }

        async fn route(&self, _: Option<&ServerAddr>) -> Result<(), JournalError> {
            Ok(())
        }
    }

    impl NoJobs for Leader {}

    impl Leadership for Leader {
        fn leader_until(&self) -> Option<Mono> {
            Some(Mono(1500))
        }
    }

    impl Clock for Leader {
        fn now(&self) -> Mono {
            Mono(self.now.load(Ordering::Relaxed))
        }

        fn wall_ms(&self) -> u64 {
            0
        }

        async fn sleep_ms(&self, _: u64) {}
    }

    #[tokio::test]
    async fn a_process_that_froze_before_its_first_word_has_no_time_left() {
        for (frozen_ms, all_late) in [(0, false), (5000, true)] {
            let mut cluster = Cluster::primary_and_replicas(2);
            cluster.semi_sync(1);
            let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
            let machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
            let world = Arc::new(Leader::default());
            let mut runner = Runner::start(Arc::clone(&world), machine).unwrap();
            let begun = runner.next().await;
            runner.feed(begun).unwrap();
            world.now.store(frozen_ms, Ordering::Relaxed);
            while runner.flight.next().await.is_some() {}
            let budgets = world.budgets.lock().unwrap().clone();
            assert!(!budgets.is_empty() && budgets.iter().all(|left| (*left == 0) == all_late), "{budgets:?}");
        }
    }

    #[test]
    fn a_claim_that_is_made_late_is_valid_for_less() {
        let claim = |valid_ms| Action::Claim { epoch: Epoch(7), valid_ms };
        assert_eq!(begun_late(claim(1500), 600), claim(900));
        assert_eq!(begun_late(claim(500), 600), claim(0), "the server refuses it");
        assert_eq!(begun_late(Action::StopReceiver, 600), Action::StopReceiver);
    }
}
