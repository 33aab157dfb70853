//! When the recovery of an intermediate primary is held back: its replicas were moved away from it not
//! long ago.
//!
//! Replicas that an earlier recovery had to leave where they were are moved as soon as they can be, after a
//! pause that doubles each time; for all others the owner's block period holds. It never holds back, and is
//! never held back by, the failover of a primary.

use std::collections::BTreeSet;

use crate::core::{id::ServerAddr, recovery::Phase};

/// First pause before replicas that were left are tried again, in milliseconds.
const AGAIN_MS: u64 = 30_000;

/// An earlier recovery of an intermediate primary as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Name of its record.
    pub record: String,
    /// The server that was lost.
    pub lost: ServerAddr,
    /// How it ended, or how far it is.
    pub phase: Phase,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Somebody took note.
    pub acknowledged: bool,
    /// Replicas that were not moved.
    pub left: Vec<ServerAddr>,
}

/// Why replicas are not moved away from `lost` now; `None`: they may be.
#[must_use]
pub fn held(history: &[Earlier], block_ms: u64, lost: &ServerAddr, movable: &BTreeSet<ServerAddr>) -> Option<String> {
    let counts = |past: &&Earlier| past.lost == *lost && !past.acknowledged && past.age_ms < block_ms;
    let recent: Vec<_> = history.iter().filter(counts).collect();
    let newest = recent.iter().min_by_key(|past| past.age_ms)?;
    let left_over = movable.iter().all(|addr| newest.left.contains(addr));
    let doublings = u32::try_from(recent.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let again_ms = AGAIN_MS.saturating_mul(2u64.saturating_pow(doublings)).min(block_ms);
    let wait_ms = if left_over { again_ms } else { block_ms };
    (newest.age_ms < wait_ms).then(|| format!("{} moved some a short while ago; acknowledge it or wait", newest.record))
}

/// Number of the next record of a cluster, by the names of those there are.
#[must_use]
pub fn next_number(history: &[Earlier]) -> u64 {
    let number = |past: &Earlier| past.record.rsplit('-').next()?.parse::<u64>().ok();
    history.iter().filter_map(number).max().unwrap_or_default().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::snapshot::addr;

    const HOUR: u64 = 3_600_000;

    fn earlier(number: u64, age_ms: u64, left: &[&str]) -> Earlier {
        Earlier {
            record: format!("shop-relocation-{number}"),
            lost: addr("m"),
            phase: Phase::Succeeded,
            age_ms,
            acknowledged: false,
            left: left.iter().map(|name| addr(name)).collect(),
        }
    }

    fn holds(history: &[Earlier], movable: &[&str]) -> bool {
        let movable = movable.iter().map(|name| addr(name)).collect();
        held(history, HOUR, &addr("m"), &movable).is_some()
    }

    #[test]
    fn the_same_server_is_not_left_twice_in_a_row() {
        assert!(holds(&[earlier(1, 1000, &[])], &["r1"]));
        assert!(!holds(&[earlier(1, HOUR, &[])], &["r1"]));
        let mut acknowledged = earlier(1, 1000, &[]);
        acknowledged.acknowledged = true;
        assert!(!holds(&[acknowledged], &["r1"]));
        let of_another = Earlier { lost: addr("m2"), ..earlier(1, 1000, &[]) };
        assert!(!holds(&[of_another], &["r1"]));
    }

    #[test]
    fn who_was_left_behind_is_moved_after_a_pause_that_grows() {
        assert!(holds(&[earlier(1, 29_000, &["r1"])], &["r1"]));
        assert!(!holds(&[earlier(1, 30_000, &["r1"])], &["r1"]));
        assert!(holds(&[earlier(1, 30_000, &["r1"])], &["r1", "r2"]), "r2 was moved, and is back");
        let twice = [earlier(1, 95_000, &["r1"]), earlier(2, 59_000, &["r1"])];
        assert!(holds(&twice, &["r1"]));
        assert!(!holds(&[earlier(1, 95_000, &["r1"]), earlier(2, 60_000, &["r1"])], &["r1"]));
    }

    #[test]
    fn records_are_numbered_on() {
        assert_eq!(next_number(&[]), 1);
        assert_eq!(next_number(&[earlier(9, 0, &[]), earlier(10, 0, &[])]), 11);
    }
}
