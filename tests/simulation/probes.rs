//! The standing watch of one server by one operator: looks at the pace that the engine asks for, a
//! closed connection seen at once (src/mysql/watch).

use std::sync::Arc;

use baton::{
    core::{
        id::ServerAddr,
        observation::{Failure, FailureKind, Look},
    },
    engine::decide::Watching,
};
use tokio::sync::{mpsc, watch};

use super::{
    operator::Process,
    server::{Power, index_of},
    sim::{Sim, State, pause},
};

/// Pause between attempts to connect, in milliseconds.
const RETRY_MS: u64 = 100;

/// A look that is not answered yet is looked after this often, in milliseconds.
const UNANSWERED_MS: u64 = 10;

/// How a server is to be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    interval_ms: u64,
    answer_ms: u64,
    hurry_ms: Option<u64>,
}

impl Pace {
    pub fn of(addr: &ServerAddr, watching: &Watching) -> Self {
        Self {
            interval_ms: watching.servers.get(addr).copied().unwrap_or(100),
            answer_ms: watching.answer_ms.max(100),
            hurry_ms: watching.hurry_ms,
        }
    }
}

/// Hands on what the engine asks for. Each probe has a channel of its own: one with several receivers
/// wakes them in an order that tokio draws by itself.
pub async fn set_pace(mut watching: watch::Receiver<Watching>, paces: Vec<(ServerAddr, watch::Sender<Pace>)>) {
    while watching.changed().await.is_ok() {
        let wanted = watching.borrow_and_update().clone();
        for (addr, pace) in &paces {
            let wanted = Pace::of(addr, &wanted);
            pace.send_if_modified(|old| {
                let changed = *old != wanted;
                *old = wanted;
                changed
            });
        }
    }
}

pub async fn watch(
    sim: Arc<Sim>,
    process: Arc<Process>,
    addr: ServerAddr,
    mut paces: watch::Receiver<Pace>,
    looks: mpsc::Sender<(ServerAddr, Look)>,
) {
    let mut failing = false;
    loop {
        let pace = paces.borrow_and_update().clone();
        let look = look(&sim, &process, &addr, pace.answer_ms).await;
        let again = std::mem::replace(&mut failing, look.is_err());
        if looks.send((addr.clone(), look)).await.is_err() {
            return;
        }
        let pause_ms = match (failing, again) {
            (true, false) => 0,
            (true, true) => RETRY_MS,
            (false, _) => pace.hurry_ms.unwrap_or(pace.interval_ms),
        };
        rest(&sim, &process, &addr, &mut paces, pause_ms).await;
    }
}

/// Until the next look is due, there is hurry, or the connection closes.
async fn rest(sim: &Arc<Sim>, process: &Process, addr: &ServerAddr, paces: &mut watch::Receiver<Pace>, pause_ms: u64) {
    let wait = pause(process.wait_ms(pause_ms));
    tokio::pin!(wait);
    loop {
        tokio::select! {
            biased;
            () = sim.deaths.notified() => {
                let server = index_of(addr);
                let closed = |state: &mut State| {
                    state.fleet.servers[server].power == Power::Dead && !state.seats[process.operator].deaf.contains(&server)
                };
                if sim.with(closed) {
                    return;
                }
            }
            Ok(()) = paces.changed() => {
                if paces.borrow_and_update().hurry_ms.is_some() {
                    return;
                }
            }
            () = &mut wait => return,
        }
    }
}

async fn look(sim: &Arc<Sim>, process: &Process, addr: &ServerAddr, answer_ms: u64) -> Look {
    let (operator, server) = (process.operator, index_of(addr));
    let began = process.clock(sim.now());
    let (there_ms, back_ms) = sim.with(|state| {
        let late_ms = if state.random.chance(5) { state.random.below(60) } else { 0 };
        (state.random.between(0, 1), late_ms)
    });
    pause(there_ms).await;
    let mut found = None;
    while found.is_none() && process.clock(sim.now()).since_ms(began) < answer_ms {
        found = sim.with(|state| ask(state, operator, server));
        if found.is_none() {
            pause(UNANSWERED_MS).await;
        }
    }
    let Some(look) = found else {
        let at = process.clock(sim.now());
        return Err(Failure { at, ..failure(FailureKind::Silent) });
    };
    pause(back_ms).await;
    let at = process.clock(sim.now());
    match look {
        Ok(mut seen) => {
            (seen.at, seen.took_ms) = (at, at.since_ms(began));
            Ok(seen)
        }
        Err(failure) => Err(Failure { at, ..failure }),
    }
}

/// What a server answers; `None`: nothing arrives.
fn ask(state: &State, operator: usize, server: usize) -> Option<Look> {
    let seat = &state.seats[operator];
    if seat.unheard.contains(&server) || seat.deaf.contains(&server) {
        return None;
    }
    match state.fleet.servers[server].power {
        Power::Running => Some(Ok(Box::new(state.fleet.look(server)))),
        Power::Frozen => None,
        Power::Dead => Some(Err(failure(FailureKind::Refused))),
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure { at: baton::core::time::Mono(0), kind, message: format!("{kind:?}").to_lowercase() }
}
