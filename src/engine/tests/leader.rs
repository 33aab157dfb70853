//! What a leader does with its Jobs: when it leaves a record to one, and how long it lets one have it.

use std::sync::Mutex;

use super::*;
use crate::{core::request::Request, engine::ports::Jobs};

/// Leads and has Jobs. What it does takes no time, but for replication settings, which take this long.
struct Leader {
    clock: Standby,
    done: Mutex<Vec<(u64, String)>>,
    /// The record that another one has carried out, which no watch shows.
    unseen: Option<Recovery>,
}

const SETTINGS_MS: u64 = 2000;

impl Leader {
    fn note(&self, what: &str) {
        self.done.lock().unwrap().push((self.clock.now().0, what.to_owned()));
    }

    /// When it did something first.
    fn did(&self, what: &str) -> Option<u64> {
        self.done.lock().unwrap().iter().find(|(_, done)| done == what).map(|(at, _)| *at)
    }
}

impl Servers for Leader {
    async fn act(&self, addr: &ServerAddr, action: Action, _: u64) -> Result<Box<Observation>, ActionError> {
        if matches!(action, Action::EnforceReplicationSettings { .. }) {
            self.note("settings begin");
            sleep(Duration::from_millis(SETTINGS_MS)).await;
            self.note("settings end");
        }
        Err(ActionError::Precondition { server: addr.clone(), reason: "a test".to_owned() })
    }
}

impl Journal for Leader {
    async fn begin(&self, recovery: &Recovery) -> Result<(), JournalError> {
        self.note("begin");
        let taken = self.unseen.as_ref().is_some_and(|unseen| unseen.record == recovery.record);
        if taken { Err(JournalError::Lost("it was carried out before".to_owned())) } else { Ok(()) }
    }

    async fn save(&self, _: &Recovery) -> Result<(), JournalError> {
        Ok(())
    }

    async fn claim(&self, _: &str, _: &str, _: Option<&Hold>) -> Result<Recovery, JournalError> {
        self.note("claim");
        Err(JournalError::Lost("it is gone".to_owned()))
    }

    async fn history(&self) -> Result<History, JournalError> {
        self.note("read");
        let past = self.unseen.iter().map(|last| crate::core::throttle::Past {
            name: last.record.clone(),
            phase: last.phase,
            acknowledged: false,
            made: last.new_primary.clone(),
            old: Some(last.old_primary.clone()),
            ..held().past.remove(0)
        });
        Ok(History { past: past.collect(), last: self.unseen.clone(), ..History::default() })
    }

    async fn refuse(&self, name: &str, reason: &str) -> Result<(), JournalError> {
        self.note(&format!("refuse {name}: {reason}"));
        Ok(())
    }

    async fn members(&self, _: Option<&Membership>, _: &Membership) -> Result<(), JournalError> {
        Ok(())
    }

    async fn route(&self, _: Option<&ServerAddr>) -> Result<(), JournalError> {
        Ok(())
    }
}

impl Jobs for Leader {
    fn job_for(&self, record: &str, _: &str) -> Option<String> {
        Some(format!("{record}-failover"))
    }

    async fn start_job(&self, _: &Recovery) -> Result<(), String> {
        Ok(())
    }

    async fn leave(&self, _: &Recovery) -> Result<(), JournalError> {
        self.note("leave");
        Ok(())
    }
}

impl Leadership for Leader {
    fn leader_until(&self) -> Option<Mono> {
        Some(self.clock.now().plus_ms(2000))
    }
}

impl Clock for Leader {
    fn now(&self) -> Mono {
        self.clock.now()
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    async fn sleep_ms(&self, ms: u64) {
        self.clock.sleep_ms(ms).await;
    }
}

async fn leader(policy: Policy, history: History) -> (Fed, Arc<Leader>) {
    leader_after(None, policy, history).await
}

async fn leader_after(unseen: Option<Recovery>, policy: Policy, history: History) -> (Fed, Arc<Leader>) {
    let started = Instant::now();
    let leader = Arc::new(Leader { clock: Standby(started), done: Mutex::default(), unseen });
    (Fed::of(Arc::clone(&leader), started, policy, history).await, leader)
}

/// Looks go on for some time; then whether it did something.
async fn did(fed: &mut Fed, leader: &Leader, what: &str, for_ms: u64) -> Option<u64> {
    for _ in 0..for_ms / 100 {
        fed.look().await;
        sleep(Duration::from_millis(100)).await;
    }
    leader.did(what)
}

#[tokio::test(start_paused = true)]
async fn a_record_is_left_when_nothing_that_was_begun_before_is_under_way_on_a_server() {
    let mut policy = policy();
    (policy.failover.by_job, policy.detection.enforce) = (true, true);
    let (mut fed, leader) = leader(policy, History::default()).await;
    fed.seen.server("r1").observation.settings.net_timeout_s = 60;
    did(&mut fed, &leader, "settings begin", 200).await.expect("settings are kept");
    fed.seen.fail("p", FailureKind::Refused);
    ["r1", "r2"].into_iter().for_each(|name| fed.seen.lose_source(name));
    let left = did(&mut fed, &leader, "leave", 3000).await.expect("it is left");
    let (begun, ended) = (leader.did("begin").unwrap(), leader.did("settings end").unwrap());
    assert!(begun < ended, "a failover waits for no housekeeping");
    assert!(left >= ended, "left at {left}, under way until {ended}");
}

/// A record that a Job has claimed.
fn held() -> History {
    let past = crate::core::throttle::Past {
        name: "shop-2".to_owned(),
        phase: crate::core::recovery::Phase::Fencing,
        age_ms: 0,
        acknowledged: true,
        made: None,
        old: None,
        reopened: false,
    };
    let hold = Hold { version: "1".to_owned(), patience_ms: 3000, reason: "a test".to_owned() };
    let unfinished = Some("shop-2".to_owned());
    History { past: vec![past], unfinished, hold: Some(hold), ..History::default() }
}

fn request() -> Request {
    Request {
        record: "drill".to_owned(),
        uid: "1".to_owned(),
        server: None,
        candidate: None,
        reason: "a drill".to_owned(),
        problem: None,
    }
}

/// Somebody removes the record that a Job has; `then` makes a failover necessary.
async fn after_its_record_is_gone(then: impl FnOnce(&mut Fed) -> History) {
    let (mut fed, leader) = leader(policy(), held()).await;
    assert_eq!(did(&mut fed, &leader, "claim", 1000).await, None, "a Job has it");
    let gone = then(&mut fed);
    fed.wishes.1.send_replace(gone);
    let removed = leader.clock.now().0;
    let begun = did(&mut fed, &leader, "begin", 20_000).await.expect("another failover begins");
    assert!(begun >= removed + 3000, "begun after {} ms", begun - removed);
    assert_eq!(leader.did("claim"), None, "there is nothing to claim");
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_record_is_gone_may_act_for_a_while() {
    after_its_record_is_gone(|fed| {
        fed.seen.fail("p", FailureKind::Refused);
        ["r1", "r2"].into_iter().for_each(|name| fed.seen.lose_source(name));
        History::default()
    })
    .await;
    after_its_record_is_gone(|_| History { requests: vec![request()], ..History::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_while_a_job_has_a_record_is_refused() {
    let history = History { requests: vec![request()], ..held() };
    let (mut fed, leader) = leader(policy(), history).await;
    let refused = "refuse drill: another recovery is under way: shop-2";
    assert!(did(&mut fed, &leader, refused, 1000).await.is_some());
    assert_eq!(leader.did("begin"), None);
}

/// Watches have lost the record of the failover before, and the reign that it began or not. This one meets it, or asks
/// for it, and waits like any other after it.
#[tokio::test(start_paused = true)]
async fn a_failover_that_no_watch_shows_holds_the_next_one_back() {
    after_unseen(Epoch(0), 1).await;
    after_unseen(Epoch(1), 0).await;
}

/// `begun`: how often one is begun.
async fn after_unseen(epoch: Epoch, begun: usize) {
    let mut unseen = crate::testing::record::recovery(1, "other", &addr("x"));
    unseen.record = "shop-1".to_owned();
    (unseen.phase, unseen.new_primary) = (crate::core::recovery::Phase::Succeeded, Some(addr("p")));
    let mut policy = policy();
    policy.failover.block_ms = 8000;
    let (mut fed, leader) = leader_after(Some(unseen), policy, History::default()).await;
    fed.wishes.0.send_modify(|desired| desired.epoch = epoch);
    fed.seen.fail("p", FailureKind::Silent);
    ["r1", "r2"].into_iter().for_each(|name| fed.seen.lose_source(name));
    did(&mut fed, &leader, "read", 3000).await.expect("all are read");
    did(&mut fed, &leader, "", 5000).await;
    let begins = leader.done.lock().unwrap().iter().filter(|(_, done)| done == "begin").count();
    assert_eq!(begins, begun, "it was not long ago");
}
