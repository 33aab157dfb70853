//! Ackers that a full primary refuses. Commits that wait for them keep the connections of clients that have left, so it
//! does not end by itself: the primary allows some more, until it starts anew.

use super::Duty;
use crate::core::{
    id::ServerAddr,
    observation::{Channel, Observation},
    policy::Policy,
    snapshot::Snapshot,
    step::Action,
    version::Flavor,
};

/// `ER_CON_COUNT_ERROR`: all connections of the source are used.
const FULL: u32 = 1040;
/// How long commits must have waited, in milliseconds.
const WAITED_MS: u64 = 1000;
/// Connections that are allowed at once besides: clients try for them, too.
const MORE: u32 = 10;

/// More connections, and receivers that ask for one at once.
pub(super) fn due(snapshot: &Snapshot, policy: &Policy, addr: &ServerAddr, primary: &Observation) -> Vec<Duty> {
    let stuck = snapshot.servers.get(addr).and_then(|state| state.stuck_since);
    let waited = stuck.is_some_and(|since| primary.at.since_ms(since) >= WAITED_MS);
    if !waited || attached(primary) || policy.rests(addr).is_some() {
        return Vec::new();
    }
    let full = |channel: &Channel| {
        let refused = channel.receiver_error.as_ref().is_some_and(|error| error.code == FULL);
        refused && snapshot.source_of(channel) == Some(addr)
    };
    let refused = snapshot.servers.iter().filter_map(|(addr, state)| Some((addr, state.answering()?)));
    let refused: Vec<_> = refused.filter(|(_, seen)| seen.channels.iter().any(full)).collect();
    let duty = |server: &ServerAddr, action, reason| Duty { server: server.clone(), action, reason };
    let more = (!refused.is_empty()).then(|| {
        let reason = "commits wait for replicas that it refuses, as all its connections are used";
        duty(addr, Action::AllowConnections { more: MORE }, reason)
    });
    // MariaDB discards relay logs when a receiver is stopped; it tries again by itself.
    let again = refused
        .into_iter()
        .filter(|(addr, seen)| seen.identity.version.flavor == Flavor::MySql && policy.rests(addr).is_none());
    let again = again.map(|(addr, _)| duty(addr, Action::RestartReceiver, "its source refused it and allows more now"));
    more.into_iter().chain(again).collect()
}

/// Whether a commit on the primary gets the acknowledgements that it waits for.
fn attached(primary: &Observation) -> bool {
    primary.semi_sync.source.as_ref().is_none_or(|source| !source.enabled || source.clients >= source.wait_count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::observation::{Receiver, ThreadError},
        testing::snapshot::{Cluster, addr, policy},
    };

    fn refused(change: impl FnOnce(&mut Cluster)) -> Vec<(ServerAddr, &'static str)> {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.semi_sync(1);
        for name in ["r1", "r2"] {
            let channel = &mut cluster.server(name).observation.channels[0];
            channel.receiver = Receiver::Connecting;
            channel.receiver_error = Some(ThreadError { code: FULL, message: String::new() });
        }
        let source = cluster.server("p").observation.semi_sync.source.as_mut().unwrap();
        (source.clients, source.waiting) = (0, 3);
        change(&mut cluster);
        cluster.look();
        cluster.advance(WAITED_MS);
        let snapshot = cluster.look();
        let due = super::super::due(&snapshot, &policy(), None);
        due.into_iter().map(|duty| (duty.server, duty.action.name())).collect()
    }

    #[test]
    fn a_full_primary_lets_its_ackers_in() {
        let all = [("p", "AllowConnections"), ("r1", "RestartReceiver"), ("r2", "RestartReceiver")];
        assert_eq!(refused(|_| {}), all.map(|(name, action)| (addr(name), action)));
    }

    #[test]
    fn nothing_is_done_while_commits_go_on_or_wait_for_another_reason() {
        let source = |change: fn(&mut crate::core::observation::SemiSyncSource)| {
            refused(|cluster| change(cluster.server("p").observation.semi_sync.source.as_mut().unwrap()))
        };
        assert_eq!(source(|source| source.clients = 1), []);
        assert_eq!(source(|source| source.waiting = 0), []);
        assert_eq!(source(|source| source.enabled = false), []);
        let code = |code: u32| {
            refused(|cluster| {
                for name in ["r1", "r2"] {
                    cluster.server(name).observation.channels[0].receiver_error.as_mut().unwrap().code = code;
                }
            })
        };
        assert_eq!(code(2003), []);
    }
}
