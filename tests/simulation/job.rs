//! The Job of a recovery: a process with the real carrier and the real claim, which starts late or never, dies,
//! freezes and wakes late.

use std::sync::{Arc, Mutex};

use baton::{
    core::{claim::Right, election::Timing, policy::Policy, recovery::Recovery},
    engine::{
        carry::Carrier,
        decide::Watching,
        ports::{Clock, Journal, JournalError},
    },
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Duration, timeout},
};

use super::{
    api::{Api, is_job},
    operator::{Gate, Process, spawn},
    ports::Ports,
    probes::{self, Pace},
    sim::{Sim, pause},
};

/// Looks on their way to the carrier.
const LOOKS: usize = 1024;
/// Time between two looks at a record that is not left yet, in milliseconds.
const ASK_MS: u64 = 100;

/// What becomes of a Job.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lives,
    NeverStarts,
    Dies(u64),
    Freezes(u64, u64),
}

/// The life of the Job of `record`.
pub async fn start(sim: Arc<Sim>, record: String, policy: Policy) {
    let (process, fate, delay_ms) = sim.with(|state| {
        let random = &mut state.random;
        let (rate, offset_ms) = (random.between(950, 1050), random.below(1_000_000));
        let after_ms = random.between(1, 500);
        let fate = match random.below(10) {
            0 => Fate::NeverStarts,
            1..4 => Fate::Dies(after_ms),
            4..7 => Fate::Freezes(after_ms, random.between(100, 12_000)),
            _ => Fate::Lives,
        };
        let delay_ms = random.pick(&[20, 300, 1000, 3000]) + random.below(500);
        let (operator, identity) = (state.seats.len() - 1, format!("job-{record}"));
        state.say(|| format!("{identity} is created: {fate:?}"));
        let leader_until = Mutex::new(None);
        let process = Process { operator, identity, rate, offset_ms, leader_until, goes: Notify::new() };
        (Arc::new(process), fate, delay_ms)
    });
    if matches!(fate, Fate::NeverStarts) {
        return;
    }
    pause(delay_ms).await;
    let gate = Arc::new(Gate::default());
    let ports = Arc::new(Ports::new(Arc::clone(&sim), Arc::clone(&process)));
    let (looks, seen) = mpsc::channel(LOOKS);
    let (watching_sender, watching) = watch::channel(Watching::default());
    let carrier = Carrier::new(Arc::clone(&ports), policy.clone(), &process.identity, seen, watching_sender);
    let mut tasks = Vec::new();
    let mut paces = Vec::new();
    for server in policy.servers.keys() {
        let (pace, receiver) = watch::channel(Pace::of(server, &Watching::default()));
        let probe = probes::watch(Arc::clone(&sim), Arc::clone(&process), server.clone(), receiver, looks.clone());
        tasks.push(spawn(&sim, &gate, probe));
        paces.push((server.clone(), pace));
    }
    tasks.push(spawn(&sim, &gate, probes::set_pace(watching, paces)));
    let (ended, ends) = watch::channel(false);
    tasks.push(spawn(&sim, &gate, work(Arc::clone(&ports), carrier, record, ended)));
    live(&process, &gate, fate, ends).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    sim.with(|state| state.say(|| format!("{} ends", process.identity)));
}

/// Lets the process run until it ends or its fate, which comes some time after its claim, ends it.
async fn live(process: &Process, gate: &Gate, fate: Fate, mut ends: watch::Receiver<bool>) {
    let claimed = async {
        while process.leader_until.lock().unwrap().is_none() {
            pause(2).await;
        }
    };
    tokio::select! {
        biased;
        _ = ends.changed() => return,
        () = claimed => {}
    }
    match fate {
        Fate::Dies(after_ms) => drop(timeout(Duration::from_millis(after_ms), ends.changed()).await),
        Fate::Freezes(after_ms, for_ms) => {
            if timeout(Duration::from_millis(after_ms), ends.changed()).await.is_err() {
                gate.freeze();
                pause(for_ms).await;
                gate.thaw();
                drop(ends.changed().await);
            }
        }
        Fate::Lives | Fate::NeverStarts => drop(ends.changed().await),
    }
}

/// What the Job does.
async fn work(ports: Arc<Ports>, mut carrier: Carrier<Ports>, record: String, ended: watch::Sender<bool>) {
    let claimed = carrier.observe(Box::pin(take(&ports, &record))).await;
    if let Some((recovery, right)) = claimed {
        let carried = tokio::select! {
            biased;
            () = keep(&ports, &record, right) => None,
            carried = carrier.carry(recovery) => carried.ok(),
        };
        let phase = carried.map(|record| record.phase);
        ports.sim.with(|state| state.say(|| format!("{} has carried {record}: {phase:?}", ports.process.identity)));
    }
    ended.send_replace(true);
}

/// Waits until the record is left, and claims it; `None`: there is nothing to do.
async fn take(ports: &Ports, record: &str) -> Option<(Recovery, Right)> {
    loop {
        let name = record.to_owned();
        let read = ports.sim.call(ports.process.operator, move |api: &mut Api, _| api.read(&name)).await;
        if let Some(Some(found)) = read {
            let taken = found.job.as_ref().is_none_or(|job| !job.problem.is_empty());
            if found.phase.finished() || taken || is_job(&found.executor) {
                return None;
            }
            let started = ports.now();
            if found.executor.is_empty()
                && let Ok(recovery) = ports.claim(record, &ports.process.identity, None).await
            {
                let right = Right::claimed(Timing::FAST, started, ports.now());
                *ports.process.leader_until.lock().unwrap() = right.until();
                return (!recovery.phase.finished()).then_some((recovery, right));
            }
        }
        ports.sleep_ms(ASK_MS).await;
    }
}

/// Renews the claim until it has ended.
async fn keep(ports: &Ports, record: &str, mut right: Right) {
    let identity = &ports.process.identity;
    loop {
        ports.sleep_ms(Timing::FAST.retry_ms()).await;
        let started = ports.now();
        if right.pass(started) {
            let (name, executor) = (record.to_owned(), identity.clone());
            let renew = move |api: &mut Api, _| api.renew(&name, &executor);
            let call = ports.sim.call(ports.process.operator, renew);
            let longest = Duration::from_millis(ports.process.wait_ms(Timing::FAST.deadline_ms()));
            match timeout(longest, call).await.ok().flatten() {
                Some(Ok(())) => right.renewed(started, ports.now()),
                Some(Err(JournalError::Lost(_))) => right.lost(),
                _ => {}
            }
        }
        *ports.process.leader_until.lock().unwrap() = right.until();
        if right.until().is_none() {
            return;
        }
    }
}
