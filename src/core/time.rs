//! Time as the core sees it: a number on a clock that only goes forward.
//!
//! Wall clocks jump; every duration that a decision depends on is a difference of two [`Mono`] values
//! taken on one machine. The shells read the clock, the core only subtracts.

use serde::{Deserialize, Serialize};

/// A point on the process' monotonic clock, in milliseconds since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Mono(pub u64);

impl Mono {
    /// Milliseconds from `earlier` to `self`; 0 when `earlier` is later.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The point `ms` milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}
