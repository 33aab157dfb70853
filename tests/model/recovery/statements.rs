//! What a server does with an action, as src/mysql/execute says it in statements: whoever says it can end, or be too
//! late, between any two of them.

use baton::core::rules::{Rule, holds};

use super::servers::{Broken, Claim, Fleet, own};

/// What a process says to a server: [`baton::core::step::Action`] with sets as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Say {
    Look,
    StopReceiver,
    StartReceiver,
    StartApplier,
    WaitApplied,
    SourceSide(bool),
    Fence,
    SetReadOnly,
    Claim(u8),
    WriteEpoch(u8),
    Unfence,
    ForgetSource,
    Repoint(u8, Option<bool>),
}

impl Say {
    /// Whether the server itself decides if it is too late.
    pub(super) fn decided_there(self) -> bool {
        matches!(self, Self::Claim(_) | Self::WriteEpoch(_) | Self::Unfence)
    }
}

/// What came of a part of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// There is another part.
    More,
    /// That was the last.
    Done,
    /// A commit waits for acknowledgements.
    Waits,
    /// Something that it needs did not hold.
    Precondition,
    /// The server refused it.
    Denied,
}

impl Fleet {
    /// The newest reign that is written on a server.
    fn newest_epoch(&self, server: u8) -> u8 {
        let written = |epoch: &u8| self.epochs[usize::from(*epoch)] & self.at(server).executed != 0;
        (1..3).filter(written).max().unwrap_or(0)
    }

    /// Says one part of an action to a server that hears it. `leads`: whoever says it surely leads.
    pub(super) fn say(&mut self, server: u8, say: Say, part: u8, who: u8, leads: bool) -> Part {
        match say {
            Say::Claim(epoch) => return self.claim(server, epoch, who, leads),
            Say::WriteEpoch(epoch) => return self.write_epoch(server, epoch, part, who),
            Say::Unfence => return self.unfence(server, who, leads),
            Say::Fence => return self.fence(server, part),
            Say::Repoint(source, acks) => return self.repoint(server, source, acks, part),
            _ => {}
        }
        let it = self.at_mut(server);
        match say {
            Say::StopReceiver => it.receiver = false,
            Say::StartReceiver => it.receiver = it.source.is_some(),
            Say::StartApplier => it.applier = it.source.is_some(),
            Say::WaitApplied => self.apply(server),
            Say::SourceSide(on) => {
                it.source_side = on;
                // Whoever waits is told that it is done (M2).
                self.release(server);
            }
            Say::SetReadOnly => (it.read_only, it.super_read_only, it.offline) = (true, true, false),
            Say::ForgetSource if it.received & !it.executed != 0 => return Part::Precondition,
            Say::ForgetSource => (it.source, it.receiver, it.applier, it.received) = (None, false, false, 0),
            _ => {}
        }
        Part::Done
    }

    fn claim(&mut self, server: u8, epoch: u8, who: u8, leads: bool) -> Part {
        let newest = self.newest_epoch(server);
        let it = self.at_mut(server);
        let higher = it.claim.is_some_and(|claim| claim.epoch > epoch) && holds(Rule::ClaimEnds);
        if newest > epoch || higher {
            return Part::Precondition;
        }
        // One statement that comes late takes the lock and notes no deadline.
        let before = it.claim.replace(Claim { epoch, by: who, valid: leads });
        it.outlasted = before.filter(|claim| claim.by != who && !holds(Rule::ClaimEnds));
        it.claimed = (it.claimed.0.max(epoch), it.claimed.1.max(who));
        Part::Done
    }

    fn holds_claim(&self, server: u8, who: u8) -> bool {
        self.at(server).claim.is_some_and(|claim| claim.by == who)
    }

    fn write_epoch(&mut self, server: u8, epoch: u8, part: u8, who: u8) -> Part {
        let row = self.epochs[usize::from(epoch)] & own(server);
        if part == 3 {
            let it = self.at_mut(server);
            if row & it.executed == 0 {
                return Part::Waits;
            }
            if it.received & !it.executed == 0 {
                (it.source, it.received) = (None, 0);
            }
            return Part::Done;
        }
        if !self.holds_claim(server, who) {
            return Part::Precondition;
        }
        let newest = self.newest_epoch(server);
        let it = self.at_mut(server);
        match part {
            0 => (it.receiver, it.applier) = (false, false),
            1 => (it.read_only, it.super_read_only) = (true, false),
            _ if newest > epoch => return Part::Precondition,
            _ if row & (it.executed | it.waiting) != 0 => {}
            _ if it.super_read_only => return Part::Denied,
            _ => {
                let row = self.commit(server);
                self.epochs[usize::from(epoch)] |= row;
                self.release(server);
            }
        }
        Part::More
    }

    fn unfence(&mut self, server: u8, who: u8, leads: bool) -> Part {
        let it = *self.at(server);
        let mut claims = it.claim.into_iter().chain(it.outlasted);
        let claim = claims.find(|claim| claim.by == who);
        let Some(claim) = claim.filter(|claim| claim.valid || !holds(Rule::ServerDeadline)) else {
            return Part::Precondition;
        };
        if !leads && !claim.valid {
            self.breaks(Broken::LateUnfence);
        }
        if claim.epoch < it.claimed.0 || claim.by < it.claimed.1 {
            self.breaks(Broken::Outdone);
        }
        if self.newest_epoch(server) != claim.epoch {
            self.breaks(Broken::NoEpoch);
        }
        let it = self.at_mut(server);
        (it.read_only, it.super_read_only, it.offline) = (false, false, false);
        (it.claim, it.outlasted, it.opened) = (None, None, true);
        Part::Done
    }

    /// `offline_mode` cuts off whoever waits without an answer (M3); then nobody is told of anything.
    fn fence(&mut self, server: u8, part: u8) -> Part {
        let offline_first = holds(Rule::FenceOrder);
        match (part, offline_first) {
            (0, true) | (1, false) => {
                let it = self.at_mut(server);
                it.executed |= it.waiting;
                (it.waiting, it.acks, it.offline) = (0, 0, true);
            }
            (0, false) | (1, true) => {
                self.at_mut(server).source_side = false;
                self.release(server);
            }
            _ => {
                let it = self.at_mut(server);
                (it.read_only, it.super_read_only) = (true, true);
                return Part::Done;
            }
        }
        Part::More
    }

    /// With an applier that runs the relay log is kept; else it must have been applied.
    fn repoint(&mut self, server: u8, source: u8, acks: Option<bool>, part: u8) -> Part {
        let it = self.at(server);
        let unapplied = it.received & !it.executed;
        if part == 0 {
            if !it.applier && unapplied != 0 && holds(Rule::DrainBeforeRepoint) {
                return Part::Precondition;
            }
            self.at_mut(server).receiver = false;
            return Part::More;
        }
        if it.receiver {
            return Part::Denied;
        }
        if !it.applier && unapplied & self.acknowledged != 0 {
            self.breaks(Broken::RelayLost);
        }
        let it = self.at_mut(server);
        it.received = if it.applier { it.received } else { 0 };
        it.acker = acks.unwrap_or(it.acker);
        (it.source, it.receiver, it.applier) = (Some(source), true, true);
        Part::Done
    }
}
