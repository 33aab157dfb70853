//! What a recovery knows while too few replicas are left to acknowledge for a new primary.

use crate::core::{observation::Observation, time::Mono};

/// What is known while there are too few.
#[derive(Debug, Clone, Default)]
pub(super) struct Shortage {
    /// The newest look at the old primary since this recovery began, if it refuses writes.
    pub(super) old: Option<Observation>,
    /// How many replicas were stopped when nobody could be chosen, and until when it is not tried again.
    pub(super) tried: Option<(usize, Mono)>,
}

impl Shortage {
    /// Whether the choice is to be made, with so many replicas stopped.
    pub(super) fn choice_due(&self, stopped: usize, now: Mono) -> bool {
        self.tried.is_none_or(|(before, until)| stopped != before || now >= until)
    }
}
