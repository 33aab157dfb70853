//! The scripts.

use baton::{
    core::{id::Epoch, step::Action},
    testing::series::Series,
};
use tokio::runtime::Builder;

use super::{
    real::Real,
    script::{Ask, Fate, Line, Line::*, Setup, play},
    simulated::Simulated,
};

const SEMI_SYNC: Setup = Setup { replicas: 2, acks: 1, relay_log_recovery: false };
const ASYNC: Setup = Setup { replicas: 2, acks: 0, relay_log_recovery: false };

const STOP: Ask = |_| Action::StopReceiver;
const START: Ask = |_| Action::StartReceiver;
const APPLY: Ask = |_| Action::StartApplier;
const FENCE: Ask = |_| Action::Fence;
const READ_ONLY: Ask = |_| Action::SetReadOnly;
const UNFENCE: Ask = |_| Action::Unfence;
const SOURCE_ON: Ask = |_| Action::SemiSyncSource { on: true, wait_count: 1 };
const SOURCE_OFF: Ask = |_| Action::SemiSyncSource { on: false, wait_count: 0 };
const CLAIM_4: Ask = |_| Action::Claim { epoch: Epoch(4), valid_ms: 10_000 };
const CLAIM_5: Ask = |_| Action::Claim { epoch: Epoch(5), valid_ms: 10_000 };
const SHORT_CLAIM: Ask = |_| Action::Claim { epoch: Epoch(4), valid_ms: 1500 };
const EPOCH_4: Ask = |_| Action::WriteEpoch { epoch: Epoch(4), old_primary: None, wait_ms: 2000 };
const FORGET: Ask = |_| Action::ForgetSource;
const ACKS: Ask = |_| Action::Acknowledge { on: true };
const NO_ACKS: Ask = |_| Action::Acknowledge { on: false };
const TO_SECOND: Ask = |all| Action::Repoint { source: all[2].clone(), semi_sync: None };

/// Plays a script on both and compares.
fn same(series: Series, setup: Setup, script: &[Line]) {
    let paused = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let simulated = paused.block_on(async {
        let mut bench = Simulated::start(setup);
        play(&mut bench, script, None).await
    });
    // Before 5.7 and on MariaDB there is one kind of read only.
    let plain =
        |line: String| if series == Series::Mysql97 { line } else { line.replace("super_read_only", "read_only") };
    let simulated: Vec<_> = simulated.into_iter().map(plain).collect();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let real = runtime.block_on(async {
        let mut bench = Real::start(series, setup).await;
        play(&mut bench, script, Some(&simulated)).await
    });
    println!("{}", real.join("\n"));
    assert_eq!(simulated, real, "left: simulated, right: {}", series.name());
}

#[test]
fn a_commit_waits_for_an_acker() {
    let script = [Act(1, STOP), Act(2, STOP), Write(0), Told, Look(0), Act(1, START), Told, Look(0), Look(1), Look(2)];
    same(Series::Mysql97, SEMI_SYNC, &script);
}

/// M2.
#[test]
fn semi_sync_that_is_switched_off_tells_whoever_waits() {
    same(Series::Mysql97, SEMI_SYNC, &[Act(1, STOP), Act(2, STOP), Write(0), Told, Act(0, SOURCE_OFF), Told, Look(0)]);
}

/// M3: nobody is told, what waited is there, replicas are cut off and come back.
#[test]
fn a_fence_tells_nobody() {
    let script = [
        Act(1, STOP),
        Act(2, STOP),
        Write(0),
        Told,
        Act(0, FENCE),
        Told,
        Look(0),
        Act(1, START),
        Look(1),
        Write(0),
        Told,
        Act(0, READ_ONLY),
        Look(0),
        Look(1),
    ];
    same(Series::Mysql97, SEMI_SYNC, &script);
}

/// M4.
#[test]
fn a_commit_that_waits_keeps_a_server_from_becoming_read_only() {
    same(Series::Mysql97, SEMI_SYNC, &[Act(1, STOP), Act(2, STOP), Write(0), Told, Act(0, READ_ONLY), Told]);
}

/// M5.
#[test]
fn a_primary_that_wakes_up_tells_nobody_while_no_acker_follows_it() {
    let script = [
        Process(0, Fate::Freeze),
        Act(1, STOP),
        Act(2, STOP),
        Look(0),
        Process(0, Fate::Thaw),
        Write(0),
        Told,
        Look(0),
    ];
    same(Series::Mysql97, SEMI_SYNC, &script);
}

/// M6.
#[test]
fn a_crash_brings_back_what_nobody_acknowledged() {
    let script = [
        Act(1, STOP),
        Act(2, STOP),
        Write(0),
        Told,
        Process(0, Fate::Crash),
        Told,
        Process(0, Fate::Boot),
        Look(0),
        Write(0),
        Told,
    ];
    same(Series::Mysql97, SEMI_SYNC, &script);
}

/// M7.
fn crashes_behind(series: Series, setup: Setup) {
    let script = [
        StopApplier(1),
        Write(0),
        Told,
        Look(1),
        Process(1, Fate::Crash),
        Look(1),
        Process(1, Fate::Boot),
        Look(1),
        Act(1, APPLY),
        Look(1),
    ];
    same(series, setup, &script);
}

#[test]
fn a_relay_log_survives_a_crash() {
    crashes_behind(Series::Mysql97, SEMI_SYNC);
}

#[test]
fn relay_log_recovery_throws_away_what_was_acknowledged() {
    crashes_behind(Series::Mysql97, Setup { relay_log_recovery: true, ..SEMI_SYNC });
}

#[test]
fn a_relay_log_of_mysql_56_survives_a_crash() {
    crashes_behind(Series::Mysql56, ASYNC);
}

/// M8.
#[test]
fn the_server_refuses_clients_after_the_deadline() {
    let late = [Act(1, STOP), Act(1, SHORT_CLAIM), Act(1, EPOCH_4), Pause(2000), Act(1, UNFENCE), Access(1)];
    same(Series::Mysql97, ASYNC, &late);
    let in_time = [Act(1, STOP), Act(1, CLAIM_4), Act(1, EPOCH_4), Act(1, UNFENCE), Access(1), Write(1), Told];
    same(Series::Mysql97, ASYNC, &in_time);
}

/// M9.
#[test]
fn a_later_claim_ends_an_earlier_one() {
    let script = [Act(1, STOP), Act(1, CLAIM_4), Other(1, CLAIM_5), Act(1, UNFENCE), Access(1)];
    same(Series::Mysql97, ASYNC, &script);
}

/// M10.
#[test]
fn the_source_side_on_a_replica_stalls_its_applier() {
    same(Series::Mysql97, SEMI_SYNC, &[Act(1, SOURCE_ON), Write(0), Told, Look(1), Act(1, SOURCE_OFF), Look(1)]);
}

/// What is received and not applied keeps a replica where it is; with a running applier it moves.
fn moves(series: Series) {
    let script = [
        StopApplier(1),
        Write(0),
        Told,
        Look(1),
        Act(1, TO_SECOND),
        Look(1),
        Act(1, APPLY),
        Look(1),
        Act(1, TO_SECOND),
        Look(1),
        Write(0),
        Look(1),
    ];
    same(series, ASYNC, &script);
}

#[test]
fn a_replica_moves_once_it_has_applied() {
    moves(Series::Mysql97);
}

#[test]
fn a_replica_of_mysql_56_moves_once_it_has_applied() {
    moves(Series::Mysql56);
}

/// A receiver that cannot connect is stopped like any other, and connects again when it is started.
fn connects(series: Series) {
    let script = [
        Process(0, Fate::Crash),
        Look(1),
        Act(1, STOP),
        Look(1),
        Act(1, START),
        Look(1),
        Process(0, Fate::Boot),
        Look(1),
        Write(0),
        Told,
    ];
    same(series, ASYNC, &script);
}

#[test]
fn a_receiver_that_cannot_connect_is_stopped() {
    connects(Series::Mysql97);
}

#[test]
fn a_receiver_of_mysql_56_that_cannot_connect_is_stopped() {
    connects(Series::Mysql56);
}

#[test]
fn a_receiver_of_mariadb_that_cannot_connect_is_stopped() {
    connects(Series::MariaDb1011);
}

/// The source is forgotten with the epoch when all that was received is applied, and else kept.
fn forgets(series: Series) {
    same(series, ASYNC, &[Act(1, STOP), Act(1, CLAIM_4), Act(1, EPOCH_4), Act(1, UNFENCE), Follows(1)]);
    let behind = [
        StopApplier(1),
        Write(0),
        Told,
        Look(1),
        Act(1, STOP),
        Act(1, FORGET),
        Act(1, CLAIM_4),
        Act(1, EPOCH_4),
        Follows(1),
        Act(1, APPLY),
        Follows(1),
        Act(1, FORGET),
        Follows(1),
    ];
    same(series, ASYNC, &behind);
}

#[test]
fn a_new_primary_forgets_its_source_with_its_epoch() {
    forgets(Series::Mysql97);
}

#[test]
fn a_new_primary_of_mysql_56_forgets_its_source_with_its_epoch() {
    forgets(Series::Mysql56);
}

/// Two acknowledgements are two servers; one that is not to acknowledge replicates and does not count. What a real one had
/// received by then it never acknowledges, as simulated ones do: the next commit does for all before it.
#[test]
fn a_commit_waits_for_two_ackers() {
    let both = Setup { acks: 2, ..SEMI_SYNC };
    let script = [
        Write(0),
        Told,
        Act(1, STOP),
        Write(0),
        Told,
        Act(1, START),
        Told,
        Act(2, NO_ACKS),
        Write(0),
        Told,
        Look(2),
        Act(2, ACKS),
        Write(0),
        Told,
        Look(0),
    ];
    same(Series::Mysql97, both, &script);
}
