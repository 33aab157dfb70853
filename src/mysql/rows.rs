//! Reads rows by column name, tolerant of what an older or another server does not have.

use std::borrow::Cow;

use mysql_async::{Column, Row, Value};

/// Longest answer of a user's query that is kept, in characters.
const TEXT_MAX: usize = 255;

/// One row, read by any of several names for the same thing.
pub(super) struct Named<'a>(pub(super) &'a Row);

impl Named<'_> {
    /// The first of the named columns that is there and not NULL.
    fn value(&self, names: &[&str]) -> Option<Cow<'_, str>> {
        let columns = self.0.columns_ref();
        names.iter().find_map(|name| {
            let is_it = |column: &Column| column.name_ref().eq_ignore_ascii_case(name.as_bytes());
            value_text(self.0.as_ref(columns.iter().position(is_it)?)?)
        })
    }

    /// The same as text of its own.
    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        self.value(names).map(Cow::into_owned)
    }

    /// The same as a number.
    pub(super) fn number<T: std::str::FromStr>(&self, names: &[&str]) -> Option<T> {
        self.value(names)?.trim().parse().ok()
    }

    /// The same as a switch: `ON`, `Yes`, `1`.
    pub(super) fn flag(&self, names: &[&str]) -> Option<bool> {
        self.value(names).map(|text| is_on(&text))
    }
}

/// Whether a text means "on".
pub(super) fn is_on(text: &str) -> bool {
    ["on", "yes", "1", "true"].iter().any(|on| text.eq_ignore_ascii_case(on))
}

fn value_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes)),
        Value::Int(number) => Some(number.to_string().into()),
        Value::UInt(number) => Some(number.to_string().into()),
        Value::Float(number) => Some(number.to_string().into()),
        Value::Double(number) => Some(number.to_string().into()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned().into()),
    }
}

/// The first column of a row, bounded.
pub(super) fn first_text(row: &Row) -> Option<String> {
    value_text(row.as_ref(0)?).map(|text| text.chars().take(TEXT_MAX).collect())
}

/// Name and value, as `SHOW VARIABLES` and `SHOW STATUS` answer.
pub(super) fn pair(row: &Row) -> Option<(String, String)> {
    Some((value_text(row.as_ref(0)?)?.to_ascii_lowercase(), value_text(row.as_ref(1)?)?.into_owned()))
}
