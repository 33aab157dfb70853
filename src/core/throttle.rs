//! When an automatic failover is held back: one was done not long ago and nobody took note.
//!
//! Flapping is worse than waiting for a person. A failover that a person acknowledged, or that never
//! promoted anybody, holds nothing back; forced ones are never held back.

use super::recovery::Phase;

/// A recovery of this cluster as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Name of its record.
    pub name: String,
    /// How it ended.
    pub phase: Phase,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Somebody took note.
    pub acknowledged: bool,
}

/// Why the next automatic failover is held back; `None`: it is not.
#[must_use]
pub fn blocked(history: &[Past], block_ms: u64) -> Option<String> {
    let holds = |past: &&Past| past.phase.promoted() && !past.acknowledged && past.age_ms < block_ms;
    let past = history.iter().filter(holds).min_by_key(|past| past.age_ms)?;
    let left_s = block_ms.saturating_sub(past.age_ms).div_ceil(1000);
    Some(format!("{} was {} s ago; acknowledge it or wait {left_s} s", past.name, past.age_ms / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(phase: Phase, age_ms: u64, acknowledged: bool) -> Past {
        Past { name: "shop-7".to_owned(), phase, age_ms, acknowledged }
    }

    #[test]
    fn only_a_recent_unacknowledged_promotion_blocks() {
        let hour = 3_600_000;
        assert!(blocked(&[past(Phase::Succeeded, 1000, false)], hour).is_some_and(|text| text.contains("3599 s")));
        assert_eq!(blocked(&[past(Phase::Succeeded, hour, false)], hour), None);
        assert_eq!(blocked(&[past(Phase::Succeeded, 1000, true)], hour), None);
        assert_eq!(blocked(&[past(Phase::Refused, 1000, false)], hour), None);
        assert_eq!(blocked(&[past(Phase::Succeeded, 1000, false)], 0), None);
    }
}
