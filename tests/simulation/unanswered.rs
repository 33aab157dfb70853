//! I2: writes whose clients were never answered. Each may turn out either way, once: a client that has found its
//! write on the primary, or has found that it is not there and written it again, is not to find the opposite later.

use baton::core::gtid::GtidSet;

use super::{fleet::Fleet, server::index_of, sim::State};

#[derive(Debug, Default)]
pub struct Unanswered {
    all: GtidSet,
    /// Those that were found.
    found: GtidSet,
    /// Those that were looked for in vain.
    missed: GtidSet,
}

impl Unanswered {
    /// How many were found, and how many were not.
    pub fn count(&self) -> (u64, u64) {
        (self.found.count(), self.missed.count())
    }
}

impl Fleet {
    /// The clients of what waits on a server will not be answered.
    pub fn leave_unanswered(&mut self, index: usize) {
        let clients = self.servers[index].waiting.iter().filter(|commit| commit.client);
        let all = clients.fold(self.unanswered.all.clone(), |all, commit| all.union(&commit.set));
        self.unanswered.all = all;
    }
}

impl State {
    /// The clients that were not answered look for what they wrote, on the primary that they are sent to. What waits
    /// there for acknowledgements is neither there nor lost.
    pub fn look_for_unanswered(&mut self) {
        let primary = self.primary();
        let routed = self.api.route.as_ref().map(index_of).filter(|routed| *routed == primary);
        let Some(server) = routed.map(|routed| &self.fleet.servers[routed]).filter(|it| it.readable()) else { return };
        let (there, log) = (server.executed.clone(), server.log());
        let unanswered = &mut self.fleet.unanswered;
        let missing = unanswered.all.subtract(&log);
        let found = unanswered.all.subtract(&unanswered.all.subtract(&there));
        let lost = unanswered.found.subtract(&log);
        let returned = unanswered.missed.subtract(&unanswered.missed.subtract(&there));
        unanswered.found = unanswered.found.union(&found);
        unanswered.missed = unanswered.missed.union(&missing);
        if !lost.is_empty() {
            self.fleet.fail(|| format!("I2: {lost} was found, and is not on the primary {primary} any more"));
        }
        if !returned.is_empty() {
            self.fleet.fail(|| format!("I2: {returned} was not there, and is on the primary {primary} now"));
        }
    }
}
