//! The leader is killed (F31), or freezes for longer than its Lease and goes on (F32), before and after every effect
//! of a failover: `points.rs` lists them.

use std::time::Duration;

use baton::testing::{network::Cut, process::Signal};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    ackers::open_by_hand,
    judge::{Expect, LEADER_MS, Report},
    operators::frozen,
    points::{At, EFFECTS, Play},
    replicas::stray,
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

/// How long a frozen leader stays so: its Lease ends after 3 s.
const FROZEN: Duration = Duration::from_secs(6);
/// How soon the leader must have come to the point.
const REACHED: Duration = Duration::from_secs(20);
/// Longest pause when a Job was to do it: it has 10 s to start.
const JOB_MS: f64 = 18_000.0;

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (number, signal, does) in [("F31", "KILL", "is killed"), ("F32", "STOP", "freezes for longer than its Lease")] {
        for (effect, at) in EFFECTS {
            let At::In(play) = at else { continue };
            for when in ["before", "after"] {
                let (short, what) = words(play);
                let name = format!("{number}-{short}{when}-{}", effect.replace(':', "-"));
                let expects = format!("{what}; the leader {does} {when} {}", effect.replace(':', " "));
                let crash = Crash { play, signal, point: format!("{when}:{effect}") };
                all.push(scenario(&name, 120, &expects, move |name| crash.clone().run(name)));
            }
        }
    }
    all
}

/// Part of the scenario's name, and what happens.
fn words(play: Play) -> (&'static str, &'static str) {
    match play {
        Play::Dead => ("", "the primary dies"),
        Play::Backlog => ("backlog-", "the primary dies, no replica has applied what it received"),
        Play::Kept => ("kept-", "the primary dies, Baton keeps semi-sync"),
        Play::Rejoin => ("rejoin-", "the primary dies and is back, Baton keeps semi-sync"),
        Play::Blocked => {
            ("blocked-", "the primary dies, then one of two ackers: nobody is promoted until that is back")
        }
        Play::Short => {
            ("short-", "the primary dies, then one of three ackers, W=2: nobody is promoted until that is back")
        }
        Play::Back => ("back-", "the primary is back and an acker dies: the failover is given up, the primary stays"),
        Play::Errant => ("errant-", "the primary dies, each replica gets a transaction of its own: refused"),
        Play::Forced => ("forced-", "a person replaces a living primary"),
        Play::ForcedAsync => ("forced-async-", "a person replaces a living primary, asynchronous"),
        Play::Job => ("job-", "the primary dies, and no pod of the Job starts that is to replace it"),
        Play::TakeOver => ("again-", "the primary dies, and the leader that began"),
    }
}

#[derive(Clone)]
struct Crash {
    play: Play,
    signal: &'static str,
    point: String,
}

impl Crash {
    fn setup(&self) -> Setup {
        let spec = match self.play {
            Play::Kept | Play::Rejoin => json!({ "durability": { "mode": "SemiSync", "acks": 1 } }),
            Play::Job => json!({ "failover": { "executor": "Job" } }),
            _ => json!({}),
        };
        let setup = Setup { spec, jobs: self.play == Play::Job, ..Setup::default() };
        match self.play {
            Play::ForcedAsync => Setup { acks: None, ..setup },
            Play::Short => Setup { acks: Some(2), replicas: 3, ..setup },
            // Few, so that the old primary has nothing of its own.
            Play::Rejoin => Setup { writers: 2, rate: 10, ..setup },
            _ => setup,
        }
    }

    async fn run(self, name: String) -> anyhow::Result<Report> {
        let mut stage = Stage::new(&name, self.setup()).await?;
        let leader = stage.leader().await?.number;
        let fails = if self.play == Play::TakeOver { 1 - leader } else { leader };
        if self.play == Play::Backlog {
            for index in [1, 2] {
                stage.sql(index, &["STOP REPLICA SQL_THREAD"]).await?;
            }
            sleep(Duration::from_secs(2)).await;
        }
        self.arm(&stage, leader, fails)?;
        let starts = stage.pods[fails].starts();
        stage.strike("kill");
        self.hurt(&mut stage).await?;
        self.worsen(&mut stage, leader).await?;
        if self.play == Play::Rejoin {
            stage.failed_over(0, PATIENCE).await?;
            stage.bring_back(0).await?;
        }
        self.struck(&mut stage, leader, fails, starts).await?;
        if !matches!(self.play, Play::Rejoin | Play::Back | Play::Forced | Play::ForcedAsync) {
            stage.bring_back(0).await?;
        }
        if self.play == Play::Errant {
            open_by_hand(&stage, 0).await?;
        }
        stage.judge(self.expect()).await
    }

    fn arm(&self, stage: &Stage, leader: usize, fails: usize) -> anyhow::Result<()> {
        let strike = format!("{} {}", self.signal, self.point);
        match self.play {
            Play::Blocked | Play::Short | Play::Back | Play::Errant => {
                stage.pods[fails].arm(&["STOP before:StopReceiver".to_owned(), strike])
            }
            Play::TakeOver => {
                stage.pods[leader].rest(true);
                stage.pods[leader].arm(&["KILL after:Begin".to_owned()])?;
                stage.pods[fails].arm(&[strike])
            }
            _ => stage.pods[fails].arm(&[strike]),
        }
    }

    /// What makes the failover necessary.
    async fn hurt(&self, stage: &mut Stage) -> anyhow::Result<()> {
        match self.play {
            Play::Forced | Play::ForcedAsync => stage.force("move", Some(2)).await,
            Play::Back => Ok(stage.host(0).cut(Cut::Both)?),
            _ => Ok(stage.server_mut(0).crash()?),
        }
    }

    /// What happens besides while the leader stands still for a moment, right after it wrote down the intent.
    async fn worsen(&self, stage: &mut Stage, leader: usize) -> anyhow::Result<()> {
        if !matches!(self.play, Play::Blocked | Play::Short | Play::Back | Play::Errant) {
            return Ok(());
        }
        frozen(stage, leader, "before:StopReceiver").await?;
        match self.play {
            Play::Short => stage.server_mut(3).crash()?,
            Play::Errant => {
                stray(stage, 1).await?;
                stray(stage, 2).await?;
            }
            _ => stage.server_mut(1).crash()?,
        }
        if self.play == Play::Back {
            stage.host(0).heal()?;
            sleep(Duration::from_millis(300)).await;
        }
        stage.pods[leader].signal(Signal::Continue)
    }

    /// Waits for the strike, and for the end of the failover after it.
    async fn struck(&self, stage: &mut Stage, leader: usize, fails: usize, starts: u32) -> anyhow::Result<()> {
        let kills = self.signal == "KILL";
        let struck = async |stage: &Stage| {
            let pod = &stage.pods[fails];
            Ok(if kills { pod.starts() > starts } else { pod.is_frozen() })
        };
        stage.until(&format!("struck {}", self.point), REACHED, struck).await?;
        let since = Instant::now();
        match self.play {
            Play::TakeOver => stage.pods[leader].rest(false),
            Play::Blocked | Play::Back => stage.server_mut(1).restart().await?,
            Play::Short => stage.server_mut(3).restart().await?,
            _ => {}
        }
        self.over(stage).await?;
        if !kills {
            sleep(FROZEN.saturating_sub(since.elapsed())).await;
            stage.pods[fails].signal(Signal::Continue)?;
            sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    }

    async fn over(&self, stage: &Stage) -> anyhow::Result<()> {
        if !self.given_up() {
            return stage.failed_over(0, PATIENCE).await;
        }
        let given_up = async |stage: &Stage| {
            let records = stage.records().await?;
            let ended = |record: &serde_json::Value| ["Failed", "Refused"].iter().any(|end| record["phase"] == *end);
            Ok(!records.is_empty() && records.iter().all(ended))
        };
        stage.until("given up", PATIENCE, given_up).await.map(drop)
    }

    fn given_up(&self) -> bool {
        matches!(self.play, Play::Back | Play::Errant)
    }

    fn expect(&self) -> Expect {
        let pause_ms = match self.play {
            Play::Job => Some(JOB_MS),
            // One after the other.
            Play::TakeOver => Some(2.0 * LEADER_MS),
            Play::Backlog | Play::Blocked | Play::Short | Play::Back | Play::Errant => None,
            _ => Some(LEADER_MS),
        };
        let failovers = if self.given_up() { (0, 0) } else { (1, 1) };
        let down = if self.play == Play::Errant { vec![1, 2] } else { Vec::new() };
        Expect { failovers, pause_ms, down, ..Expect::of_another_leader() }
    }
}
