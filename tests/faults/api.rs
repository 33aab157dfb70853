//! The API server is away, or answers wrongly.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use baton::testing::{
    api_proxy::Trouble,
    api_server::{Call, Fault, Verb},
    network::Cut,
    process::Signal,
};
use tokio::time::{Instant, sleep};

use super::{
    judge::{Expect, Report, is_writable},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

const NONE: (usize, usize) = (0, 0);

pub fn scenarios() -> Vec<Scenario> {
    let sometimes =
        |fault: Fault| move |_: &Call, number: u32| one_of_three(number).then(|| Trouble::Fault(fault.clone()));
    let writes = |fault: Fault| {
        move |call: &Call, number: u32| (call.writes() && !one_of_three(number)).then(|| Trouble::Fault(fault.clone()))
    };
    let watches = |trouble: Trouble| move |call: &Call, _: u32| (call.verb == Verb::Watch).then(|| trouble.clone());
    vec![
        scenario(
            "F34",
            150,
            "no API server for a minute: writes go on, nothing is changed, all goes on afterwards",
            away,
        ),
        scenario(
            "F35",
            90,
            "no API server, then the primary dies: nobody promotes until 5 s after it is back",
            away_and_dead,
        ),
        scenario("F36", 90, "the API server goes away right after the intent was written", after_intent),
        scenario("F37-conflict", 90, "two of three writes are answered 409", move |name| {
            wrong(name, writes(Fault::Refuse(409)))
        }),
        scenario("F37-throttled", 90, "one of three calls is answered 429", move |name| {
            wrong(name, sometimes(Fault::Refuse(429)))
        }),
        scenario("F37-error", 90, "one of three calls is answered 500", move |name| {
            wrong(name, sometimes(Fault::Refuse(500)))
        }),
        scenario("F37-done-but", 90, "two of three writes are done and answered 504", move |name| {
            wrong(name, writes(Fault::DoneBut(504)))
        }),
        scenario("F37-slow", 120, "every call takes 1 s more", move |name| {
            wrong(name, |_, _| Some(Trouble::Fault(Fault::Delay(1000))))
        }),
        scenario("F37-replayed", 90, "watches tell every event twice, and old ones again", move |name| {
            wrong(name, watches(Trouble::Replayed))
        }),
        scenario("F37-lossy", 90, "watches lose every second event", move |name| wrong(name, watches(Trouble::Lossy))),
        scenario("F37-gone", 90, "watches are answered 410 Gone", move |name| {
            wrong(name, watches(Trouble::Fault(Fault::Refuse(410))))
        }),
        scenario(
            "F37-stale",
            90,
            "lists are of before the failover, again and again, and watches tell nothing",
            |name| stale(name, false),
        ),
        scenario(
            "F37-stale-again",
            120,
            "the same, and the leader dies in the middle: the next one, which cannot see the record, begins nothing anew",
            |name| stale(name, true),
        ),
        scenario(
            "F37-stale-after",
            120,
            "both operators start anew after a failover, the old primary is back, and lists are of before it: nothing is undone",
            stale_after,
        ),
    ]
}

/// Whether the call of this number is among those that were drawn: one of three, in no order that a caller who
/// repeats the same calls could fall in step with.
fn one_of_three(number: u32) -> bool {
    (number.wrapping_mul(2_654_435_761) >> 16).is_multiple_of(3)
}

fn lose_api(stage: &Stage) -> anyhow::Result<()> {
    for pod in &stage.pods {
        pod.host.part(&[stage.outside], Cut::Both)?;
    }
    Ok(())
}

async fn away(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("no API server");
    lose_api(&stage)?;
    sleep(Duration::from_secs(60)).await;
    stage.writes_go_on().await?;
    let lease = stage.kubernetes.get("Lease", "baton").await?;
    stage.heal()?;
    let back = Instant::now();
    let led = async |stage: &Stage| {
        let now = stage.kubernetes.get("Lease", "baton").await?;
        Ok(now.map(|now| now.metadata.resource_version)
            != lease.as_ref().map(|lease| lease.metadata.resource_version.clone()))
    };
    stage.until("led again", PATIENCE, led).await?;
    stage.ready().await?;
    let back_ms = back.elapsed().as_millis();
    let report = stage.judge(Expect { failovers: NONE, pause_ms: Some(500.0), ..Expect::default() }).await?;
    Ok(report.noting(format!("led and ready {back_ms} ms after its return")))
}

async fn away_and_dead(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    lose_api(&stage)?;
    sleep(Duration::from_secs(4)).await;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(6) {
        for index in [1, 2] {
            ensure!(!is_writable(stage.server(index)).await?, "promoted without the API server");
        }
        sleep(Duration::from_millis(100)).await;
    }
    stage.heal()?;
    let back = Instant::now();
    stage.failed_over(0, PATIENCE).await?;
    let took_ms = back.elapsed().as_millis();
    stage.bring_back(0).await?;
    let expect = Expect { pause_ms: Some(11_000.0), told_s: None, ..Expect::default() };
    let report = stage.judge(expect).await?;
    Ok(report.noting(format!("6 s of the pause without the API server; done {took_ms} ms after its return")))
}

async fn after_intent(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    let written = Arc::new(AtomicBool::new(false));
    let gone = Arc::new(AtomicBool::new(false));
    for pod in &stage.pods {
        let (written, gone) = (Arc::clone(&written), Arc::clone(&gone));
        pod.api.trouble(move |call| {
            if gone.load(Ordering::Relaxed) {
                return Some(Trouble::Fault(Fault::Hang));
            }
            if call.resource == "mysqlfailovers" && call.verb == Verb::Create {
                written.store(true, Ordering::Relaxed);
            } else if written.load(Ordering::Relaxed) && call.resource == "mysqlfailovers" && call.writes() {
                // The record's first status is the last thing that is done.
                gone.store(true, Ordering::Relaxed);
            }
            None
        });
    }
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.until("gone", PATIENCE, async |_| Ok(gone.load(Ordering::Relaxed))).await?;
    sleep(Duration::from_secs(6)).await;
    for pod in &stage.pods {
        pod.api.calm();
        pod.api.cut_watches();
    }
    let back = Instant::now();
    stage.failed_over(0, PATIENCE).await?;
    let took_ms = back.elapsed().as_millis();
    stage.bring_back(0).await?;
    let report = stage.judge(Expect { told_s: None, ..Expect::default() }).await?;
    Ok(report.noting(format!("away for 6 s; done {took_ms} ms after its return")))
}

/// Calls other than those about the Lease go wrong as `troubles` decides of the call and its number.
async fn wrong<F>(name: String, troubles: F) -> anyhow::Result<Report>
where
    F: Fn(&Call, u32) -> Option<Trouble> + Clone + Send + 'static,
{
    let mut stage = Stage::new(&name, Setup::default()).await?;
    for pod in &stage.pods {
        let (troubles, calls) = (troubles.clone(), AtomicU32::new(0));
        pod.api.trouble(move |call| {
            let other = call.resource != "leases";
            other.then(|| troubles(call, calls.fetch_add(1, Ordering::Relaxed))).flatten()
        });
        pod.api.cut_watches();
    }
    sleep(Duration::from_secs(3)).await;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    let moved = async |stage: &Stage| {
        let primary = stage.writers.as_ref().and_then(|writers| {
            writers.history().first_from_another(&stage.server(0).addr().to_string(), stage.since.0)
        });
        Ok(primary.is_some())
    };
    stage.until("writable elsewhere", PATIENCE, moved).await?;
    sleep(Duration::from_secs(2)).await;
    for pod in &stage.pods {
        pod.api.calm();
        pod.api.cut_watches();
    }
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    stage.judge(Expect { pause_ms: Some(5000.0), ..Expect::default() }).await
}

/// Lists are answered as they are first read from now on, and `blind`: watches tell nothing. How many were read so.
async fn freeze_lists(stage: &Stage, blind: bool) -> Arc<AtomicU32> {
    let read = Arc::new(AtomicU32::new(0));
    for pod in &stage.pods {
        let read = Arc::clone(&read);
        pod.api.trouble(move |call| {
            let lists = call.verb == Verb::List && call.resource != "leases";
            read.fetch_add(u32::from(lists), Ordering::Relaxed);
            let watches = blind && call.verb == Verb::Watch && call.resource != "leases";
            (lists || watches).then_some(Trouble::Stale)
        });
    }
    // An ordinary watch goes on where it was cut; one that is gone is begun with a list.
    for _ in 0..2 {
        stage.pods.iter().for_each(|pod| pod.api.cut_watches());
        sleep(Duration::from_secs(1)).await;
    }
    read
}

/// Reads the old lists again and again for a while. Nothing is begun that was not begun before.
async fn look_back(stage: &Stage, seconds: u64, most: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        stage.pods.iter().for_each(|pod| pod.api.cut_watches());
        sleep(Duration::from_millis(500)).await;
        let records = stage.records().await?;
        ensure!(records.len() <= most, "begun twice: {records:?}; {}", stage.logs());
    }
    Ok(())
}

fn see_clearly(stage: &Stage) {
    for pod in &stage.pods {
        pod.api.calm();
        pod.api.cut_watches();
    }
}

async fn stale(name: String, dies: bool) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    ensure!(stage.leader().await?.number == 0, "another operator leads");
    let read = freeze_lists(&stage, true).await;
    if dies {
        stage.pods[0].arm(&["KILL after:Save:Promoting".to_owned()])?;
    }
    let before = read.load(Ordering::Relaxed);
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    look_back(&stage, 10, 1).await?;
    ensure!(dies == (stage.pods[0].starts() > 1), "the leader was to die, or not to");
    let lists = read.load(Ordering::Relaxed) - before;
    ensure!(before > 1 && lists > 2, "{before} lists were read before the fault, {lists} after it");
    let done = stage.records().await?.last().is_some_and(|record| record["phase"] == "Succeeded");
    see_clearly(&stage);
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    let report = stage.judge(Expect { pause_ms: None, ..Expect::of_another_leader() }).await?;
    let seen = if done { "done before anything new was to be seen" } else { "waited for something new to be seen" };
    Ok(report.noting(format!("{lists} old lists; {seen}")))
}

async fn stale_after(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    // Seen once, so that there are old lists, and then watched as ever.
    freeze_lists(&stage, true).await;
    freeze_lists(&stage, false).await;
    stage.ready().await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    let read = freeze_lists(&stage, true).await;
    for pod in &stage.pods {
        pod.signal(Signal::Kill)?;
    }
    stage.bring_back(0).await?;
    look_back(&stage, 15, 1).await?;
    let lists = read.load(Ordering::Relaxed);
    ensure!(lists > 4, "{lists} old lists were read");
    stage.writes_go_on().await?;
    see_clearly(&stage);
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!("{lists} old lists")))
}
