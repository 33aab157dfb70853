//! When an automatic failover is held back: one was done not long ago and nobody took note.
//!
//! Flapping is worse than waiting for a person: a network that comes and goes makes one primary after
//! another look dead. A new primary whose process is gone is another, proven failure: it is replaced all
//! the same, a few times. So is, once, one whose commits hang after a death, and one that died after
//! another one's commits hung: no network makes the one look like the other. A failover that a person
//! acknowledged, or that never promoted anybody, holds nothing back; forced ones are never held back.

use super::{
    analysis::Code,
    id::ServerAddr,
    recovery::{Phase, Recovery},
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
    /// What shows it.
    pub sign: Sign,
}

/// What shows that a primary fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Its host answers and says that there is no process.
    Gone,
    /// Neither Baton nor its replicas hear it.
    Silent,
    /// It answers, and its commits hang.
    Stalled,
}

impl Sign {
    /// The other of silence and a stall than what a recovery was begun for, with what shows it; `None`: a person
    /// began it, and may have known of either.
    fn after(last: &Recovery) -> Option<(Self, &'static str)> {
        match last.cause.analysis == Code::StalledPrimary.name() {
            _ if last.cause.is_forced() => None,
            true => Some((Self::Silent, "nobody hears it")),
            false => Some((Self::Stalled, "its commits hang")),
        }
    }
}

/// Why the next automatic failover is held back; `None`: it is not. Without `failing`, why one would be
/// if the primary failed as the last one did. `last`: the newest recovery that promoted somebody.
#[must_use]
pub fn blocked(
    history: &[Past],
    last: Option<&Recovery>,
    block_ms: u64,
    failing: Option<Failing<'_>>,
) -> Option<String> {
    let blocks = |past: &&Past| {
        holds(Rule::BlockPeriod)
            && past.phase.promoted()
            && !past.reopened
            && !past.acknowledged
            && past.age_ms < block_ms
    };
    let recent: Vec<_> = history.iter().filter(blocks).collect();
    let newest = recent.iter().min_by_key(|past| past.age_ms)?;
    let affordable = recent.len() < BUDGET || !holds(Rule::FailoverBudget);
    // What the others were begun for is not looked at: one change of the sign is all there is.
    let only = last.filter(|last| recent.len() == 1 && last.record == newest.name);
    let other = only.and_then(Sign::after);
    let proven = |sign: Sign| affordable && (sign == Sign::Gone || other.is_some_and(|(other, _)| sign == other));
    if failing.is_some_and(|failing| proven(failing.sign) && newest.made.as_ref() == Some(failing.server)) {
        return None;
    }
    // Without the time that is left: it is shown in a condition, which must not tick.
    let block_s = block_ms.div_ceil(1000);
    let or = other.map(|(_, shows)| format!(" or {shows}")).unwrap_or_default();
    let but = match affordable {
        true => format!("; until then a primary is replaced only if its process is gone{or}"),
        false => String::new(),
    };
    Some(format!("{} was less than {block_s} s ago; acknowledge it or wait{but}", newest.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::recovery::FORCED,
        testing::{record::recovery, snapshot::addr},
    };

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
        let blocks = |past: Past, block_ms| blocked(&[past], None, block_ms, None);
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
        let blocks = |history: &[Past], server, gone| {
            let sign = if gone { Sign::Gone } else { Sign::Silent };
            blocked(history, None, HOUR, Some(Failing { server, sign })).is_some()
        };
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

    /// Why `r1`, which a recovery begun for `analysis` made the primary, is not replaced.
    fn after(analysis: &str, past: &[Past], server: &str, sign: Sign) -> Option<String> {
        let mut last = recovery(7, "baton-0", &addr("p"));
        (last.record, last.cause.analysis) = (past[0].name.clone(), analysis.to_owned());
        blocked(past, Some(&last), HOUR, Some(Failing { server: &addr(server), sign }))
    }

    #[test]
    fn a_stall_after_a_death_and_a_death_after_a_stall_are_another_failure_once() {
        let (dead, stalled) = (Code::DeadPrimary.name(), Code::StalledPrimary.name());
        let once = [past(Phase::Succeeded, 1000, false)];
        for (analysis, sign, replaced) in [
            (dead, Sign::Stalled, true),
            (dead, Sign::Silent, false),
            (dead, Sign::Gone, true),
            (Code::DeadPrimaryAndSomeReplicas.name(), Sign::Stalled, true),
            (stalled, Sign::Stalled, false),
            (stalled, Sign::Silent, true),
            (stalled, Sign::Gone, true),
            (FORCED, Sign::Stalled, false),
            (FORCED, Sign::Silent, false),
            (FORCED, Sign::Gone, true),
        ] {
            assert_eq!(after(analysis, &once, "r1", sign).is_none(), replaced, "{sign:?} after {analysis}");
            let other = after(analysis, &once, "r2", sign);
            assert!(other.is_some(), "{sign:?} after {analysis}: somebody else made it the primary");
        }
        let told = |analysis| after(analysis, &once, "r2", Sign::Gone).unwrap_or_default();
        assert!(told(dead).ends_with("only if its process is gone or its commits hang"), "{}", told(dead));
        assert!(told(stalled).ends_with("only if its process is gone or nobody hears it"), "{}", told(stalled));
        assert!(told(FORCED).ends_with("only if its process is gone"), "{}", told(FORCED));
        // A stall, a death, and a stall again: the same failure again.
        let earlier = Past { name: "shop-6".to_owned(), ..past(Phase::Succeeded, 60_000, false) };
        let twice = [once[0].clone(), earlier.clone()];
        assert!(after(dead, &twice, "r1", Sign::Stalled).is_some());
        assert!(after(dead, &twice, "r1", Sign::Gone).is_none(), "the budget is not spent");
        let noted = [once[0].clone(), Past { acknowledged: true, ..earlier.clone() }];
        assert!(after(dead, &noted, "r1", Sign::Stalled).is_none(), "somebody took note of the first");
        let thrice = [once[0].clone(), earlier.clone(), earlier];
        assert!(after(dead, &thrice, "r1", Sign::Gone).is_some(), "it is");
    }

    #[test]
    fn what_the_last_one_was_for_counts_only_if_it_is_known() {
        let once = [past(Phase::Succeeded, 1000, false)];
        let other = recovery(6, "baton-0", &addr("p"));
        let failing = Failing { server: &addr("r1"), sign: Sign::Stalled };
        assert!(blocked(&once, Some(&other), HOUR, Some(failing)).is_some());
    }
}
