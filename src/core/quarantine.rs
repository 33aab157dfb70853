//! Servers that have transactions which the primary lacks: which, and whether anybody can have been told that
//! they are committed (safety.md, "The old primary").
//!
//! An old primary's are provably unacknowledged when the record of the failover that replaced it shows that
//! every acknowledgement needed replicas (lossless semi-sync), that enough of those were stopped before the
//! new primary was chosen (R >= N - W + 1), and that nothing acknowledged was missing then. What a client
//! wrote to a server itself, past its primary, was acknowledged to that client.

use std::collections::BTreeSet;

use super::{
    analysis::{Analysis, code::Code},
    gtid::GtidSet,
    id::ServerAddr,
    observation::Observation,
    recovery::{Loss, Outcome, Recovery},
    snapshot::{ServerState, Snapshot, extra},
    status::{Acknowledged, Quarantined},
    step::Action,
};

/// What a server that others can reach has alone must be the same for so long before it is shown and saved, in
/// milliseconds: a set that grows would be written again and again.
const STEADY_MS: u64 = 30_000;

/// All servers in quarantine, by address. `last`: the newest failover.
#[must_use]
pub fn find(snapshot: &Snapshot, analyses: &[Analysis], last: Option<&Recovery>) -> Vec<Quarantined> {
    let Some((primary, own)) = snapshot.primary.as_ref().and_then(|addr| snapshot.servers.get_key_value(addr)) else {
        return Vec::new();
    };
    let promoted = last.filter(|record| record.phase.promoted() && record.new_primary.as_ref() == Some(primary));
    let judge = |(addr, state): (&ServerAddr, &ServerState)| {
        let replaced = promoted.filter(|record| record.old_primary == *addr);
        let errant = |analysis: &Analysis| analysis.code == Code::ErrantTransactions && analysis.server == *addr;
        if addr == primary || replaced.is_none() && !analyses.iter().any(errant) {
            return None;
        }
        quarantined(snapshot, own, (addr, state), replaced)
    };
    snapshot.servers.iter().filter_map(judge).collect()
}

/// Servers of which nobody knows yet whether they are to be in quarantine: they were not compared with the primary
/// since this process looks at them.
#[must_use]
pub fn unjudged(snapshot: &Snapshot) -> BTreeSet<ServerAddr> {
    let others = snapshot.servers.iter().filter(|(addr, _)| snapshot.primary.as_ref() != Some(*addr));
    others.filter(|(_, state)| state.errant_since.is_none()).map(|(addr, _)| addr.clone()).collect()
}

fn quarantined(
    snapshot: &Snapshot,
    primary: &ServerState,
    (addr, state): (&ServerAddr, &ServerState),
    replaced: Option<&Recovery>,
) -> Option<Quarantined> {
    let seen = state.last.as_ref()?;
    let proved = state.answering().zip(primary.answering()).and_then(|(seen, primary)| extra(seen, primary));
    let all = proved.unwrap_or_else(|| state.errant.clone());
    let upstream = primary.last.as_ref().map(|seen| seen.identity.uuid.as_str()).unwrap_or_default();
    // A replica may show what the primary is still waiting to commit.
    let found = if replaced.is_some() { all } else { all.subtract(&all.of_source(upstream)) };
    if found.is_empty() {
        return None;
    }
    let closed = !seen.settings.writable();
    let rested = state.errant_since.is_some_and(|since| snapshot.at.since_ms(since) >= STEADY_MS);
    let steady = closed && (replaced.is_some() || seen.settings.super_read_only || rested);
    let doubt = match replaced {
        Some(record) => doubt(record, state),
        None => Some(if reigned(seen, primary.last.as_ref()) { REIGNED } else { ERRANT }),
    };
    Some(Quarantined {
        server: addr.clone(),
        version: seen.identity.version,
        record: replaced.map(|record| record.record.clone()),
        extra: steady.then_some(found),
        acknowledged: if doubt.is_none() { Acknowledged::Impossible } else { Acknowledged::Possible },
        reason: doubt.unwrap_or(PROOF).to_owned(),
    })
}

const PROOF: &str = "commits on it waited for replicas, and too few were left to acknowledge any when the new primary \
                     was chosen: nobody was told that they are committed";

const ERRANT: &str = "they were written to this server itself: whoever did was told that they are committed";
const REIGNED: &str = "it was the primary once, or was to become it, and no record that is left tells of them: clients \
                       may have been told that they are committed";

/// Whether the primary has transactions that began on a server.
fn reigned(seen: &Observation, primary: Option<&Observation>) -> bool {
    let began = |set: &GtidSet| !set.of_source(&seen.identity.uuid).is_empty();
    primary.is_some_and(|primary| began(&primary.executed) || began(&primary.written))
}

/// Why clients may have been told that what only the old primary has is committed; `None`: they were not.
fn doubt(record: &Recovery, state: &ServerState) -> Option<&'static str> {
    match () {
        () if record.wait_count == 0 || !record.lossless => Some(
            "commits on it did not wait for replicas in any case: clients may have been told that they are committed",
        ),
        () if !stopped_enough(record) || record.timings.fenced.is_none() => {
            Some("the record does not show that enough of its replicas were stopped before the new primary was chosen")
        }
        () if record.lost != Some(Loss::None) || record.promoted_set.is_none() => {
            Some("the failover could not prove that nothing acknowledged was missing on the new primary")
        }
        () if state.loose => Some("it accepted writes after it was replaced, without waiting for replicas"),
        () => None,
    }
}

/// Whether the steps of the record show that R >= N - W + 1 of those who could acknowledge were stopped.
fn stopped_enough(record: &Recovery) -> bool {
    let durability = record.durability();
    let stop = Action::StopReceiver.name();
    let before = record.timings.fenced.unwrap_or_default();
    let stopped = record.steps.iter().filter(|step| {
        let ended = step.started_ms.saturating_add(step.took_ms);
        step.step == stop && step.outcome == Outcome::Done && ended <= before
    });
    let stopped: BTreeSet<_> = stopped.map(|step| &step.server).collect();
    durability.fenced_by(stopped.into_iter())
}

#[cfg(test)]
mod tests;
