//! What is quarantined and how it is judged: examples, and all sizes of quorums.

use proptest::prelude::*;

use super::*;
use crate::{
    core::{
        analysis::analyse,
        recovery::{Phase, StepRecord},
    },
    testing::{
        record::recovery,
        snapshot::{Cluster, addr, policy, transactions},
    },
};

/// A failover from `p` to `r1` under lossless semi-sync, of whose replicas `stopped` were stopped in time.
fn record(ackers: &[&str], wait_count: u32, stopped: &[&str]) -> Recovery {
    let mut record = recovery(7, "baton-0", &addr("p"));
    (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
    (record.wait_count, record.lossless) = (wait_count, true);
    record.unknown_ackers = 0;
    record.ackers = ackers.iter().copied().map(addr).collect();
    (record.lost, record.promoted_set) = (Some(Loss::None), Some(transactions(1, 100)));
    record.timings.fenced = Some(50);
    record.steps = stopped.iter().map(|name| step(name, 40)).collect();
    record
}

fn step(server: &str, started_ms: u64) -> StepRecord {
    let step = Action::StopReceiver.name().to_owned();
    StepRecord { step, server: addr(server), started_ms, took_ms: 5, outcome: Outcome::Done }
}

/// `p` is back with three transactions of its own; `r1` is the primary.
fn replaced() -> Cluster {
    let mut cluster = Cluster::primary_and_replicas(2);
    cluster.look();
    let fenced = &mut cluster.server("p").observation;
    (fenced.settings.super_read_only, fenced.settings.read_only) = (true, true);
    fenced.executed = transactions(1, 103);
    let new = &mut cluster.server("r1").observation;
    (new.settings.super_read_only, new.settings.read_only) = (false, false);
    new.channels.clear();
    cluster.snapshot.primary = Some(addr("r1"));
    cluster
}

fn judged(cluster: &mut Cluster, record: &Recovery) -> Vec<Quarantined> {
    cluster.advance(10);
    cluster.look_at("p");
    cluster.advance(10);
    cluster.look_at("r1");
    find(&cluster.snapshot, &analyse(&cluster.snapshot, &policy()), Some(record))
}

#[test]
fn extra_transactions_of_a_fenced_primary_were_not_acknowledged() {
    let found = judged(&mut replaced(), &record(&["r1", "r2"], 1, &["r1", "r2"]));
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((one.server.clone(), one.record.as_deref()), (addr("p"), Some("shop-7")));
    assert_eq!(one.extra, Some(transactions(1, 103).subtract(&transactions(1, 100))));
    assert_eq!(one.acknowledged, Acknowledged::Impossible, "{}", one.reason);
}

#[test]
fn nobody_is_judged_before_it_was_compared() {
    let mut cluster = Cluster::primary_and_replicas(2);
    assert_eq!(unjudged(&cluster.snapshot).len(), 2);
    cluster.look_at("r1");
    cluster.advance(10);
    cluster.look_at("p");
    assert_eq!(unjudged(&cluster.snapshot).into_iter().collect::<Vec<_>>(), [addr("r2")]);
    cluster.look();
    assert!(unjudged(&cluster.snapshot).is_empty());
}

/// A way to leave a gap in the proof, and its name.
type Gap = (&'static str, fn(&mut Recovery));

#[test]
fn any_gap_in_the_proof_makes_it_possible() {
    let whole = record(&["r1", "r2"], 1, &["r1", "r2"]);
    let gaps: [Gap; 9] = [
        ("asynchronous", |record| record.wait_count = 0),
        ("may fall back", |record| record.lossless = false),
        ("one of two stopped", |record| record.steps.truncate(1)),
        ("the same one twice", |record| record.steps[1].server = addr("r1")),
        ("an unknown acker", |record| record.unknown_ackers = 1),
        ("stopped too late", |record| record.steps[1].started_ms = 48),
        ("not stopped", |record| record.steps[1].outcome = Outcome::Failed("no answer".to_owned())),
        ("loss unknown", |record| record.lost = Some(Loss::Unknown)),
        ("no promoted set", |record| record.promoted_set = None),
    ];
    for (name, gap) in gaps {
        let mut record = whole.clone();
        gap(&mut record);
        let found = judged(&mut replaced(), &record);
        assert_eq!(found[0].acknowledged, Acknowledged::Possible, "{name}");
    }
}

#[test]
fn who_comes_back_open_may_have_acknowledged() {
    let record = record(&["r1", "r2"], 1, &["r1", "r2"]);
    let mut cluster = replaced();
    let settings = cluster.server("p").observation.settings.clone();
    let open = &mut cluster.server("p").observation.settings;
    (open.super_read_only, open.read_only) = (false, false);
    let found = judged(&mut cluster, &record);
    assert_eq!((found[0].acknowledged, found[0].extra.clone()), (Acknowledged::Possible, None), "it may become more");
    cluster.server("p").observation.settings = settings;
    let found = judged(&mut cluster, &record);
    assert_eq!(found[0].acknowledged, Acknowledged::Possible, "{}", found[0].reason);
    assert!(found[0].extra.is_some());
    // One that wakes up and still waits for its ackers acknowledges nothing.
    let mut cluster = replaced();
    let asleep = cluster.server("p").observation.settings.clone();
    cluster.semi_sync(1);
    let open = &mut cluster.server("p").observation.settings;
    (open.super_read_only, open.read_only) = (false, false);
    judged(&mut cluster, &record);
    cluster.server("p").observation.settings = asleep;
    assert_eq!(judged(&mut cluster, &record)[0].acknowledged, Acknowledged::Impossible);
}

#[test]
fn a_replica_with_transactions_of_its_own_was_written_to() {
    let mut cluster = Cluster::primary_and_replicas(2);
    cluster.look();
    let errant = transactions(2, 4);
    let executed = cluster.server("r1").observation.executed.clone();
    cluster.server("r1").observation.executed = executed.union(&errant);
    cluster.server("r1").observation.settings.super_read_only = false;
    let look = |cluster: &mut Cluster| {
        cluster.look_at("r1");
        cluster.advance(10);
        cluster.look_at("p");
        find(&cluster.snapshot, &analyse(&cluster.snapshot, &policy()), None)
    };
    let found = look(&mut cluster);
    assert_eq!(
        (found.len(), found[0].record.clone(), found[0].extra.clone()),
        (1, None, None),
        "it was only just seen"
    );
    assert_eq!(found[0].acknowledged, Acknowledged::Possible);
    for _ in 0..31 {
        cluster.advance(1000);
        look(&mut cluster);
    }
    assert_eq!(look(&mut cluster)[0].extra, Some(errant), "it has been the same for a while");
    cluster.server("r1").observation.executed = executed.union(&transactions(2, 5));
    assert_eq!(look(&mut cluster)[0].extra, None, "it grows");
}

proptest! {
    /// N known ackers and some unknown, W needed, R stopped: proven exactly when R >= N - W + 1.
    #[test]
    fn the_quorum_decides(known in 1usize..6, unknown in 0u32..3, wait_count in 1u32..4, stopped in 0usize..6) {
        let names: Vec<_> = (1..=known).map(|number| format!("a{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let stopped = stopped.min(known);
        let mut record = record(&names, wait_count, &names[..stopped]);
        record.unknown_ackers = unknown;
        let proven = doubt(&record, &ServerState::default()).is_none();
        let needed = (known as i64 + i64::from(unknown) - i64::from(wait_count) + 1).max(1);
        prop_assert_eq!(proven, stopped as i64 >= needed);
        let state = ServerState { loose: true, ..ServerState::default() };
        prop_assert!(doubt(&record, &state).is_some());
    }

    /// What is shown as extra is what the one has and the other has not, and nothing without it.
    #[test]
    fn the_extra_set_is_the_difference(shared in 100u64..200, own in 0u64..50) {
        let mut cluster = replaced();
        cluster.server("p").observation.executed = transactions(1, shared + own);
        cluster.server("r1").observation.executed = transactions(1, shared).union(&transactions(2, 9));
        let found = judged(&mut cluster, &record(&["r1", "r2"], 1, &["r1", "r2"]));
        let count = found.first().and_then(|one| one.extra.as_ref()).map_or(0, GtidSet::count);
        prop_assert_eq!((count, found.is_empty()), (own, own == 0));
    }
}
