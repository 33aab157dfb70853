//! Types that several kinds share: durations as people write them, conditions, references.

use std::{borrow::Cow, convert::Infallible, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Pattern of a [`Duration`]; everything that matches can be read.
pub const DURATION_PATTERN: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$";
/// Longest text of a [`Duration`].
const DURATION_LEN_MAX: u32 = 20;

/// A length of time as Kubernetes users write it: `500ms`, `10s`, `1h30m`. Never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Duration {
    ms: u64,
}

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a duration like 500ms, 10s or 1h30m: {0:?}")]
pub struct DurationError(String);

impl Duration {
    /// From milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// In milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.ms
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    /// Sums the parts; a value beyond `u64` milliseconds becomes the largest there is.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DurationError(text.chars().take(64).collect());
        let mut rest = text;
        let mut total_ms = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(error)?;
            let (number, tail) = rest.split_at(digits);
            let (unit_ms, tail) = unit(tail).ok_or_else(error)?;
            let starts_well = number.starts_with(|c: char| c.is_ascii_digit());
            let number: f64 = number.parse().ok().filter(|_| starts_well).ok_or_else(error)?;
            total_ms += number * unit_ms;
            rest = tail;
        }
        if text.is_empty() {
            return Err(error());
        }
        // A float cast saturates.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(Self { ms: total_ms.round() as u64 })
    }
}

/// Milliseconds of the unit that `text` starts with, and what follows it.
fn unit(text: &str) -> Option<(f64, &str)> {
    let units = [("ms", 1.0), ("s", 1000.0), ("m", 60_000.0), ("h", 3_600_000.0)];
    units.iter().find_map(|(name, ms)| text.strip_prefix(name).map(|tail| (*ms, tail)))
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.ms / 3_600_000, "h"),
            (self.ms / 60_000 % 60, "m"),
            (self.ms / 1000 % 60, "s"),
            (self.ms % 1000, "ms"),
        ];
        if self.ms == 0 {
            return write!(f, "0s");
        }
        parts.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, unit)| write!(f, "{count}{unit}"))
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DURATION_PATTERN, "maxLength": DURATION_LEN_MAX })
    }
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

impl FromStr for Truth {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("0s", 0),
            ("99999999999999999h", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_ms(ms)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1", "s", "-1s", "1d", "1s ", ".5s", "1..5s", "1s\n", "1e3s"] {
            assert!(text.parse::<Duration>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(ms in 0u64..1 << 50) {
            let text = Duration::from_ms(ms).to_string();
            prop_assert_eq!(text.parse(), Ok(Duration::from_ms(ms)));
        }

        #[test]
        fn the_schema_accepts_only_what_can_be_read(text in r"([0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h)){1,3}") {
            let pattern = regex::Regex::new(DURATION_PATTERN).unwrap();
            prop_assert!(pattern.is_match(&text) && text.parse::<Duration>().is_ok());
        }
    }
}
