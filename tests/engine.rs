//! The task of one cluster over a fake world: who is held to be the primary after a change of leaders,
//! and for how long anything may still be said to a server.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "engine/task.rs"]
mod task;

use std::sync::atomic::Ordering;

use baton::{
    core::{
        id::{ClusterKey, Epoch, ServerAddr},
        observation::{Commits, FailureKind, Receiver, ThreadError},
        policy::Mode,
        recovery::{Cause, Phase, machine::Machine},
        request::Request,
        step::Action,
        throttle::Past,
        time::Mono,
    },
    engine::{facts::History, ports::Clock, turns::AT_ONCE},
    testing::{
        record::recovery,
        snapshot::{self, addr, policy},
    },
};
use tokio::time::{Duration, Instant, sleep};

use task::{SURE_MS, Task};

/// `p` was replaced by `r1` in epoch 7; `r3` was away and still follows `p`, which is back and writable.
fn after_failover() -> (snapshot::Cluster, History) {
    let mut servers = snapshot::Cluster::default();
    for name in ["p", "r1", "r2", "r3"] {
        servers.add(name);
    }
    servers.follow("r2", "r1");
    servers.follow("r3", "p");
    let mut before = snapshot::Cluster::primary_and_replicas(3);
    let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
    let mut machine = Machine::new(&before.look(), &policy(), cause, Epoch(7), "a", Mono(0));
    let record = machine.record_mut();
    (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
    (servers, History { last: Some(record.clone()), ..History::default() })
}

#[tokio::test(start_paused = true)]
async fn a_record_is_believed_before_a_status_that_names_who_was_replaced() {
    let (servers, history) = after_failover();
    let mut task = Task::start(servers, "p", history);
    task.look(3).await;
    assert_eq!(task.primary(), Some(addr("r1")));
    let fenced = task.acts().into_iter().filter(|(_, action, _)| *action == Action::Fence).map(|(server, ..)| server);
    assert!(fenced.eq([addr("p")]), "{:?}", task.acts());
}

#[tokio::test(start_paused = true)]
async fn a_standby_learns_from_the_record_who_was_promoted() {
    let (servers, history) = after_failover();
    let mut task = Task::start(servers, "p", History::default());
    task.look(3).await;
    assert_eq!(task.primary(), Some(addr("p")), "what the status says, as long as nothing else is known");
    task.history.send_replace(history);
    task.look(1).await;
    assert_eq!(task.primary(), Some(addr("r1")));
    // A status that is written later and says the same changes nothing.
    task.desired.send_modify(|desired| desired.primary = Some(addr("r1")));
    task.look(1).await;
    assert_eq!((task.primary(), &task.watching.borrow().primary), (Some(addr("r1")), &Some(addr("r1"))));
}

/// The primary dies and every replica loses it.
async fn dead_primary() -> Task {
    let mut servers = snapshot::Cluster::primary_and_replicas(2);
    servers.semi_sync(1);
    let mut task = Task::start(servers, "p", History::default());
    task.look(3).await;
    task.servers.fail("p", FailureKind::Refused);
    ["r1", "r2"].into_iter().for_each(|name| task.servers.lose_source(name));
    task.look(10).await;
    task
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_of_a_server_for_longer_than_leadership_is_sure() {
    let task = dead_primary().await;
    let acts = task.acts();
    assert!(acts.iter().any(|(_, action, _)| *action == Action::StopReceiver), "{acts:?}");
    assert!(acts.iter().all(|(_, _, budget_ms)| *budget_ms <= SURE_MS), "{acts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_recovery_whose_record_somebody_else_carries_out_is_left() {
    let mut task = dead_primary().await;
    let saved = || task.world.saved.load(Ordering::Relaxed);
    // The machine says that it is blocked, and learns that the record is not its own any more.
    for _ in 0..30 {
        if saved() > 0 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(saved(), 1);
    let before = task.acts().len();
    task.servers.server("p").failure = None;
    sleep(Duration::from_millis(400)).await;
    assert_eq!(task.acts().len(), before, "it went on");
    assert_eq!(task.begun(), 1);
}

/// Other clusters have all turns. Once one is over it is this one's, and as no server answers not for long.
#[tokio::test(start_paused = true)]
async fn a_recovery_begins_when_it_is_its_clusters_turn_and_makes_room_when_it_waits_for_servers() {
    let key = |number: usize| ClusterKey { namespace: "default".to_owned(), name: format!("other-{number}") };
    let mut task = Task::start(snapshot::Cluster::primary_and_replicas(2), "p", History::default());
    task.world.saves.store(true, Ordering::Relaxed);
    task.look(3).await;
    let ask = |task: &Task, number| task.world.turns.ask(&key(number), 0, task.world.now());
    let mut turns: Vec<_> = (0..AT_ONCE).map(|number| ask(&task, number).unwrap()).collect();
    task.servers.fail("p", FailureKind::Refused);
    ["r1", "r2"].into_iter().for_each(|name| task.servers.lose_source(name));
    task.look(20).await;
    assert_eq!((task.begun(), task.acts()), (0, Vec::new()));
    turns.pop();
    task.look(2).await;
    assert_eq!(task.begun(), 1);
    let since = Instant::now();
    while ask(&task, 100).is_none() && since.elapsed() < Duration::from_secs(20) {
        task.look(1).await;
    }
    let held = since.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&held), "{held:?}");
    assert_eq!(task.begun(), 1, "it goes on");
}

/// `m` is dead, and `a` and `b` below it have lost it.
async fn dead_intermediate() -> Task {
    let mut servers = snapshot::Cluster::default();
    for name in ["p", "m", "a", "b"] {
        servers.add(name);
    }
    servers.follow("m", "p");
    ["a", "b"].into_iter().for_each(|name| {
        servers.follow(name, "m");
    });
    let mut task = Task::start(servers, "p", History::default());
    task.look(3).await;
    task.servers.fail("m", FailureKind::Refused);
    ["a", "b"].into_iter().for_each(|name| task.servers.lose_source(name));
    task
}

fn moves(task: &Task) -> Vec<(ServerAddr, ServerAddr)> {
    let repoint = |(server, action, _)| match action {
        Action::Repoint { source, .. } => Some((server, source)),
        _ => None,
    };
    task.acts().into_iter().filter_map(repoint).collect()
}

#[tokio::test(start_paused = true)]
async fn replicas_of_a_dead_intermediate_primary_are_moved_once_its_record_is_written() {
    let mut task = dead_intermediate().await;
    task.look(10).await;
    assert_eq!(task.begun(), 1, "one record");
    assert!(moves(&task).contains(&(addr("a"), addr("p"))), "{:?}", task.acts());
    assert_eq!(task.primary(), Some(addr("p")));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_moved_while_the_primary_does_not_answer_or_the_owner_does_not_want_it() {
    let mut task = dead_intermediate().await;
    task.servers.fail("p", FailureKind::Silent);
    task.look(10).await;
    assert_eq!(moves(&task), []);
    let mut task = dead_intermediate().await;
    task.desired.send_modify(|desired| desired.policy.failover.intermediate = Mode::DetectOnly);
    task.look(10).await;
    assert_eq!((moves(&task), task.begun()), (Vec::new(), 0));
    let view = task.view.borrow().clone().unwrap();
    let told = view.servers.iter().find(|server| server.addr == addr("m")).unwrap().problems.join(" ");
    assert!(told.contains("failover.intermediate is DetectOnly"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_full_primary_allows_a_few_connections_more() {
    let mut servers = snapshot::Cluster::primary_and_replicas(2);
    servers.semi_sync(1);
    let refuse = |servers: &mut snapshot::Cluster, refused: bool| {
        for name in ["r1", "r2"] {
            let channel = &mut servers.server(name).observation.channels[0];
            channel.receiver = if refused { Receiver::Connecting } else { Receiver::Running };
            channel.receiver_error = refused.then(|| ThreadError { code: 1040, message: String::new() });
        }
        let source = servers.server("p").observation.semi_sync.source.as_mut().unwrap();
        (source.clients, source.waiting) = if refused { (0, 3) } else { (2, 0) };
    };
    refuse(&mut servers, true);
    let mut task = Task::start(servers, "p", History::default());
    let allowed = |task: &Task| {
        let more = |(_, action, _)| if let Action::AllowConnections { more } = action { Some(more) } else { None };
        task.acts().into_iter().filter_map(more).collect::<Vec<_>>()
    };
    task.look(300).await;
    assert_eq!(allowed(&task), [10; 6], "a few, and no more after that");
}

/// Actions on the primary after a person forces its failover, when commits have hung there for so long.
async fn forced_after(hung: Duration) -> Vec<Action> {
    let mut task = Task::start(snapshot::Cluster::primary_and_replicas(2), "p", History::default());
    task.desired.send_modify(|desired| desired.policy.failover.stalled = Mode::DetectOnly);
    task.look(3).await;
    task.servers.server("p").observation.commits = Some(Commits { waiting: 3, binlog_writes: Some(7) });
    let rounds = u32::try_from(hung.as_millis() / 115).unwrap();
    task.look(rounds).await;
    assert_eq!(task.acts(), []);
    let request = Request {
        record: "drill".to_owned(),
        uid: "1".to_owned(),
        server: None,
        candidate: None,
        reason: "its disk stalls".to_owned(),
        problem: None,
    };
    task.history.send_modify(|history| history.requests = vec![request]);
    task.look(2).await;
    task.acts().into_iter().filter(|(server, ..)| *server == addr("p")).map(|(_, action, _)| action).collect()
}

#[tokio::test(start_paused = true)]
async fn a_person_replaces_a_primary_whose_commits_hang_without_waiting_for_them() {
    let slow = forced_after(Duration::from_millis(500)).await;
    assert_eq!(slow.first(), Some(&Action::SetReadOnly), "{slow:?}");
    let hangs = forced_after(Duration::from_secs(4)).await;
    assert!(hangs.first() == Some(&Action::Fence) && !hangs.contains(&Action::SetReadOnly), "{hangs:?}");
}

/// Whether a recovery begins when commits hang on `p`, which one for `analysis` made the primary a moment ago.
async fn begun_for_a_stall_after(analysis: &str) -> bool {
    let mut last = recovery(6, "a", &addr("x"));
    (last.phase, last.new_primary) = (Phase::Succeeded, Some(addr("p")));
    last.cause.analysis = analysis.to_owned();
    let past = Past {
        name: last.record.clone(),
        phase: last.phase,
        age_ms: 60_000,
        acknowledged: false,
        made: last.new_primary.clone(),
        old: Some(last.old_primary.clone()),
        reopened: false,
    };
    let history = History { past: vec![past], last: Some(last), ..History::default() };
    let mut task = Task::start(snapshot::Cluster::primary_and_replicas(2), "p", history);
    task.look(3).await;
    task.servers.server("p").observation.commits = Some(Commits { waiting: 3, binlog_writes: Some(7) });
    task.look(70).await;
    task.begun() > 0
}

#[tokio::test(start_paused = true)]
async fn a_new_primary_whose_commits_hang_is_replaced_unless_that_was_why_it_is_the_primary() {
    assert!(begun_for_a_stall_after("DeadPrimary").await);
    assert!(!begun_for_a_stall_after("StalledPrimary").await);
}
