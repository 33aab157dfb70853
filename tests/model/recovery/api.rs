//! What the API server has: records, each written by compare-and-swap on who executes it; the epoch, won by
//! compare-and-swap; where clients are routed to. The semantics are those of src/k8s/records.rs.

use baton::core::{
    recovery::Phase,
    rules::{Rule, holds},
};

use super::mind::Note;

/// The cluster's resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Api {
    /// Records by reign.
    pub records: [Option<Note>; 3],
    /// `status.epoch`; a record's name says which it begins, so that there is one for each.
    pub epoch: u8,
    pub routed: Option<u8>,
}

/// How an attempt at the epoch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Won {
    Now,
    /// By the same record, before.
    Already,
    Lost,
}

impl Api {
    pub(super) fn new() -> Self {
        Self { records: [None; 3], epoch: 0, routed: Some(0) }
    }

    pub(super) fn record(&self, epoch: u8) -> Option<Note> {
        self.records[usize::from(epoch)]
    }

    /// The newest record.
    pub(super) fn newest(&self) -> Option<Note> {
        self.records.iter().rev().flatten().next().copied()
    }

    /// The newest record that is not finished.
    pub(super) fn unfinished(&self) -> Option<Note> {
        self.records.iter().rev().flatten().find(|note| !note.phase.finished()).copied()
    }

    /// The primary by the newest word.
    pub(super) fn primary(&self) -> u8 {
        let newest = self.newest();
        newest.map_or(0, |note| note.new_primary.filter(|_| note.phase.promoted()).unwrap_or(note.old_primary))
    }

    /// Creates a record, unless somebody has begun it. True: it is this executor's.
    pub(super) fn create(&mut self, note: Note) -> bool {
        let found = self.record(note.epoch);
        let free = found.is_none_or(|found| found.phase == Phase::Pending && found.executor == note.executor);
        if free && self.epoch <= note.epoch {
            self.records[usize::from(note.epoch)] = Some(note);
        }
        free && self.epoch <= note.epoch
    }

    /// Writes a record that is this executor's.
    pub(super) fn save(&mut self, note: Note) -> bool {
        let own = self.record(note.epoch).is_some_and(|found| found.executor == note.executor);
        if own {
            self.records[usize::from(note.epoch)] = Some(note);
        }
        own
    }

    pub(super) fn win(&mut self, epoch: u8) -> Won {
        if !holds(Rule::EpochSwap) {
            self.epoch = epoch;
            return Won::Now;
        }
        match self.epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => {
                self.epoch = epoch;
                Won::Now
            }
            std::cmp::Ordering::Equal => Won::Already,
            std::cmp::Ordering::Greater => Won::Lost,
        }
    }
}
