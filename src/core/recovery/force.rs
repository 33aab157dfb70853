//! What a recovery of a primary that may live knows besides its record: a person forces it, or its commits hang.

use std::collections::BTreeSet;

use super::{Phase, Recovery};
use crate::core::{gtid::GtidSet, id::ServerAddr, observation::Observation, snapshot::Snapshot, time::Mono};

/// What a server was last seen to have, if it can be written down.
pub(super) fn set_of(snapshot: &Snapshot, server: &ServerAddr) -> Option<GtidSet> {
    let set = snapshot.last(server).map(|seen| seen.executed.clone());
    set.filter(|set| set.to_string().len() <= Recovery::SET_LEN_MAX)
}

/// `server_uuid` of a server: its own word, or the one of all that replicate from it.
pub(super) fn uuid_of(snapshot: &Snapshot, server: &ServerAddr) -> Option<String> {
    let own = snapshot.last(server).map(|seen| seen.identity.uuid.clone());
    let told = || {
        let replicas = snapshot.replicas_of(server).into_iter().filter_map(|(_, state)| state.last.as_ref());
        let channels = replicas.flat_map(|seen| &seen.channels);
        let of = channels.filter(|channel| snapshot.source_of(channel) == Some(server));
        let mut uuids: Vec<_> = of.filter_map(|channel| channel.source_uuid.as_ref()).collect();
        uuids.dedup();
        match uuids[..] {
            [only] => Some(only.clone()),
            _ => None,
        }
    };
    own.or_else(told)
}

/// What a forced recovery knows besides.
#[derive(Debug, Clone)]
pub(super) struct Force {
    /// The old primary was dead when this began, or was fenced before this executor took over.
    pub(super) dead: bool,
    /// What was seen of the old primary before anything was done to it.
    pub(super) before: Option<Observation>,
    /// What was seen of it after this took it out of service.
    pub(super) after: Option<Observation>,
    /// When the newest fence of it was seen to hold.
    pub(super) fenced_at: Option<Mono>,
    /// Something was done to the old primary that keeps it from serving.
    pub(super) touched: bool,
    /// Its commits hang: it is asked for nothing that would wait for them.
    pub(super) hangs: bool,
    pub(super) hand_over: HandOver,
    /// Why the old primary could not be fenced.
    pub(super) error: Option<String>,
}

/// How far an old primary that answers has handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HandOver {
    /// There is nothing to hand over, or it is done.
    Over,
    /// It is asked to take no more writes.
    Asked,
    /// Its transactions are on their way to the replicas since then.
    Sends(GtidSet, Mono),
}

impl Force {
    /// `seen`: the newest look at the old primary; `answers`: it answers now.
    pub(super) fn of(record: &Recovery, seen: Option<&Observation>, answers: bool) -> Option<Self> {
        record.cause.spares_the_living().then(|| Self {
            dead: (record.old_primary_dead || record.timings.fenced.is_some()) && !answers,
            before: seen.cloned(),
            after: None,
            fenced_at: None,
            touched: false,
            hangs: false,
            hand_over: HandOver::Over,
            error: None,
        })
    }
}

/// The opening of a primary that refuses writes, because it was fenced in vain or came back so.
#[derive(Debug, Clone)]
pub(super) struct Reopen {
    /// How the recovery ends after it.
    pub(super) phase: Phase,
    pub(super) step: Step,
    /// What the newest action on it showed.
    pub(super) seen: Option<Observation>,
    pub(super) error: Option<String>,
    /// It died meanwhile.
    pub(super) gone: bool,
    /// Its epoch was said there, and may wait to be acknowledged.
    pub(super) told: bool,
    /// What was done on a replica, by name: once is enough.
    pub(super) done: BTreeSet<(ServerAddr, &'static str)>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Replicas and administrators are let in; writes are not.
    Open,
    Claim,
    SemiSync,
    Epoch,
    Unfence,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::snapshot::{Cluster, addr, uuid};

    #[test]
    fn a_primary_that_was_never_seen_is_known_by_its_replicas() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.look();
        let of = |cluster: &Cluster| uuid_of(&cluster.snapshot, &addr("p"));
        assert_eq!(of(&cluster), Some(uuid(1)));
        cluster.snapshot.servers.get_mut(&addr("p")).unwrap().last = None;
        assert_eq!(of(&cluster), Some(uuid(1)), "its replicas name it");
        let replica = cluster.snapshot.servers.get_mut(&addr("r2")).unwrap();
        replica.last.as_mut().unwrap().channels[0].source_uuid = Some(uuid(9));
        assert_eq!(of(&cluster), None, "they do not agree");
    }
}
