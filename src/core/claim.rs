//! For how long a Job may act that has claimed a record (safety.md, "Leadership").
//!
//! The same promise as the Lease's: a renewal counts from before it was sent, and for less than what others wait
//! after the last change that they saw. A claim that has ended is never renewed: whoever doubts, stops.

use super::{
    election::Timing,
    recovery::Hold,
    rules::{Rule, holds},
    time::Mono,
};

/// A Job's right to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    timing: Timing,
    until: Option<Mono>,
}

impl Right {
    /// The record was claimed by a write that began at `started`; its answer came at `now`.
    #[must_use]
    pub fn claimed(timing: Timing, started: Mono, now: Mono) -> Self {
        let mut right = Self { timing, until: None };
        right.until = right.lasts(started).filter(|until| *until > now);
        right
    }

    fn lasts(&self, started: Mono) -> Option<Mono> {
        let from = if holds(Rule::ClaimValidity) { started } else { started.plus_ms(self.timing.lease_ms()) };
        Some(from.plus_ms(self.timing.deadline_ms()))
    }

    /// Until when this process is the only executor; `None`: it is none.
    #[must_use]
    pub fn until(&self) -> Option<Mono> {
        self.until
    }

    /// The claim was renewed by a write that began at `started`; its answer came at `now`.
    pub fn renewed(&mut self, started: Mono, now: Mono) {
        self.until = self.until.filter(|until| now < *until).and_then(|_| self.lasts(started));
        self.pass(now);
    }

    /// Another one executes the record.
    pub fn lost(&mut self) {
        self.until = None;
    }

    /// Time has passed. True: it may still act.
    pub fn pass(&mut self, now: Mono) -> bool {
        self.until = self.until.filter(|until| now < *until);
        self.until.is_some()
    }
}

/// Whether a record that is held, and is seen unchanged since `since`, is nobody's by now.
#[must_use]
pub fn overdue(hold: &Hold, since: Mono, now: Mono) -> bool {
    now.since_ms(since) >= hold.patience_ms || !holds(Rule::ClaimExpires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_counts_from_before_the_request_and_ends_before_others_take_over() {
        let mut right = Right::claimed(Timing::FAST, Mono(1000), Mono(1100));
        assert_eq!(right.until(), Some(Mono(3000)));
        right.renewed(Mono(1500), Mono(1600));
        assert_eq!(right.until(), Some(Mono(3500)));
        // Whoever saw the change of 1500 at once takes over at 4500.
        assert!(right.until() < Some(Mono(1500).plus_ms(Timing::FAST.lease_ms())));
        assert!(right.pass(Mono(3499)) && !right.pass(Mono(3500)));
    }

    #[test]
    fn what_has_ended_is_never_renewed() {
        let mut late = Right::claimed(Timing::FAST, Mono(0), Mono(10));
        late.renewed(Mono(1900), Mono(2000));
        assert_eq!(late.until(), None, "the answer came when it had ended");
        let mut lost = Right::claimed(Timing::FAST, Mono(0), Mono(10));
        lost.lost();
        lost.renewed(Mono(20), Mono(30));
        assert_eq!(lost.until(), None);
        assert_eq!(Right::claimed(Timing::FAST, Mono(0), Mono(2000)).until(), None, "an answer that took too long");
    }
}
