//! Commits that hang though no acknowledgement is missing: the disk, most likely.

use crate::core::{observation::Observation, time::Mono};

/// Commits that hang: since when looks show some under way, no transaction executed and nothing written to a
/// binary log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// The first such look.
    pub since: Mono,
    /// Writes to binary logs by then; `None`: not counted there.
    pub binlog_writes: Option<u64>,
}

impl Stall {
    /// How long commits must have hung before they are held to hang and not to be slow, in milliseconds.
    pub const TELL_MS: u64 = 2000;
    /// The same where writes to the binary log are not counted, in milliseconds: the commit of a huge transaction looks
    /// the same there.
    pub const BLIND_MS: u64 = 30_000;

    /// Whether commits had hung for long enough, when the newest look ended at `at`, to be more than slow.
    #[must_use]
    pub fn is_sure(&self, at: Mono) -> bool {
        let needed_ms = if self.binlog_writes.is_some() { Self::TELL_MS } else { Self::BLIND_MS };
        at.since_ms(self.since) >= needed_ms
    }

    /// Folds in one more look at the server.
    #[must_use]
    pub fn fold(old: Option<Self>, last: Option<&Observation>, now: &Observation) -> Option<Self> {
        let unchanged = last.is_some_and(|last| last.executed == now.executed);
        let before = old.filter(|_| unchanged);
        let acked = now.semi_sync.source.as_ref().is_none_or(|source| source.waiting == 0);
        match now.commits {
            None => before,
            Some(commits) if commits.waiting == 0 || !acked => None,
            Some(commits) => {
                let same = before.filter(|stall| stall.binlog_writes == commits.binlog_writes);
                same.or(Some(Self { since: now.at, binlog_writes: commits.binlog_writes }))
            }
        }
    }
}
