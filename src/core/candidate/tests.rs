//! Who may become primary: `r1`, which the owner prefers, unless something speaks against it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    core::{observation::BinlogFormat, version::Version},
    testing::snapshot::{Cluster, addr, policy},
};

const REPLICAS: [&str; 3] = ["r1", "r2", "r3"];

type Change = fn(&mut Cluster, &mut Policy);

/// Who is chosen, and what is said about `r1`.
fn chosen(change: impl Fn(&mut Cluster, &mut Policy)) -> (Result<ServerAddr, NoCandidate>, String) {
    let mut cluster = Cluster::primary_and_replicas(REPLICAS.len());
    let mut policy = policy();
    policy.servers.entry(addr("r1")).or_default().promotion = Some(PromotionRule::Prefer);
    change(&mut cluster, &mut policy);
    let snapshot = cluster.look();
    let old = snapshot.last(&addr("p"));
    let seen = |name| (addr(name), snapshot.last(&addr(name)).unwrap().clone());
    let decision = decide(&Ballot {
        old_primary: &addr("p"),
        old_uuid: old.map(|old| old.identity.uuid.as_str()),
        old,
        old_set: old.map(|old| &old.executed),
        replicas: &REPLICAS.into_iter().map(seen).collect(),
        absent: &BTreeMap::new(),
        rejected: &BTreeMap::new(),
        chosen_before: &BTreeSet::new(),
        wanted: None,
        policy: &policy,
        semi_sync: true,
        lossless: true,
    });
    let first = decision.candidates.iter().find(|judged| judged.server == addr("r1")).unwrap();
    (decision.outcome.map(|chosen| chosen.server), first.reason.clone())
}

/// Zones, or regions, of `p`, `r1`, `r2` and `r3`: the owner's word for `p` and `r1`, the servers' own for the others.
fn place(cluster: &mut Cluster, policy: &mut Policy, within: Within, places: [&str; 4]) {
    policy.promotion.within = within;
    for (name, place) in ["p", "r1", "r2", "r3"].into_iter().zip(places) {
        let place = Some(place.to_owned()).filter(|place| !place.is_empty());
        let named = policy.servers.entry(addr(name)).or_default();
        let facts = &mut cluster.server(name).observation.facts;
        match (within, name) {
            (Within::Region, "p" | "r1") => named.region = place,
            (Within::Region, _) => facts.region = place,
            (_, "p" | "r1") => named.zone = place,
            _ => facts.zone = place,
        }
    }
}

fn versions(cluster: &mut Cluster, versions: [(u16, u16); 3]) {
    for (name, (major, minor)) in REPLICAS.into_iter().zip(versions) {
        cluster.server(name).observation.identity.version = Version::mysql(major, minor, 1);
    }
}

fn formats(cluster: &mut Cluster, formats: [BinlogFormat; 3]) {
    for (name, format) in REPLICAS.into_iter().zip(formats) {
        cluster.server(name).observation.settings.binlog_format = format;
    }
}

#[test]
fn what_speaks_against_a_server_is_told_and_another_one_is_chosen() {
    use BinlogFormat::{Mixed, Row, Statement};
    use Within::{Region, Zone};
    let cases: [(Change, &str); 12] = [
        (|c, p| place(c, p, Zone, ["a", "b", "a", "b"]), "it is in another zone"),
        (|c, p| place(c, p, Zone, ["a", "", "a", "a"]), "it is in another zone"),
        (|c, p| place(c, p, Region, ["a", "b", "a", "b"]), "it is in another region"),
        (|c, _| c.server("r1").observation.channels[0].delay_s = 1, "it is delayed on purpose"),
        (|c, _| c.server("r1").observation.channels[0].filtered = true, "its replication is filtered"),
        (|c, _| c.server("r1").observation.channels[0].auto_position = false, "it does not replicate by GTID"),
        (|c, _| c.server("r1").observation.settings.log_bin = false, "it writes no binary log"),
        (
            |c, _| c.server("r1").observation.settings.log_replica_updates = false,
            "it does not log replicated transactions",
        ),
        (
            |c, p| {
                p.promotion.max_lag_s = Some(30.0);
                c.server("r1").observation.facts.lag_s = Some(30.0);
            },
            "its lag is not below maxLag of 30 s",
        ),
        (|c, _| versions(c, [(9, 7), (8, 4), (8, 4)]), "most replicas have an older version and could not follow it"),
        (|c, _| formats(c, [Row, Mixed, Statement]), "most replicas log in a format that cannot follow its own"),
        (|c, _| formats(c, [Mixed, Statement, Statement]), "most replicas log in a format that cannot follow its own"),
    ];
    for (index, (change, reason)) in cases.into_iter().enumerate() {
        assert_eq!(chosen(change), (Ok(addr("r2")), reason.to_owned()), "case {index}");
    }
}

#[test]
fn what_does_not_speak_against_it_leaves_the_choice_to_the_owners_rule() {
    use BinlogFormat::{Row, Statement};
    use Within::{Anywhere, Region, Zone};
    let cases: [Change; 9] = [
        |_, _| {},
        |c, p| place(c, p, Anywhere, ["a", "b", "a", "a"]),
        |c, p| place(c, p, Zone, ["a", "a", "b", "b"]),
        // Nobody knows where the primary and this one are.
        |c, p| place(c, p, Zone, ["", "", "a", "b"]),
        |c, p| {
            place(c, p, Zone, ["a", "b", "b", "b"]);
            place(c, p, Region, ["x", "x", "x", "x"]);
        },
        // Half of the others could not follow it, and all could.
        |c, _| versions(c, [(9, 7), (8, 4), (9, 7)]),
        |c, _| versions(c, [(8, 4), (9, 7), (9, 7)]),
        |c, _| formats(c, [Row, Statement, Row]),
        |c, _| formats(c, [Statement, Row, Row]),
    ];
    for (index, change) in cases.into_iter().enumerate() {
        let (winner, reason) = chosen(change);
        assert_eq!(winner, Ok(addr("r1")), "case {index}");
        assert!(reason.starts_with("rule Prefer"), "case {index}: {reason}");
    }
}

#[test]
fn among_servers_of_one_rule_the_nearest_is_chosen() {
    let cases: [(Change, &str); 2] = [
        (|c, p| place(c, p, Within::Zone, ["a", "b", "b", "a"]), "r3"),
        (|c, p| place(c, p, Within::Region, ["x", "y", "x", "y"]), "r2"),
    ];
    for (places, nearest) in cases {
        let change = |cluster: &mut Cluster, policy: &mut Policy| {
            places(cluster, policy);
            policy.promotion.within = Within::Anywhere;
            policy.servers.entry(addr("r1")).or_default().promotion = None;
        };
        assert_eq!(chosen(change).0, Ok(addr(nearest)));
    }
}

#[test]
fn nobody_is_promoted_out_of_the_zone_that_the_owner_wants() {
    let (winner, reason) = chosen(|c, p| place(c, p, Within::Zone, ["a", "b", "b", "b"]));
    assert_eq!((winner, reason.as_str()), (Err(NoCandidate::NobodyEligible), "it is in another zone"));
}
