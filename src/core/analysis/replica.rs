//! What is wrong with a single server as a replica, and servers that refuse to be looked at.

use super::{
    Analysis, Context,
    code::Code,
    evidence::{Evidence, receiver},
    intermediate::fails_to_connect,
    witness::HEARTBEAT_MS_MAX,
};
use crate::core::{
    id::ServerAddr,
    observation::{Channel, FailureKind, Observation},
    snapshot::ServerState,
    status::Role,
};

/// From here on a receiver waits a minute or more for a dead source: MySQL's default, in seconds.
const NET_TIMEOUT_S_BAD: u64 = 60;
/// From here on a replica comes back a minute late: MySQL's default, in seconds.
const CONNECT_RETRY_S_BAD: u64 = 60;
/// A receiver that gives up sooner than this is stopped after an outage, in seconds.
const GIVES_UP_S_MIN: u64 = 3600;

/// A living server that could not be looked at.
pub(super) fn refusing(addr: &ServerAddr, state: &ServerState) -> Vec<Analysis> {
    let saturated = state.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Saturated);
    let code = if saturated { Code::Saturated } else { Code::Unobservable };
    vec![Analysis { since: state.failing_since, ..Analysis::new(code, addr, Evidence::of_failure(addr, state)) }]
}

/// A server that serves those who are connected and nobody else.
pub(super) fn refusing_new(addr: &ServerAddr, seen: &Observation) -> Option<Analysis> {
    let failure = seen.refuses_new.as_ref()?;
    let code = if failure.kind == FailureKind::Saturated { Code::Saturated } else { Code::NoNewConnections };
    Some(Analysis::new(code, addr, vec![Evidence::new_connection(addr, failure)]))
}

/// What is wrong with a server that replicates.
pub(super) fn analyse(cx: &Context<'_>, addr: &ServerAddr, seen: &Observation) -> Vec<Analysis> {
    if seen.channels.is_empty() {
        return Vec::new();
    }
    let say = |code, saw: String| Analysis::new(code, addr, vec![Evidence::new(addr, seen.at, saw)]);
    let below = !matches!(cx.topology.role_of(addr), Role::Primary | Role::CoPrimary);
    let writable = (below && seen.settings.writable())
        .then(|| say(Code::ReplicaWritable, "replicates and accepts writes".to_owned()));
    let acks = seen.semi_sync.replica_active || seen.semi_sync.replica_enabled == Some(true);
    let recovery = (acks && seen.settings.relay_log_recovery)
        .then(|| say(Code::RelayLogRecoveryOnAcker, "acknowledges commits and has relay_log_recovery on".to_owned()));
    let first_tier = first_tier(cx, addr, seen).map(|saw| say(Code::FirstTierReplicaFailingToConnectToPrimary, saw));
    let defeated = defeated(seen).map(|saw| say(Code::DetectionDefeated, saw));
    [writable, recovery, first_tier, defeated].into_iter().flatten().collect()
}

fn first_tier(cx: &Context<'_>, addr: &ServerAddr, seen: &Observation) -> Option<String> {
    let primary = cx.topology.primary.as_ref().filter(|primary| *primary != addr)?;
    cx.answering(primary)?;
    cx.channels_to(seen, primary).find(|channel| fails_to_connect(channel)).map(receiver)
}

/// Settings that hide the death of a source or keep a replica away afterwards; `None`: all are good.
fn defeated(seen: &Observation) -> Option<String> {
    let net_timeout = (seen.settings.net_timeout_s >= NET_TIMEOUT_S_BAD)
        .then(|| format!("its net timeout is {} s", seen.settings.net_timeout_s));
    let of_channels = seen.channels.iter().flat_map(of_channel);
    let found: Vec<_> = net_timeout.into_iter().chain(of_channels).collect();
    (!found.is_empty()).then(|| found.join(", "))
}

fn of_channel(channel: &Channel) -> Vec<String> {
    let heartbeat = match channel.heartbeat_interval_ms {
        Some(0) => Some("it asks for no heartbeats".to_owned()),
        Some(interval_ms) if interval_ms > HEARTBEAT_MS_MAX => Some(format!("its heartbeat is {interval_ms} ms")),
        Some(_) | None => None,
    };
    let retry_s = channel.connect_retry_s;
    let retry = (retry_s >= CONNECT_RETRY_S_BAD).then(|| format!("it connects again only every {retry_s} s"));
    // A retry count of 0 means: without end.
    let patience_s = channel.retry_count.saturating_mul(retry_s);
    let gives_up = (channel.retry_count > 0 && patience_s < GIVES_UP_S_MIN)
        .then(|| format!("it gives up after {patience_s} s without its source"));
    [heartbeat, retry, gives_up].into_iter().flatten().collect()
}
