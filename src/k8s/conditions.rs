//! Conditions as Kubernetes means them: `lastTransitionTime` moves only when the status does.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::common::Truth;

/// Longest message the API accepts, in bytes (`metav1.Condition`).
const MESSAGE_LEN_MAX: usize = 32768;

/// A condition that is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its type, for instance `Ready`.
    pub type_: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// One word in camel case.
    pub reason: String,
    /// One sentence; may be empty.
    pub message: String,
}

impl Wanted {
    /// A condition.
    #[must_use]
    pub fn new(type_: &'static str, truth: Truth, reason: &str, message: &str) -> Self {
        Self { type_, truth, reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// `text` cut to at most `len` bytes at a character boundary.
#[must_use]
pub fn cut(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// The conditions `wanted`, in their order, with the transition times of `previous` where the status is
/// the same. Conditions of other types are kept: somebody else may have put them there.
#[must_use]
pub fn render(previous: &[Condition], wanted: &[Wanted], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let render = |wanted: &Wanted| {
        let before = previous.iter().find(|condition| condition.type_ == wanted.type_);
        let same = before.filter(|before| before.status == wanted.truth.as_str());
        Condition {
            type_: wanted.type_.to_owned(),
            status: wanted.truth.as_str().to_owned(),
            reason: wanted.reason.clone(),
            message: cut(&wanted.message, MESSAGE_LEN_MAX).to_owned(),
            last_transition_time: same.map_or(Time(now), |same| same.last_transition_time.clone()),
            observed_generation: generation,
        }
    };
    let foreign = previous.iter().filter(|old| wanted.iter().all(|wanted| wanted.type_ != old.type_));
    wanted.iter().map(render).chain(foreign.cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let first = render(&[], &[Wanted::new("Ready", Truth::True, "Up", "all is well")], Some(1), at(1));
        let other_words = render(&first, &[Wanted::new("Ready", Truth::True, "Fine", "still")], Some(2), at(2));
        assert_eq!(other_words[0].last_transition_time.0, at(1));
        assert_eq!(other_words[0].reason, "Fine");
        let down = render(&other_words, &[Wanted::new("Ready", Truth::False, "Down", "")], Some(2), at(3));
        assert_eq!(down[0].last_transition_time.0, at(3));
    }

    #[test]
    fn conditions_of_others_are_kept() {
        let theirs = render(&[], &[Wanted::new("Theirs", Truth::True, "X", "")], None, at(1));
        let both = render(&theirs, &[Wanted::new("Ready", Truth::Unknown, "Y", "")], None, at(2));
        assert_eq!(both.iter().map(|condition| condition.type_.as_str()).collect::<Vec<_>>(), ["Ready", "Theirs"]);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("aü", 2), "a");
        assert_eq!(cut("aü", 3), "aü");
    }
}
