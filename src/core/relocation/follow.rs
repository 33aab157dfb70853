//! Whether a replica can replicate from another server, by what both show.
//!
//! By GTID only: where a replica stands in another server's binary log cannot be worked out from file and
//! position.

use crate::core::{
    observation::{GtidMode, Observation},
    version::Flavor,
};

/// Why a replica cannot replicate from a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It passes by itself.
    NotYet(String),
    /// It stays.
    Never(String),
}

impl Obstacle {
    /// The reason in words, about the replica.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::NotYet(reason) | Self::Never(reason) => reason,
        }
    }
}

/// What keeps `replica` from replicating from `source`, a server below `primary` or that itself; `None`:
/// nothing. What `source` lacks now it gets as long as the primary has it.
#[must_use]
pub fn obstacle(replica: &Observation, source: &Observation, primary: &Observation) -> Option<Obstacle> {
    let never = |reason: &str| Some(Obstacle::Never(reason.to_owned()));
    if let Some(reason) = unlike(replica, source) {
        return never(reason);
    }
    let own = replica.total();
    if replica.identity.version.flavor == Flavor::MariaDb {
        // It asks for what follows its position, and is refused where that is not there yet.
        let there = source.executed.contains(&own);
        return (!there).then(|| Obstacle::NotYet("it is ahead of the new source".to_owned()));
    }
    let known = source.total().union(&primary.executed).union(&own.of_source(&primary.identity.uuid));
    let extra = own.subtract(&known);
    let forgotten = own.of_source(&source.identity.uuid).subtract(&source.executed);
    match () {
        () if !extra.is_empty() => never("it has transactions that neither the new source nor the primary has"),
        // Then the source refuses it, MySQL error 1236; the primary may just be committing them.
        () if !forgotten.is_empty() && source.identity.uuid != primary.identity.uuid => {
            never("it has transactions of the new source that this one has lost")
        }
        () if !own.contains(&source.purged) => {
            never("it lacks transactions whose binary logs the new source no longer has")
        }
        () => None,
    }
}

/// Versions and settings that do not go together.
fn unlike(replica: &Observation, source: &Observation) -> Option<&'static str> {
    let gtid = |seen: &Observation| seen.settings.gtid_mode == GtidMode::On;
    let logs = replica.settings.log_bin && replica.settings.log_replica_updates;
    match () {
        () if replica.identity.version.flavor != source.identity.version.flavor => {
            Some("the new source is of another make")
        }
        () if replica.identity.version.series() < source.identity.version.series() => {
            Some("its version is older than the new source's")
        }
        () if logs && replica.settings.binlog_format < source.settings.binlog_format => {
            Some("it logs in a format that cannot follow the new source's")
        }
        () if !gtid(replica) || !gtid(source) || replica.channels.iter().any(|channel| !channel.auto_position) => {
            Some("it replicates by file and position: where it stands in another binary log is not known")
        }
        () => None,
    }
}
