//! A small world in which what is due is done, one thing at a time, and looked at again.

use super::*;
use crate::{
    core::{
        observation::{FailureKind, SemiSync as Seen},
        policy::{SemiSync, ServerFacts},
    },
    testing::snapshot::{Cluster, addr, policy, transactions, uuid},
};

struct World {
    cluster: Cluster,
    policy: Policy,
    /// Everything that was done, in order.
    done: Vec<String>,
}

fn off() -> Seen {
    let source = SemiSyncSource {
        enabled: false,
        active: false,
        clients: 0,
        replicas: None,
        wait_count: 1,
        after_sync: true,
        timeout_ms: 10_000,
        wait_no_replica: true,
        waiting: 0,
    };
    Seen { source: Some(source), replica_enabled: Some(false), replica_active: false }
}

impl World {
    fn new(replicas: usize, acks: u32) -> Self {
        let mut cluster = Cluster::primary_and_replicas(replicas);
        for name in cluster.names().to_vec() {
            cluster.server(&name).observation.semi_sync = off();
        }
        let policy = Policy { semi_sync: Some(SemiSync { acks, zones: 1 }), ..policy() };
        let mut world = Self { cluster, policy, done: Vec::new() };
        world.look();
        world
    }

    fn seen(&mut self, name: &str) -> &mut Observation {
        &mut self.cluster.server(name).observation
    }

    fn source(&mut self) -> &mut SemiSyncSource {
        self.seen("p").semi_sync.source.as_mut().expect("it is loaded")
    }

    fn attached(&mut self) -> Vec<String> {
        let names = self.cluster.names().to_vec();
        let acks = |name: &String| {
            let server = self.cluster.server(name);
            let runs = server.observation.channels.iter().any(|channel| channel.receiver == Receiver::Running);
            server.failure.is_none() && server.observation.semi_sync.replica_active && runs
        };
        names.into_iter().filter(acks).collect()
    }

    fn look(&mut self) {
        let attached = self.attached();
        let names = self.cluster.names().to_vec();
        let number = |name: &String| u32::try_from(names.iter().position(|known| known == name).unwrap()).unwrap() + 1;
        let uuids = attached.iter().map(|name| uuid(number(name))).collect();
        if let Some(source) = self.seen("p").semi_sync.source.as_mut() {
            source.clients = u32::try_from(attached.len()).unwrap();
            source.replicas = Some(uuids);
            source.active = source.enabled;
        }
        self.cluster.advance(100);
        self.cluster.look();
    }

    /// Does the first thing that is due; whether there was one.
    fn step(&mut self) -> bool {
        let Plan { record, duties } = plan(&self.cluster.snapshot, &self.policy);
        let known = self.cluster.snapshot.ledger.newest().cloned();
        let servers: BTreeSet<_> = duties.iter().map(|duty| &duty.server).collect();
        assert_eq!(servers.len(), duties.len(), "one action a server");
        if let Some(record) = record {
            let ackers: Vec<_> = record.ackers.iter().map(ServerAddr::host).collect();
            self.done.push(format!("record {} of {}", record.acks, ackers.join(",")));
            self.cluster.snapshot.ledger.written = Some(record);
            return true;
        }
        let Some(Duty { server, action, .. }) = duties.into_iter().next() else { return false };
        let name = server.host().to_owned();
        let attached = self.attached();
        match action {
            Action::Acknowledge { on } => {
                let written = known.is_some_and(|known| known.ackers.contains(&server));
                assert!(!on || written, "{name} acknowledges before it is written down");
                let waits = self.source().enabled && attached.contains(&name);
                let left = u32::try_from(attached.len()).unwrap() - u32::from(waits);
                assert!(on || !waits || left >= self.policy.semi_sync.unwrap().acks, "commits wait for {name}");
                let seen = self.seen(&name);
                (seen.semi_sync.replica_enabled, seen.semi_sync.replica_active) = (Some(on), on);
                seen.channels[0].receiver = Receiver::Running;
                self.done.push(format!("{} {name}", if on { "on" } else { "off" }));
            }
            Action::LosslessSemiSync { acks, on } => {
                assert!(!on || attached.len() >= usize::try_from(acks).unwrap(), "the primary would wait");
                let least = known.map_or(u32::MAX, |known| known.acks);
                assert!(!on || least <= acks, "fewer are waited for than are written down");
                let source = self.source();
                (source.timeout_ms, source.after_sync) = (u64::MAX, true);
                if on {
                    (source.enabled, source.wait_count, source.wait_no_replica) = (true, acks, true);
                }
                self.done.push(format!("lossless {acks} {on}"));
            }
            Action::LoadSemiSync => {
                self.seen(&name).semi_sync = off();
                self.done.push(format!("load {name}"));
            }
            Action::SemiSyncSource { on: false, .. } => {
                assert_ne!(name, "p");
                self.seen(&name).semi_sync.source.as_mut().unwrap().enabled = false;
                self.done.push(format!("source off {name}"));
            }
            other => panic!("{other:?}"),
        }
        true
    }

    /// Until nothing is due; what was done for that.
    fn settle(&mut self) -> Vec<String> {
        self.look();
        for _ in 0..30 {
            if !self.step() {
                return std::mem::take(&mut self.done);
            }
            self.look();
        }
        panic!("something is due all the time: {:?}", self.done);
    }

    fn durable(&self) -> (Option<bool>, &'static str) {
        let answer = super::super::durable(&self.cluster.snapshot, &self.policy).unwrap();
        (answer.value, answer.reason)
    }
}

const KEPT: (Option<bool>, &str) = (Some(true), "SemiSync");

#[test]
fn ackers_are_written_down_then_switched_on_and_the_source_last() {
    let mut world = World::new(2, 1);
    assert_eq!(world.durable(), (Some(false), "TooFewAckers"));
    let done = world.settle();
    assert_eq!(done[..2], ["record 1 of r1,r2", "on r1"]);
    assert!(done[2..].contains(&"lossless 1 true".to_owned()) && done.contains(&"on r2".to_owned()), "{done:?}");
    assert_eq!(world.durable(), KEPT);
    assert_eq!(world.settle(), Vec::<String>::new(), "and that is all");
}

#[test]
fn a_primary_is_not_locked_for_want_of_ackers() {
    let mut world = World::new(1, 2);
    let done = world.settle();
    assert!(!done.contains(&"lossless 2 true".to_owned()), "{done:?}");
    assert!(!world.source().enabled);
    assert_eq!(world.durable(), (Some(false), "TooFewAckers"));
    world.cluster.add("r2");
    world.cluster.follow("r2", "p");
    world.seen("r2").semi_sync = off();
    assert_eq!(world.settle(), ["record 2 of r1,r2", "on r2", "lossless 2 true"]);
    assert_eq!(world.durable(), KEPT);
}

#[test]
fn what_somebody_changes_is_said_and_mended() {
    type Change = fn(&mut SemiSyncSource);
    let changes: [(&str, Change); 5] = [
        ("Timeout", |source| source.timeout_ms = 1000),
        ("WaitPoint", |source| source.after_sync = false),
        ("NoReplicaNoWait", |source| source.wait_no_replica = false),
        ("SwitchedOff", |source| source.enabled = false),
        ("WaitCount", |source| source.wait_count = 2),
    ];
    for (reason, change) in changes {
        let mut world = World::new(2, 1);
        world.settle();
        change(world.source());
        world.look();
        assert_eq!(world.durable(), (Some(false), reason));
        assert_eq!(world.settle(), ["lossless 1 true"], "{reason}");
        assert_eq!(world.durable(), KEPT);
    }
}

#[test]
fn a_fallback_is_ruled_out_though_ackers_are_missing() {
    let mut world = World::new(2, 2);
    world.settle();
    world.cluster.fail("r1", FailureKind::Refused);
    world.source().timeout_ms = 1000;
    assert_eq!(world.settle(), ["lossless 2 false"]);
    assert_eq!(world.durable(), (Some(false), "TooFewAckers"));
    world.cluster.server("r1").failure = None;
    assert_eq!(world.settle(), Vec::<String>::new());
    assert_eq!(world.durable(), KEPT);
}

#[test]
fn more_are_written_down_after_and_fewer_before_the_primary_waits_for_them() {
    let mut world = World::new(3, 2);
    world.settle();
    world.policy.semi_sync = Some(SemiSync { acks: 1, zones: 1 });
    let done = world.settle();
    assert_eq!(done.first().map(String::as_str), Some("record 1 of r1,r2,r3"), "{done:?}");
    assert!(done.contains(&"lossless 1 true".to_owned()), "{done:?}");
    assert!(done.contains(&"record 1 of r1,r2".to_owned()), "{done:?}");
    world.policy.semi_sync = Some(SemiSync { acks: 2, zones: 1 });
    let done = world.settle();
    assert_eq!(done, ["record 1 of r1,r2,r3", "on r3", "lossless 2 true", "record 2 of r1,r2,r3"]);
}

#[test]
fn a_stray_that_is_known_is_switched_off_and_one_that_is_not_is_reported() {
    let mut world = World::new(3, 1);
    world.settle();
    let stray = &mut world.seen("r3").semi_sync;
    (stray.replica_enabled, stray.replica_active) = (Some(true), true);
    world.look();
    assert_eq!(world.durable(), (Some(false), "StrayAcker"));
    assert_eq!(world.settle(), ["off r3"]);
    assert_eq!(world.durable(), KEPT);
    world.source().clients += 1;
    world.source().replicas = Some([uuid(2), uuid(3), uuid(9)].into());
    world.cluster.advance(100);
    world.cluster.look();
    assert_eq!(world.durable(), (Some(false), "StrayAcker"));
    assert!(!world.step());
}

#[test]
fn an_acker_is_left_alone_until_it_is_missed() {
    let mut world = World::new(2, 1);
    world.settle();
    world.seen("r1").channels[0].receiver = Receiver::Stopped;
    world.seen("r1").semi_sync.replica_active = false;
    assert_eq!(world.settle(), Vec::<String>::new(), "somebody stopped it, and the other one serves");
    assert_eq!(world.durable(), KEPT);
    world.seen("r2").channels[0].receiver = Receiver::Stopped;
    world.seen("r2").semi_sync.replica_active = false;
    let done = world.settle();
    assert!(done.starts_with(&["on r1".to_owned()]), "{done:?}");
    assert_eq!(world.durable(), KEPT);
    // The switch alone, by somebody; the receiver that runs acknowledges on.
    world.seen("r2").semi_sync.replica_enabled = Some(false);
    assert!(world.settle().contains(&"on r2".to_owned()));
}

#[test]
fn another_replica_takes_the_place_of_an_acker_that_is_missed() {
    let mut world = World::new(3, 1);
    world.settle();
    world.cluster.fail("r1", FailureKind::Refused);
    assert_eq!(world.settle(), Vec::<String>::new(), "one is enough for a while");
    world.cluster.fail("r2", FailureKind::Refused);
    assert_eq!(world.settle(), ["record 1 of r1,r2,r3", "on r3"], "who is away is still written down");
    assert_eq!(world.durable(), KEPT);
    world.cluster.server("r1").failure = None;
    world.cluster.server("r2").failure = None;
    assert_eq!(world.settle(), ["off r3", "record 1 of r1,r2"]);
}

/// What a replica in quarantine acknowledges could not be promoted; but commits are not left without anybody.
#[test]
fn a_replica_with_transactions_of_its_own_makes_room_for_another() {
    let mut world = World::new(3, 1);
    world.settle();
    let before = world.attached();
    let errant = before[0].clone();
    let executed = world.seen(&errant).executed.union(&transactions(99, 1));
    world.seen(&errant).executed = executed;
    world.look();
    world.settle();
    let now = world.attached();
    assert!(!now.contains(&errant) && now.len() == before.len(), "{before:?}, {now:?}: {:?}", world.done);
    assert_eq!(world.durable(), (Some(true), "SemiSync"));

    let mut world = World::new(1, 1);
    world.settle();
    let executed = world.seen("r1").executed.union(&transactions(99, 1));
    world.seen("r1").executed = executed;
    world.look();
    world.settle();
    assert_eq!((world.attached().len(), world.durable().0), (1, Some(false)), "{:?}", world.done);
}

#[test]
fn a_spare_comes_when_an_acker_stays_away() {
    let mut world = World::new(3, 1);
    world.settle();
    world.cluster.fail("r1", FailureKind::Refused);
    world.look();
    world.cluster.advance(60_000);
    assert_eq!(world.settle(), ["record 1 of r1,r2,r3", "on r3"]);
}

#[test]
fn zones_decide_who_acknowledges() {
    let mut world = World::new(3, 1);
    world.policy.semi_sync = Some(SemiSync { acks: 1, zones: 2 });
    let zone = |name: &str| ServerFacts { zone: Some(name.to_owned()), ..ServerFacts::default() };
    world.policy.servers =
        [("p", "a"), ("r1", "a"), ("r2", "b"), ("r3", "a")].map(|(at, z)| (addr(at), zone(z))).into();
    assert_eq!(world.settle().last().map(String::as_str), Some("lossless 1 true"));
    assert_eq!(world.attached(), ["r2"]);
    assert_eq!(world.durable(), KEPT);
    world.cluster.fail("r2", FailureKind::Refused);
    assert_eq!(world.settle(), Vec::<String>::new(), "nobody of the primary's own zone helps out");
    assert_eq!(world.durable(), (Some(false), "TooFewZones"));
    world.policy.servers.insert(addr("p"), ServerFacts::default());
    world.look();
    assert_eq!(world.durable(), (Some(false), "ZoneUnknown"));
    assert!(!world.step());
}

#[test]
fn plugins_are_loaded_wherever_they_may_be_needed() {
    let mut world = World::new(3, 1);
    for name in ["p", "r1", "r2", "r3"] {
        world.seen(name).semi_sync = Seen::default();
    }
    world.look();
    assert_eq!(world.durable(), (Some(false), "PluginMissing"));
    let done = world.settle();
    assert_eq!(done.iter().filter(|what| what.starts_with("load ")).count(), 4, "{done:?}");
    assert_eq!(world.durable(), KEPT);
}

#[test]
fn who_leads_next_is_not_sure_and_asks_before_anybody_acknowledges() {
    let mut world = World::new(2, 1);
    world.settle();
    let written = world.cluster.snapshot.ledger.written.take();
    world.cluster.snapshot.ledger.read = written;
    assert_eq!(world.settle(), Vec::<String>::new(), "nothing is due, nothing is asked");
    world.seen("r1").semi_sync = off();
    assert_eq!(world.settle(), ["record 1 of r1,r2", "on r1"]);
}

#[test]
fn a_replica_does_not_wait_and_nobody_is_touched_under_maintenance() {
    let mut world = World::new(2, 1);
    world.seen("r1").semi_sync.source.as_mut().unwrap().enabled = true;
    assert!(world.settle().contains(&"source off r1".to_owned()));
    world.policy.maintenance.insert(addr("r1"));
    world.seen("r1").semi_sync = off();
    let done = world.settle();
    assert!(done.iter().all(|what| !what.contains(" r1") || what.starts_with("record")), "{done:?}");
}

/// Between the first word to it and the next look it shows itself as it was before.
#[test]
fn who_is_being_made_to_acknowledge_stays_written_down() {
    let mut world = World::new(3, 1);
    world.settle();
    let written = world.cluster.snapshot.ledger.newest().cloned().unwrap();
    let more = Membership { ackers: [addr("r1"), addr("r2"), addr("r3")].into(), ..written.clone() };
    let kept = |world: &mut World| {
        world.cluster.snapshot.ledger.written = Some(more.clone());
        plan(&world.cluster.snapshot, &world.policy).record.unwrap_or_else(|| more.clone()).ackers.contains(&addr("r3"))
    };
    assert!(!written.ackers.contains(&addr("r3")) && !kept(&mut world), "two are enough");
    world.cluster.snapshot.ledger.begins(&addr("r3"));
    world.look();
    assert!(kept(&mut world), "it is under way");
    let now = world.cluster.snapshot.at.plus_ms(10);
    world.cluster.snapshot.ledger.has_begun(&addr("r3"), now);
    assert!(kept(&mut world), "no look shows what came of it");
    world.look();
    assert!(!kept(&mut world), "a look shows that it does not acknowledge");
}
