//! Facts: one struct for each thing that happened, told in one place.
//!
//! [`Event::emit`] writes the line and counts; [`Event::kubernetes`] is the same fact for the people who
//! read `kubectl describe`, published by the Kubernetes shell. A line can be read alone and carries the
//! identifiers in its text once more as fields: `cluster`, `epoch`, `recovery`, `server`.

pub mod analysis;
pub mod api;
pub mod cluster;
pub mod leadership;
pub mod probe;
pub mod process;
pub mod quarantine;
pub mod recovery;

use super::metrics::Metrics;

/// Something that happened.
pub trait Event {
    /// Writes the line and counts.
    fn emit(&self, metrics: &Metrics);

    /// What the objects concerned shall show of it; most facts: nothing.
    fn kubernetes(&self) -> Vec<KubernetesEvent> {
        Vec::new()
    }
}

/// Whether an Event is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// An Event of `events.k8s.io`, yet without the object it is about.
///
/// The API aggregates Events of one `reason` and `action` and keeps the first `note`. Hence the note
/// holds only what follows from these and the object; figures are in the record and in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesEvent {
    /// Good news or not.
    pub type_: EventType,
    /// One word, for programs: why.
    pub reason: String,
    /// One word, for programs: what was done.
    pub action: String,
    /// A sentence, at most 1 kB.
    pub note: String,
}

/// The longest note that the API server takes, in bytes.
const NOTE_LEN_MAX: usize = 1024;

impl KubernetesEvent {
    /// An Event; a note that is too long is cut.
    pub(crate) fn new(type_: EventType, reason: &str, action: &str, note: &str) -> Self {
        let mut end = note.len().min(NOTE_LEN_MAX);
        while !note.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let note = note.get(..end).unwrap_or_default().to_owned();
        Self { type_, reason: reason.to_owned(), action: action.to_owned(), note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_between_characters() {
        let note = format!("x{}", "ü".repeat(NOTE_LEN_MAX));
        let event = KubernetesEvent::new(EventType::Normal, "R", "A", &note);
        assert_eq!(event.note.len(), NOTE_LEN_MAX - 1);
        assert!(note.starts_with(&event.note));
    }
}
