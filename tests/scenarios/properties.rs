//! What holds for every cluster: clusters in random states, looked at at random moments.

use baton::{
    core::{
        analysis::{Act, analyse},
        observation::{FailureKind, Receiver, ThreadError},
        snapshot::{Reach, Snapshot},
    },
    testing::snapshot::{Cluster, addr, policy},
};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["p", "r1", "r2", "r3"];

/// Something that happens between two looks.
#[derive(Debug, Clone)]
enum Event {
    Fail(usize, FailureKind),
    Answer(usize),
    Receiver(usize, Receiver, Option<u32>),
    Hears(usize, bool),
    Heartbeat(usize, Option<u64>),
    Watched(usize, bool),
    Look(usize),
    LookAll(u64),
    Gap,
}

fn any_kind() -> impl Strategy<Value = FailureKind> {
    use FailureKind::{Address, Credentials, NotMysql, Refused, Saturated, Silent, Statement, Tls};
    prop::sample::select(vec![
        Refused,
        Silent,
        Silent,
        Refused,
        Address,
        Credentials,
        Saturated,
        Tls,
        NotMysql,
        Statement,
    ])
}

fn any_event() -> impl Strategy<Value = Event> {
    let server = 0..NAMES.len();
    let receiver = prop::sample::select(vec![Receiver::Running, Receiver::Connecting, Receiver::Stopped]);
    let error = prop::sample::select(vec![None, Some(2003), Some(2013), Some(1045), Some(1236)]);
    let heartbeat = prop::sample::select(vec![None, Some(0), Some(100), Some(500), Some(30_000)]);
    prop_oneof![
        1 => (server.clone(), any_kind()).prop_map(|(server, kind)| Event::Fail(server, kind)),
        3 => any_kind().prop_map(|kind| Event::Fail(0, kind)),
        1 => server.clone().prop_map(Event::Answer),
        3 => (server.clone(), receiver, error).prop_map(|(server, state, error)| Event::Receiver(server, state, error)),
        2 => (server.clone(), any::<bool>()).prop_map(|(server, hears)| Event::Hears(server, hears)),
        1 => (server.clone(), heartbeat).prop_map(|(server, interval)| Event::Heartbeat(server, interval)),
        1 => (server.clone(), any::<bool>()).prop_map(|(server, watched)| Event::Watched(server, watched)),
        1 => server.prop_map(Event::Look),
        6 => (0_u64..900).prop_map(Event::LookAll),
        1 => Just(Event::Gap),
    ]
}

fn happen(cluster: &mut Cluster, event: &Event) {
    match *event {
        Event::Fail(server, kind) => cluster.fail(NAMES[server], kind),
        Event::Answer(server) => cluster.server(NAMES[server]).failure = None,
        Event::Receiver(server, receiver, code) => {
            for channel in &mut cluster.server(NAMES[server]).observation.channels {
                channel.receiver = receiver;
                let error = code.filter(|_| receiver != Receiver::Running);
                channel.receiver_error = error.map(|code| ThreadError { code, message: "an error".to_owned() });
            }
        }
        Event::Hears(server, hears) => cluster.server(NAMES[server]).hears = hears,
        Event::Heartbeat(server, interval) => {
            for channel in &mut cluster.server(NAMES[server]).observation.channels {
                channel.heartbeat_interval_ms = interval;
            }
        }
        Event::Watched(server, watched) => cluster.server(NAMES[server]).looked_at = watched,
        Event::Look(server) => cluster.look_at(NAMES[server]),
        Event::LookAll(ms) => {
            cluster.advance(ms);
            cluster.look();
        }
        Event::Gap => cluster.snapshot.watching_since = cluster.snapshot.at,
    }
}

fn play(events: &[Event]) -> Cluster {
    let mut cluster = Cluster::primary_and_replicas(3);
    cluster.look();
    for event in events {
        cluster.advance(20);
        happen(&mut cluster, event);
    }
    cluster
}

fn failover(snapshot: &Snapshot) -> bool {
    analyse(snapshot, &policy()).iter().any(|analysis| analysis.calls_for_failover())
}

fn any_story() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(any_event(), 1..40)
}

/// A story that ends in the plain death of the primary, so that failovers are not rare.
fn any_death() -> impl Strategy<Value = Vec<Event>> {
    let end = [Event::Fail(0, FailureKind::Refused), Event::LookAll(100)];
    let lost = (1..NAMES.len()).map(|server| Event::Receiver(server, Receiver::Connecting, Some(2003)));
    let end: Vec<_> = end.into_iter().chain(lost).chain([Event::LookAll(100), Event::LookAll(600)]).collect();
    any_story().prop_map(move |story| story.into_iter().chain(end.clone()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_same_snapshot_gives_the_same_analyses(story in any_story()) {
        let snapshot = play(&story).snapshot;
        prop_assert_eq!(analyse(&snapshot, &policy()), analyse(&snapshot.clone(), &policy()));
    }

    #[test]
    fn no_failover_of_a_primary_that_is_not_gone(story in prop_oneof![any_story(), any_death()]) {
        let snapshot = play(&story).snapshot;
        if failover(&snapshot) {
            let state = &snapshot.servers[&addr("p")];
            let gone = matches!(state.reach(), Reach::Failing(failure) if !failure.kind.alive());
            prop_assert!(gone, "{:?}", state.reach());
            prop_assert!(state.mute_looks >= 2);
            // Both its looks and a replica's are newer than any gap and any sign of life.
            prop_assert!(state.looked_at() >= Some(snapshot.watching_since));
            let since = state.mute_since.unwrap();
            let witness = |name: &&str| {
                let state = &snapshot.servers[&addr(name)];
                state.answering().is_some_and(|seen| seen.at >= since && seen.at >= snapshot.watching_since)
            };
            prop_assert!(NAMES[1..].iter().any(witness));
        }
    }

    #[test]
    fn a_replica_that_hears_prevents_a_failover(story in prop_oneof![any_story(), any_death()], who in 1..NAMES.len()) {
        let mut cluster = play(&story);
        // Two looks in a row, the second with one heartbeat more.
        let server = cluster.server(NAMES[who]);
        (server.looked_at, server.failure, server.hears) = (true, None, true);
        server.observation.channels[0].receiver = Receiver::Running;
        server.observation.channels[0].receiver_error = None;
        cluster.look_at(NAMES[who]);
        cluster.advance(20);
        cluster.look_at(NAMES[who]);
        prop_assert!(!failover(&cluster.snapshot));
    }

    #[test]
    fn receivers_stopped_by_people_prove_nothing(ms in 600_u64..60_000) {
        let mut cluster = Cluster::primary_and_replicas(3);
        cluster.look();
        for name in &NAMES[1..] {
            cluster.server(name).observation.channels[0].receiver = Receiver::Stopped;
        }
        cluster.look();
        cluster.fail("p", FailureKind::Silent);
        cluster.advance(100);
        cluster.look();
        cluster.advance(ms);
        prop_assert!(!failover(&cluster.look()));
    }

    #[test]
    fn what_is_done_is_never_more_than_the_table_allows(story in prop_oneof![any_story(), any_death()]) {
        for analysis in analyse(&play(&story).snapshot, &policy()) {
            let most = analysis.code.row().act;
            let lesser = most == Act::Failover && analysis.act == Act::Repair;
            prop_assert!(!analysis.evidence.is_empty(), "{analysis:?}");
            prop_assert!(analysis.act == most || analysis.act == Act::Nothing || lesser, "{analysis:?}");
        }
    }
}

/// The properties above would hold for an analysis that never acts; this one would not.
#[test]
fn plain_death_is_a_failover() {
    let mut cluster = Cluster::primary_and_replicas(3);
    cluster.look();
    cluster.fail("p", FailureKind::Refused);
    NAMES[1..].iter().for_each(|name| cluster.lose_source(name));
    cluster.look();
    cluster.advance(100);
    assert!(failover(&cluster.look()));
}
