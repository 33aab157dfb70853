//! What holds at every moment of every run.

use baton::core::{
    gtid::GtidSet,
    recovery::{Loss, Phase, machine::Machine},
};

use super::fleet::{Server, World};

impl World {
    /// Two that acknowledge (I3), a route beside the primary (I9), loss (I1), a step without a record.
    pub fn check(&self, machine: &Machine) {
        let log = || self.log.join("\n");
        // Asynchronous replication cannot keep a lost primary that lives on from acknowledging.
        let counts = |server: &&Server| self.acknowledges(server) && (self.wait_count > 0 || server.index > 0);
        let acknowledging: Vec<_> = self.servers.values().filter(counts).map(|server| server.index).collect();
        assert!(acknowledging.len() <= 1, "I3: {acknowledging:?} acknowledge together\n{}", log());
        if let Some(routed) = &self.routed {
            let server = &self.servers[routed];
            let fine = server.index == 0 || !server.read_only || server.restarted;
            assert!(fine, "I9: {routed} is routed and not writable\n{}", log());
            let other = acknowledging.iter().find(|index| **index > 0 && **index != server.index);
            assert!(
                other.is_none() || server.index == 0 || !server.writable(),
                "I9: {routed} is routed and {other:?} is the primary\n{}",
                log()
            );
        }
        if machine.record().phase.promoted() && self.wait_count > 0 {
            let primary = &self.servers[machine.record().new_primary.as_ref().unwrap()];
            let told = match &machine.record().lost {
                Some(Loss::AtLeast(set)) => set.clone(),
                _ => GtidSet::default(),
            };
            let missing = self.acknowledged.subtract(&primary.executed).subtract(&told);
            assert!(missing.is_empty(), "I1: {missing} lost\n{}", log());
        }
        if machine.record().phase != Phase::Pending {
            assert!(self.journal.is_some(), "no record, no step");
        }
    }
}
