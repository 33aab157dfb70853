//! Reads rows by column name, tolerant of what an older or another server does not have.

use mysql_async::{Column, Row, Value};

/// Longest answer of a user's query that is kept, in characters.
const TEXT_MAX: usize = 255;

/// One row, read by any of several names for the same thing.
pub(super) struct Named<'a>(pub(super) &'a Row);

impl Named<'_> {
    /// The first of the named columns that is there and not NULL, as text.
    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        let columns = self.0.columns_ref();
        names.iter().find_map(|name| {
            let is_it = |column: &Column| column.name_ref().eq_ignore_ascii_case(name.as_bytes());
            value_text(self.0.as_ref(columns.iter().position(is_it)?)?)
        })
    }

    /// The same as a number.
    pub(super) fn number<T: std::str::FromStr>(&self, names: &[&str]) -> Option<T> {
        self.text(names)?.trim().parse().ok()
    }

    /// The same as a switch: `ON`, `Yes`, `1`.
    pub(super) fn flag(&self, names: &[&str]) -> Option<bool> {
        self.text(names).map(|text| is_on(&text))
    }
}

/// Whether a text means "on".
pub(super) fn is_on(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "on" | "yes" | "1" | "true")
}

fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

/// The first column of a row, bounded.
pub(super) fn first_text(row: &Row) -> Option<String> {
    value_text(row.as_ref(0)?).map(|text| text.chars().take(TEXT_MAX).collect())
}

/// Name and value, as `SHOW VARIABLES` and `SHOW STATUS` answer.
pub(super) fn pair(row: &Row) -> Option<(String, String)> {
    Some((value_text(row.as_ref(0)?)?.to_ascii_lowercase(), value_text(row.as_ref(1)?)?))
}
