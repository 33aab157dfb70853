//! Everything that is simulated behind one lock, the network to it, and the task that lets time pass.
//!
//! tokio's paused clock runs all of it on one thread: what is ready runs in the order in which it became
//! ready, and when nothing is, the clock jumps to the next timer. Chance comes from the seed alone, so a
//! seed is a run, to the event.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use baton::core::{policy::Policy, status::ClusterView};
use tokio::{
    sync::{Notify, oneshot},
    time::{Duration, Instant, sleep},
};

use super::{
    api::Api,
    check,
    faults::Faults,
    fleet::{Event, Fleet},
    operator::{Gate, Process},
    random::Random,
    server::Power,
    statements::{Answer, Statement},
};

/// Not zero, so that "before" exists.
pub const START_MS: u64 = 100_000;
/// A server that is still at a statement is asked again after this, in milliseconds.
const AT_IT_MS: u64 = 3;
/// Lines of a log that are kept.
const LOG_MAX: usize = 400_000;

/// An operator as the simulation knows it: the process that runs now, and what it can reach.
#[derive(Debug, Default)]
pub struct Seat {
    pub gate: Arc<Gate>,
    pub leads: bool,
    pub view: Option<ClusterView>,
    /// Servers that do not hear it.
    pub unheard: BTreeSet<usize>,
    /// Servers that it does not hear.
    pub deaf: BTreeSet<usize>,
    pub cut_from_api: bool,
    /// Servers that fell silent for it at once, when they were most of all.
    pub isolated: BTreeSet<usize>,
    /// The process that runs, or ran last.
    pub process: Option<Arc<Process>>,
    pub led_since: u64,
    /// Process starts.
    pub starts: u64,
}

#[derive(Debug)]
pub struct State {
    pub fleet: Fleet,
    pub api: Api,
    pub seats: Vec<Seat>,
    /// By which policy Jobs work, where there are Jobs; theirs is the last seat.
    pub jobs: Option<Policy>,
    pub faults: Faults,
    pub random: Random,
    pub api_out: bool,
    pub api_slow_ms: u64,
    pub watch_late_ms: u64,
    /// Percent of calls to the API server and of looks whose answer is lost or late.
    pub flaky: u64,
    pub replay: bool,
    /// Percent of calls that are answered with an error and not carried out, of writes that are carried out all the
    /// same, and of what watches would show that is lost.
    pub api_refuses: u64,
    pub api_fails: u64,
    pub watch_loses: u64,
    /// When the last of the faults that have begun ends; 0: none has.
    pub trouble_at: u64,
    /// Writes to the API server when the cluster became idle, before the first fault.
    pub idle_writes: Option<u64>,
    /// Writes to the API server when the records were checked last.
    pub checked_writes: u64,
    /// Since when all is well as far as people are told, though nobody can write.
    pub well_since: Option<u64>,
    pub block_ms: u64,
    /// In the end everybody replicates, and nothing excuses it.
    pub ends_well: bool,
    /// A server with a new disk may have forgotten its source, too.
    pub bare_wipes: bool,
    pub writers_rest: bool,
    pub healed: bool,
    /// What was checked last: where clients were sent, its opening, how many acknowledgements there were.
    pub checked: Option<(usize, u64, u64)>,
    log: Option<Vec<String>>,
}

impl State {
    pub fn new(fleet: Fleet, api: Api, operators: usize, faults: Faults, random: Random, log: bool) -> Self {
        Self {
            fleet,
            api,
            seats: (0..operators).map(|_| Seat::default()).collect(),
            jobs: None,
            faults,
            random,
            api_out: false,
            api_slow_ms: 0,
            watch_late_ms: 0,
            flaky: 0,
            replay: false,
            api_refuses: 0,
            api_fails: 0,
            watch_loses: 0,
            trouble_at: 0,
            idle_writes: None,
            checked_writes: 0,
            well_since: None,
            block_ms: 0,
            ends_well: false,
            bare_wipes: false,
            writers_rest: false,
            healed: false,
            checked: None,
            log: log.then(Vec::new),
        }
    }

    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = self.log.as_mut().filter(|log| log.len() < LOG_MAX) {
            log.push(format!("{:>9.3} {}", (self.fleet.now as f64 - START_MS as f64) / 1000.0, line()));
        }
    }

    /// Draws nothing where it cannot happen: seeds that know nothing of it are what they were.
    pub fn strikes(&mut self, percent: u64) -> bool {
        percent > 0 && self.random.chance(percent)
    }

    fn requests_arrive(&self, operator: usize, server: usize) -> bool {
        !self.seats[operator].unheard.contains(&server)
    }

    fn answers_arrive(&self, operator: usize, server: usize) -> bool {
        !self.seats[operator].deaf.contains(&server)
    }
}

#[derive(Debug)]
pub struct Sim {
    start: Instant,
    state: Mutex<State>,
    earlier: Notify,
    /// A server's process ended.
    pub deaths: Notify,
}

impl Sim {
    pub fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            state: Mutex::new(state),
            earlier: Notify::new(),
            deaths: Notify::new(),
        })
    }

    pub fn now(&self) -> u64 {
        START_MS + u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    /// Reads or changes the world; whatever it does, the invariants are checked after it.
    pub fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.fleet.now = self.now();
        let next = state.fleet.queue.keys().next().copied();
        let result = change(&mut state);
        check::always(&mut state);
        let first = state.fleet.queue.keys().next().copied();
        if first.is_some_and(|first| next.is_none_or(|next| first < next)) {
            self.earlier.notify_one();
        }
        result
    }

    pub fn log(&self) -> Vec<String> {
        self.with(|state| state.log.take()).unwrap_or_default()
    }

    /// Something panicked in the middle of a change.
    pub fn panicked(&self) -> bool {
        self.state.is_poisoned()
    }

    /// Works off the queue of events for as long as the run lasts.
    pub async fn pass_time(self: Arc<Self>) {
        loop {
            let next = self.with(|state| state.fleet.queue.keys().next().map(|(at, _)| *at));
            let wait_ms = next.map_or(1000, |at| at.saturating_sub(self.now()));
            if wait_ms > 0 {
                tokio::select! {
                    biased;
                    () = self.earlier.notified() => {}
                    () = sleep(Duration::from_millis(wait_ms)) => {}
                }
                continue;
            }
            let died = self.with(|state| {
                let dead = |state: &State| state.fleet.servers.iter().filter(|it| it.power == Power::Dead).count();
                let before = dead(state);
                if let Some((_, event)) = state.fleet.queue.pop_first() {
                    state.happen(event);
                }
                dead(state) > before
            });
            if died {
                self.deaths.notify_waiters();
            }
        }
    }

    /// Sends a statement to a server. It is carried out whatever becomes of who sent it; the receiver
    /// fails when no answer will come.
    pub fn send(
        self: &Arc<Self>,
        operator: usize,
        server: usize,
        session: u64,
        statement: Statement,
    ) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        let sim = Arc::clone(self);
        tokio::spawn(async move {
            let (there_ms, back_ms) = sim.with(|state| (state.random.between(0, 2), state.random.between(0, 2)));
            pause(there_ms).await;
            let Some(result) = sim.carry_out(operator, server, session, &statement).await else { return };
            pause(back_ms).await;
            if sim.with(|state| state.answers_arrive(operator, server)) {
                drop(answer.send(result));
            }
        });
        receiver
    }

    /// `None`: the statement did not arrive. What a cut delays is never delivered late: nothing in SQL
    /// could tell a late `START REPLICA` from a timely one.
    async fn carry_out(&self, operator: usize, server: usize, session: u64, statement: &Statement) -> Option<Answer> {
        let taken = self.with(|state| {
            let heard = state.requests_arrive(operator, server);
            heard.then(|| state.fleet.servers[server].take())
        })?;
        let Some((incarnation, ticket)) = taken else { return Some(Answer::Gone) };
        let mut begun_at = None;
        loop {
            let answer = self.with(|state| {
                let found = &mut state.fleet.servers[server];
                if found.power == Power::Dead || found.incarnation != incarnation {
                    return Answer::Gone;
                }
                // Who stopped answers in the order in which it was asked.
                if found.power == Power::Frozen || (begun_at.is_none() && found.begun + 1 != ticket) {
                    return Answer::Wait;
                }
                let now = state.fleet.now;
                let begun = *begun_at.get_or_insert_with(|| {
                    found.begun += 1;
                    now
                });
                let first = begun == now;
                let answer = state.fleet.execute(server, session, statement, now - begun);
                if first {
                    state.judge(operator, server, statement, &answer);
                    state
                        .say(|| format!("operator {operator} to server {server}: {statement:?} -> {}", short(&answer)));
                    state.stepped();
                }
                answer
            });
            match answer {
                Answer::Wait => pause(AT_IT_MS).await,
                answer => return Some(answer),
            }
        }
    }

    /// A call to the API server. `None`: no answer, or an error, and unknown whether it was done.
    pub async fn call<R: Send + 'static>(
        self: &Arc<Self>,
        operator: usize,
        change: impl FnOnce(&mut Api, u64) -> R + Send + 'static,
    ) -> Option<R> {
        let (answer, receiver) = oneshot::channel();
        let sim = Arc::clone(self);
        tokio::spawn(async move {
            let (there_ms, back_ms, lost, unanswered) = sim.with(|state| {
                let slow_ms = state.api_slow_ms;
                let (there_ms, back_ms) = (state.random.below(slow_ms + 3), state.random.below(slow_ms + 3));
                let flaky = state.flaky;
                (there_ms, back_ms, state.random.chance(flaky), state.random.chance(flaky))
            });
            let (refused, failed) =
                sim.with(|state| (state.strikes(state.api_refuses), state.strikes(state.api_fails)));
            pause(there_ms).await;
            let out = |state: &State| state.api_out || state.seats[operator].cut_from_api;
            let result = sim.with(|state| {
                let (now, before) = (state.fleet.now, state.api.changes());
                let result = (!lost && !refused && !out(state)).then(|| change(&mut state.api, now));
                result.filter(|_| !failed || state.api.changes() == before)
            });
            pause(back_ms).await;
            if let Some(result) = result.filter(|_| !unanswered && !sim.with(|state| out(state))) {
                drop(answer.send(result));
            }
        });
        receiver.await.ok()
    }
}

/// An answer in a log.
fn short(answer: &Answer) -> String {
    let Answer::Seen(seen) = answer else { return format!("{answer:?}") };
    let channel = seen.channels.iter().map(|channel| {
        let source = channel.source.as_ref().map(ToString::to_string).unwrap_or_default();
        format!(" {:?} from {source}, received {}", channel.receiver, channel.received)
    });
    format!("executed {}{}", seen.executed, channel.collect::<String>())
}

pub async fn pause(ms: u64) {
    if ms > 0 {
        sleep(Duration::from_millis(ms)).await;
    }
}

impl State {
    /// One event of the queue.
    fn happen(&mut self, event: Event) {
        let fleet = &mut self.fleet;
        match event {
            Event::Deliver(replica) => fleet.deliver(replica),
            Event::Ack { from, to, set } => fleet.acknowledge(from, to, set),
            Event::Apply(replica, set) => fleet.apply(replica, &set),
            Event::Connect(replica, generation) => fleet.connect(replica, generation),
            Event::Silence(replica, generation) => fleet.fall_silent(replica, generation),
            Event::Write(server) => {
                let written = fleet.write(server);
                self.say(|| format!("a client writes to {server}: {}", if written { "taken" } else { "refused" }));
            }
            Event::Client => self.client(),
            Event::Fault(number) => self.inject(number),
            Event::Undo(number) => self.undo(number),
            Event::Boot(server) => self.boot(server),
            Event::Heal => self.heal(),
        }
    }
}
