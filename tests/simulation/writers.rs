//! Clients: most go where the routing sends them, some try any server (old connections, stale DNS), and
//! some read what is there. The fleet keeps the history: what each was told.

use super::{fleet::Event, server::index_of, sim::State};

impl State {
    /// The next client decides, and the one after it is due.
    pub fn client(&mut self) {
        if self.writers_rest {
            return;
        }
        self.says_so();
        self.idle_is_silent();
        if self.fleet.semi_sync {
            self.look_for_unanswered();
        }
        let next_ms = self.random.between(10, 60);
        self.fleet.after(next_ms, Event::Client);
        let routed = self.api.route.as_ref().map(index_of);
        let target = match self.random.below(10) {
            0..2 => Some(self.random.index(self.fleet.servers.len())),
            2 => {
                self.read(routed);
                None
            }
            _ => routed,
        };
        if let Some(target) = target {
            let delay_ms = self.random.between(0, 2);
            self.fleet.after(delay_ms, Event::Write(target));
        }
    }

    /// A read of what the routed server has committed.
    fn read(&mut self, routed: Option<usize>) {
        let seen = routed.map(|index| &self.fleet.servers[index]).filter(|server| server.readable());
        if let Some(executed) = seen.map(|server| server.executed.clone()) {
            self.fleet.read = self.fleet.read.union(&executed);
        }
    }
}
