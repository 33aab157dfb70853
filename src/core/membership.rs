//! Who acknowledges for the primary, as it is written down: before a server may acknowledge it is named,
//! and it is named until it surely does not (safety.md, "Semi-sync").
//!
//! Whoever leads next counts these servers before it has seen any of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{id::ServerAddr, time::Mono};

/// What is written down; a place in the cluster's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The primary.
    pub source: ServerAddr,
    /// Acknowledgements a commit waits for there, at least.
    pub acks: u32,
    /// Servers that may acknowledge.
    pub ackers: BTreeSet<ServerAddr>,
}

/// What is known of the place where it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// As last read; it may be older than what this process wrote.
    pub read: Option<Membership>,
    /// As this process wrote it, or found it when it was about to, in its present time as leader.
    pub written: Option<Membership>,
    /// Servers that this process makes acknowledge (`None`: now; else until then): the newest look may show them as they
    /// were before.
    pub beginning: BTreeMap<ServerAddr, Option<Mono>>,
}

impl Ledger {
    /// A server is being made to acknowledge.
    pub fn begins(&mut self, server: &ServerAddr) {
        self.beginning.insert(server.clone(), None);
    }

    /// That has ended, whichever way.
    pub fn has_begun(&mut self, server: &ServerAddr, now: Mono) {
        if let Some(until) = self.beginning.get_mut(server) {
            *until = Some(now);
        }
    }

    /// Whether a look at a server that began then may show it as it was before it was made to acknowledge.
    #[must_use]
    pub fn may_begin(&self, server: &ServerAddr, began: Option<Mono>) -> bool {
        let until = self.beginning.get(server);
        until.is_some_and(|until| until.is_none_or(|until| began.is_none_or(|began| began < until)))
    }

    /// What is written there now, as far as a read can tell. After a read has shown what this process wrote,
    /// another one is newer: somebody has changed it, and nothing is certain.
    pub fn renew(&mut self, read: Option<Membership>) {
        if self.read == self.written && read != self.written {
            self.written = None;
        }
        self.read = read;
    }

    /// The newest known.
    #[must_use]
    pub fn newest(&self) -> Option<&Membership> {
        self.written.as_ref().or(self.read.as_ref())
    }

    /// Whether nobody else can have written anything newer.
    #[must_use]
    pub fn certain(&self) -> bool {
        self.written.is_some()
    }

    /// Everybody who is written down, by whichever version.
    pub fn ackers(&self) -> impl Iterator<Item = &ServerAddr> {
        self.both().flat_map(|known| &known.ackers)
    }

    /// The fewest acknowledgements that `source` may wait for.
    #[must_use]
    pub fn acks(&self, source: &ServerAddr) -> Option<u32> {
        self.both().filter(|known| known.source == *source).map(|known| known.acks).min()
    }

    fn both(&self) -> impl Iterator<Item = &Membership> {
        self.read.iter().chain(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(ackers: &[&str]) -> Option<Membership> {
        let ackers = ackers.iter().map(|acker| acker.parse().unwrap()).collect();
        Some(Membership { source: "p:3306".parse().unwrap(), acks: 1, ackers })
    }

    #[test]
    fn a_late_read_changes_nothing_and_one_after_what_was_written_does() {
        let (old, new) = (membership(&["a:3306"]), membership(&["a:3306", "b:3306"]));
        let mut ledger = Ledger { read: old.clone(), written: new.clone(), ..Ledger::default() };
        ledger.renew(old.clone());
        assert_eq!((ledger.newest(), ledger.certain()), (new.as_ref(), true), "it is older than what was written");
        ledger.renew(new.clone());
        assert!(ledger.certain());
        ledger.renew(None);
        assert_eq!((ledger.newest(), ledger.certain()), (None, false), "somebody has taken it away");
        ledger.renew(new.clone());
        assert_eq!((ledger.newest(), ledger.certain()), (new.as_ref(), false));
    }
}
