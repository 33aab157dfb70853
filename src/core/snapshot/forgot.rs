//! A server that lost transactions it once had: its disk was replaced, it was reset, or a crash took relay logs with
//! it. An empty one may have, before anybody looked.
//!
//! It may have acknowledged what it has no more, and more than any look saw. So it proves nothing about what was
//! acknowledged (safety.md, "Failing over", 2) until it, or others with it, have all that its primary had after the
//! loss was seen: what it had acknowledged before was committed there by then.

use crate::core::{
    gtid::GtidSet,
    observation::Observation,
    rules::{Rule, holds},
    time::Mono,
    version::Flavor,
};

/// What has to be there again before the server counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgot {
    /// The look that showed the loss.
    pub since: Mono,
    /// It acknowledged, or may have.
    pub acked: bool,
    /// What the primary had, by the first look at it that began later; `None`: there was none yet.
    pub owed: Option<GtidSet>,
}

/// Whether a look shows that the server may have lost something since the one `before`; `returned`: looks in between
/// found nobody there. MariaDB's positions name one writer of each domain, the newest: there it cannot be told.
fn lost(before: Option<&Observation>, now: &Observation, returned: bool) -> bool {
    if now.identity.version.flavor != Flavor::MySql {
        return false;
    }
    let Some(before) = before else { return now.total().is_empty() };
    let received = before.channels.iter().zip(&now.channels);
    let same = before.executed == now.executed
        && before.channels.len() == now.channels.len()
        && received.into_iter().all(|(before, now)| before.received == now.received);
    // Another data directory; relay logs that a restart discards (M7), with what no look had seen yet.
    let another = before.identity.uuid != now.identity.uuid;
    let discarded = returned && now.settings.relay_log_recovery && !now.channels.is_empty();
    another || discarded || !same && !now.total().contains(&before.total())
}

impl Forgot {
    /// Folds in one more look at the server.
    #[must_use]
    pub fn fold(old: Option<Self>, before: Option<&Observation>, now: &Observation, returned: bool) -> Option<Self> {
        if holds(Rule::LostProves) && lost(before, now, returned) {
            let acks = |seen: &Observation| seen.semi_sync.acknowledges();
            let acked = old.is_some_and(|old| old.acked) || before.is_some_and(acks) || acks(now);
            return Some(Self { since: now.at, acked, owed: None });
        }
        old.filter(|forgot| !forgot.made_good(&now.total()))
    }

    /// Folds in a look at the primary. One that lacks what another one had does not owe it: that is lost, or of another
    /// history. One that is empty lost its own, unless `nobody` has written anything.
    pub fn owe(&mut self, primary: &Observation, nobody: bool) {
        let stale = self.owed.as_ref().is_none_or(|owed| !primary.executed.contains(owed));
        let tells = nobody || !primary.executed.is_empty();
        if stale && primary.began() >= self.since && tells {
            self.owed = Some(primary.executed.clone());
        }
    }

    /// Whether all that the server may have acknowledged and lost is in `all`.
    #[must_use]
    pub fn made_good(&self, all: &GtidSet) -> bool {
        self.owed.as_ref().is_some_and(|owed| all.contains(owed))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        core::{
            durability::vouching,
            observation::{FailureKind, Observation, Receiver},
        },
        testing::snapshot::{Cluster, addr, uuid},
    };

    fn shows(cluster: &mut Cluster, name: &str, numbers: &str) {
        let seen = &mut cluster.server(name).observation;
        seen.executed =
            if numbers.is_empty() { Default::default() } else { format!("{}:{numbers}", uuid(1)).parse().unwrap() };
        if let Some(channel) = seen.channels.first_mut() {
            channel.received = seen.executed.clone();
        }
    }

    fn forgot(cluster: &Cluster, name: &str) -> bool {
        cluster.snapshot.servers[&addr(name)].forgot.is_some()
    }

    /// What it acknowledged between the last look and the loss nobody saw: to have again what was seen is not enough.
    #[test]
    fn who_lost_something_counts_once_it_has_what_its_primary_had_then() {
        let mut cluster = Cluster::primary_and_replicas(2);
        for name in ["p", "r1", "r2"] {
            shows(&mut cluster, name, "1-100");
        }
        cluster.look();
        cluster.advance(100);
        shows(&mut cluster, "r1", "");
        shows(&mut cluster, "p", "1-120");
        cluster.look();
        assert!(forgot(&cluster, "r1") && !forgot(&cluster, "r2"));
        for (has, counts) in [("1-100", false), ("1-119", false), ("1-120", true)] {
            cluster.advance(100);
            shows(&mut cluster, "p", "1-200");
            shows(&mut cluster, "r1", has);
            cluster.look();
            assert_eq!(!forgot(&cluster, "r1"), counts, "{has}");
        }
    }

    #[test]
    fn an_empty_server_may_have_lost_what_nobody_saw_there() {
        let mut cluster = Cluster::primary_and_replicas(1);
        shows(&mut cluster, "r1", "");
        cluster.look();
        assert!(forgot(&cluster, "r1"));
        cluster.look();
        assert!(!vouching(&cluster.snapshot, [&addr("r1")]).contains(&&addr("r1")));
        // Unless nobody has written anything.
        shows(&mut cluster, "p", "");
        cluster.snapshot.servers.values_mut().for_each(|state| *state = Default::default());
        let snapshot = cluster.look();
        assert_eq!(vouching(&snapshot, [&addr("r1")]), [&addr("r1")]);
        cluster.look();
        shows(&mut cluster, "p", "1");
        shows(&mut cluster, "r1", "1");
        cluster.look_at("r1");
        assert!(!forgot(&cluster, "r1"), "the first write changes nothing");
    }

    /// What it acknowledged after the last look is gone with the relay log, or with the data directory.
    #[test]
    fn a_loss_need_not_show_in_what_is_there() {
        let away = |change: fn(&mut Observation)| {
            let mut cluster = Cluster::primary_and_replicas(1);
            cluster.look();
            cluster.fail("r1", FailureKind::Refused);
            cluster.look();
            cluster.server("r1").failure = None;
            change(&mut cluster.server("r1").observation);
            cluster.look_at("r1");
            forgot(&cluster, "r1")
        };
        assert!(!away(|_| {}), "it was only restarted");
        assert!(away(|seen| seen.settings.relay_log_recovery = true));
        assert!(away(|seen| seen.identity.uuid = uuid(9)), "it was restored from another server");
    }

    /// After a failover that lost something nobody can have it again.
    #[test]
    fn what_is_lost_for_good_is_owed_by_nobody() {
        let mut cluster = Cluster::primary_and_replicas(2);
        shows(&mut cluster, "r1", "");
        cluster.look();
        cluster.look();
        let snapshot = &mut cluster.snapshot;
        snapshot.primary = Some(addr("r2"));
        shows(&mut cluster, "r2", "1-90");
        shows(&mut cluster, "r1", "1-90");
        cluster.look();
        cluster.look();
        assert!(!forgot(&cluster, "r1"));
    }

    /// A receiver that begins anew has an empty relay log; what was in the old one is executed.
    #[test]
    fn a_new_relay_log_is_no_loss() {
        let mut cluster = Cluster::primary_and_replicas(1);
        shows(&mut cluster, "r1", "1-100");
        cluster.look();
        cluster.advance(100);
        let channel = &mut cluster.server("r1").observation.channels[0];
        (channel.received, channel.receiver) = (Default::default(), Receiver::Connecting);
        cluster.look();
        assert!(!forgot(&cluster, "r1"));
    }
}
