//! Keeps Events that say the same again and again off the API server: a server that flaps is worth one
//! Event a while, and a line in the log each time.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::telemetry::event::KubernetesEvent;

/// The same is published once within this time.
const WITHIN: Duration = Duration::from_secs(60);
/// Different Events that are remembered; beyond, none is published until some are old.
const EVENTS_MAX: usize = 256;

/// What was published lately.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    published: BTreeMap<(String, String), Instant>,
}

impl Seldom {
    /// Whether an Event may be published now; then it counts as published.
    pub(super) fn admits(&mut self, event: &KubernetesEvent) -> bool {
        self.published.retain(|_, at| at.elapsed() < WITHIN);
        let meaning = (format!("{}/{}", event.reason, event.action), event.note.clone());
        let new = !self.published.contains_key(&meaning) && self.published.len() < EVENTS_MAX;
        if new {
            self.published.insert(meaning, Instant::now());
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::event::EventType;

    #[tokio::test(start_paused = true)]
    async fn the_same_is_published_once_a_minute_and_nothing_is_kept_without_limit() {
        let event = |note: &str| KubernetesEvent::new(EventType::Warning, "DeadReplica", "Analyse", note);
        let mut seldom = Seldom::default();
        assert!(seldom.admits(&event("a")) && seldom.admits(&event("b")));
        assert!(!seldom.admits(&event("a")));
        tokio::time::advance(WITHIN).await;
        assert!(seldom.admits(&event("a")));
        for number in 0..2 * EVENTS_MAX {
            seldom.admits(&event(&number.to_string()));
        }
        assert_eq!(seldom.published.len(), EVENTS_MAX);
    }
}
