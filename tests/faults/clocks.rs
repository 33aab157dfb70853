//! The realtime clock of one process jumps by an hour: no deadline goes by it, and where a server has no other one,
//! nothing unsafe comes of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use baton::testing::{
    clock::Clock,
    process::{Signal, run},
    writers::Writers,
};
use k8s_openapi::jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{
    judge::{Expect, Report, is_writable},
    pod::holder,
    primary::CRASH_MS,
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

const HOUR_MS: i64 = 3_600_000;
/// How long nothing may come of a jump: longer than a Lease, and than servers wait for each other (5 s).
const CALM: Duration = Duration::from_secs(10);
/// Longest pause of writes that is none, and one that has another reason than a busy machine.
const CALM_MS: f64 = 500.0;
const STALL_MS: f64 = 4000.0;

/// Whose clock jumps.
#[derive(Clone, Copy)]
enum Whose {
    Primary,
    Replica,
    Leader,
}

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (word, whose) in [("primary", Whose::Primary), ("replica", Whose::Replica), ("operator", Whose::Leader)] {
        for (side, by_ms) in [("ahead", HOUR_MS), ("behind", -HOUR_MS)] {
            let hours = by_ms / HOUR_MS;
            let when = if matches!(whose, Whose::Primary) { " while commits wait" } else { "" };
            let expects =
                format!("the clock of the {word} jumps by {hours:+} h{when}: nothing for 10 s; then the primary dies");
            let run = move |name| jumped(name, whose, by_ms, Setup::default());
            all.push(scenario(&format!("F30-{word}-{side}"), 120, &expects, run));
        }
    }
    all.extend([
        scenario(
            "F30-primary-behind-idle",
            120,
            "the clock of the primary jumps by -1 h while nobody writes, its next heartbeat is an hour away: the same",
            |name| jumped(name, Whose::Primary, -HOUR_MS, Setup { writers: 0, ..Setup::default() }),
        ),
        scenario(
            "F30-claim-ahead",
            90,
            "the chosen server's clock jumps by +1 h before the leader lets clients write: it claims the server again",
            |name| claimed(name, HOUR_MS),
        ),
        scenario(
            "F30-claim-behind",
            90,
            "the chosen server's clock jumps by -1 h while the leader is frozen for longer than its Lease: one promotion",
            |name| claimed(name, -HOUR_MS),
        ),
    ]);
    all
}

async fn jumped(name: String, whose: Whose, by_ms: i64, setup: Setup) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { clocks: true, ..setup }).await?;
    stage.strike("jump");
    match whose {
        Whose::Primary => primary_jumps(&mut stage, by_ms).await?,
        Whose::Replica => server_jumps(&stage, 1, by_ms).await?,
        Whose::Leader => leader_jumps(&stage, by_ms).await?,
    }
    let calm_ms = calm(&stage).await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    stage.settled().await;
    stage.bring_back(0).await?;
    let mut report = stage.judge(Expect { pause_ms: Some(CRASH_MS), ..Expect::default() }).await?;
    report.slow |= calm_ms > CALM_MS;
    Ok(report.noting(format!("longest pause of writes between jump and death {calm_ms:.0} ms")))
}

fn clock(clock: Option<&Clock>) -> anyhow::Result<&Clock> {
    clock.context("it has no clock of its own")
}

fn now_ms() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// Whether a time is as far from ours as a clock was set.
fn off(seen_ms: i64, by_ms: i64) -> anyhow::Result<bool> {
    Ok((seen_ms - now_ms()? - by_ms).abs() < 10_000)
}

async fn server_jumps(stage: &Stage, index: usize, by_ms: i64) -> anyhow::Result<()> {
    let server = stage.server(index);
    clock(server.clock())?.jump(by_ms)?;
    let seen_ms = server.value("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)").await?.parse()?;
    ensure!(off(seen_ms, by_ms)?, "the server's clock did not jump: {seen_ms}");
    Ok(())
}

/// The primary's clock jumps while commits wait: its ackers hang for a moment.
async fn primary_jumps(stage: &mut Stage, by_ms: i64) -> anyhow::Result<()> {
    for index in [1, 2] {
        stage.server_mut(index).freeze()?;
    }
    sleep(Duration::from_millis(150)).await;
    let jumped = server_jumps(stage, 0, by_ms).await;
    sleep(Duration::from_millis(50)).await;
    for index in [1, 2] {
        stage.server_mut(index).thaw()?;
    }
    jumped
}

/// The leader tells its time to people in the Lease.
async fn leader_jumps(stage: &Stage, by_ms: i64) -> anyhow::Result<()> {
    clock(stage.leader().await?.clock.as_ref())?.jump(by_ms)?;
    let told = async |stage: &Stage| {
        let lease = stage.kubernetes.get("Lease", "baton").await?.context("there is no Lease")?;
        let time: Timestamp = lease.data["spec"]["renewTime"].as_str().context("never renewed")?.parse()?;
        off(time.as_millisecond(), by_ms)
    };
    stage.until("renewed by the clock that jumped", PATIENCE, told).await?;
    Ok(())
}

/// Sees for a while that all stays as it is: nobody else leads, nobody is promoted, no commit stops waiting for its
/// acknowledgement. Gives the longest pause of writes since the jump.
async fn calm(stage: &Stage) -> anyhow::Result<f64> {
    let (before, started) = (led_by(stage).await?, Instant::now());
    while started.elapsed() < CALM {
        ensure!(stage.records().await?.is_empty(), "a needless failover: {:?}", stage.records().await?.last());
        let now = led_by(stage).await?;
        ensure!(now == before, "{now:?} lead after the jump, {before:?} led before");
        let (status, reason, message) = stage.condition("Durable").await?;
        ensure!(status == "True", "Durable is {status}: {reason}: {message}");
        sleep(Duration::from_millis(100)).await;
    }
    // How often it was switched off, since nobody acknowledged in time.
    let fallbacks = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                     WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_no_times'";
    let fallbacks = stage.server(0).value(fallbacks).await?;
    ensure!(fallbacks == "0", "commits waited for nobody, {fallbacks} times");
    let history = stage.writers.as_ref().map(Writers::history);
    let pause_ms = history.and_then(|history| history.longest_pause_ms(stage.since.0)).unwrap_or_default();
    ensure!(pause_ms < STALL_MS, "writes paused for {pause_ms} ms after the jump");
    Ok(pause_ms)
}

/// Who holds the Lease, with the name of that start of the process, and which operators believe that they lead.
async fn led_by(stage: &Stage) -> anyhow::Result<(Option<String>, Vec<usize>)> {
    let lease = stage.kubernetes.get("Lease", "baton").await?.context("there is no Lease")?;
    let mut leading = Vec::new();
    for pod in &stage.pods {
        let url = format!("http://{}:9090/metrics", pod.host.address());
        if run("curl", &["-s", "--max-time", "5", &url])?.contains("baton_leader 1") {
            leading.push(pod.number);
        }
    }
    Ok((holder(&lease), leading))
}

/// The leader has claimed the chosen server and written its epoch; the deadline of the claim is a time of that server's
/// clock, which jumps now.
async fn claimed(name: String, by_ms: i64) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { clocks: true, ..Setup::default() }).await?;
    stage.pods[0].arm(&["STOP before:Unfence".to_owned()])?;
    ensure!(stage.leader().await?.number == 0 && stage.pods[0].starts() == 1, "another operator leads");
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    let frozen = async |stage: &Stage| Ok(stage.pods[0].is_frozen());
    stage.until("frozen before Unfence", Duration::from_secs(10), frozen).await?;
    let froze = Instant::now();
    let record = stage.records().await?.pop().context("no record")?;
    let chosen = record["newPrimary"].as_str().context("nobody was chosen")?;
    let chosen = stage.index_of(chosen).context("a stranger was chosen")?;
    // On a busy machine a process that stops itself goes on for a moment.
    let late = is_writable(stage.server(chosen)).await?;
    server_jumps(&stage, chosen, by_ms).await?;
    if by_ms < 0 {
        // The next leader takes over meanwhile.
        stage.failed_over(0, PATIENCE).await?;
        sleep(Duration::from_secs(6).saturating_sub(froze.elapsed())).await;
    }
    stage.pods[0].signal(Signal::Continue)?;
    stage.failed_over(0, PATIENCE).await?;
    sleep(Duration::from_secs(2)).await;
    let log = std::fs::read_to_string(stage.pods[0].log_file())?;
    let opened = log.lines().any(|line| line.contains("Unfence on ") && line.contains(" done in "));
    ensure!(by_ms > 0 || late || !opened, "the leader that was frozen let clients write; {}", stage.logs());
    ensure!(
        by_ms < 0 || late || log.contains("the claim has ended"),
        "the claim outlived its deadline; {}",
        stage.logs()
    );
    let seen = match () {
        () if late => "froze too late: clients could write already",
        () if log.contains("the server stays as it is") => "the server refused once",
        () => "the server was not asked",
    };
    stage.bring_back(0).await?;
    let report = stage.judge(Expect::of_another_leader()).await?;
    Ok(report.noting(seen))
}
