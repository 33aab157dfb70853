//! Whose turn it is to begin a recovery when many clusters need one at the same moment, as when a zone is lost:
//! some at a time, in the order in which they asked, those first that matter most to their owners. Who has begun gets through quickly and whoever comes later
//! waits before it has done anything, instead of all of them waiting for each other's writes until none of them
//! comes in time.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::core::{id::ClusterKey, time::Mono};

/// Recoveries that have begun and whose clients cannot write yet. Each has a write to the API server under way, nearly
/// always, and waits two seconds for it at most: with so many, 16 writes in a second are enough.
pub const AT_ONCE: usize = 16;
/// Who has not asked for this long wants no turn any more, in milliseconds.
const STALE_MS: u64 = 2000;
/// Who has waited for so long comes before all priorities, in milliseconds.
const PATIENT_MS: u64 = 10_000;

/// The turns of all clusters of a process. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    taken: usize,
    next: u64,
    /// At most one per cluster.
    waiting: BTreeMap<ClusterKey, Waiting>,
}

/// A cluster that wants a turn.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    number: u64,
    priority: u32,
    since: Mono,
    asked: Mono,
}

impl Waiting {
    /// Its place in the queue, lowest first.
    fn rank(&self, now: Mono) -> (bool, Reverse<u32>, u64) {
        let patient = now.since_ms(self.since) >= PATIENT_MS;
        (!patient, Reverse(if patient { 0 } else { self.priority }), self.number)
    }
}

/// A turn; it is over when this is dropped.
#[derive(Debug)]
pub struct Turn(Option<Turns>);

impl Turn {
    /// One that nobody waits for.
    #[must_use]
    pub fn free() -> Self {
        Self(None)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = &self.0 {
            let mut queue = turns.queue();
            queue.taken = queue.taken.saturating_sub(1);
        }
    }
}

impl Turns {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of `cluster`, which asks at `now`; `None`: it waits, and is to ask again soon. Higher priorities first.
    #[must_use]
    pub fn ask(&self, cluster: &ClusterKey, priority: u32, now: Mono) -> Option<Turn> {
        let mut queue = self.queue();
        // What somebody wanted long ago is over, also what this one did.
        queue.waiting.retain(|_, waiting| now.since_ms(waiting.asked) <= STALE_MS);
        let new = Waiting { number: queue.next, priority, since: now, asked: now };
        let own = queue.waiting.entry(cluster.clone()).or_insert(new);
        (own.asked, own.priority) = (now, priority);
        let (number, rank) = (own.number, own.rank(now));
        queue.next += u64::from(number == queue.next);
        if queue.taken >= AT_ONCE {
            return None;
        }
        let before = queue.waiting.values().filter(|other| other.rank(now) < rank).count();
        if queue.taken.saturating_add(before) >= AT_ONCE {
            return None;
        }
        queue.waiting.remove(cluster);
        queue.taken += 1;
        drop(queue);
        Some(Turn(Some(self.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> ClusterKey {
        ClusterKey { namespace: "default".to_owned(), name: format!("c{number:03}") }
    }

    #[test]
    fn so_many_have_a_turn_and_the_others_in_the_order_in_which_they_asked() {
        let turns = Turns::default();
        // Not the order of their names.
        let wanted: Vec<_> = (0..AT_ONCE + 3).rev().map(key).collect();
        let mut asked: Vec<_> = wanted.iter().map(|key| turns.ask(key, 0, Mono(0))).collect();
        let waiting: Vec<_> = wanted.iter().skip(AT_ONCE).collect();
        assert!(asked.drain(AT_ONCE..).all(|turn| turn.is_none()));
        asked.pop();
        assert!(turns.ask(waiting[1], 0, Mono(100)).is_none(), "another one asked before");
        assert!(turns.ask(&key(999), 0, Mono(100)).is_none());
        let first = turns.ask(waiting[0], 0, Mono(200));
        assert!(first.is_some() && turns.ask(waiting[1], 0, Mono(200)).is_none());
        asked.clear();
        drop(first);
        let rest: Vec<_> = [waiting[2], waiting[1], &key(999)].map(|key| turns.ask(key, 0, Mono(300))).into();
        assert!(rest.iter().all(Option::is_some), "all that are there have room");
        assert_eq!(turns.queue().taken, 3);
    }

    #[test]
    fn who_matters_more_comes_first_but_not_for_ever() {
        let turns = Turns::default();
        let mut held: Vec<_> = (0..AT_ONCE).map(|number| turns.ask(&key(number), 0, Mono(0))).collect();
        let (usual, dear) = (key(100), key(101));
        assert!(turns.ask(&usual, 0, Mono(0)).is_none() && turns.ask(&dear, 7, Mono(100)).is_none());
        held.pop();
        assert!(turns.ask(&usual, 0, Mono(200)).is_none(), "the other one matters more");
        held.push(turns.ask(&dear, 7, Mono(200)));
        assert!(held.last().is_some_and(Option::is_some));
        for at in (0..=PATIENT_MS).step_by(1000) {
            assert!(turns.ask(&usual, 0, Mono(at)).is_none() && turns.ask(&key(102), 7, Mono(at)).is_none());
        }
        held.pop();
        assert!(turns.ask(&key(102), 7, Mono(PATIENT_MS)).is_none(), "another one has waited long enough");
        assert!(turns.ask(&usual, 0, Mono(PATIENT_MS)).is_some());
    }

    #[test]
    fn who_wants_no_turn_any_more_holds_nobody_up() {
        let turns = Turns::default();
        let mut held: Vec<_> = (0..AT_ONCE).map(|number| turns.ask(&key(number), 0, Mono(0))).collect();
        assert!(turns.ask(&key(100), 0, Mono(0)).is_none() && turns.ask(&key(101), 0, Mono(STALE_MS)).is_none());
        held.pop();
        assert!(turns.ask(&key(101), 0, Mono(STALE_MS)).is_none());
        assert!(turns.ask(&key(101), 0, Mono(STALE_MS + 1)).is_some());
        assert!(turns.queue().waiting.is_empty());
    }

    #[test]
    fn a_cluster_that_waited_long_ago_has_not_waited_since() {
        let turns = Turns::default();
        let mut held: Vec<_> = (0..AT_ONCE).map(|number| turns.ask(&key(number), 0, Mono(0))).collect();
        assert!(turns.ask(&key(100), 0, Mono(0)).is_none());
        let later = PATIENT_MS + STALE_MS;
        assert!(turns.ask(&key(101), 7, Mono(later)).is_none() && turns.ask(&key(100), 0, Mono(later)).is_none());
        held.pop();
        assert!(turns.ask(&key(100), 0, Mono(later)).is_none(), "the other one matters more");
        assert!(turns.ask(&key(101), 7, Mono(later)).is_some());
    }

    #[test]
    fn a_free_turn_is_nobodys() {
        let turns = Turns::default();
        drop(Turn::free());
        assert_eq!(turns.queue().taken, 0);
    }
}
