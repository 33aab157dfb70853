//! Medians and percentiles of a few measurements, without interpolation: every figure was really seen.

use serde::Serialize;

/// A sample of durations or counts, as published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// How many there were.
    pub count: usize,
    /// Smallest.
    pub min: f64,
    /// Half of them are at most this.
    pub median: f64,
    /// 99 of 100 are at most this; with fewer than 100, the largest.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl Sample {
    /// Nearest-rank percentiles of `values`; `None` when there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let rank = |percent: usize| values.get((values.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some(Self {
            count: values.len(),
            min: *values.first()?,
            median: rank(50)?,
            p99: rank(99)?,
            max: *values.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let sample = Sample::of((1..=20).rev().map(f64::from)).unwrap();
        assert_eq!(sample, Sample { count: 20, min: 1.0, median: 10.0, p99: 20.0, max: 20.0 });
        let sample = Sample::of((1..=200).map(f64::from)).unwrap();
        assert_eq!((sample.median, sample.p99, sample.max), (100.0, 198.0, 200.0));
        assert_eq!(Sample::of([7.0]).map(|sample| (sample.median, sample.p99)), Some((7.0, 7.0)));
        assert_eq!(Sample::of([]), None);
    }
}
