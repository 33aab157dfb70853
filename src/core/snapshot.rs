//! All that is known of one cluster at one moment: the newest observation of every server, how the
//! newest look went, and how long each replica has heard nothing from its source.
//!
//! A snapshot is folded from looks in the order they arrive and is never changed by anything else.
//! "Never seen", "not reached" and "seen long ago" stay different things.

pub mod forgot;
pub mod hearing;
mod stall;

use std::collections::{BTreeMap, BTreeSet};

pub use self::stall::Stall;
use self::{forgot::Forgot, hearing::Hearing};
use super::{
    gtid::GtidSet,
    id::ServerAddr,
    membership::Ledger,
    observation::{Channel, Failure, Look, Observation, Receiver, SemiSyncSource},
    time::Mono,
    version::Flavor,
};

/// Looks that must have found nobody before a server counts as back.
const BACK_LOOKS: u32 = 2;

/// The newest knowledge of one server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerState {
    /// The owner named it, or it is a pod of the owner's: it leaves when the owner says so.
    pub named: bool,
    /// The newest successful look.
    pub last: Option<Observation>,
    /// The newest failed look, when it is newer than `last`.
    pub failure: Option<Failure>,
    /// Since when looks fail without a success in between.
    pub failing_since: Option<Mono>,
    /// Failed looks in a row.
    pub failures: u32,
    /// When a sign of the source was last seen by a look (heartbeat, transaction, connection).
    pub heard_at: Option<Mono>,
    /// The same for each channel by name, and when the channel lost its source by itself.
    pub hearing: BTreeMap<String, Hearing>,
    /// Since when looks find nobody there (no failure among them that only a living server causes).
    pub mute_since: Option<Mono>,
    /// Number of those looks.
    pub mute_looks: u32,
    /// When it was last there again after looks had found nobody: what it shows of its source may be of the time in which
    /// it was cut off itself.
    pub back_at: Option<Mono>,
    /// When it last proved to be alive: it answered, or refused as only a living server can.
    pub alive_at: Option<Mono>,
    /// Since when every look was answered by a server that refuses writes.
    pub closed_since: Option<Mono>,
    /// While it refuses writes: when it was last seen to accept them, and with which source side of semi-sync. What it
    /// acknowledged was acknowledged with that, whatever a restart left of it.
    pub opened_with: Option<(Mono, Option<SemiSyncSource>)>,
    /// Since when looks show sessions that wait for acknowledgements and no transaction executed.
    pub stuck_since: Option<Mono>,
    /// Commits hang, though none waits for an acknowledgement.
    pub stall: Option<Stall>,
    /// Transactions here that a later look at the primary did not show.
    pub errant: GtidSet,
    /// Since when those are the same.
    pub errant_since: Option<Mono>,
    /// While it was not the primary it accepted writes that waited for no replica.
    pub loose: bool,
    /// It lost transactions that it had, and may have acknowledged, and has not made up for it.
    pub forgot: Option<Forgot>,
}

/// Whether a server can be talked to now.
#[derive(Debug, Clone, PartialEq)]
pub enum Reach<'a> {
    /// Not looked at yet.
    Unknown,
    /// The newest look succeeded.
    Answering(&'a Observation),
    /// The newest look failed; what was seen before, if anything, may be long ago.
    Failing(&'a Failure),
}

impl ServerState {
    /// Whether the server answered the newest look.
    #[must_use]
    pub fn reach(&self) -> Reach<'_> {
        match (&self.failure, &self.last) {
            (Some(failure), _) => Reach::Failing(failure),
            (None, Some(observation)) => Reach::Answering(observation),
            (None, None) => Reach::Unknown,
        }
    }

    /// The newest observation if the newest look succeeded.
    #[must_use]
    pub fn answering(&self) -> Option<&Observation> {
        match self.reach() {
            Reach::Answering(observation) => Some(observation),
            Reach::Unknown | Reach::Failing(_) => None,
        }
    }

    /// Folds in one look. One that ended, or began, before the newest known is left out: an action's look
    /// may overtake one of the watch, which shows the server as it was before the action.
    pub fn apply(&mut self, look: Look) {
        let at = look.as_ref().map_or_else(|failure| failure.at, |seen| seen.at);
        let overtaken = |seen: &Observation| self.last.as_ref().is_some_and(|last| seen.began() < last.began());
        if self.looked_at() > Some(at) || look.as_ref().is_ok_and(|seen| overtaken(seen)) {
            return;
        }
        match look {
            Ok(observation) => {
                let returned = self.mute_looks > 0;
                if self.last.as_ref().is_none_or(|last| heard(last, &observation)) {
                    self.heard_at = Some(observation.at);
                }
                self.hearing = self.hearing_with(&observation);
                let closed = !observation.settings.writable();
                self.closed_since = closed.then(|| self.closed_since(&observation));
                self.opened_with = self.opened_with(closed, returned);
                self.stuck_since = self.stuck_with(&observation);
                self.stall = Stall::fold(self.stall, self.last.as_ref(), &observation);
                self.forgot = Forgot::fold(self.forgot.take(), self.last.as_ref(), &observation, returned);
                self.proved_alive(observation.at);
                self.last = Some(*observation);
                self.failure = None;
                self.failing_since = None;
                self.failures = 0;
            }
            Err(failure) => {
                self.closed_since = None;
                self.failing_since.get_or_insert(failure.at);
                self.failures = self.failures.saturating_add(1);
                if failure.kind.alive() {
                    self.proved_alive(failure.at);
                } else {
                    self.mute_since.get_or_insert(failure.at);
                    self.mute_looks = self.mute_looks.saturating_add(1);
                }
                self.failure = Some(failure);
            }
        }
    }

    /// Another process made it the primary. What was seen of it before shows a replica, which it is no more: it would look
    /// as if it followed, and as if it had refused its clients for long.
    pub fn made_primary(&mut self) {
        self.last.iter_mut().for_each(|seen| seen.channels.clear());
        self.closed_since = None;
    }

    fn proved_alive(&mut self, at: Mono) {
        if self.mute_looks >= BACK_LOOKS {
            self.back_at = Some(at);
        }
        self.alive_at = Some(at);
        self.mute_since = None;
        self.mute_looks = 0;
    }

    /// It counts as closed since `now` at the earliest.
    pub fn count_closed_from(&mut self, now: Mono) {
        self.closed_since = self.closed_since.map(|since| since.max(now));
    }

    /// A replica is closed on purpose: one that has just left its source has not been closed for long.
    fn closed_since(&self, now: &Observation) -> Mono {
        let left = now.channels.is_empty() && self.last.as_ref().is_some_and(|last| !last.channels.is_empty());
        self.closed_since.filter(|_| !left).unwrap_or(now.at)
    }

    /// Only where it was away: what somebody changed before our eyes may have been changed before it closed.
    fn opened_with(&mut self, closed: bool, returned: bool) -> Option<(Mono, Option<SemiSyncSource>)> {
        let open = self.last.as_ref().filter(|last| returned && last.settings.writable());
        let just_closed = open.map(|last| (last.at, last.semi_sync.source.clone()));
        if closed { just_closed.or(self.opened_with.take()) } else { None }
    }

    fn stuck_with(&self, now: &Observation) -> Option<Mono> {
        let unchanged = self.last.as_ref().is_some_and(|last| last.executed == now.executed);
        let waiting = now.semi_sync.source.as_ref().is_some_and(|source| source.waiting > 0);
        waiting.then(|| self.stuck_since.filter(|_| unchanged).unwrap_or(now.at))
    }

    fn hearing_with(&self, now: &Observation) -> BTreeMap<String, Hearing> {
        let old = |name: &str| {
            let last = self.last.as_ref()?;
            let channel = last.channels.iter().find(|channel| channel.name == name)?;
            Some((last.at, channel, *self.hearing.get(name)?))
        };
        let fold = |channel: &Channel| (channel.name.clone(), Hearing::fold(old(&channel.name), channel, now.at));
        now.channels.iter().map(fold).collect()
    }

    /// When the newest look ended, whichever way.
    #[must_use]
    pub fn looked_at(&self) -> Option<Mono> {
        let failed = self.failure.as_ref().map(|failure| failure.at);
        failed.max(self.last.as_ref().map(|seen| seen.at))
    }

    /// For how long looks at this replica have shown no sign of its source, in milliseconds. Both ends
    /// are looks, so the silence is proven, not assumed. `None`: it does not answer.
    #[must_use]
    pub fn silence_ms(&self) -> Option<u64> {
        let observation = self.answering()?;
        Some(observation.began().since_ms(self.heard_at.unwrap_or(observation.at)))
    }
}

/// Whether the look at the primary began after the look `seen` had ended: sets only grow, so only then
/// does it prove what the other server has alone.
#[must_use]
pub fn in_order(seen: &Observation, primary: &Observation) -> bool {
    primary.began() >= seen.at
}

/// Transactions of `seen` that `primary` lacks; `None` unless they were looked at [`in_order`], or where
/// MariaDB's binary logs cannot tell. Of MariaDB by domain and server, with numbers that others may have used.
#[must_use]
pub fn extra(seen: &Observation, primary: &Observation) -> Option<GtidSet> {
    let flavor = |seen: &Observation| seen.identity.version.flavor;
    match (flavor(seen), flavor(primary)) {
        _ if !in_order(seen, primary) => None,
        (Flavor::MySql, Flavor::MySql) => Some(seen.executed.subtract(&primary.executed)),
        // What the primary replicated must be in its binary log, or it would seem to lack it.
        (Flavor::MariaDb, Flavor::MariaDb)
            if seen.settings.log_bin && primary.settings.log_bin && primary.settings.log_replica_updates =>
        {
            Some(seen.written.binlog_extra(&primary.written))
        }
        _ => None,
    }
}

/// Whether any channel shows that its source lives.
fn heard(before: &Observation, now: &Observation) -> bool {
    let heard_on = |channel: &Channel| match before.channels.iter().find(|old| old.name == channel.name) {
        Some(old) => channel.heard_since(old),
        None => channel.receiver == Receiver::Running,
    };
    now.channels.iter().any(heard_on)
}

/// All that is known of one cluster at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// When the snapshot was taken.
    pub at: Mono,
    /// Every server of the cluster by the address Baton uses for it.
    pub servers: BTreeMap<ServerAddr, ServerState>,
    /// The primary that was last seen writable with this cluster's replicas, or that a recovery made.
    pub primary: Option<ServerAddr>,
    /// Since when the operator has been looking without a gap in its own running.
    pub watching_since: Mono,
    /// Who may acknowledge, as it is written down.
    pub ledger: Ledger,
}

impl Snapshot {
    /// Folds in one look; a server that is not part of the cluster is left out.
    pub fn apply(&mut self, addr: &ServerAddr, look: Look) {
        let answered = look.is_ok();
        if let Some(server) = self.servers.get_mut(addr) {
            server.apply(look);
        }
        match answered && self.primary.is_some() {
            true if self.primary.as_ref() == Some(addr) => self.compare_with_primary(addr),
            true => self.judge_openness(addr),
            false => {}
        }
    }

    /// Notes whether a server that is not the primary takes writes and acknowledges them alone.
    fn judge_openness(&mut self, addr: &ServerAddr) {
        let Some(state) = self.servers.get_mut(addr) else { return };
        let alone = |seen: &Observation| !seen.semi_sync.source.as_ref().is_some_and(SemiSyncSource::lossless);
        state.loose |= state.last.as_ref().is_some_and(|seen| seen.settings.writable() && alone(seen));
    }

    /// Takes in the servers that the owner names; those it has already are marked as named.
    pub fn adopt<'a>(&mut self, named: impl IntoIterator<Item = &'a ServerAddr>) {
        for addr in named {
            self.servers.entry(addr.clone()).or_default().named = true;
        }
    }

    /// Works out what each replica has that this look at the primary, begun after the look at the
    /// replica had ended, did not show: sets only grow, so only this order proves anything.
    fn compare_with_primary(&mut self, addr: &ServerAddr) {
        let Some(own) = self.servers.remove(addr) else { return };
        let empty = |state: &ServerState| state.last.as_ref().is_none_or(|seen| seen.executed.is_empty());
        let nobody = empty(&own) && self.servers.values().all(empty);
        for state in self.servers.values_mut() {
            if let (Some(forgot), Some(primary)) = (&mut state.forgot, &own.last) {
                forgot.owe(primary, nobody);
            }
            match state.last.as_ref().zip(own.last.as_ref()) {
                Some((seen, primary)) => {
                    if let Some(extra) = extra(seen, primary)
                        && (extra != state.errant || state.errant_since.is_none())
                    {
                        (state.errant, state.errant_since) = (extra, Some(primary.at));
                    }
                }
                None => state.errant = GtidSet::default(),
            }
        }
        let own = ServerState { errant: GtidSet::default(), errant_since: None, loose: false, forgot: None, ..own };
        self.servers.insert(addr.clone(), own);
    }

    /// The server's newest observation, even if it does not answer now.
    #[must_use]
    pub fn last(&self, addr: &ServerAddr) -> Option<&Observation> {
        self.servers.get(addr)?.last.as_ref()
    }

    /// The address by which Baton knows a server that others name by `addr` or by UUID.
    #[must_use]
    pub fn resolve(&self, addr: Option<&ServerAddr>, uuid: Option<&str>) -> Option<&ServerAddr> {
        let by_uuid = |(_, state): &(&ServerAddr, &ServerState)| {
            uuid.is_some() && state.last.as_ref().map(|seen| seen.identity.uuid.as_str()) == uuid
        };
        let by_uuid = self.servers.iter().find(by_uuid).map(|(key, _)| key);
        let by_addr = || addr.and_then(|addr| self.servers.get_key_value(addr)).map(|(key, _)| key);
        let by_report = || {
            let reports =
                |state: &ServerState| state.last.as_ref().and_then(|seen| seen.identity.reported.as_ref()) == addr;
            self.servers.iter().find(|(_, state)| addr.is_some() && reports(state)).map(|(key, _)| key)
        };
        by_uuid.or_else(by_addr).or_else(by_report)
    }

    /// The server a channel replicates from, as Baton knows it.
    #[must_use]
    pub fn source_of<'a>(&'a self, channel: &Channel) -> Option<&'a ServerAddr> {
        self.resolve(channel.source.as_ref(), channel.source_uuid.as_deref())
    }

    /// Whether a server replicates from another, directly or not, by the newest looks.
    #[must_use]
    pub fn leads_to(&self, from: &ServerAddr, to: &ServerAddr) -> bool {
        let sources = |addr: &ServerAddr| {
            let channels = self.last(addr).into_iter().flat_map(|seen| &seen.channels);
            channels.filter_map(|channel| self.source_of(channel)).collect::<Vec<_>>()
        };
        let (mut open, mut known) = (vec![from], BTreeSet::from([from]));
        while let Some(addr) = open.pop() {
            open.extend(sources(addr).into_iter().filter(|source| known.insert(source)));
        }
        known.contains(to)
    }

    /// Direct replicas of a server that do not answer, each with the reason.
    #[must_use]
    pub fn absent_replicas_of(&self, source: &ServerAddr) -> BTreeMap<ServerAddr, String> {
        let replicas = self.replicas_of(source).into_iter();
        let absent = replicas.filter_map(|(addr, state)| Some((addr, state.failure.as_ref()?)));
        absent.map(|(addr, failure)| (addr.clone(), format!("it does not answer: {}", failure.shown()))).collect()
    }

    /// Direct replicas of a server by their last known channels, answering or not.
    #[must_use]
    pub fn replicas_of(&self, source: &ServerAddr) -> Vec<(&ServerAddr, &ServerState)> {
        let follows = |state: &ServerState| {
            let channels = state.last.iter().flat_map(|seen| &seen.channels);
            channels.filter_map(|channel| self.source_of(channel)).any(|found| found == source)
        };
        self.servers.iter().filter(|(addr, state)| *addr != source && follows(state)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::snapshot::{Cluster, addr};

    #[test]
    fn a_look_that_was_overtaken_changes_nothing() {
        let mut cluster = Cluster::primary_and_replicas(1);
        cluster.look();
        let before = cluster.snapshot.last(&addr("r1")).cloned().unwrap();
        cluster.server("r1").observation.channels[0].receiver = Receiver::Stopped;
        cluster.look();
        let snapshot = cluster.snapshot.clone();
        cluster.snapshot.apply(&addr("r1"), Ok(Box::new(before)));
        assert_eq!(cluster.snapshot, snapshot);
        // Nor does one that ends later, and began before an action changed what it shows.
        let mut late = snapshot.last(&addr("r1")).cloned().unwrap();
        late.channels[0].receiver = Receiver::Running;
        (late.at, late.took_ms) = (late.at.plus_ms(50), 60);
        cluster.snapshot.apply(&addr("r1"), Ok(Box::new(late)));
        assert_eq!(cluster.snapshot, snapshot);
    }
}
