//! The elector against an API server that runs in the test: what the machine's own tests cannot show.

mod fake;

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::Method;
use fake::{FakeServer, Fault, Way};
use serde_json::json;
use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::engine::clock::SystemClock;

/// tokio's virtual time, with a hand to push it while no task runs: that is what a frozen process sees.
#[derive(Debug)]
struct VirtualClock {
    started: Instant,
    frozen_ms: AtomicU64,
}

impl VirtualClock {
    fn start() -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), frozen_ms: AtomicU64::new(0) })
    }

    fn freeze_ms(&self, ms: u64) {
        self.frozen_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Mono {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap();
        Mono(passed + self.frozen_ms.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> u64 {
        1_767_225_600_000 + self.now().0
    }

    async fn sleep_ms(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

struct Contender<C> {
    task: JoinHandle<Result<Outcome, Lost>>,
    end: CancellationToken,
    leader: Leader,
    way: Way,
    clock: Arc<C>,
}

impl<C: Clock> Contender<C> {
    fn start(server: &FakeServer, clock: &Arc<C>, name: &str, timing: Timing) -> Self {
        let (client, way) = server.client();
        let (namespace, lease) = ("ops".to_owned(), "baton".to_owned());
        let settings = Settings { namespace, name: lease, identity: name.to_owned(), timing };
        let (elector, leader) = Elector::new(client, settings, Arc::clone(clock));
        let end = CancellationToken::new();
        let task = tokio::spawn(elector.run(end.clone()));
        Self { task, end, leader, way, clock: Arc::clone(clock) }
    }

    fn leads(&self) -> bool {
        self.leader.leader_until().is_some_and(|until| self.clock.now() < until)
    }

    /// Waits until this contender leads and tells when, in milliseconds.
    async fn led_at(&mut self) -> u64 {
        while !self.leads() {
            assert!(self.leader.changed().await, "the elector has ended");
        }
        self.clock.now().0
    }
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_and_renewed_with_one_request_a_period() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    assert_eq!(a.led_at().await, 0);
    pass(1_000).await;
    assert_eq!(a.way.requests(), [Method::GET, Method::PUT, Method::PUT, Method::PUT]);
    assert_eq!(
        server.lease()["spec"],
        json!({"holderIdentity": "a", "leaseDurationSeconds": 3, "leaseTransitions": 5,
            "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.800000Z"})
    );
    let standing = Standing { leader_until: Some(Mono(2_800)), holder: Some("a".to_owned()), transitions: 5 };
    assert_eq!(a.leader.standing(), standing);
}

#[tokio::test(start_paused = true)]
async fn an_absent_lease_is_created_and_led_after_its_duration() {
    let (server, clock) = (FakeServer::start(true), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    pass(100).await;
    assert_eq!(server.lease()["spec"]["holderIdentity"], json!(""));
    assert_eq!(a.led_at().await, 3_000);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_hands_over_at_once() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    a.led_at().await;
    let mut b = Contender::start(&server, &clock, "b", Timing::FAST);
    pass(2_450).await;
    let released_at = clock.now();
    a.end.cancel();
    let taken_ms = b.led_at().await - released_at.0;
    assert!(taken_ms < 100, "{taken_ms} ms; the next look was due in 350 ms");
    assert_eq!(a.task.await.unwrap(), Ok(Outcome::Released));
    assert_eq!(server.lease()["spec"]["leaseTransitions"], json!(6));
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_ends_before_a_standby_begins() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    a.led_at().await;
    let b = Contender::start(&server, &clock, "b", Timing::FAST);
    pass(1_000).await;
    a.way.set(Some(Fault::Lost));
    let (mut a_end, mut b_begin) = (0, 0);
    for _ in 0..400 {
        pass(10).await;
        assert!(!(a.leads() && b.leads()));
        if a.leads() {
            a_end = clock.now().0;
        } else if b.leads() && b_begin == 0 {
            b_begin = clock.now().0;
        }
    }
    // The last renewal began at 800 ms.
    assert!((2_780..=2_800).contains(&a_end), "{a_end}");
    assert!((3_800..=3_820).contains(&b_begin), "{b_begin}");
    assert_eq!(a.task.await.unwrap(), Err(Lost::Validity));
}

#[tokio::test(start_paused = true)]
async fn renewals_that_are_applied_but_not_answered_do_not_count() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    a.led_at().await;
    pass(100).await;
    a.way.set(Some(Fault::Unanswered));
    pass(1_000).await;
    assert_eq!(a.leader.leader_until(), Some(Mono(2_000)), "no answer yet");
    a.way.set(None);
    pass(500).await;
    assert!(a.leader.leader_until() > Some(Mono(3_000)), "{:?}", a.leader);
    a.way.set(Some(Fault::Unanswered));
    assert_eq!(a.task.await.unwrap(), Err(Lost::Validity));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_else_touched_is_read_and_kept() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    a.led_at().await;
    server.edit(|lease| lease["metadata"]["labels"] = json!({"team": "db"}));
    pass(3_000).await;
    assert!(a.leads());
    assert_eq!(server.lease()["metadata"]["labels"], json!({"team": "db"}));
    server.delete();
    pass(3_000).await;
    assert!(a.leads(), "a deleted lease is created again");
    server.edit(|lease| lease["spec"]["holderIdentity"] = json!("c"));
    assert_eq!(a.task.await.unwrap(), Err(Lost::Taken { holder: Some("c".to_owned()) }));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_frozen_knows_it_before_it_acts() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    a.led_at().await;
    pass(500).await;
    assert!(a.leads());
    clock.freeze_ms(5_000);
    // No task ran since; whoever asks now is told the truth.
    assert!(!a.leads());
    assert_eq!(a.task.await.unwrap(), Err(Lost::Validity));
}

/// The same with the real clock and a thread that really stands still.
#[tokio::test]
async fn a_blocked_thread_loses_its_leadership() {
    let server = FakeServer::start(false);
    let clock = Arc::new(SystemClock::start());
    let timing = Timing::new(1_000, 500, 100).unwrap();
    let mut a = Contender::start(&server, &clock, "a", timing);
    a.led_at().await;
    std::thread::sleep(Duration::from_millis(550));
    assert!(!a.leads());
    assert_eq!(a.task.await.unwrap(), Err(Lost::Validity));
}

#[tokio::test(start_paused = true)]
async fn giving_up_ends_even_if_nobody_answers() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    a.led_at().await;
    a.way.set(Some(Fault::Lost));
    a.end.cancel();
    assert_eq!(a.task.await.unwrap(), Ok(Outcome::Unreleased));
    assert!(clock.now() <= Mono(2_400), "{:?}", clock.now());
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_answer_is_lost_is_looked_at_and_accepted() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    a.led_at().await;
    a.way.set(Some(Fault::Unanswered));
    a.end.cancel();
    pass(350).await;
    a.way.set(None);
    assert_eq!(a.task.await.unwrap(), Ok(Outcome::NotHeld));
    assert_eq!(server.lease()["spec"]["holderIdentity"], json!(""));
    assert_eq!(server.lease()["spec"]["leaseDurationSeconds"], json!(1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_asked_once_a_period() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    a.way.set(Some(Fault::Broken));
    pass(4_100).await;
    assert_eq!(a.way.requests().len(), 11);
    a.way.set(None);
    assert_eq!(a.led_at().await, 4_400);
    a.end.cancel();
    assert_eq!(a.task.await.unwrap(), Ok(Outcome::Released));
}

#[tokio::test(start_paused = true)]
async fn a_standby_stops_without_touching_the_lease() {
    let (server, clock) = (FakeServer::start(false), VirtualClock::start());
    let mut a = Contender::start(&server, &clock, "a", Timing::FAST);
    a.led_at().await;
    let b = Contender::start(&server, &clock, "b", Timing::FAST);
    pass(1_000).await;
    b.end.cancel();
    assert_eq!(b.task.await.unwrap(), Ok(Outcome::NotHeld));
    assert!(b.way.requests().iter().all(Method::is_safe));
    assert!(a.leads());
}

#[test]
fn identities_of_one_pod_differ() {
    let (one, two) = (identity("baton-0"), identity("baton-0"));
    assert!(one.starts_with("baton-0_") && one != two, "{one} {two}");
}
