//! Drops differences between states of the world that nothing depends on, so that few states stand for all.
//!
//! Each of these is an argument that two states have the same future; a wrong one would hide histories.

use baton::core::{
    election::{Call, Claim, Effect, Input, Lost, Outcome, Record, Stage, Version},
    time::Mono,
};

use super::world::{Contender, Mutation, NOW, Setup, Wire, World};

/// Brings the world into the form that stands for all states with its future.
pub(super) fn forget(setup: &Setup, world: &mut World) {
    let lease_ms = setup.contenders.iter().map(|(_, timing)| timing.lease_ms()).max().unwrap_or(0);
    let current = world.lease.as_ref().map(|record| record.version.clone());
    for contender in &mut world.contenders {
        contender.forget_ages(Mono(NOW.0.saturating_sub(lease_ms)));
        contender.forget_fields();
        contender.forget_outdated(current.as_ref());
        let late = |call: &Effect| matches!(call, Effect::Replace { over, .. } if Some(over) != current.as_ref());
        if setup.mutation == Mutation::None && contender.stray.as_ref().is_some_and(late) {
            contender.stray = None;
        }
        if !setup.prompt {
            contender.forget_pace();
        }
    }
    let alike = setup.contenders.windows(2).all(|pair| pair[0] == pair[1]);
    if alike && setup.mutation != Mutation::SameIdentity {
        forget_order(world);
    }
    forget_versions(world);
}

/// Versions are only compared for being equal: number them in the order in which they are met.
fn forget_versions(world: &mut World) {
    let mut known: Vec<String> = Vec::new();
    for version in versions(world) {
        let number = known.iter().position(|name| *name == version.resource).unwrap_or_else(|| {
            known.push(version.resource.clone());
            known.len() - 1
        });
        version.resource = number.to_string();
    }
}

/// Contenders with the same clock and timing are interchangeable: put them into an order of their own and
/// name them after their place.
fn forget_order(world: &mut World) {
    world.contenders.sort_by_cached_key(look);
    let order: Vec<String> = world.contenders.iter().map(|contender| contender.machine.me.clone()).collect();
    for name in names(world) {
        if let Some(place) = order.iter().position(|each| each == name) {
            *name = place.to_string();
        }
    }
}

/// How a contender looks without names and versions. Two that look alike stay in the order in which they
/// were, which may keep two states apart that are one: that costs time and nothing else.
fn look(contender: &Contender) -> impl Ord + use<> {
    let machine = &contender.machine;
    let wire = match &contender.wire {
        Wire::Asleep(until) => (0, *until),
        Wire::Sent(Effect::Create(_)) => (1, NOW),
        Wire::Sent(_) => (2, NOW),
        Wire::Answered(Input::Observed(_)) => (3, NOW),
        Wire::Answered(Input::Wrote(_)) => (4, NOW),
        Wire::Answered(_) => (5, NOW),
        Wire::Ended(_) => (6, NOW),
        Wire::Crashed => (7, NOW),
    };
    let call = match &machine.call {
        Call::Write { started, .. } => Some(*started),
        Call::None | Call::Read => None,
    };
    let seen = machine.seen.as_ref().map(|seen| {
        let own = seen.record.as_ref().is_some_and(|record| record.is_held_by(&machine.me));
        (own, seen.record.as_ref().is_some_and(Record::is_released), seen.since)
    });
    let releasing = matches!(machine.stage, Stage::Releasing(_));
    (wire, machine.leader_until, call, seen, machine.unsure, contender.stray.is_some(), releasing)
}

/// Every identity that anybody knows.
pub(super) fn names(world: &mut World) -> Vec<&mut String> {
    let mut names: Vec<&mut String> = world.lease.iter_mut().filter_map(|record| record.holder.as_mut()).collect();
    names.extend(world.contenders.iter_mut().flat_map(Contender::names));
    names
}

/// Every version that anybody knows, always in the same order.
fn versions(world: &mut World) -> Vec<&mut Version> {
    let mut versions: Vec<&mut Version> = world.lease.iter_mut().map(|record| &mut record.version).collect();
    versions.extend(world.contenders.iter_mut().flat_map(Contender::versions));
    versions
}

fn claim(call: &mut Effect) -> Option<&mut Claim> {
    match call {
        Effect::Create(claim) | Effect::Replace { claim, .. } => Some(claim),
        Effect::Get | Effect::Sleep { .. } | Effect::Stop(_) => None,
    }
}

impl Contender {
    fn names(&mut self) -> Vec<&mut String> {
        let mut names = vec![&mut self.machine.me];
        names.extend(self.machine.seen.iter_mut().filter_map(|seen| seen.record.as_mut()?.holder.as_mut()));
        if let Call::Write { claim, .. } = &mut self.machine.call {
            names.push(&mut claim.holder);
        }
        match &mut self.wire {
            Wire::Answered(Input::Observed(Some(record))) => names.extend(record.holder.as_mut()),
            Wire::Sent(call) => names.extend(claim(call).map(|claim| &mut claim.holder)),
            _ => {}
        }
        names.extend(self.stray.as_mut().and_then(claim).map(|claim| &mut claim.holder));
        names
    }

    fn versions(&mut self) -> Vec<&mut Version> {
        let seen = self.machine.seen.as_mut().and_then(|seen| seen.record.as_mut());
        let mut versions: Vec<&mut Version> = seen.map(|record| &mut record.version).into_iter().collect();
        match &mut self.wire {
            Wire::Answered(Input::Observed(Some(record))) => versions.push(&mut record.version),
            Wire::Answered(Input::Wrote(version)) => versions.push(version),
            Wire::Sent(Effect::Replace { over, .. }) => versions.push(over),
            _ => {}
        }
        if let Some(Effect::Replace { over, .. }) = &mut self.stray {
            versions.push(over);
        }
        versions
    }

    /// What is older than any rule looks back is all the same, and so is what is past.
    fn forget_ages(&mut self, oldest: Mono) {
        let machine = &mut self.machine;
        let ago = |ms: u64| Mono(NOW.0.saturating_sub(ms));
        machine.round = machine.round.max(ago(machine.timing.retry_ms()));
        machine.leader_until = machine.leader_until.map(|until| until.max(NOW));
        if let Some(seen) = &mut machine.seen {
            let free =
                seen.record.as_ref().is_some_and(|record| record.is_released() || record.is_held_by(&machine.me));
            seen.since = if free { NOW } else { seen.since.max(oldest) };
        }
        if let Call::Write { started, .. } = &mut machine.call {
            *started = (*started).max(ago(machine.timing.deadline_ms()));
        }
        if let Stage::Releasing(until) = &mut machine.stage {
            *until = (*until).max(NOW);
        }
        if let Wire::Asleep(until) = &mut self.wire {
            *until = (*until).max(NOW);
        }
    }

    /// Fields that are overwritten before they are read, and those that people read.
    fn forget_fields(&mut self) {
        let machine = &mut self.machine;
        match self.wire {
            Wire::Asleep(_) => (machine.round, machine.reread) = (NOW, false),
            Wire::Ended(_) | Wire::Crashed => {
                (machine.seen, machine.round, machine.reread) = (None, NOW, false);
                (machine.call, machine.unsure) = (Call::None, false);
            }
            Wire::Sent(_) | Wire::Answered(_) => {}
        }
        if let Wire::Ended(Outcome::Lost(Lost::Taken { holder })) = &mut self.wire {
            *holder = None;
        }
        let sent = if let Wire::Sent(call) = &mut self.wire { Some(call) } else { None };
        for claim in [self.stray.as_mut(), sent].into_iter().flatten().filter_map(claim) {
            (claim.transitions, claim.acquired) = (0, false);
        }
        if let Call::Write { claim, .. } = &mut machine.call {
            (claim.transitions, claim.acquired) = (0, false);
        }
        if let Some(record) = machine.seen.as_mut().and_then(|seen| seen.record.as_mut()) {
            record.transitions = None;
        }
    }

    /// A foreign Lease that is not the `current` one, nor in an answer that is to come, will not be seen
    /// again: knowing it is like knowing nothing. So is an absence, which nobody measures.
    fn forget_outdated(&mut self, current: Option<&Version>) {
        let coming = match &self.wire {
            Wire::Answered(Input::Observed(Some(record))) => Some(&record.version),
            _ => None,
        };
        let me = &self.machine.me;
        let outdated = |record: &Record| {
            let version = Some(&record.version);
            !record.is_held_by(me) && version != current && version != coming
        };
        if self.machine.seen.as_ref().is_some_and(|seen| seen.record.as_ref().is_none_or(outdated)) {
            self.machine.seen = None;
        }
    }

    /// Where anybody may wake at any time, the time of the next attempt and its being the second mean nothing.
    fn forget_pace(&mut self) {
        (self.machine.round, self.machine.reread) = (NOW, false);
        if let Wire::Asleep(until) = &mut self.wire {
            *until = NOW;
        }
    }
}
