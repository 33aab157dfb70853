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
};

/// A recovery under way.
pub struct Runner<W> {
    world: Arc<W>,
    machine: Machine,
    flight: FuturesUnordered<BoxFuture<'static, Event>>,
    saving: bool,
    save_again: bool,
    /// The record is carried out by another process.
    replaced: Arc<AtomicBool>,
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
        let (flight, replaced) = (FuturesUnordered::new(), Arc::default());
        let mut runner = Self { world, machine, flight, saving: false, save_again: false, replaced };
        runner.feed(Event::Start)?;
        Ok(runner)
    }

    /// The record as it is now.
    pub fn record(&self) -> &Recovery {
        self.machine.record()
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
        Ok(())
    }

    /// `sure_ms`: for how long leadership is sure. What has not been said to a server by then is not said
    /// any more, so that a process that freezes meanwhile does not wake up into another's work.
    fn perform(&mut self, effect: Effect, sure_ms: u64) {
        let world = Arc::clone(&self.world);
        match effect {
            Effect::Begin => {
                let record = self.machine.record().clone();
                let begin = async move { Event::Begun(world.begin(&record).await.map_err(|error| error.to_string())) };
                self.flight.push(begin.boxed());
            }
            Effect::Save => self.save(),
            Effect::Route(target) => {
                let route = async move {
                    let result = world.route(target.as_ref()).await.map_err(|error| error.to_string());
                    Event::Routed(target, result)
                };
                self.flight.push(route.boxed());
            }
            Effect::Act(server, action, budget_ms) => {
                let act = async move {
                    let result = world.act(&server, action, budget_ms.min(sure_ms)).await;
                    Event::Acted(server, result)
                };
                self.flight.push(act.boxed());
            }
            Effect::Finish => {}
        }
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
