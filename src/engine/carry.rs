//! Carries one recovery to its end and does nothing else: what a Job does.
//!
//! It looks at the servers itself, from before the record is its own, and trusts nobody's view of them; it
//! continues from the record as a new leader does.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::{mpsc, watch};

use super::{
    decide::{self, Watching},
    ports::World,
    recover::{NotLeading, Runner},
};
use crate::core::{
    id::ServerAddr,
    observation::Look,
    policy::Policy,
    recovery::{
        Recovery,
        machine::{Event, Machine},
    },
    snapshot::{Reach, Snapshot},
};

/// Longest wait for the first look at each server, in milliseconds.
const LOOK_MS: u64 = 2000;
/// Time between two steps when nothing happens, in milliseconds.
const TICK_MS: u64 = 10;

/// A recovery and what carries it.
pub struct Carrier<W> {
    world: Arc<W>,
    policy: Policy,
    executor: String,
    looks: mpsc::Receiver<(ServerAddr, Look)>,
    watching: watch::Sender<Watching>,
    snapshot: Snapshot,
}

impl<W> std::fmt::Debug for Carrier<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("executor", &self.executor).finish_non_exhaustive()
    }
}

impl<W: World> Carrier<W> {
    /// One that has seen nothing yet. `looks` come of what `watching` says.
    pub fn new(
        world: Arc<W>,
        policy: Policy,
        executor: &str,
        looks: mpsc::Receiver<(ServerAddr, Look)>,
        watching: watch::Sender<Watching>,
    ) -> Self {
        let now = world.now();
        let mut snapshot = Snapshot { at: now, watching_since: now, ..Snapshot::default() };
        snapshot.adopt(policy.servers.keys());
        let carrier = Self { world, policy, executor: executor.to_owned(), looks, watching, snapshot };
        carrier.watch();
        carrier
    }

    fn watch(&self) {
        let wanted = decide::watching(&self.snapshot, &self.policy, true);
        self.watching.send_if_modified(|old| {
            let changed = *old != wanted;
            old.clone_from(&wanted);
            changed
        });
    }

    /// Looks on until `until` ends.
    pub async fn observe<T>(&mut self, until: impl Future<Output = T>) -> T {
        let mut until = std::pin::pin!(until);
        loop {
            tokio::select! {
                biased;
                ended = &mut until => return ended,
                Some((addr, look)) = self.looks.recv() => {
                    self.snapshot.apply(&addr, look);
                    self.discover();
                }
            }
        }
    }

    fn discover(&mut self) {
        let (found, _) = decide::membership(&self.snapshot, &self.policy);
        for addr in found {
            self.snapshot.servers.entry(addr).or_default();
        }
        self.watch();
    }

    /// Looks once at each server that the record knows, if it can.
    async fn look(&mut self, record: &Recovery) {
        let judged = record.candidates.iter().map(|candidate| &candidate.server);
        let named = record.ackers.iter().chain(&record.pending_replicas).chain(&record.new_primary).chain(judged);
        let named: BTreeSet<_> = named.chain([&record.old_primary]).cloned().collect();
        for addr in named {
            self.snapshot.servers.entry(addr).or_default();
        }
        self.watch();
        let began = self.world.now();
        let unseen = |snapshot: &Snapshot| snapshot.servers.values().any(|state| state.reach() == Reach::Unknown);
        while unseen(&self.snapshot) && self.world.now().since_ms(began) < LOOK_MS {
            let world = Arc::clone(&self.world);
            self.observe(world.sleep_ms(TICK_MS)).await;
        }
        self.snapshot.at = self.world.now();
    }

    /// Carries `record`, which this process has claimed, to its end.
    ///
    /// # Errors
    /// [`NotLeading`]: the claim has ended. Whoever has it now goes on.
    pub async fn carry(mut self, record: Recovery) -> Result<Recovery, NotLeading> {
        self.snapshot.primary = record.new_primary.clone().or_else(|| Some(record.old_primary.clone()));
        let claimed = self.world.now();
        self.look(&record).await;
        let machine = Machine::resume(record, &self.snapshot, &self.policy, &self.executor, claimed);
        let mut runner = Runner::start(Arc::clone(&self.world), machine)?;
        while !runner.finished() {
            let world = Arc::clone(&self.world);
            tokio::select! {
                biased;
                event = runner.next() => {
                    if let Event::Acted(addr, Ok(seen)) = &event {
                        self.snapshot.apply(addr, Ok(seen.clone()));
                    }
                    runner.feed(event)?;
                }
                Some((addr, look)) = self.looks.recv() => {
                    if let Ok(seen) = &look {
                        runner.looked(&addr, seen)?;
                    }
                    self.snapshot.apply(&addr, look);
                    self.discover();
                }
                () = world.sleep_ms(TICK_MS) => {}
            }
            runner.feed(Event::Tick)?;
        }
        Ok(runner.record().clone())
    }
}
