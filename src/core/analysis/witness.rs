//! What each replica says about a source that does not answer us: the second opinion that a failover
//! needs (safety.md, "Deciding", 2 and 3).

use super::{
    Context,
    evidence::{Evidence, receiver},
};
use crate::core::{
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    snapshot::{ServerState, hearing},
    time::Mono,
};

/// A heartbeat interval above this proves silence too late to wait for it, in milliseconds.
pub(super) const HEARTBEAT_MS_MAX: u64 = 10_000;

/// What one replica says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// It hears the source.
    Hears,
    /// It may hear it: its look is too old, or its silence not long enough to prove anything.
    Waiting,
    /// Its receiver runs, but nothing would show whether it hears anything.
    Deaf,
    /// It does not hear the source, for a reason that need not be the source's.
    NoEvidence,
    /// It lost the source by itself, or proved that it has gone silent.
    Lost,
    /// It does not answer us.
    Absent,
}

/// One replica's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Witness {
    pub(super) verdict: Verdict,
    pub(super) evidence: Evidence,
}

/// The source in question: since when it is mute, and when it last proved to be alive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspect<'a> {
    pub(super) addr: &'a ServerAddr,
    pub(super) since: Mono,
    pub(super) alive_at: Option<Mono>,
}

/// Asks every direct replica.
pub(super) fn ask(cx: &Context<'_>, suspect: Suspect<'_>) -> Vec<Witness> {
    let replicas = cx.topology.replicas(suspect.addr);
    let states = replicas.filter_map(|addr| Some((addr, cx.snapshot.servers.get(addr)?)));
    states.map(|(addr, state)| question(cx, suspect, addr, state)).collect()
}

fn question(cx: &Context<'_>, suspect: Suspect<'_>, addr: &ServerAddr, state: &ServerState) -> Witness {
    let Some(seen) = state.answering() else {
        let failed = Evidence::of_failure(addr, state).into_iter().next();
        let evidence = failed.unwrap_or_else(|| Evidence::new(addr, cx.snapshot.at, "was not looked at yet"));
        return Witness { verdict: Verdict::Absent, evidence };
    };
    // With several channels to one source, any that hears it settles the matter.
    let channels = cx.channels_to(seen, suspect.addr);
    let verdicts = channels.map(|channel| judge(cx, suspect, state, seen, channel));
    let (verdict, saw) = verdicts.min().unwrap_or((Verdict::NoEvidence, "it does not replicate from it".to_owned()));
    Witness { verdict, evidence: Evidence::new(addr, seen.at, saw) }
}

fn judge(
    cx: &Context<'_>,
    suspect: Suspect<'_>,
    state: &ServerState,
    seen: &Observation,
    channel: &Channel,
) -> (Verdict, String) {
    let known = state.hearing.get(&channel.name).copied().unwrap_or_default();
    let back = state.back_at.filter(|back| *back > suspect.since);
    if seen.at < suspect.since {
        return (Verdict::Waiting, "was not looked at since the failure began".to_owned());
    }
    let heard_since = known.heard_after >= Some(suspect.since);
    if channel.receiver == Receiver::Running {
        let heard_at = known.heard_at.unwrap_or(seen.at).max(cx.snapshot.watching_since).max(back.unwrap_or_default());
        // A look that took long shows what was when it began.
        return running(cx, channel, seen.began().since_ms(heard_at), heard_since);
    }
    let words = receiver(channel);
    if heard_since && known.lost_at.is_none() && channel.receiver == Receiver::Connecting {
        return (Verdict::Hears, format!("was refused by it after the failure began: {words}"));
    }
    let slack_ms = cx.policy.detection.answer_ms;
    if let Some(back) = back
        && known.lost_at <= Some(back)
        && !failed_again(channel, seen.at, back, slack_ms)
    {
        return (Verdict::NoEvidence, format!("{words}, and it may have been cut off itself until a moment ago"));
    }
    let in_this_failure = |at: Option<Mono>| at.is_some_and(|at| Some(at.plus_ms(slack_ms)) >= suspect.alive_at);
    if in_this_failure(known.lost_at) || failed_again(channel, seen.at, suspect.since, slack_ms) {
        return (Verdict::Lost, format!("lost it: {words}"));
    }
    let left_at = known.left_at.filter(|_| channel.receiver == Receiver::Connecting && in_this_failure(known.left_at));
    match left_at {
        // A receiver that was restarted a moment ago looks the same until it is connected again.
        Some(left) if seen.at.since_ms(left) < slack_ms => (Verdict::Waiting, format!("{words} since a moment ago")),
        Some(_) => (Verdict::Lost, format!("lost it: {words}")),
        None if channel.receiver == Receiver::Stopped && known.lost_at.is_none() => {
            (Verdict::NoEvidence, format!("{words} and was not stopped by the failure"))
        }
        None => (Verdict::NoEvidence, format!("{words} and proves nothing about this failure")),
    }
}

fn running(cx: &Context<'_>, channel: &Channel, quiet_ms: u64, heard_since: bool) -> (Verdict, String) {
    let interval_ms = channel.heartbeat_interval_ms.filter(|interval_ms| *interval_ms > 0);
    match interval_ms {
        Some(interval_ms) if quiet_ms >= cx.policy.detection.silence_ms(interval_ms) => (
            Verdict::Lost,
            format!("heard nothing from it for {quiet_ms} ms, heartbeats are due every {interval_ms} ms"),
        ),
        _ if heard_since => (Verdict::Hears, "heard it after the failure began".to_owned()),
        Some(interval_ms) if interval_ms <= HEARTBEAT_MS_MAX => {
            (Verdict::Waiting, format!("its receiver runs and has been quiet for only {quiet_ms} ms"))
        }
        Some(interval_ms) => {
            (Verdict::Deaf, format!("its receiver runs, and a heartbeat is due only every {interval_ms} ms"))
        }
        None => (Verdict::Deaf, "its receiver runs, and no heartbeat would show whether it hears it".to_owned()),
    }
}

/// A receiver that still cannot connect after the time in which it must have tried again.
fn failed_again(channel: &Channel, at: Mono, since: Mono, slack_ms: u64) -> bool {
    let retry_ms = channel.connect_retry_s.saturating_mul(1000).saturating_add(slack_ms);
    let cannot = channel.receiver_error.as_ref().is_some_and(hearing::no_connection);
    channel.receiver == Receiver::Connecting && cannot && at.since_ms(since) >= retry_ms
}
