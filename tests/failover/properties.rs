//! Random clusters, random orders, a crash of the executor after any number of effects, replicas that
//! die on the way: the invariants hold in each.

use baton::core::recovery::Phase;
use proptest::prelude::*;

use super::fleet::{self, Server, World, addr, policy};

/// A replica: executed, further received, acker, applier running, source side left on, dies after.
type Shape = (u64, u64, bool, bool, bool, Option<u32>);

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let dies = prop_oneof![4 => Just(None), 1 => (0u32..8).prop_map(Some)];
    let acker = prop::bool::weighted(0.8);
    let shape = (1u64..12, 0u64..8, acker, prop::bool::weighted(0.8), prop::bool::weighted(0.2), dies);
    prop::collection::vec(shape, 1..5)
}

fn world(shapes: &[Shape], wait_count: u32) -> World {
    let replica = |(index, shape): (usize, &Shape)| {
        let (executed, more, acker, applier, source_side, dies_after) = *shape;
        let mut server = Server::replica(index + 1, executed, executed + more);
        (server.acker, server.applier, server.dies_after) = (acker, applier, dies_after);
        server.source_side = source_side && wait_count > 0;
        server
    };
    World::new(shapes.iter().enumerate().map(replica).collect(), wait_count, 20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn failovers_keep_the_invariants(
        shapes in shapes(),
        wait_count in 0u32..3,
        crashes in prop::collection::vec(0usize..40, 0..4),
        order in any::<u64>(),
    ) {
        let policy = policy(shapes.len() + 1);
        let mut world = world(&shapes, wait_count);
        let mut pick = fleet::order(order);
        let mut machine = world.machine(&policy);
        for crash in crashes {
            if world.run(&mut machine, crash, &mut pick) {
                break;
            }
            machine = if world.journal.is_some() { world.resume(&policy) } else { world.machine(&policy) };
        }
        let ended = world.run(&mut machine, 4000, &mut pick);
        let record = machine.record();
        let alive = world.servers.values().filter(|server| server.alive).count();
        let healthy = alive == shapes.len() && shapes.iter().all(|shape| shape.5.is_none());
        if healthy && wait_count as usize <= shapes.iter().filter(|shape| shape.2).count().saturating_sub(1) {
            prop_assert!(ended, "I6: did not end: {record:?}\n{}", world.log.join("\n"));
            prop_assert!(record.phase == Phase::Succeeded, "{record:?}\n{}", world.log.join("\n"));
        }
        if record.phase == Phase::Succeeded {
            let primary = record.new_primary.clone().unwrap();
            prop_assert_eq!(world.routed.as_ref(), Some(&primary));
            prop_assert!(primary != addr(0));
        }
    }
}
