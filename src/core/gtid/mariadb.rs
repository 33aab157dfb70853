//! What MariaDB's binary logs hold, by domain and server: two histories of one domain use the same numbers,
//! and only the server tells them apart.

use std::collections::BTreeMap;

use super::{GtidError, GtidSet, Interval, mariadb_position, normalize};

impl GtidSet {
    /// MariaDB's positions (`0-1-100,0-2-120`), each as the interval from 1 of its domain and server: what
    /// `gtid_binlog_state` says of a binary log. Numbers that other servers of the domain used are in there too.
    ///
    /// # Errors
    /// [`GtidError`] when the text is no list of positions.
    pub fn of_binlog_state(text: &str) -> Result<Self, GtidError> {
        let mut sources: BTreeMap<String, Vec<Interval>> = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let pair = part.rsplit_once('-').filter(|_| mariadb_position(part).is_some());
            let number = pair.and_then(|(name, number)| Some((name, number.parse().ok()?)));
            let (name, number) = number.ok_or_else(|| GtidError(part.chars().take(200).collect()))?;
            sources.entry(name.to_owned()).or_default().push((1, number));
        }
        for intervals in sources.values_mut() {
            *intervals = normalize(std::mem::take(intervals));
        }
        Ok(Self::of(sources))
    }

    /// What the binary log of `self` holds and that of `other` does not, both [`GtidSet::of_binlog_state`].
    /// Where `other` never heard of a server, its transactions are not extra up to the newest one of their
    /// domain that both have: a copy knows only the newest of what it was made from.
    #[must_use]
    pub fn binlog_extra(&self, other: &Self) -> Self {
        let last = |set: &Self, name: &str| set.sources.get(name).and_then(|runs| runs.last()).map_or(0, |run| run.1);
        let domain = |name: &str| name.split('-').next().unwrap_or_default().to_owned();
        let shared = |of: &str| {
            let same = self.sources.keys().filter(|name| domain(name) == domain(of));
            same.map(|name| last(self, name).min(last(other, name))).max().unwrap_or_default()
        };
        let extra = self.sources.keys().filter_map(|name| {
            let known = if other.sources.contains_key(name) { last(other, name) } else { shared(name) };
            let newest = last(self, name);
            (newest > known).then(|| (name.clone(), vec![(known.saturating_add(1), newest)]))
        });
        Self::of(extra.collect())
    }

    /// Whether transaction `number` of `source` is here.
    #[must_use]
    pub fn has(&self, source: &str, number: u64) -> bool {
        self.sources.get(source).is_some_and(|runs| runs.iter().any(|run| (run.0..=run.1).contains(&number)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mariadb_binary_logs_tell_histories_apart() {
        let state = |text: &str| GtidSet::of_binlog_state(text).unwrap();
        let alone = |own: &str, other: &str| state(own).binlog_extra(&state(other)).to_string();
        assert_eq!(alone("0-1-100", "0-1-95,0-2-120"), "0-1:96-100");
        assert_eq!(alone("0-1-95", "0-1-95,0-2-120"), "");
        assert_eq!(alone("0-3-40,0-1-60", "0-1-60,0-2-120"), "", "made from a copy that was at 0-1-60");
        assert_eq!(alone("0-3-70,0-1-60", "0-1-60,0-2-120"), "0-3:61-70");
        assert_eq!(alone("0-1-9,1-1-3", "0-1-9"), "1-1:1-3", "another domain");
        let both = state("0-1-9,0-12-3,5-2-4");
        assert_eq!(both.of_source("server-id:2").to_string(), "5-2:1-4");
        assert!(both.has("0-12", 3) && !both.has("0-12", 4) && !both.has("0", 1));
        assert!(GtidSet::of_binlog_state("0-1").is_err() && GtidSet::of_binlog_state("a-1-1").is_err());
    }

    proptest! {
        /// One domain: `shared` transactions by alternating servers, then each server goes on by itself.
        #[test]
        fn what_a_binary_log_has_alone_is_found(shared in 0u64..40, servers in 1u64..4, own in 0u64..9, theirs in 1u64..9) {
            let mut last = BTreeMap::new();
            for number in 1..=shared {
                last.insert(number % servers, number);
            }
            let text = |last: &BTreeMap<u64, u64>| {
                let parts = last.iter().map(|(server, number)| format!("0-{server}-{number}"));
                GtidSet::of_binlog_state(&parts.collect::<Vec<_>>().join(",")).unwrap()
            };
            let (mut old, mut new) = (last.clone(), last.clone());
            if own > 0 {
                old.insert(8, shared + own);
            }
            new.insert(9, shared + theirs);
            let extra = text(&old).binlog_extra(&text(&new));
            prop_assert_eq!(extra.count(), own, "{} against {}", text(&old), text(&new));
            prop_assert!(text(&last).binlog_extra(&text(&new)).is_empty());
            prop_assert_eq!(extra.to_string().parse::<GtidSet>().unwrap(), extra);
        }
    }
}
