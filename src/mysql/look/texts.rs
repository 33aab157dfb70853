//! The texts of looks on one connection, made once: few kinds of looks follow each other many times.

use std::sync::Arc;

use super::super::dialect::look::{Ask, LookText, look};

/// What a text depends on besides the server: the parts left out only become more.
type Kind = (bool, bool, bool, Option<u64>, usize);

/// Kinds that are kept; the oldest goes.
const KINDS_MAX: usize = 8;

/// Texts that were asked for on this connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts(Vec<(Kind, Arc<LookText>)>);

impl Texts {
    /// The text for `ask`; of one server only.
    pub(super) fn get(&mut self, ask: Ask<'_>) -> Arc<LookText> {
        let kind = (ask.slow, ask.replica_hosts, ask.commits, ask.pause_ms, ask.denied.len());
        if let Some((_, text)) = self.0.iter().find(|(known, _)| *known == kind) {
            return Arc::clone(text);
        }
        if self.0.len() == KINDS_MAX {
            self.0.remove(0);
        }
        let text = Arc::new(look(ask));
        self.0.push((kind, Arc::clone(&text)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::version::Version, mysql::dialect::look::Part};

    #[test]
    fn every_kind_has_its_text() {
        let mut texts = Texts::default();
        let version = Version::mysql(9, 7, 4);
        let ask = Ask {
            version,
            performance_schema: true,
            slow: true,
            replica_hosts: false,
            commits: false,
            pause_ms: None,
            denied: &[],
        };
        for pause_ms in 0..20 {
            for slow in [true, false] {
                for denied in [&[][..], &[Part::Dumps][..]] {
                    let ask = Ask { slow, pause_ms: Some(pause_ms), denied, ..ask };
                    assert_eq!(*texts.get(ask), look(ask));
                    assert_eq!(*texts.get(ask), look(ask));
                }
            }
        }
        assert_eq!(texts.0.len(), KINDS_MAX);
    }
}
