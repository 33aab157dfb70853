//! Two servers that follow each other: when one of them is lost and the other accepts writes, that one is
//! the new primary or nobody is, for two servers would accept them (safety.md, I3).

use super::{Ballot, NoCandidate};
use crate::core::id::ServerAddr;

/// Of those who could become primary the co-primary that accepts writes, if there is one.
pub(super) fn narrow<'a>(ballot: &Ballot<'a>, pool: Vec<&'a ServerAddr>) -> Result<Vec<&'a ServerAddr>, NoCandidate> {
    match open(ballot) {
        Some(open) if !pool.contains(&open) || ballot.wanted.is_some_and(|wanted| wanted != open) => {
            Err(NoCandidate::CoPrimary(open.clone()))
        }
        Some(open) => Ok(vec![open]),
        None => Ok(pool),
    }
}

/// Whether no other server than this would accept writes.
pub(super) fn allows(ballot: &Ballot<'_>, server: &ServerAddr) -> bool {
    open(ballot).is_none_or(|open| open == server)
}

/// The replica that the old primary followed, if it accepts writes.
fn open<'a>(ballot: &Ballot<'a>) -> Option<&'a ServerAddr> {
    let followed = &ballot.old?.channels;
    let found = ballot.replicas.iter().find(|(addr, seen)| {
        let names = |uuid: &String| *uuid == seen.identity.uuid;
        let is = followed.iter().any(|channel| match &channel.source_uuid {
            Some(uuid) => names(uuid),
            None => channel.source.as_ref() == Some(*addr),
        });
        is && seen.settings.writable()
    });
    found.map(|(addr, _)| addr)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::decide;
    use super::*;
    use crate::{
        core::policy::PromotionRule,
        testing::snapshot::{Cluster, addr, policy, transactions},
    };

    /// `a` and `b` follow each other, `r` follows `a`, which is lost; `r` is preferred.
    fn chosen(open: bool, errant: bool, wanted: Option<&ServerAddr>) -> Result<ServerAddr, NoCandidate> {
        let mut cluster = Cluster::default();
        ["a", "b", "r"].into_iter().for_each(|name| {
            cluster.add(name);
        });
        cluster.follow("b", "a");
        cluster.follow("r", "a");
        cluster.follow("a", "b");
        let b = &mut cluster.server("b").observation;
        (b.settings.read_only, b.settings.super_read_only) = (!open, !open);
        if errant {
            b.executed = b.executed.union(&transactions(2, 3));
        }
        let snapshot = cluster.look();
        let mut policy = policy();
        policy.servers.entry(addr("r")).or_default().promotion = Some(PromotionRule::Prefer);
        let replicas: BTreeMap<_, _> =
            ["b", "r"].into_iter().map(|name| (addr(name), snapshot.last(&addr(name)).unwrap().clone())).collect();
        let decision = decide(&Ballot {
            old_primary: &addr("a"),
            old_uuid: None,
            old: snapshot.last(&addr("a")),
            old_set: snapshot.last(&addr("a")).map(|seen| &seen.executed),
            replicas: &replicas,
            absent: &BTreeMap::new(),
            rejected: &BTreeMap::new(),
            wanted,
            chosen_before: &BTreeSet::new(),
            policy: &policy,
            semi_sync: false,
            lossless: false,
        });
        decision.outcome.map(|chosen| chosen.server)
    }

    #[test]
    fn a_co_primary_that_accepts_writes_is_the_one_or_nobody_is() {
        assert_eq!(chosen(false, false, None), Ok(addr("r")), "the rule counts");
        assert_eq!(chosen(true, false, None), Ok(addr("b")));
        assert!(matches!(chosen(true, true, None), Err(NoCandidate::CoPrimary(server)) if server == addr("b")));
        assert!(matches!(chosen(true, false, Some(&addr("r"))), Err(NoCandidate::CoPrimary(_))));
        assert_eq!(chosen(true, false, Some(&addr("b"))), Ok(addr("b")));
    }
}
