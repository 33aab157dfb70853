//! GTID sets of the newest look by their texts: sets can be large, and most looks show the same again.

use crate::core::gtid::GtidSet;

/// Sets that were read in this look and in the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Sets {
    now: Vec<(String, GtidSet)>,
    before: Vec<(String, GtidSet)>,
}

impl Sets {
    /// A new look begins.
    pub(super) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Reads a set; `None`: the text is none.
    pub(super) fn parse(&mut self, text: String) -> Option<GtidSet> {
        let known = self.now.iter().chain(&self.before).find(|(known, _)| *known == text);
        let set = match known {
            Some((_, set)) => set.clone(),
            None => text.parse().ok()?,
        };
        self.now.push((text, set.clone()));
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_right() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut sets = Sets::default();
        for last in 1..100 {
            sets.turn();
            for text in [format!("{uuid}:1-{last}"), String::new(), format!("{uuid}:1-{last}")] {
                assert_eq!(sets.parse(text.clone()), text.parse().ok());
            }
            assert_eq!(sets.parse("nonsense".to_owned()), None);
        }
        assert_eq!((sets.now.len(), sets.before.len()), (3, 3));
    }
}
