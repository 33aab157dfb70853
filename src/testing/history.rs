//! What a fleet of writers was told, and what follows from it: how long nobody could write, and whether
//! anything that was acknowledged is missing (safety.md I1, I2).
//!
//! Pure: times are microseconds since the run began, taken on one monotonic clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// One row: which writer wrote it, and its number among that writer's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowId {
    /// The writer, from 0.
    pub writer: u32,
    /// From 1, never used twice.
    pub seq: u64,
}

/// What the writer was told about an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The server said that it is committed: it must never be missed again.
    Acknowledged,
    /// The server refused it with this error number: it must never appear.
    Refused(u16),
    /// The connection broke or the answer did not come in time: it may turn out either way.
    Unknown,
}

/// One insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The row.
    pub row: RowId,
    /// The server, as an index into [`History::servers`].
    pub server: u16,
    /// When it was sent.
    pub start_us: u64,
    /// When the outcome was known.
    pub end_us: u64,
    /// The outcome.
    pub outcome: Outcome,
}

/// Something that happened from outside, for instance a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at_us: u64,
    /// What.
    pub what: String,
}

/// Everything that a fleet of writers saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Number of the run; rows of several runs share a table.
    pub run: u64,
    /// Names of the servers that answered, in the order of their first answer.
    pub servers: Vec<String>,
    /// All inserts, in the order in which their outcomes were known.
    pub attempts: Vec<Attempt>,
    /// What happened meanwhile.
    pub marks: Vec<Mark>,
    /// Whether the bound on attempts was reached and the writers stopped early.
    pub truncated: bool,
}

/// A time in which one server acknowledged, until another did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    /// The server, as an index into [`History::servers`].
    pub server: u16,
    /// First acknowledgement.
    pub first_us: u64,
    /// Last acknowledgement.
    pub last_us: u64,
    /// Acknowledged rows.
    pub rows: u64,
}

/// A change of the server that acknowledges: one failover or switchover as the writers saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Who acknowledged before.
    pub from: String,
    /// Who acknowledged after.
    pub to: String,
    /// Last acknowledgement of the old server.
    pub last_us: u64,
    /// First acknowledgement of the new server.
    pub first_us: u64,
    /// The time between in milliseconds, with fractions.
    pub gap_ms: f64,
}

/// A history without its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of the run.
    pub run: u64,
    /// Names of the servers that answered.
    pub servers: Vec<String>,
    /// Acknowledged rows.
    pub acknowledged: u64,
    /// Refused rows.
    pub refused: u64,
    /// Rows of unknown outcome.
    pub unknown: u64,
    /// What happened meanwhile.
    pub marks: Vec<Mark>,
    /// Changes of the acknowledging server.
    pub gaps: Vec<Gap>,
    /// Whether the writers stopped early.
    pub truncated: bool,
}

/// How the final primary's rows compare with what the writers were told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Acknowledged rows.
    pub acknowledged: u64,
    /// Acknowledged rows that are missing: lost.
    pub lost: Vec<RowId>,
    /// Rows of unknown outcome that are there.
    pub unknown_present: u64,
    /// Rows of unknown outcome that are not.
    pub unknown_absent: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// Rows that are there though they were refused or never sent.
    pub unexpected: Vec<RowId>,
}

impl History {
    /// Times in which one server acknowledged, in order. More than one change where one was caused, or
    /// a return to an earlier server, is a sign of two writable servers (I3).
    #[must_use]
    pub fn reigns(&self) -> Vec<Reign> {
        let mut reigns: Vec<Reign> = Vec::new();
        for attempt in self.acknowledged_in_order() {
            match reigns.last_mut() {
                Some(reign) if reign.server == attempt.server => {
                    reign.last_us = attempt.end_us;
                    reign.rows += 1;
                }
                _ => reigns.push(Reign {
                    server: attempt.server,
                    first_us: attempt.end_us,
                    last_us: attempt.end_us,
                    rows: 1,
                }),
            }
        }
        reigns
    }

    /// Changes of the acknowledging server, in order.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let reigns = self.reigns();
        reigns.iter().zip(reigns.iter().skip(1)).map(|(old, new)| self.gap(old, new)).collect()
    }

    /// Times without an acknowledgement that end after `since_us`, from one to the next, in microseconds.
    #[must_use]
    pub fn pauses(&self, since_us: u64) -> Vec<(u64, u64)> {
        let times: Vec<u64> = self.acknowledged_in_order().iter().map(|attempt| attempt.end_us).collect();
        let pauses = times.iter().copied().zip(times.iter().copied().skip(1));
        pauses.filter(|(_, end)| *end > since_us).collect()
    }

    /// The longest time without an acknowledgement that ends after `since_us`, in milliseconds; `None`
    /// when nothing was acknowledged after it.
    #[must_use]
    pub fn longest_pause_ms(&self, since_us: u64) -> Option<f64> {
        self.pauses(since_us).into_iter().map(|(start, end)| end - start).max().map(ms)
    }

    /// The first acknowledgement by a server other than `server` after `since_us`.
    #[must_use]
    pub fn first_from_another(&self, server: &str, since_us: u64) -> Option<u64> {
        let name = |attempt: &Attempt| self.servers.get(usize::from(attempt.server));
        let another = |attempt: &&Attempt| name(attempt).is_some_and(|name| name != server);
        let acknowledged = self.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Acknowledged);
        acknowledged.filter(|attempt| attempt.end_us > since_us).filter(another).map(|attempt| attempt.end_us).min()
    }

    /// How many attempts had each outcome: acknowledged, refused, unknown.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        self.attempts.iter().fold((0, 0, 0), |(yes, no, unknown), attempt| match attempt.outcome {
            Outcome::Acknowledged => (yes + 1, no, unknown),
            Outcome::Refused(_) => (yes, no + 1, unknown),
            Outcome::Unknown => (yes, no, unknown + 1),
        })
    }

    /// Number of each writer's last row whose outcome is known.
    #[must_use]
    pub fn last_sent(&self) -> BTreeMap<u32, u64> {
        let mut last = BTreeMap::new();
        for Attempt { row, .. } in &self.attempts {
            let seq: &mut u64 = last.entry(row.writer).or_default();
            *seq = row.seq.max(*seq);
        }
        last
    }

    /// Numbers for a person: everything but the attempts.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let (acknowledged, refused, unknown) = self.counts();
        Summary {
            run: self.run,
            servers: self.servers.clone(),
            acknowledged,
            refused,
            unknown,
            marks: self.marks.clone(),
            gaps: self.gaps(),
            truncated: self.truncated,
        }
    }

    /// Compares with the rows that the final primary has.
    #[must_use]
    pub fn check(&self, present: &BTreeSet<RowId>) -> Verdict {
        let mut verdict = Verdict::default();
        let mut outcomes = BTreeMap::new();
        for attempt in &self.attempts {
            outcomes.insert(attempt.row, attempt.outcome);
            match (attempt.outcome, present.contains(&attempt.row)) {
                (Outcome::Acknowledged, true) => verdict.acknowledged += 1,
                (Outcome::Acknowledged, false) => {
                    verdict.acknowledged += 1;
                    verdict.lost.push(attempt.row);
                }
                (Outcome::Unknown, true) => verdict.unknown_present += 1,
                (Outcome::Unknown, false) => verdict.unknown_absent += 1,
                (Outcome::Refused(_), _) => verdict.refused += 1,
            }
        }
        let may_be_there = |row: &RowId| matches!(outcomes.get(row), Some(Outcome::Acknowledged | Outcome::Unknown));
        verdict.unexpected = present.iter().filter(|row| !may_be_there(row)).copied().collect();
        verdict
    }

    fn acknowledged_in_order(&self) -> Vec<Attempt> {
        let acknowledged = |attempt: &&Attempt| attempt.outcome == Outcome::Acknowledged;
        let mut attempts: Vec<Attempt> = self.attempts.iter().filter(acknowledged).copied().collect();
        attempts.sort_by_key(|attempt| attempt.end_us);
        attempts
    }

    fn gap(&self, old: &Reign, new: &Reign) -> Gap {
        let name = |server: u16| self.servers.get(usize::from(server)).cloned().unwrap_or_default();
        Gap {
            from: name(old.server),
            to: name(new.server),
            last_us: old.last_us,
            first_us: new.first_us,
            gap_ms: ms(new.first_us.saturating_sub(old.last_us)),
        }
    }
}

/// Microseconds as milliseconds with fractions.
#[must_use]
pub fn ms(us: u64) -> f64 {
    let us = u32::try_from(us).unwrap_or(u32::MAX);
    f64::from(us) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(writer: u32, seq: u64, server: u16, end_us: u64, outcome: Outcome) -> Attempt {
        Attempt { row: RowId { writer, seq }, server, start_us: end_us - 10, end_us, outcome }
    }

    fn history(attempts: Vec<Attempt>) -> History {
        History { run: 1, servers: vec!["a:1".into(), "b:1".into()], attempts, ..History::default() }
    }

    fn failover() -> History {
        use Outcome::{Acknowledged, Refused, Unknown};
        history(vec![
            attempt(0, 1, 0, 1_000, Acknowledged),
            attempt(1, 1, 0, 2_500, Acknowledged),
            attempt(0, 2, 0, 2_000, Acknowledged),
            attempt(0, 3, 0, 600_000, Unknown),
            attempt(1, 2, 1, 300_000, Refused(1290)),
            attempt(1, 3, 1, 802_500, Acknowledged),
            attempt(0, 4, 1, 803_000, Acknowledged),
        ])
    }

    fn rows(present: &[(u32, u64)]) -> BTreeSet<RowId> {
        present.iter().map(|(writer, seq)| RowId { writer: *writer, seq: *seq }).collect()
    }

    #[test]
    fn a_gap_runs_from_the_last_to_the_first_acknowledgement() {
        let gaps = failover().gaps();
        assert_eq!(gaps.len(), 1);
        assert_eq!((gaps[0].from.as_str(), gaps[0].to.as_str()), ("a:1", "b:1"));
        assert_eq!((gaps[0].last_us, gaps[0].first_us), (2_500, 802_500));
        assert!((gaps[0].gap_ms - 800.0).abs() < 1e-9);
        assert_eq!(failover().longest_pause_ms(0), Some(800.0));
        assert_eq!(failover().longest_pause_ms(802_500), Some(0.5));
        assert_eq!(failover().longest_pause_ms(900_000), None);
        assert_eq!(failover().first_from_another("a:1", 100), Some(802_500));
        assert_eq!(failover().first_from_another("b:1", 3_000), None);
    }

    #[test]
    fn a_steady_server_has_one_reign_and_no_gap() {
        let steady = history(vec![
            attempt(0, 1, 0, 1_000, Outcome::Acknowledged),
            attempt(0, 2, 0, 9_000, Outcome::Acknowledged),
        ]);
        assert_eq!(steady.reigns(), [Reign { server: 0, first_us: 1_000, last_us: 9_000, rows: 2 }]);
        assert_eq!(steady.gaps(), []);
    }

    #[test]
    fn two_writable_servers_show_as_changes_to_and_fro() {
        let split = history(vec![
            attempt(0, 1, 0, 1_000, Outcome::Acknowledged),
            attempt(1, 1, 1, 2_000, Outcome::Acknowledged),
            attempt(0, 2, 0, 3_000, Outcome::Acknowledged),
        ]);
        assert_eq!(split.gaps().len(), 2);
    }

    #[test]
    fn everything_acknowledged_is_there() {
        let verdict = failover().check(&rows(&[(0, 1), (1, 1), (0, 2), (1, 3), (0, 4)]));
        assert_eq!(verdict, Verdict { acknowledged: 5, unknown_absent: 1, refused: 1, ..Verdict::default() });
    }

    #[test]
    fn a_summary_counts_and_keeps_the_gaps() {
        let summary = failover().summary();
        assert_eq!((summary.acknowledged, summary.refused, summary.unknown), (5, 1, 1));
        assert_eq!(summary.gaps, failover().gaps());
        assert_eq!(failover().last_sent(), BTreeMap::from([(0, 4), (1, 3)]));
    }

    #[test]
    fn lost_and_unexpected_rows_are_found() {
        let verdict = failover().check(&rows(&[(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (0, 4), (7, 1)]));
        assert_eq!(verdict.lost, [RowId { writer: 1, seq: 1 }]);
        assert_eq!((verdict.unknown_present, verdict.unknown_absent), (1, 0));
        assert_eq!(verdict.unexpected, [RowId { writer: 1, seq: 2 }, RowId { writer: 7, seq: 1 }]);
    }
}
