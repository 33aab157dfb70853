//! Recoveries of intermediate primaries in random trees, with executors that die after any action: every
//! replica that can follow somebody does in the end, nobody gets a source that lacks its transactions or
//! that no longer has those it lacks, nobody follows in a circle, the primary stays as it is.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use baton::{
    core::{
        analysis::{Act, Analysis, Code},
        gtid::GtidSet,
        id::{Epoch, ServerAddr},
        observation::{FailureKind, Observation, Receiver},
        policy::{Policy, ServerFacts},
        recovery::{Phase, Recovery},
        relocation::{
            Tried,
            course::{Beginning, Course},
            obstacle, plan,
        },
        snapshot::Snapshot,
        step::{Action, ActionError},
        topology::Topology,
    },
    testing::snapshot::{Cluster, addr, policy, transactions},
};
use proptest::prelude::*;

/// A server of a tree: its source (one before it), how much of the primary's writes it has applied and
/// received beyond, its zone, and what is odd about it.
#[derive(Debug, Clone)]
struct Shape {
    source: usize,
    applied: u64,
    received: u64,
    zone: u8,
    odd: Odd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Odd {
    Nothing,
    NoLogging,
    Filtered,
    ApplierFailed,
    Errant,
    Purged,
    Old,
    Dead,
}

fn odd() -> impl Strategy<Value = Odd> {
    let rare = [Odd::NoLogging, Odd::Filtered, Odd::ApplierFailed, Odd::Errant, Odd::Purged, Odd::Old, Odd::Dead];
    prop_oneof![4 => Just(Odd::Nothing), 3 => prop::sample::select(rare.to_vec())]
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (any::<prop::sample::Index>(), 50u64..100, 0u64..20, 0u8..2, odd());
    prop::collection::vec(shape, 3..9).prop_map(|shapes| {
        let shape = |(index, (source, applied, received, zone, odd)): (usize, (prop::sample::Index, _, _, _, _))| {
            Shape { source: source.index(index + 1), applied, received, zone, odd }
        };
        shapes.into_iter().enumerate().map(shape).collect()
    })
}

fn name(index: usize) -> String {
    if index == 0 { "p".to_owned() } else { format!("s{index}") }
}

/// The servers, whom their looks show, and what an executor does to them.
struct World {
    fleet: Cluster,
    policy: Policy,
    lost: ServerAddr,
    journal: Option<Recovery>,
}

impl World {
    fn new(shapes: &[Shape], lost: usize) -> Self {
        let (mut fleet, mut policy) = (Cluster::default(), policy());
        (0..=shapes.len()).for_each(|index| {
            fleet.add(&name(index));
        });
        for (index, shape) in (1..).zip(shapes) {
            fleet.follow(&name(index), &name(shape.source));
            let zone = Some(format!("z{}", shape.zone));
            policy.servers.insert(addr(&name(index)), ServerFacts { zone, ..ServerFacts::default() });
        }
        fleet.snapshot.primary = Some(addr("p"));
        let mut world = Self { fleet, policy, lost: addr(&name(lost)), journal: None };
        world.fleet.look();
        world.spoil(shapes, lost);
        world
    }

    fn spoil(&mut self, shapes: &[Shape], lost: usize) {
        for (index, shape) in (1..).zip(shapes) {
            let own = u32::try_from(index).unwrap() + 1;
            let seen = &mut self.fleet.server(&name(index)).observation;
            seen.executed = transactions(1, shape.applied);
            seen.channels[0].received = transactions(1, (shape.applied + shape.received).min(100));
            match shape.odd {
                Odd::Nothing => {}
                Odd::NoLogging => seen.settings.log_replica_updates = false,
                Odd::Filtered => seen.channels[0].filtered = true,
                Odd::ApplierFailed => seen.channels[0].applier_running = false,
                Odd::Errant => seen.executed = seen.executed.union(&transactions(own, 2)),
                Odd::Purged => seen.purged = transactions(1, shape.applied),
                Odd::Old => seen.identity.version = baton::core::version::Version::mysql(8, 0, 40),
                Odd::Dead => self.fleet.fail(&name(index), FailureKind::Silent),
            }
        }
        self.fleet.fail(&name(lost), FailureKind::Refused);
        let names: Vec<_> = self.fleet.names().to_vec();
        for name in names {
            let source = self.source(&name).map(|source| source.host().to_owned());
            if source.is_some_and(|source| self.fleet.server(&source).failure.is_some()) {
                self.fleet.lose_source(&name);
            }
        }
    }

    fn source(&mut self, name: &str) -> Option<ServerAddr> {
        self.fleet.server(name).observation.channels.first()?.source.clone()
    }

    /// Whoever is connected gets and applies what its source has.
    fn replicate(&mut self) {
        for _ in 0..3 {
            for name in self.fleet.names().to_vec() {
                let Some(source) = self.source(&name) else { continue };
                let source = self.fleet.server(source.host()).clone();
                let server = self.fleet.server(&name);
                let channel = &mut server.observation.channels[0];
                if channel.receiver == Receiver::Running && source.failure.is_none() && server.failure.is_none() {
                    channel.received = channel.received.union(&source.observation.executed);
                    if channel.applier_running {
                        server.observation.executed = server.observation.executed.union(&channel.received);
                    }
                }
            }
        }
    }

    fn look(&mut self) -> Snapshot {
        self.replicate();
        self.fleet.advance(1000);
        self.fleet.look()
    }

    /// Does it, or refuses as a server would.
    fn act(&mut self, server: &ServerAddr, action: &Action) -> Result<(), ActionError> {
        let refuse = |reason: &str| ActionError::Precondition { server: server.clone(), reason: reason.to_owned() };
        let primary = self.fleet.server("p").observation.clone();
        if self.fleet.server(server.host()).failure.is_some() {
            return Err(refuse("it is dead"));
        }
        match action {
            Action::Repoint { source, .. } => {
                let other = self.fleet.server(source.host()).observation.clone();
                let seen = self.fleet.server(server.host()).observation.clone();
                assert_eq!(obstacle(&seen, &other, &primary), None, "{server} moved to {source}");
                self.assert_fed(&seen, &other, &primary);
                let drained = seen.channels[0].applier_running || seen.channels[0].drained(&seen.executed);
                if !drained {
                    return Err(refuse("transactions are received and not applied"));
                }
                self.fleet.server(server.host()).observation.channels.clear();
                self.fleet.follow(server.host(), source.host());
                let again = &mut self.fleet.server(server.host()).observation;
                again.executed = seen.total();
                again.channels[0].received = GtidSet::default();
            }
            Action::StartApplier => {
                self.fleet.server(server.host()).observation.channels[0].applier_running = true;
            }
            Action::WaitApplied { set, .. } => {
                let seen = &mut self.fleet.server(server.host()).observation;
                seen.executed = seen.executed.union(set);
            }
            other => panic!("{other:?} on {server}"),
        }
        Ok(())
    }

    /// What a replica has its new source or the primary has, and what it lacks the source still has.
    fn assert_fed(&self, seen: &Observation, source: &Observation, primary: &Observation) {
        let own = seen.total();
        assert!(source.total().union(&primary.executed).contains(&own));
        assert!(own.contains(&source.purged));
        assert!(source.settings.log_replica_updates);
    }

    fn analysis(&self) -> Analysis {
        Analysis {
            code: Code::DeadIntermediatePrimary,
            server: self.lost.clone(),
            since: None,
            evidence: Vec::new(),
            act: Act::Repair,
            structure: false,
            skipped: false,
        }
    }

    fn orphans(&self, snapshot: &Snapshot) -> BTreeSet<ServerAddr> {
        plan(snapshot, &Topology::of(snapshot), &self.policy, &self.lost, &Tried { direct: true, ..Tried::default() })
            .movable()
    }

    fn begin(&mut self) -> Option<Course> {
        let snapshot = self.look();
        let plan = plan(&snapshot, &Topology::of(&snapshot), &self.policy, &self.lost, &Tried::default());
        if plan.movable().is_empty() {
            return None;
        }
        let beginning = Beginning {
            record: "shop-relocation-1".to_owned(),
            epoch: Epoch(7),
            executor: "a",
            analysis: &self.analysis(),
            evidence: Vec::new(),
            first_sign: snapshot.at,
        };
        let mut course = Course::new(snapshot.at, &snapshot, plan, beginning);
        self.journal = Some(course.record().clone());
        course.recorded(snapshot.at);
        Some(course)
    }

    /// The next executor goes on.
    fn resume(&mut self) -> Course {
        let at = self.look().at;
        let mut course = Course::resume(self.journal.clone().unwrap(), at);
        course.recorded(at);
        course
    }

    /// Until it is over, or until the executor dies after so many actions; whether it is over.
    fn run(&mut self, course: &mut Course, dies_after: usize) -> bool {
        let mut acts = 0;
        for _ in 0..200 {
            let snapshot = self.look();
            let due = course.pass(&snapshot, &Topology::of(&snapshot), &self.policy, true);
            if course.finished() {
                return true;
            }
            for duty in due {
                course.started(self.fleet.snapshot.at, &duty.server, duty.action.clone());
                let result = self.act(&duty.server, &duty.action);
                acts += 1;
                if acts > dies_after {
                    return false;
                }
                course.acted(self.fleet.snapshot.at, &duty.server, result.as_ref().err());
            }
        }
        panic!("it does not end: {:?}", course.record());
    }

    fn assert_no_circle(&mut self) {
        for name in self.fleet.names().to_vec() {
            let (mut at, mut steps) = (name.clone(), 0);
            while let Some(source) = self.source(&at) {
                at = source.host().to_owned();
                steps += 1;
                assert!(steps <= 10, "{name} follows in a circle");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_can_follow_follows(
        shapes in shapes(),
        lost in any::<prop::sample::Index>(),
        deaths in prop::collection::vec(0usize..4, 0..4),
    ) {
        let lost = 1 + lost.index(shapes.len());
        let mut world = World::new(&shapes, lost);
        let before = world.fleet.server("p").observation.settings.clone();
        let Some(mut course) = world.begin() else {
            let snapshot = world.look();
            prop_assert!(world.orphans(&snapshot).is_empty());
            return Ok(());
        };
        let mut over = false;
        for dies_after in deaths {
            over = world.run(&mut course, dies_after);
            if over {
                break;
            }
            course = world.resume();
        }
        if !over {
            world.run(&mut course, usize::MAX);
        }
        let record = course.record().clone();
        let snapshot = world.look();
        prop_assert!(world.orphans(&snapshot).is_empty(), "{:?}: {}", world.orphans(&snapshot), record.message);
        prop_assert_eq!(record.phase, Phase::Succeeded);
        prop_assert!(record.new_primary.is_some());
        world.assert_no_circle();
        prop_assert_eq!(&before, &world.fleet.server("p").observation.settings);
        // Who was moved replicates from the primary's writes on.
        for addr in world.journal.clone().unwrap().pending_replicas {
            let seen = world.fleet.server(addr.host()).clone();
            let works = seen.failure.is_none() && seen.observation.channels[0].applier_running;
            if works && !record.lost_replicas.contains(&addr) {
                prop_assert!(seen.observation.executed.contains(&transactions(1, 100)), "{addr} gets nothing");
            }
        }
    }
}
