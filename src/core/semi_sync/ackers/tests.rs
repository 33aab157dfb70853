//! Every small layout of zones by trying all, and the order of preference.

use std::collections::BTreeSet;

use super::*;
use crate::{
    core::policy::ServerFacts,
    testing::snapshot::{Cluster, addr, policy},
};

/// Zones by number; 0 is the primary's.
fn choose_in(zones: &[usize], kept: &[&str], wish: SemiSync, policy: &mut Policy) -> Choice {
    choose_of(&cluster(zones, policy), kept, wish, policy)
}

fn choose_of(cluster: &Cluster, kept: &[&str], wish: SemiSync, policy: &Policy) -> Choice {
    let replicas = cluster.snapshot.servers.iter().filter(|(at, _)| **at != addr("p"));
    let replicas = replicas.map(|(addr, state)| (addr, state.last.as_ref().unwrap())).collect();
    let kept = kept.iter().map(|name| addr(name)).collect();
    choose((&addr("p"), cluster.snapshot.last(&addr("p")).unwrap()), &replicas, &kept, policy, wish)
}

fn cluster(zones: &[usize], policy: &mut Policy) -> Cluster {
    let mut cluster = Cluster::primary_and_replicas(zones.len());
    let in_zone = |zone: &usize| ServerFacts { zone: Some(format!("z{zone}")), ..ServerFacts::default() };
    policy.servers.entry(addr("p")).or_insert_with(|| in_zone(&0));
    for (zone, index) in zones.iter().zip(1..) {
        policy.servers.entry(addr(&format!("r{index}"))).or_insert_with(|| in_zone(zone));
    }
    cluster.look();
    cluster
}

fn names(choice: &Choice) -> Vec<&str> {
    choice.ackers.iter().map(ServerAddr::host).collect()
}

/// Every selection of `size` of `all`.
fn selections(all: &[usize], size: usize) -> Vec<Vec<usize>> {
    let of_mask = |mask: u32| all.iter().zip(0..).filter(move |(_, bit)| mask >> bit & 1 == 1).map(|(zone, _)| *zone);
    (0..1_u32 << all.len()).map(|mask| of_mask(mask).collect()).filter(|some: &Vec<_>| some.len() == size).collect()
}

/// Whether the primary and any `acks` of `ackers` are in enough zones, by trying all.
fn covered(ackers: &[usize], wish: SemiSync) -> bool {
    selections(ackers, usize::try_from(wish.acks).unwrap()).into_iter().all(|some| {
        let zones: BTreeSet<_> = some.into_iter().chain([0]).collect();
        zones.len() >= usize::try_from(wish.zones).unwrap()
    })
}

/// All layouts of up to five replicas in four zones: what is chosen keeps the promise, and where nothing
/// is chosen nothing could be.
#[test]
fn any_ackers_that_a_commit_waits_for_are_in_enough_zones() {
    let mut seen = 0_u32;
    for count in 0..=5_u32 {
        for layout in 0..4_usize.pow(count) {
            let zones: Vec<_> = (0..count).map(|index| layout / 4_usize.pow(index) % 4).collect();
            let mut policy = policy();
            let cluster = cluster(&zones, &mut policy);
            for (acks, zones_wanted) in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3), (3, 4)] {
                let wish = SemiSync { acks, zones: zones_wanted };
                let choice = choose_of(&cluster, &[], wish, &policy);
                let place = |addr: &ServerAddr| zones[addr.host()[1..].parse::<usize>().unwrap() - 1];
                let chosen: Vec<_> = choice.ackers.iter().map(place).collect();
                let acks = usize::try_from(acks).unwrap();
                assert!(chosen.len() <= acks + 1, "{zones:?} {wish:?} {choice:?}");
                assert!(covered(&chosen, wish), "{zones:?} {wish:?} {choice:?}");
                let possible = (acks..=zones.len())
                    .any(|size| selections(&zones, size).into_iter().any(|some| covered(&some, wish)));
                assert_eq!(choice.unmet.is_none(), possible, "{zones:?} {wish:?} {choice:?}");
                assert_eq!(choice.unmet.is_none(), chosen.len() >= acks);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 8 * (1 + 4 + 16 + 64 + 256 + 1024));
}

const ONE: SemiSync = SemiSync { acks: 1, zones: 1 };

#[test]
fn one_more_than_needed_acknowledges_and_whoever_does_stays() {
    assert_eq!(names(&choose_in(&[0, 0, 0, 0], &[], ONE, &mut policy())), ["r1", "r2"]);
    assert_eq!(names(&choose_in(&[0, 0, 0, 0], &["r3", "r4"], ONE, &mut policy())), ["r3", "r4"]);
    let two = SemiSync { acks: 2, ..ONE };
    assert_eq!(names(&choose_in(&[0, 0, 0, 0], &["r4"], two, &mut policy())), ["r1", "r2", "r4"]);
    let other = SemiSync { acks: 1, zones: 2 };
    assert_eq!(names(&choose_in(&[0, 1, 0, 2], &[], other, &mut policy())), ["r2", "r4"], "other zones alone");
}

#[test]
fn what_could_not_be_promoted_or_found_again_does_not_acknowledge() {
    let changes: [fn(&mut Observation); 7] = [
        |seen| seen.facts.promotion_rule = Some("must_not".to_owned()),
        |seen| seen.facts.semi_sync_priority = Some(0),
        |seen| seen.settings.log_replica_updates = false,
        |seen| seen.settings.relay_log_recovery = true,
        |seen| seen.channels[0].filtered = true,
        |seen| seen.channels[0].delay_s = 3600,
        |seen| seen.channels[0].auto_position = false,
    ];
    for (change, number) in changes.iter().zip(1..) {
        let mut cluster = Cluster::primary_and_replicas(1);
        let seen = &mut cluster.server("r1").observation;
        assert_eq!(exclusion(&addr("r1"), seen, &policy()), None);
        change(seen);
        assert!(exclusion(&addr("r1"), seen, &policy()).is_some(), "{number}");
    }
}

#[test]
fn priority_goes_before_the_promotion_rule_and_that_before_who_does_already() {
    let mut cluster = Cluster::primary_and_replicas(4);
    cluster.server("r4").observation.facts.semi_sync_priority = Some(7);
    cluster.server("r3").observation.facts.promotion_rule = Some("prefer".to_owned());
    cluster.look();
    let replicas = cluster.snapshot.servers.iter().filter(|(at, _)| **at != addr("p"));
    let replicas = replicas.map(|(addr, state)| (addr, state.last.as_ref().unwrap())).collect();
    let kept = BTreeSet::from([addr("r2")]);
    let primary = (&addr("p"), cluster.snapshot.last(&addr("p")).unwrap());
    assert_eq!(names(&choose(primary, &replicas, &kept, &policy(), ONE)), ["r3", "r4"]);
}

#[test]
fn what_cannot_be_is_said() {
    let mut old = policy();
    let unmet = |choice: Choice| choice.unmet.map(|unmet| unmet.reason());
    assert_eq!(unmet(choose_in(&[0], &[], SemiSync { acks: 2, zones: 1 }, &mut old)), Some("TooFewAckers"));
    assert_eq!(unmet(choose_in(&[0], &[], SemiSync { acks: 1, zones: 2 }, &mut policy())), Some("TooFewZones"));
    let mut nowhere = policy();
    nowhere.servers.insert(addr("p"), ServerFacts::default());
    assert_eq!(unmet(choose_in(&[0], &[], SemiSync { acks: 1, zones: 2 }, &mut nowhere)), Some("ZoneUnknown"));
    let mut cluster = Cluster::primary_and_replicas(1);
    cluster.server("p").observation.identity.version = crate::core::version::Version::mariadb(10, 11, 6);
    cluster.look();
    let primary = (&addr("p"), cluster.snapshot.last(&addr("p")).unwrap());
    let two = SemiSync { acks: 2, zones: 1 };
    let choice = choose(primary, &BTreeMap::new(), &BTreeSet::new(), &policy(), two);
    assert_eq!(unmet(choice), Some("OneAckOnly"));
}
