//! Decides which server is the primary. What a recovery or an earlier snapshot recorded stays true
//! while that server is known, dead or alive; only a hand-over that is complete in the topology itself
//! replaces it. Without a record it must be unambiguous, every server looked at, and the one itself
//! have proved to live: what replicas point to may still be starting, or be gone for long.

use std::collections::BTreeMap;

use super::{Member, co_primary};
use crate::core::{
    id::ServerAddr,
    observation::Receiver,
    snapshot::{Reach, Snapshot},
};

type Members = BTreeMap<ServerAddr, Member>;

/// The primary, if there is exactly one that can be it.
pub(super) fn primary(snapshot: &Snapshot, members: &Members, rings: &[Vec<ServerAddr>]) -> Option<ServerAddr> {
    let recorded = snapshot.primary.as_ref().filter(|addr| members.contains_key(*addr));
    if let Some(recorded) = recorded {
        let successor = handed_over(snapshot, members, recorded).or_else(|| taken_over(snapshot, members, recorded));
        return Some(successor.unwrap_or(recorded).clone());
    }
    if snapshot.servers.values().any(|state| state.reach() == Reach::Unknown) {
        return None;
    }
    let in_ring = |addr: &ServerAddr| rings.iter().any(|ring| ring.contains(addr));
    let top = |(addr, member): &(&ServerAddr, &Member)| {
        !member.replicas.is_empty()
            && snapshot.servers.get(*addr).is_some_and(|state| state.alive_at.is_some())
            && (member.sources.is_empty() || co_primary(members, addr).is_some() || in_ring(addr))
    };
    let tops: Vec<&ServerAddr> = members.iter().filter(top).map(|(addr, _)| addr).collect();
    let (writable, others): (Vec<_>, Vec<_>) = tops.into_iter().partition(|addr| writable(snapshot, addr));
    match (writable.as_slice(), others.as_slice()) {
        ([one], _) | ([], [one]) => Some((*one).clone()),
        ([], []) => alone(snapshot, members),
        _ => None,
    }
}

/// The server that the recorded primary now follows: the recorded one answers, refuses writes and is
/// connected to a server of the cluster that answers and accepts them.
fn handed_over<'a>(snapshot: &Snapshot, members: &'a Members, recorded: &ServerAddr) -> Option<&'a ServerAddr> {
    let seen = snapshot.servers.get(recorded)?.answering()?;
    if seen.settings.writable() {
        return None;
    }
    let connected = |source: &ServerAddr| {
        seen.channels
            .iter()
            .any(|channel| channel.receiver == Receiver::Running && snapshot.source_of(channel) == Some(source))
    };
    let answers = |source: &ServerAddr| {
        let state = snapshot.servers.get(source);
        state.and_then(|state| state.answering()).is_some_and(|seen| seen.settings.writable())
    };
    members.get(recorded)?.sources.iter().find(|source| connected(source) && answers(source))
}

/// The one server that others follow and that accepts writes, when nobody follows the recorded primary
/// any more and it does not accept writes itself.
fn taken_over<'a>(snapshot: &Snapshot, members: &'a Members, recorded: &ServerAddr) -> Option<&'a ServerAddr> {
    let left_alone = members.get(recorded)?.replicas.is_empty();
    if !left_alone || (answers(snapshot, recorded) && writable(snapshot, recorded)) {
        return None;
    }
    let acts = |(addr, member): &(&ServerAddr, &Member)| {
        !member.replicas.is_empty() && answers(snapshot, addr) && writable(snapshot, addr)
    };
    let mut acting = members.iter().filter(acts).map(|(addr, _)| addr);
    acting.next().filter(|_| acting.next().is_none())
}

/// Without any replication: the one writable server, or the one server.
fn alone(snapshot: &Snapshot, members: &Members) -> Option<ServerAddr> {
    let free = |(addr, member): &(&ServerAddr, &Member)| member.sources.is_empty() && snapshot.last(addr).is_some();
    let free: Vec<_> = members.iter().filter(free).map(|(addr, _)| addr).collect();
    let open: Vec<_> = free.iter().filter(|addr| writable(snapshot, addr)).collect();
    match (open.as_slice(), free.as_slice()) {
        ([one], _) => Some((**one).clone()),
        ([], [one]) if members.len() == 1 => Some((*one).clone()),
        _ => None,
    }
}

/// Servers other than the primary that accepted writes when last seen and follow nobody here.
pub(super) fn rivals(snapshot: &Snapshot, members: &Members, primary: Option<&ServerAddr>) -> Vec<ServerAddr> {
    let rival = |(addr, member): &(&ServerAddr, &Member)| {
        let follows = !member.sources.is_empty() && co_primary(members, addr).is_none();
        Some(*addr) != primary && !follows && writable(snapshot, addr) && answers(snapshot, addr)
    };
    members.iter().filter(rival).map(|(addr, _)| addr.clone()).collect()
}

fn writable(snapshot: &Snapshot, addr: &ServerAddr) -> bool {
    snapshot.last(addr).is_some_and(|seen| seen.settings.writable())
}

fn answers(snapshot: &Snapshot, addr: &ServerAddr) -> bool {
    snapshot.servers.get(addr).is_some_and(|state| matches!(state.reach(), Reach::Answering(_)))
}
