//! The three durations of the election and what must hold between them, checked once at start-up.

/// Longest lease that is accepted from people and believed from others, in milliseconds: a figure
/// beyond it is a mistake, and a lease nobody renews would block everyone for that long.
pub const LEASE_MS_MAX: u64 = 600_000;

/// Lease duration, renew deadline and retry period, in milliseconds, known to fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    lease_ms: u64,
    deadline_ms: u64,
    retry_ms: u64,
}

/// Why three durations do not make an election.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// A Lease holds its duration as a whole number of seconds.
    #[error("lease duration is {0} ms, hint: it must be a whole number of seconds from 1 to 600")]
    Lease(u64),
    /// Nothing would keep a leader from acting when its lease is already somebody else's.
    #[error("renew deadline is {deadline_ms} ms and lease duration {lease_ms} ms, hint: the deadline must be shorter")]
    Deadline {
        /// Renew deadline, in milliseconds.
        deadline_ms: u64,
        /// Lease duration, in milliseconds.
        lease_ms: u64,
    },
    /// A single slow answer would cost the leadership, or requests would follow each other without a pause.
    #[error(
        "retry period is {retry_ms} ms and renew deadline {deadline_ms} ms, \
         hint: the period must be above 0 and 1.2 times it must be shorter than the deadline"
    )]
    Retry {
        /// Retry period, in milliseconds.
        retry_ms: u64,
        /// Renew deadline, in milliseconds.
        deadline_ms: u64,
    },
}

impl Timing {
    /// The default: a leader that dies is replaced within 3.4 s.
    pub const FAST: Self = Self { lease_ms: 3_000, deadline_ms: 2_000, retry_ms: 400 };
    /// For API servers that are slow or far away.
    pub const MEDIUM: Self = Self { lease_ms: 6_000, deadline_ms: 4_000, retry_ms: 1_000 };
    /// What most controllers use (the defaults of client-go's leader election).
    pub const SLOW: Self = Self { lease_ms: 15_000, deadline_ms: 10_000, retry_ms: 2_000 };

    /// Checks `lease_ms > deadline_ms > 1.2 * retry_ms > 0` (client-go's rule) and that the lease is
    /// a whole number of seconds.
    ///
    /// # Errors
    /// [`TimingError`] names the first figure that does not fit.
    pub fn new(lease_ms: u64, deadline_ms: u64, retry_ms: u64) -> Result<Self, TimingError> {
        if lease_ms == 0 || !lease_ms.is_multiple_of(1_000) || lease_ms > LEASE_MS_MAX {
            return Err(TimingError::Lease(lease_ms));
        }
        if deadline_ms >= lease_ms {
            return Err(TimingError::Deadline { deadline_ms, lease_ms });
        }
        if retry_ms == 0 || retry_ms.saturating_mul(12) >= deadline_ms.saturating_mul(10) {
            return Err(TimingError::Retry { retry_ms, deadline_ms });
        }
        Ok(Self { lease_ms, deadline_ms, retry_ms })
    }

    /// How long others wait after the last change they saw, in milliseconds.
    #[must_use]
    pub fn lease_ms(self) -> u64 {
        self.lease_ms
    }

    /// The same as a Lease holds it, in seconds.
    #[must_use]
    pub fn lease_s(self) -> u32 {
        u32::try_from(self.lease_ms / 1_000).unwrap_or(u32::MAX)
    }

    /// How long a renewal is good for, counted from its start, in milliseconds.
    #[must_use]
    pub fn deadline_ms(self) -> u64 {
        self.deadline_ms
    }

    /// Time from one attempt's start to the next, and the longest a request may take, in milliseconds.
    #[must_use]
    pub fn retry_ms(self) -> u64 {
        self.retry_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiers_keep_their_own_rule() {
        for tier in [Timing::FAST, Timing::MEDIUM, Timing::SLOW] {
            assert_eq!(Timing::new(tier.lease_ms, tier.deadline_ms, tier.retry_ms), Ok(tier));
        }
        assert_eq!(Timing::FAST.lease_s(), 3);
    }

    #[test]
    fn figures_that_do_not_fit_are_named() {
        let lease = |ms| Err(TimingError::Lease(ms));
        assert_eq!(Timing::new(0, 500, 100), lease(0));
        assert_eq!(Timing::new(1_500, 500, 100), lease(1_500));
        assert_eq!(Timing::new(601_000, 500, 100), lease(601_000));
        assert_eq!(Timing::new(3_000, 3_000, 400), Err(TimingError::Deadline { deadline_ms: 3_000, lease_ms: 3_000 }));
        for retry_ms in [0, 1_000, 2_000, u64::MAX] {
            assert_eq!(Timing::new(2_000, 1_200, retry_ms), Err(TimingError::Retry { retry_ms, deadline_ms: 1_200 }));
        }
        assert!(Timing::new(2_000, 1_201, 1_000).is_ok());
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = Timing::new(2_500, 2_000, 400).unwrap_err().to_string();
        assert_eq!(text, "lease duration is 2500 ms, hint: it must be a whole number of seconds from 1 to 600");
        let text = Timing::new(2_000, 2_000, 400).unwrap_err().to_string();
        assert_eq!(text, "renew deadline is 2000 ms and lease duration 2000 ms, hint: the deadline must be shorter");
    }
}
