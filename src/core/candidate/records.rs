//! The decision about each candidate, as it is written down.

use std::collections::BTreeMap;

use super::{Ballot, rule_of};
use crate::core::{
    id::ServerAddr,
    observation::Observation,
    recovery::{CandidateRecord, Verdict},
};

/// Every replica with the decision about it, best first.
pub(super) fn records(
    ballot: &Ballot<'_>,
    exclusions: &BTreeMap<ServerAddr, String>,
    chosen: Option<&ServerAddr>,
) -> Vec<CandidateRecord> {
    let of_replica = |(addr, seen): (&ServerAddr, &Observation)| {
        let rule = rule_of(addr, seen, ballot.policy);
        let unapplied = seen.total().subtract(&seen.executed).count();
        let (verdict, reason) = match exclusions.get(addr) {
            Some(reason) => (Verdict::Excluded, reason.clone()),
            None if chosen == Some(addr) => {
                (Verdict::Chosen, format!("rule {rule:?}, {unapplied} transactions to apply"))
            }
            None => (Verdict::Eligible, format!("rule {rule:?}, {unapplied} transactions to apply")),
        };
        CandidateRecord { server: addr.clone(), verdict, reason }
    };
    let absent = ballot.absent.iter().map(|(addr, reason)| CandidateRecord {
        server: addr.clone(),
        verdict: Verdict::Excluded,
        reason: reason.clone(),
    });
    let mut records: Vec<_> = ballot.replicas.iter().map(of_replica).chain(absent).collect();
    records.sort_by(|a, b| (a.verdict, &a.server).cmp(&(b.verdict, &b.server)));
    records
}
