//! One operator: processes that follow each other, each with the real cluster task and the real election,
//! on a clock of its own. A frozen process is one none of whose tasks is polled; what it has sent is on
//! its way all the same.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use baton::{
    core::{
        election::{Effect, Election, Input, Timing},
        id::ClusterKey,
        policy::Policy,
        status::ClusterView,
        time::Mono,
    },
    engine::{
        cluster::{Cluster, Inputs, Outputs},
        decide::Watching,
        facts::{Desired, History},
    },
};
use futures::FutureExt;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::{Duration, timeout},
};

use super::{
    ports::Ports,
    probes::{self, Pace},
    sim::{Sim, State, pause},
};

/// Longest wait for a process that was asked to go, in milliseconds.
const GOES_MS: u64 = 3000;
/// Looks on their way to the engine.
const LOOKS: usize = 1024;
/// Rounds of what the leader writes besides recoveries, in milliseconds.
const ROUND_MS: u64 = 500;
/// What the API server has is read this often, in milliseconds.
const FEED_MS: u64 = 50;
/// Records grow older: they are handed on this often even if nothing was written, in rounds.
const AGE_ROUNDS: u64 = 10;
/// Routing is compared with what is there this often, in rounds.
const ROUTING_ROUNDS: u64 = 60;

/// Whether a process runs, and how it is told to end.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<(bool, Vec<Waker>)>,
    pub killed: Notify,
    pub stopped: Notify,
}

impl Gate {
    pub fn freeze(&self) {
        self.state.lock().unwrap().0 = true;
    }

    pub fn thaw(&self) {
        let wakers = {
            let mut state = self.state.lock().unwrap();
            state.0 = false;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the process is frozen; then `waker` is woken when it runs again.
    fn holds(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.0 {
            state.1.push(waker.clone());
        }
        state.0
    }
}

/// A task of a process.
struct Task<F> {
    gate: Arc<Gate>,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.gate.holds(cx.waker()) { Poll::Pending } else { self.inner.as_mut().poll(cx) }
    }
}

/// One start of an operator.
#[derive(Debug)]
pub struct Process {
    pub operator: usize,
    pub identity: String,
    /// How fast its clock runs, in thousandths.
    pub rate: u64,
    pub offset_ms: u64,
    pub leader_until: Mutex<Option<Mono>>,
    /// It is asked to go.
    pub goes: Notify,
}

impl Process {
    pub fn clock(&self, now: u64) -> Mono {
        Mono(now * self.rate / 1000 + self.offset_ms)
    }

    /// How long this many of its own milliseconds take.
    pub fn wait_ms(&self, ms: u64) -> u64 {
        (ms * 1000).div_ceil(self.rate)
    }

    pub fn leads(&self, now: u64) -> bool {
        self.leader_until.lock().unwrap().is_some_and(|until| until > self.clock(now))
    }
}

/// An operator for the whole run: a process that ends is followed by another.
pub async fn operate(sim: Arc<Sim>, operator: usize, policy: Policy) {
    let rate = sim.with(|state| state.random.between(950, 1050));
    loop {
        let gate = Arc::new(Gate::default());
        let process = sim.with(|state| {
            let offset_ms = state.random.below(1_000_000);
            let seat = &mut state.seats[operator];
            (seat.gate, seat.starts, seat.leads) = (Arc::clone(&gate), seat.starts + 1, false);
            let identity = format!("operator-{operator}-{}", seat.starts);
            state.say(|| format!("{identity} starts"));
            let process =
                Process { operator, identity, rate, offset_ms, leader_until: Mutex::new(None), goes: Notify::new() };
            let process = Arc::new(process);
            state.seats[operator].process = Some(Arc::clone(&process));
            process
        });
        let (mut lost, tasks) = start(&sim, Arc::clone(&process), &gate, &policy);
        tokio::select! {
            biased;
            () = gate.killed.notified() => {}
            // What acts ends first, then the Lease is given up.
            () = gate.stopped.notified() => {
                tasks.iter().for_each(JoinHandle::abort);
                process.goes.notify_one();
                drop(timeout(Duration::from_millis(GOES_MS), &mut lost).await);
            }
            _ = &mut lost => {}
        }
        lost.abort();
        tasks.iter().for_each(JoinHandle::abort);
        let pause_ms = sim.with(|state| {
            state.seats[operator].leads = false;
            state.say(|| format!("operator {operator} ends"));
            state.random.between(200, 2000)
        });
        pause(pause_ms).await;
    }
}

type Started = (JoinHandle<()>, Vec<JoinHandle<()>>);

/// Starts the tasks of a process; the first ends when leadership is lost, and with it the process.
fn start(sim: &Arc<Sim>, process: Arc<Process>, gate: &Arc<Gate>, policy: &Policy) -> Started {
    let (primary, epoch, semi_sync, history) = sim.with(|state| {
        let api = &state.api;
        (api.primary.clone(), api.epoch, api.members.clone(), api.history(state.fleet.now))
    });
    let (desired, desired_receiver) = watch::channel(Desired { policy: policy.clone(), primary, epoch, semi_sync });
    let (history, history_receiver) = watch::channel(history);
    let (looks, looks_receiver) = mpsc::channel(LOOKS);
    let (view_sender, view) = watch::channel(None);
    let (watching_sender, watching) = watch::channel(Watching::default());
    let ports = Arc::new(Ports::new(Arc::clone(sim), Arc::clone(&process)));
    let inputs = Inputs { looks: looks_receiver, desired: desired_receiver, history: history_receiver };
    let outputs = Outputs { view: view_sender, watching: watching_sender };
    let key = ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() };
    let engine = Cluster::new(key, &process.identity, Arc::clone(&ports), inputs, outputs).run();
    let mut tasks = vec![
        spawn(sim, gate, engine),
        spawn(sim, gate, feed(Arc::clone(sim), process.operator, desired, history)),
        spawn(sim, gate, report(Arc::clone(&ports), view)),
    ];
    let mut paces = Vec::new();
    for server in policy.servers.keys() {
        let (pace, receiver) = watch::channel(Pace::of(server, &Watching::default()));
        let probe = probes::watch(Arc::clone(sim), Arc::clone(&process), server.clone(), receiver, looks.clone());
        tasks.push(spawn(sim, gate, probe));
        paces.push((server.clone(), pace));
    }
    tasks.push(spawn(sim, gate, probes::set_pace(watching, paces)));
    (spawn(sim, gate, lead(Arc::clone(sim), process)), tasks)
}

/// A task that panics breaks the run, not only itself.
pub fn spawn<F: Future<Output = ()> + Send + 'static>(sim: &Arc<Sim>, gate: &Arc<Gate>, inner: F) -> JoinHandle<()> {
    let task = Task { gate: Arc::clone(gate), inner: Box::pin(inner) };
    let sim = Arc::clone(sim);
    tokio::spawn(async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            sim.with(|state| state.fleet.fail(|| "an operator panicked".to_owned()));
        }
    })
}

/// Takes part in the election until leadership is lost.
async fn lead(sim: Arc<Sim>, process: Arc<Process>) {
    let mut election = Election::new(&process.identity, Timing::FAST);
    let mut input = Input::Tick;
    loop {
        let effect = election.step(process.clock(sim.now()), input);
        let led = std::mem::replace(&mut *process.leader_until.lock().unwrap(), election.leader_until());
        sim.with(State::one_leads);
        if led.is_some() != election.leader_until().is_some() {
            sim.with(|state| state.say(|| format!("{} leads: {}", process.identity, led.is_none())));
        }
        let call = match effect {
            Effect::Sleep { ms } => {
                input = tokio::select! {
                    biased;
                    () = process.goes.notified() => Input::Shutdown,
                    () = pause(process.wait_ms(ms.max(1))) => Input::Tick,
                };
                continue;
            }
            Effect::Stop(_) => return,
            Effect::Get => sim.call(process.operator, |api, _| api.lease()).boxed(),
            Effect::Create(claim) => sim.call(process.operator, move |api, _| api.take_lease(None, &claim)).boxed(),
            Effect::Replace { over, claim } => {
                sim.call(process.operator, move |api, _| api.take_lease(Some(&over), &claim)).boxed()
            }
        };
        let longest = Duration::from_millis(process.wait_ms(Timing::FAST.retry_ms()));
        input = timeout(longest, call).await.ok().flatten().unwrap_or(Input::Failed);
    }
}

/// The watches: what is there now arrives later, in order. What is lost is not missed: what comes next shows it.
async fn feed(sim: Arc<Sim>, operator: usize, desired: watch::Sender<Desired>, history: watch::Sender<History>) {
    let (mut seen, mut round, mut shown) = (0, 0_u64, Vec::new());
    loop {
        round += 1;
        let read = sim.with(|state| {
            let late_ms = state.watch_late_ms;
            let delay_ms = state.random.between(1, 20) + state.random.below(late_ms + 1);
            let reachable = !state.api_out && !state.seats[operator].cut_from_api;
            let api = &state.api;
            let due = reachable && (api.writes != seen || round.is_multiple_of(AGE_ROUNDS));
            due.then(|| {
                (
                    api.writes,
                    api.primary.clone(),
                    api.epoch,
                    api.members.clone(),
                    api.history(state.fleet.now),
                    delay_ms,
                )
            })
        });
        let Some((writes, primary, epoch, members, records, delay_ms)) = read else {
            pause(FEED_MS).await;
            continue;
        };
        pause(delay_ms).await;
        seen = writes;
        let again = sim.with(|state| state.replay.then(|| state.random.index(shown.len())));
        if let Some((primary, epoch, members, records)) = again.and_then(|number| shown.get(number).cloned()) {
            desired
                .send_modify(|desired| (desired.primary, desired.epoch, desired.semi_sync) = (primary, epoch, members));
            history.send_replace(records);
            pause(delay_ms).await;
        }
        let lost = || sim.with(|state| state.strikes(state.watch_loses));
        let (cluster_lost, records_lost) = (lost(), lost());
        shown.push((primary.clone(), epoch, members.clone(), records.clone()));
        if !cluster_lost {
            desired
                .send_modify(|desired| (desired.primary, desired.epoch, desired.semi_sync) = (primary, epoch, members));
        }
        if !records_lost {
            history.send_replace(records);
        }
    }
}

/// What the leader writes besides recoveries: the routing while nothing recovers, and the status.
async fn report(ports: Arc<Ports>, mut view: watch::Receiver<Option<ClusterView>>) {
    let (sim, process) = (&ports.sim, &ports.process);
    let mut round = 0_u64;
    loop {
        let shown = view.borrow_and_update().clone();
        let leads = process.leads(sim.now());
        sim.with(|state| {
            let seat = &mut state.seats[process.operator];
            seat.led_since = if seat.leads { seat.led_since } else { state.fleet.now };
            seat.leads = leads;
            if let Some(shown) = &shown {
                state.explains_itself(shown);
            }
            state.seats[process.operator].view.clone_from(&shown);
        });
        round += 1;
        if let Some(shown) = shown.filter(|_| leads) {
            ports.show(&shown).await;
            if shown.recovering.is_none() && shown.writable.value == Some(true) && ports.process.leads(sim.now()) {
                let newest = view.clone();
                ports.keep_routed(shown.primary.as_ref(), round.is_multiple_of(ROUTING_ROUNDS), &newest).await;
            }
        }
        if !leads {
            ports.forget_route();
        }
        tokio::select! {
            biased;
            changed = view.changed() => if changed.is_err() { return },
            () = pause(process.wait_ms(ROUND_MS)) => {}
        }
    }
}
