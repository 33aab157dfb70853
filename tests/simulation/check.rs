//! The invariants of docs/safety.md: what holds after every event, and what holds in the end.

use std::collections::BTreeSet;

use baton::core::{
    recovery::{Part, Phase, Recovery},
    status::ClusterView,
};

use super::{
    server::{addr, index_of},
    sim::State,
};

/// After every event.
pub fn always(state: &mut State) {
    if state.fleet.broken.is_some() {
        return;
    }
    state.fleet.semi_sync = waits(state);
    if state.fleet.semi_sync {
        one_acknowledges(state);
        routed_has_everything(state);
    }
    epochs_grow(state);
    routed_was_opened(state);
    if state.checked_writes != state.api.writes {
        state.checked_writes = state.api.writes;
        records_say_why(state, |record| record.phase.finished());
    }
}

/// I11: each of these records says why it ended as it did.
fn records_say_why(state: &mut State, of: fn(&Recovery) -> bool) {
    let silent = |record: &&Recovery| {
        let given_up = matches!(record.phase, Phase::Failed | Phase::Refused) && record.message.is_empty();
        let unjudged = record.part == Part::Primary && record.lost.is_none();
        let promoted = record.phase.promoted() && !record.cause.reopens();
        given_up || promoted && (record.candidates.is_empty() || unjudged)
    };
    let all = state.api.records.values().filter_map(|stored| stored.status.as_ref());
    let found = all.filter(|record| of(record)).find(silent);
    if let Some(told) = found.map(|it| format!("I11: {} does not say why it ended as {:?}", it.record, it.phase)) {
        state.fleet.fail(|| told);
    }
}

/// Whether commits wait for somebody whom Baton knows. Who forces a failover of a primary that the operator never saw
/// vouches that nobody else acknowledges for it (docs/safety.md, "Known limits").
fn waits(state: &State) -> bool {
    let vouched = |record: &Recovery| {
        record.cause.is_forced() && record.wait_count > 0 && !record.lossless && record.phase.promoted()
    };
    let mut records = state.api.records.values().filter_map(|stored| stored.status.as_ref());
    let hidden = state.fleet.servers.iter().any(|server| server.hidden);
    state.fleet.semi_sync && !(hidden && records.any(vouched))
}

/// I3: two servers cannot acknowledge at the same time. Without semi-sync nobody can keep a primary that
/// is out of reach from it.
fn one_acknowledges(state: &mut State) {
    let fleet = &state.fleet;
    let open = fleet.servers.iter().filter(|server| server.runs() && server.open());
    if open.clone().count() < 2 {
        return;
    }
    let all: Vec<_> = open.filter(|server| fleet.acknowledges(server.index)).map(|server| server.index).collect();
    if all.len() > 1 {
        state.fleet.fail(|| format!("I3: servers {all:?} acknowledge at the same time"));
    }
}

/// I1, I4: whom clients are sent to has all that was acknowledged, and all that was read. That changes when they are
/// sent elsewhere, when it is opened, and with every acknowledgement, whoever gives it.
fn routed_has_everything(state: &mut State) {
    let Some(routed) = state.api.route.as_ref().map(index_of).filter(|routed| *routed == state.primary()) else {
        return;
    };
    let checked = Some((routed, state.fleet.servers[routed].opened, state.fleet.count_told));
    if state.checked == checked {
        return;
    }
    state.checked = checked;
    let log = state.fleet.servers[routed].log();
    let (missing, unread) = (state.fleet.acknowledged.subtract(&log), state.fleet.read.subtract(&log));
    if !missing.is_empty() {
        state.fleet.fail(|| format!("I1: clients are routed to {routed}, which lacks {missing}"));
    }
    if !unread.is_empty() {
        state.fleet.fail(|| format!("I4: clients are routed to {routed}, where {unread} is not, which was read"));
    }
}

/// I9: clients are sent to the first primary or to one that Baton let them into.
fn routed_was_opened(state: &mut State) {
    let routed = state.api.route.as_ref().map(index_of).filter(|routed| *routed > 0);
    if let Some(routed) = routed.filter(|routed| state.fleet.servers[*routed].opened == 0) {
        state.fleet.fail(|| format!("I9: clients are routed to {routed}, which was never opened"));
    }
}

/// I8.
fn epochs_grow(state: &mut State) {
    let grows = state.api.won.is_sorted_by(|before, after| before < after);
    if !grows {
        let won = state.api.won.clone();
        state.fleet.fail(|| format!("I8: epochs were won in this order: {won:?}"));
    }
}

/// What the leader shows.
pub fn shown(state: &State) -> Option<&ClusterView> {
    let mut leaders = state.seats.iter().filter(|seat| seat.leads);
    leaders.next().filter(|_| leaders.next().is_none()).and_then(|seat| seat.view.as_ref())
}

/// I6: clients are routed to a primary that acknowledges what they write.
pub fn writable(state: &State, since: u64) -> Option<usize> {
    let routed = state.api.route.as_ref().map(index_of)?;
    let server = &state.fleet.servers[routed];
    let told = state.fleet.told.is_some_and(|told| told.server == routed && told.at > since);
    let rests = state.api.unfinished().is_none() && shown(state).is_some_and(|view| view.recovering.is_none());
    (server.runs() && server.open() && told && rests).then_some(routed)
}

/// I6: why it is not writable, as people are told.
pub fn why_not(state: &State) -> Option<String> {
    let view = shown(state)?;
    let locked = view.analyses.iter().find(|analysis| analysis.code.starts_with("LockedSemiSync"));
    match locked {
        Some(locked) => Some(locked.code.clone()),
        None if view.writable.value != Some(true) => {
            let refused = state.api.newest().filter(|record| record.phase == Phase::Refused);
            let why = refused.map(|record| format!(": {}", record.message)).unwrap_or_default();
            Some(format!("{}{}", view.writable.reason, words(&why)))
        }
        None => None,
    }
}

/// A reason without the numbers in it, so that reasons can be counted.
fn words(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect()
}

/// I5: what keeps the servers from being the same, and is not told to anybody.
pub fn apart(state: &State, primary: usize) -> Option<String> {
    let fleet = &state.fleet;
    let view = shown(state)?;
    let newest = state.api.newest().map(|record| record.message.as_str()).unwrap_or_default();
    let in_record = |index: usize| newest.contains(&addr(index).to_string());
    // What a crash brought back may be more than was acknowledged: also where all else ends well.
    let quarantined = |index: usize| view.quarantined.iter().any(|it| it.server == addr(index));
    let excused = |index: usize| match state.ends_well {
        true => quarantined(index),
        false => is_told(view, index) || in_record(index),
    };
    differs(state, primary, &(0..fleet.servers.len()).filter(|it| excused(*it)).collect())
}

/// Whether all servers are the same.
pub fn all_same(state: &State, primary: usize) -> bool {
    differs(state, primary, &BTreeSet::new()).is_none()
}

/// What keeps the servers from being the same, apart from some.
fn differs(state: &State, primary: usize, apart_from: &BTreeSet<usize>) -> Option<String> {
    let fleet = &state.fleet;
    let whole = &fleet.servers[primary].executed;
    fleet.servers.iter().filter(|it| it.index != primary && !it.hidden && !apart_from.contains(&it.index)).find_map(
        |server| {
            if server.open() {
                return Some(format!("I9: {} accepts writes beside {primary}", server.index));
            }
            let follows = leads_to(state, server.index, primary);
            let same = server.executed == *whole && fleet.live(server.index);
            (!follows || !same).then(|| {
                let (lacks, extra) = (whole.subtract(&server.executed), server.executed.subtract(whole));
                let source = server.channel.as_ref().map(|channel| (channel.source, channel.receiver));
                format!("I5: {} follows {source:?}, not {primary}: lacks [{lacks}], has [{extra}] more", server.index)
            })
        },
    )
}

/// Whether a server replicates from the primary, directly or by way of others.
fn leads_to(state: &State, server: usize, primary: usize) -> bool {
    let source = |index: &usize| {
        let channel = state.fleet.servers[*index].channel.as_ref().filter(|channel| channel.applier)?;
        Some(channel.source).filter(|_| *index != primary && state.fleet.live(*index))
    };
    std::iter::successors(Some(server), source).take(state.fleet.servers.len()).any(|index| index == primary)
}

/// Whether something is said about a server.
fn is_told(view: &ClusterView, index: usize) -> bool {
    let addr = addr(index);
    let problems = view.servers.iter().any(|server| server.addr == addr && !server.problems.is_empty());
    let not_replicating = view.replicating.value != Some(true) && view.replicating.message.contains(&addr.to_string());
    problems || not_replicating || view.analyses.iter().any(|analysis| analysis.server == addr)
}

/// In the end, with this primary.
pub fn finally(state: &mut State, primary: usize) {
    if state.fleet.semi_sync {
        state.look_for_unanswered();
    }
    let executed = state.fleet.servers[primary].executed.clone();
    if state.fleet.semi_sync {
        let missing = state.fleet.acknowledged.subtract(&executed);
        if !missing.is_empty() {
            state.fleet.fail(|| format!("I1: the final primary {primary} lacks {missing}"));
        }
        let unread = state.fleet.read.subtract(&executed);
        if !unread.is_empty() {
            state.fleet.fail(|| format!("I4: {unread} was read and is not on the final primary {primary}"));
        }
    }
    records_say_why(state, |_| true);
    if state.api.route != Some(addr(primary)) {
        let route = state.api.route.clone();
        state.fleet.fail(|| format!("I9: clients are routed to {route:?}, the primary is {primary}"));
    }
}
