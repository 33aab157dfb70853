//! Finds servers that replicate in a ring of three or more. Nobody is the primary of a ring, and a
//! failure in it has no replica side, so it is reported, never repaired.

use std::collections::{BTreeMap, BTreeSet};

use super::Member;
use crate::core::id::ServerAddr;

/// All rings of three and more servers, each sorted, in the order of their first server.
pub(super) fn find(members: &BTreeMap<ServerAddr, Member>) -> Vec<Vec<ServerAddr>> {
    let suspects = peel(members);
    let mut placed: BTreeSet<&ServerAddr> = BTreeSet::new();
    let mut rings = Vec::new();
    for &addr in &suspects {
        if placed.contains(addr) {
            continue;
        }
        let below = reach(members, &suspects, addr, |member| &member.replicas);
        let above = reach(members, &suspects, addr, |member| &member.sources);
        let ring: Vec<_> = below.intersection(&above).copied().collect();
        placed.extend(&ring);
        if ring.len() >= 3 {
            rings.push(ring.into_iter().cloned().collect());
        }
    }
    rings
}

/// Takes away, again and again, who has no source or no replica among the rest: what is left is on a
/// ring or between two.
fn peel(members: &BTreeMap<ServerAddr, Member>) -> BTreeSet<&ServerAddr> {
    let mut rest: BTreeSet<&ServerAddr> = members.keys().collect();
    loop {
        let inner = |addr: &&ServerAddr| {
            let member = members.get(*addr);
            let any = |set: &BTreeSet<ServerAddr>| set.iter().any(|other| rest.contains(other));
            member.is_some_and(|member| any(&member.sources) && any(&member.replicas))
        };
        let next: BTreeSet<&ServerAddr> = rest.iter().copied().filter(inner).collect();
        if next.len() == rest.len() {
            return next;
        }
        rest = next;
    }
}

/// Who can be reached from `start` within `allowed`, `start` included.
fn reach<'a>(
    members: &'a BTreeMap<ServerAddr, Member>,
    allowed: &BTreeSet<&'a ServerAddr>,
    start: &'a ServerAddr,
    next: fn(&Member) -> &BTreeSet<ServerAddr>,
) -> BTreeSet<&'a ServerAddr> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(addr) = open.pop() {
        if allowed.contains(addr) && found.insert(addr) {
            open.extend(members.get(addr).into_iter().flat_map(next));
        }
    }
    found
}
