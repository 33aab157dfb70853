//! Whether anything can have become different: while all is well, looks that show the same as before
//! need not be thought about, and thinking is what watching many clusters would cost most of.
//!
//! Only calm clusters rest, and never for longer than a moment. Whatever fails, changes or is under way
//! is thought about at once.

use crate::core::{
    analysis::Analysis,
    observation::{Channel, Commits, Look, Observation, SemiSync, SemiSyncSource},
    snapshot::{Reach, ServerState, Snapshot},
    time::Mono,
};

/// Time between two passes when nothing happens, in milliseconds.
const TICK_MS: u64 = 100;
/// The same during a recovery, in milliseconds.
const TICK_URGENT_MS: u64 = 10;
/// Time between two signs of our own running while all is well, in milliseconds.
const TICK_CALM_MS: u64 = 250;
/// Decisions are made anew this often while all is well, in milliseconds: right after a look at the
/// primary, or without one after twice the time.
const CALM_MS: u64 = 1000;
/// A gap in our own running that voids what we knew, in milliseconds.
pub(super) const GAP_MS: u64 = 1000;

/// When a cluster is to be thought about next.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// When the task last ran.
    ran_at: Mono,
    /// When decisions were last made.
    passed_at: Mono,
    /// All was well then.
    calm: bool,
    /// The newest look was one at the primary.
    in_order: bool,
}

impl Rhythm {
    pub(super) fn new(now: Mono) -> Self {
        Self { ran_at: now, passed_at: now, calm: false, in_order: false }
    }

    /// Longest wait for something to happen, in milliseconds.
    pub(super) fn tick_ms(&self, recovering: bool) -> u64 {
        match (recovering, self.calm) {
            (true, _) => TICK_URGENT_MS,
            (false, false) => TICK_MS,
            (false, true) => TICK_CALM_MS,
        }
    }

    /// The task runs; whether it did not for so long that what it knew is void.
    pub(super) fn slept(&mut self, now: Mono) -> bool {
        let slept = now.since_ms(self.ran_at) > GAP_MS;
        self.ran_at = now;
        self.calm &= !slept;
        slept
    }

    /// A server was looked at. Only when the primary was looked at last do looks prove what another server
    /// lacks or has alone. Looks come in a rhythm of their own: decisions that were made at any of them
    /// could be made right after the same replica's each time.
    pub(super) fn looked(&mut self, at_primary: bool) {
        self.in_order = at_primary;
    }

    /// Whether to think now; `news`: something is new.
    pub(super) fn due(&self, now: Mono, news: bool) -> bool {
        let rested_ms = now.since_ms(self.passed_at);
        let rested = rested_ms >= CALM_MS && self.in_order || rested_ms >= CALM_MS.saturating_mul(2);
        news || !self.calm || rested
    }

    /// Decisions were made.
    pub(super) fn passed(&mut self, now: Mono, calm: bool) {
        (self.passed_at, self.calm) = (now, calm);
    }
}

/// Whether a look shows something new about a server, transactions and heartbeats aside: in a calm
/// cluster they come all the time.
pub(super) fn news(state: Option<&ServerState>, look: &Look) -> bool {
    let Some(state) = state else { return false };
    match (state.answering(), look) {
        (Some(before), Ok(now)) => !same(before, now),
        _ => true,
    }
}

/// Whether nothing is wrong but weaknesses of the structure, and every server answers.
pub(super) fn is_calm(snapshot: &Snapshot, analyses: &[Analysis]) -> bool {
    let answering = |state: &ServerState| matches!(state.reach(), Reach::Answering(_));
    snapshot.servers.values().all(answering) && analyses.iter().all(|analysis| analysis.structure)
}

fn same(before: &Observation, now: &Observation) -> bool {
    let Observation {
        at: _,
        took_ms: _,
        identity,
        settings,
        executed: _,
        purged: _,
        written: _,
        channels,
        downstream,
        semi_sync,
        commits,
        facts,
        refuses_new,
    } = now;
    *identity == before.identity
        && *settings == before.settings
        && channels.len() == before.channels.len()
        && channels.iter().zip(&before.channels).all(|(now, before)| same_channel(before, now))
        && *downstream == before.downstream
        && same_semi_sync(&before.semi_sync, semi_sync)
        && hang(commits.as_ref()) == hang(before.commits.as_ref())
        && *facts == before.facts
        && refuses_new.is_some() == before.refuses_new.is_some()
}

/// Sessions wait for acknowledgements all the time where clients write.
fn same_semi_sync(before: &SemiSync, now: &SemiSync) -> bool {
    let source = |seen: &SemiSync| seen.source.clone().map(|source| SemiSyncSource { waiting: 0, ..source });
    source(before) == source(now)
        && before.replica_enabled == now.replica_enabled
        && before.replica_active == now.replica_active
}

fn hang(commits: Option<&Commits>) -> bool {
    commits.is_some_and(|commits| commits.waiting > 0)
}

fn same_channel(before: &Channel, now: &Channel) -> bool {
    let Channel {
        name,
        source,
        source_uuid,
        receiver,
        applier_running,
        receiver_error,
        applier_error,
        auto_position,
        received: _,
        heartbeats: _,
        heartbeat_interval_ms,
        read_position: _,
        applied_position: _,
        seconds_behind: _,
        delay_s,
        connect_retry_s,
        retry_count,
        tls,
        filtered,
    } = now;
    *name == before.name
        && *source == before.source
        && *source_uuid == before.source_uuid
        && *receiver == before.receiver
        && *applier_running == before.applier_running
        && *receiver_error == before.receiver_error
        && *applier_error == before.applier_error
        && *auto_position == before.auto_position
        && *heartbeat_interval_ms == before.heartbeat_interval_ms
        && *delay_s == before.delay_s
        && *connect_retry_s == before.connect_retry_s
        && *retry_count == before.retry_count
        && *tls == before.tls
        && *filtered == before.filtered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            analysis::analyse,
            observation::{Failure, FailureKind, Receiver},
        },
        testing::snapshot::{Cluster, addr, policy, transactions},
    };

    /// The newest look at `r1`, once more but for `change`.
    fn again(cluster: &mut Cluster, change: impl Fn(&mut Observation)) -> bool {
        let state = cluster.look().servers[&addr("r1")].clone();
        let mut look = state.last.clone().unwrap();
        change(&mut look);
        news(Some(&state), &Ok(Box::new(look)))
    }

    #[test]
    fn what_comes_all_the_time_is_no_news() {
        let mut cluster = Cluster::primary_and_replicas(1);
        assert!(!again(&mut cluster, |_| {}));
        assert!(!again(&mut cluster, |seen| {
            (seen.at.0, seen.took_ms) = (seen.at.0 + 1000, 3);
            (seen.executed, seen.channels[0].received) = (transactions(1, 200), transactions(1, 201));
            seen.channels[0].heartbeats += 2;
            seen.channels[0].read_position.1 += 100;
            seen.channels[0].seconds_behind = Some(1);
        }));
        cluster.semi_sync(1);
        let state = cluster.look().servers[&addr("p")].clone();
        let with = |change: fn(&mut SemiSyncSource)| {
            let mut look = state.last.clone().unwrap();
            change(look.semi_sync.source.as_mut().unwrap());
            news(Some(&state), &Ok(Box::new(look)))
        };
        assert!(!with(|source| source.waiting = 3));
        assert!(with(|source| source.clients = 0) && with(|source| source.timeout_ms = 1000));
    }

    #[test]
    fn what_means_something_is() {
        let mut cluster = Cluster::primary_and_replicas(1);
        let changes: [fn(&mut Observation); 6] = [
            |seen| seen.channels[0].receiver = Receiver::Connecting,
            |seen| seen.channels[0].applier_running = false,
            |seen| seen.channels.clear(),
            |seen| seen.settings.read_only = false,
            |seen| seen.semi_sync.replica_active = true,
            |seen| seen.identity.uuid = "another".to_owned(),
        ];
        for (change, number) in changes.iter().zip(1..) {
            assert!(again(&mut cluster, change), "{number}");
        }
        let state = cluster.look().servers[&addr("r1")].clone();
        let failure = Failure { at: state.looked_at().unwrap(), kind: FailureKind::Silent, message: String::new() };
        assert!(news(Some(&state), &Err(failure.clone())));
        let mut failing = state.clone();
        failing.apply(Err(failure));
        assert!(news(Some(&failing), &Ok(Box::new(state.last.unwrap()))), "it answers again");
        assert!(!news(None, &Err(failing.failure.unwrap())), "it is none of this cluster");
    }

    #[test]
    fn a_calm_cluster_rests_but_not_for_long() {
        let mut rhythm = Rhythm::new(Mono(0));
        assert!(rhythm.due(Mono(1), false), "nobody knows yet whether it is calm");
        rhythm.passed(Mono(1), true);
        assert!(!rhythm.slept(Mono(999)) && !rhythm.due(Mono(999), false) && rhythm.due(Mono(999), true));
        assert!(!rhythm.slept(Mono(1001)) && !rhythm.due(Mono(1001), false));
        rhythm.looked(true);
        assert!(rhythm.due(Mono(1001), false), "the primary was looked at last");
        rhythm.looked(false);
        assert!(!rhythm.due(Mono(2000), false) && rhythm.due(Mono(2001), false), "a look in vain, or none");
        assert!(rhythm.tick_ms(false) * 3 < GAP_MS, "late ticks are no gaps");
        rhythm.passed(Mono(1500), true);
        assert!(rhythm.slept(Mono(2002)) && rhythm.due(Mono(2002), false), "the process was frozen");
        rhythm.passed(Mono(2002), false);
        assert_eq!((rhythm.tick_ms(false), rhythm.tick_ms(true)), (TICK_MS, TICK_URGENT_MS));
    }

    #[test]
    fn only_a_cluster_in_which_all_is_well_is_calm() {
        let mut cluster = Cluster::primary_and_replicas(2);
        let calm = |snapshot: &Snapshot| is_calm(snapshot, &analyse(snapshot, &policy()));
        assert!(!calm(&cluster.snapshot), "nothing was looked at");
        assert!(calm(&cluster.look()));
        cluster.server("r1").observation.settings.net_timeout_s = 3600;
        assert!(calm(&cluster.look()), "a weakness is no failure");
        cluster.server("r1").observation.channels[0].applier_running = false;
        cluster.server("r2").observation.channels[0].applier_running = false;
        assert!(!calm(&cluster.look()));
        cluster.server("r1").observation.channels[0].applier_running = true;
        cluster.fail("r2", FailureKind::Refused);
        assert!(!calm(&cluster.look()), "nobody says so, but a server does not answer");
    }
}
