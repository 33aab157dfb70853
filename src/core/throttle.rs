//! When an automatic failover is held back: one was done not long ago and nobody took note.
//!
//! Flapping is worse than waiting for a person: a network that comes and goes makes one primary after
//! another look dead. A new primary whose process is gone is another, proven failure: it is replaced all
//! the same, a few times. A failover that a person acknowledged, or that never promoted anybody, holds
//! nothing back; forced ones are never held back.

use super::{
    id::ServerAddr,
    recovery::Phase,
    rules::{Rule, holds},
};

/// Failovers within the block period, of which nobody took note, before the next waits whatever happened.
const BUDGET: usize = 3;

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
    /// The primary that it made.
    pub made: Option<ServerAddr>,
    /// The primary that it was about.
    pub old: Option<ServerAddr>,
    /// It opened the primary there was.
    pub reopened: bool,
}

/// The primary that fails now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing<'a> {
    /// Which.
    pub server: &'a ServerAddr,
    /// Its host answers and says that there is no process.
    pub gone: bool,
}

/// Why the next automatic failover is held back; `None`: it is not. Without `failing`, why one would be
/// if the primary fell silent.
#[must_use]
pub fn blocked(history: &[Past], block_ms: u64, failing: Option<Failing<'_>>) -> Option<String> {
    let holds = |past: &&Past| {
        holds(Rule::BlockPeriod)
            && past.phase.promoted()
            && !past.reopened
            && !past.acknowledged
            && past.age_ms < block_ms
    };
    let recent: Vec<_> = history.iter().filter(holds).collect();
    let newest = recent.iter().min_by_key(|past| past.age_ms)?;
    let affordable = recent.len() < BUDGET;
    if failing.is_some_and(|failing| affordable && failing.gone && newest.made.as_ref() == Some(failing.server)) {
        return None;
    }
    // Without the time that is left: it is shown in a condition, which must not tick.
    let block_s = block_ms.div_ceil(1000);
    let but = if affordable { "; until then a primary is replaced only if its process is gone" } else { "" };
    Some(format!("{} was less than {block_s} s ago; acknowledge it or wait{but}", newest.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::snapshot::addr;

    const HOUR: u64 = 3_600_000;

    fn past(phase: Phase, age_ms: u64, acknowledged: bool) -> Past {
        Past {
            name: "shop-7".to_owned(),
            phase,
            age_ms,
            acknowledged,
            made: Some(addr("r1")),
            old: None,
            reopened: false,
        }
    }

    #[test]
    fn only_a_recent_unacknowledged_promotion_blocks() {
        let blocks = |past: Past, block_ms| blocked(&[past], block_ms, None);
        let text = blocks(past(Phase::Succeeded, 1000, false), HOUR);
        assert!(text.as_ref().is_some_and(|text| text.contains("less than 3600 s ago")), "{text:?}");
        assert_eq!(text, blocks(past(Phase::Succeeded, 2000, false), HOUR), "nothing that is shown ticks");
        assert_eq!(blocks(past(Phase::Succeeded, HOUR, false), HOUR), None);
        assert_eq!(blocks(past(Phase::Succeeded, 1000, true), HOUR), None);
        assert_eq!(blocks(past(Phase::Refused, 1000, false), HOUR), None);
        assert_eq!(blocks(past(Phase::Succeeded, 1000, false), 0), None);
    }

    #[test]
    fn a_new_primary_whose_process_is_gone_is_replaced_a_few_times() {
        let (new, other) = (addr("r1"), addr("r2"));
        let mut history = vec![past(Phase::Succeeded, 1000, false)];
        let blocks = |history: &[Past], server, gone| blocked(history, HOUR, Some(Failing { server, gone })).is_some();
        assert!(!blocks(&history, &new, true));
        assert!(blocks(&history, &new, false), "silence again is the same again");
        assert!(blocks(&history, &other, true), "somebody else made it the primary");
        history.push(past(Phase::Succeeded, 60_000, false));
        assert!(!blocks(&history, &new, true));
        history.push(past(Phase::Completing, 120_000, false));
        assert!(blocks(&history, &new, true), "too often");
        history[0].acknowledged = true;
        history[2].acknowledged = true;
        assert!(!blocks(&history, &new, true));
    }
}
