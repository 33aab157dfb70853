//! Sets of transactions, as MySQL writes them (`uuid:1-5:7,uuid:tag:1-3`) and as MariaDB writes
//! positions (`0-1-100,1-2-7`), with the few operations that elections need.
//!
//! A MariaDB position says "everything of this domain up to this sequence number"; it is kept as the
//! interval from 1, so that containment and union mean the same for both. What MariaDB's binary log holds
//! is told by domain and server (`0-1` for both, [`GtidSet::of_binlog_state`]): only that shows which of
//! two histories a transaction belongs to.
//! Grammar of MySQL's sets: MySQL reference manual, "GTID Sets".

mod mariadb;

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// One run of transaction numbers, both ends included, `first <= last`, `first >= 1`.
type Interval = (u64, u64);

/// A set of transactions. The empty set is the default. A clone shares what it holds: sets are large and
/// most looks show the same again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet {
    /// Sorted, disjoint, non-adjacent intervals per source (`uuid`, `uuid:tag`) or MariaDB domain.
    sources: Arc<BTreeMap<String, Vec<Interval>>>,
}

/// How two sets relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOrder {
    /// The same transactions.
    Equal,
    /// The left one has all of the right one and more.
    Superset,
    /// The right one has all of the left one and more.
    Subset,
    /// Each has something the other lacks.
    Incomparable,
}

/// A text that is no GTID set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a GTID set: {0:?}")]
pub struct GtidError(String);

impl GtidSet {
    fn of(sources: BTreeMap<String, Vec<Interval>>) -> Self {
        Self { sources: Arc::new(sources) }
    }

    /// Surely the same set; the reverse need not hold.
    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sources, &other.sources)
    }

    /// No transaction at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// All runs of transactions: source, first and last number.
    pub fn runs(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.sources.iter().flat_map(|(source, runs)| runs.iter().map(|run| (source.as_str(), run.0, run.1)))
    }

    /// Number of transactions.
    #[must_use]
    pub fn count(&self) -> u64 {
        let len = |&(first, last): &Interval| last - first + 1;
        self.sources.values().flatten().map(len).fold(0, u64::saturating_add)
    }

    /// All transactions of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if other.is_empty() || self.same(other) {
            return self.clone();
        }
        let mut sources = BTreeMap::clone(&self.sources);
        for (source, intervals) in other.sources.iter() {
            let merged = sources.entry(source.clone()).or_default();
            merged.extend(intervals);
            *merged = normalize(std::mem::take(merged));
        }
        Self::of(sources)
    }

    /// The transactions of `self` that `other` lacks.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        if other.is_empty() || self.is_empty() {
            return self.clone();
        }
        if self.same(other) {
            return Self::default();
        }
        let mut sources = BTreeMap::new();
        for (source, intervals) in self.sources.iter() {
            let gone = other.sources.get(source).map(Vec::as_slice).unwrap_or_default();
            let rest: Vec<_> = intervals.iter().flat_map(|&interval| cut(interval, gone)).collect();
            if !rest.is_empty() {
                sources.insert(source.clone(), rest);
            }
        }
        Self::of(sources)
    }

    /// The part of `self` that comes from `source`: a server UUID, all its tags included, or `server-id:7`.
    #[must_use]
    pub fn of_source(&self, source: &str) -> Self {
        let id = source.strip_prefix("server-id:");
        let of = |name: &str| {
            let tagged = name.strip_prefix(source).is_some_and(|rest| rest.starts_with(':'));
            name == source || tagged || id.is_some_and(|id| is_pair(name) && name.ends_with(&format!("-{id}")))
        };
        let sources = self.sources.iter().filter(|(name, _)| of(name));
        Self::of(sources.map(|(name, runs)| (name.clone(), runs.clone())).collect())
    }

    /// Whether every transaction of `other` is here.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.subtract(self).is_empty()
    }

    /// How `self` relates to `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> SetOrder {
        match (self.contains(other), other.contains(self)) {
            (true, true) => SetOrder::Equal,
            (true, false) => SetOrder::Superset,
            (false, true) => SetOrder::Subset,
            (false, false) => SetOrder::Incomparable,
        }
    }
}

/// Sorts and merges what overlaps or touches.
fn normalize(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
    for (first, last) in intervals {
        match merged.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// What is left of one interval when the sorted `gone` is taken away.
fn cut((mut first, last): Interval, gone: &[Interval]) -> Vec<Interval> {
    let mut rest = Vec::new();
    for &(gone_first, gone_last) in gone {
        if gone_last < first {
            continue;
        }
        if gone_first > last || first > last {
            break;
        }
        if gone_first > first {
            rest.push((first, gone_first - 1));
        }
        first = gone_last.saturating_add(1);
    }
    if first <= last {
        rest.push((first, last));
    }
    rest
}

impl FromStr for GtidSet {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || GtidError(text.chars().take(200).collect());
        let mut sources: BTreeMap<String, Vec<Interval>> = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if !part.contains(':') {
                let (domain, sequence) = mariadb_position(part).ok_or_else(error)?;
                sources.entry(domain).or_default().push((1, sequence));
                continue;
            }
            mysql_part(part, &mut sources).ok_or_else(error)?;
        }
        sources.retain(|_, intervals| !intervals.is_empty());
        for intervals in sources.values_mut() {
            *intervals = normalize(std::mem::take(intervals));
        }
        Ok(Self::of(sources))
    }
}

/// `domain-server-sequence`; the server is not part of the position's meaning.
fn mariadb_position(part: &str) -> Option<(String, u64)> {
    let mut numbers = part.split('-').map(str::parse::<u64>);
    let (domain, _server, sequence) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    (numbers.next().is_none() && sequence > 0).then(|| (domain.to_string(), sequence))
}

/// `uuid[:tag]:interval[:interval|:tag:interval...]`.
fn mysql_part(part: &str, sources: &mut BTreeMap<String, Vec<Interval>>) -> Option<()> {
    let mut pieces = part.split(':').map(str::trim);
    let uuid = pieces.next().filter(|source| is_uuid(source) || is_pair(source))?.to_ascii_lowercase();
    let mut source = uuid.clone();
    for piece in pieces {
        if piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let tag_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if piece.len() > 32 || !piece.chars().all(tag_char) {
                return None;
            }
            source = format!("{uuid}:{}", piece.to_ascii_lowercase());
            continue;
        }
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let interval: Interval = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if interval.0 == 0 {
            return None;
        }
        // MySQL accepts and ignores an interval that ends before it starts.
        if interval.0 <= interval.1 {
            sources.entry(source.clone()).or_default().push(interval);
        }
    }
    Some(())
}

/// `domain-server` of MariaDB.
fn is_pair(text: &str) -> bool {
    text.split_once('-').is_some_and(|(domain, server)| domain.parse::<u32>().is_ok() && server.parse::<u32>().is_ok())
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (source, intervals)) in self.sources.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{source}")?;
            for (first, last) in intervals {
                if first == last {
                    write!(f, ":{first}")?;
                } else {
                    write!(f, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for GtidSet {
    type Error = GtidError;

    /// Reads what [`fmt::Display`] writes: MySQL's form, and `domain:1-sequence` for MariaDB.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let domain_part = |part: &str| {
            let (domain, last) = part.split_once(":")?;
            let last = last.strip_prefix("1-").unwrap_or(last);
            domain.parse::<u64>().ok().map(|domain| format!("{domain}-0-{last}"))
        };
        let parts = text.split(',').map(|part| domain_part(part).unwrap_or_else(|| part.to_owned()));
        parts.collect::<Vec<_>>().join(",").parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn mysql_sets_are_normalized() {
        assert_eq!(set(&format!("{A}:5:1-3:4,\n{B}:7")).to_string(), format!("{A}:1-5,{B}:7"));
        assert_eq!(set(&format!("{A}:1-2:tag_a:1-3:4")).to_string(), format!("{A}:1-2,{A}:tag_a:1-4"));
        assert_eq!(set("").count(), 0);
        assert_eq!(set(&format!("{A}:1-18446744073709551614")).count(), u64::MAX - 1);
    }

    #[test]
    fn mariadb_positions_mean_everything_before() {
        assert!(set("0-1-100,1-2-7").contains(&set("0-9-99")));
        assert_eq!(set("0-1-100").compare(&set("1-1-1")), SetOrder::Incomparable);
    }

    #[test]
    fn hostile_sets_are_refused() {
        for text in ["x", "a:1", &format!("{A}:0"), &format!("{A}:1-x"), &format!("{A}:t'x:1"), "0-1", "0-1-2-3"] {
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_part_by_source_has_its_tags() {
        let both = set(&format!("{A}:1-2:x:9,{B}:4"));
        assert_eq!(both.of_source(A), set(&format!("{A}:1-2:x:9")));
    }

    fn any_set() -> impl Strategy<Value = GtidSet> {
        let runs = prop::collection::vec((1u64..40, 0u64..9), 1..6);
        (runs.clone(), runs).prop_map(|(a, b)| {
            let part = |name: &str, runs: Vec<(u64, u64)>| {
                let runs = runs.iter().map(|(first, len)| format!(":{first}-{}", first + len));
                format!("{name}{}", runs.collect::<String>())
            };
            set(&format!("{},{}", part(A, a), part(B, b)))
        })
    }

    proptest! {
        #[test]
        fn sets_obey_the_laws(a in any_set(), b in any_set()) {
            let (both, left) = (a.union(&b), a.subtract(&b));
            prop_assert_eq!(&both, &b.union(&a));
            prop_assert!(both.contains(&a) && both.contains(&b));
            prop_assert_eq!(left.count() + b.count(), both.count());
            prop_assert_eq!(left.union(&b), both);
            prop_assert_eq!(set(&a.to_string()), a.clone());
            prop_assert_eq!(GtidSet::try_from(a.to_string()).unwrap(), a);
        }
    }
}
