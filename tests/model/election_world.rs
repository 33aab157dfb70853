//! A small world in which contenders fight for one Lease: an API server, a network that loses and delays,
//! clocks of different rates, processes that stop for any time, restart, or end in good order.
//!
//! There is no end of time. Everyone's clock always shows [`NOW`]; when time passes, everything that is
//! remembered becomes older, and what is older than any rule cares about is all the same. Versions and dead
//! identities are renamed to the smallest names that keep them apart. So the world has finitely many
//! states, and searching them all covers histories of every length.
//!
//! Nobody is ever forced to run: a pause of any length is just a schedule in which others act.

use baton::core::{
    election::{Call, Effect, Election, Input, Outcome, Record, Seen, Stage, Timing, Version},
    time::Mono,
};

/// What everyone's clock shows, in milliseconds; more than any lease in these worlds lasts.
pub(super) const NOW: Mono = Mono(10_000);

/// What is wrong on purpose, to show that the checker would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Nothing.
    None,
    /// Contenders count their validity from the end of the renewal.
    CountFromEnd,
    /// The server does not compare versions.
    NoVersion,
    /// Writes do not carry the uid, so that an update of a deleted Lease creates it.
    NoUid,
    /// An unanswered write is taken for a successful one.
    TrustLostWrites,
    /// Two processes have the same identity, as pods of a StatefulSet can.
    SameIdentity,
}

/// How large the world is and what may happen in it.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// Milliseconds by which each contender's clock advances in a tick, and its timing.
    pub contenders: Vec<(u64, Timing)>,
    /// Requests and answers are lost, or arrive after their sender gave them up.
    pub losses: bool,
    /// Processes stop in good order.
    pub stops: bool,
    /// Processes crash.
    pub crashes: bool,
    /// A process that ended is followed by a new one.
    pub restarts: bool,
    /// Somebody deletes the Lease, again and again.
    pub deletions: bool,
    /// Time passes only when nobody has anything to do: what a healthy system does.
    pub prompt: bool,
    pub mutation: Mutation,
}

/// One state of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub lease: Option<Record>,
    pub contenders: Vec<Contender>,
    /// In a prompt world: ticks since there was last a leader, an orderly stop or a crash.
    pub vacant: u8,
}

/// A process and its connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Contender {
    pub machine: Election,
    pub wire: Wire,
    /// A write that its sender gave up and that may still arrive.
    stray: Option<Effect>,
    /// When the last answer to a successful write came; kept only for [`Mutation::CountFromEnd`].
    wrote_at: Option<Mono>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    Asleep(Mono),
    Sent(Effect),
    Answered(Input),
    Ended(Outcome),
    Crashed,
}

/// What can happen next; the number is the contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    TimePasses,
    Wake(usize),
    Serve(usize),
    Receive(usize),
    GiveUpCall(usize),
    ServeStray(usize),
    Stop(usize),
    Crash(usize),
    Restart(usize),
    Delete,
}

impl Setup {
    pub(super) fn begin(&self) -> World {
        let contenders = (0..self.contenders.len()).map(|index| self.newcomer(index)).collect();
        let version = Version { uid: String::new(), resource: "0".to_owned() };
        let lease = Record { version, holder: None, duration_s: Some(1), transitions: None };
        World { lease: Some(lease), contenders, vacant: 0 }
    }

    fn newcomer(&self, index: usize) -> Contender {
        let identity = match self.mutation {
            Mutation::SameIdentity => "baton-0".to_owned(),
            _ => index.to_string(),
        };
        let machine = Election::new(&identity, self.contenders[index].1);
        Contender { machine, wire: Wire::Asleep(NOW), stray: None, wrote_at: None }
    }

    pub(super) fn leads(&self, contender: &Contender) -> bool {
        let until = contender.machine.leader_until().map(|until| match (self.mutation, contender.wrote_at) {
            (Mutation::CountFromEnd, Some(at)) => at.plus_ms(contender.machine.timing.deadline_ms()),
            _ => until,
        });
        until.is_some_and(|until| NOW < until)
    }

    pub(super) fn leaders(&self, world: &World) -> usize {
        world.contenders.iter().filter(|contender| self.leads(contender)).count()
    }

    pub(super) fn can_happen(&self, world: &World) -> Vec<Action> {
        let mut actions = Vec::new();
        for (index, contender) in world.contenders.iter().enumerate() {
            self.own_actions(world, index, contender, &mut actions);
        }
        let busy = !actions.is_empty();
        for (index, contender) in world.contenders.iter().enumerate() {
            self.misfortunes(index, contender, &mut actions);
        }
        if self.deletions && world.lease.is_some() {
            actions.push(Action::Delete);
        }
        if !(self.prompt && busy) {
            actions.push(Action::TimePasses);
        }
        actions
    }

    fn own_actions(&self, world: &World, index: usize, contender: &Contender, actions: &mut Vec<Action>) {
        match &contender.wire {
            Wire::Asleep(until) if NOW >= *until || released_unseen(world, contender) => {
                actions.push(Action::Wake(index));
            }
            Wire::Sent(_) => actions.push(Action::Serve(index)),
            Wire::Answered(_) => actions.push(Action::Receive(index)),
            Wire::Ended(_) | Wire::Crashed if self.restarts => actions.push(Action::Restart(index)),
            Wire::Asleep(_) | Wire::Ended(_) | Wire::Crashed => {}
        }
    }

    fn misfortunes(&self, index: usize, contender: &Contender, actions: &mut Vec<Action>) {
        if contender.stray.is_some() {
            actions.push(Action::ServeStray(index));
        }
        if self.losses && matches!(contender.wire, Wire::Sent(_) | Wire::Answered(_)) {
            actions.push(Action::GiveUpCall(index));
        }
        let runs = !matches!(contender.wire, Wire::Ended(_) | Wire::Crashed);
        if self.stops && runs && contender.machine.stage == Stage::Running {
            actions.push(Action::Stop(index));
        }
        if self.crashes && runs {
            actions.push(Action::Crash(index));
        }
    }

    pub(super) fn happen(&self, world: &mut World, action: Action) {
        match action {
            Action::TimePasses => self.time_passes(world),
            Action::Wake(index) => self.step(world, index, Input::Tick),
            Action::Serve(index) => {
                if let Wire::Sent(call) = world.contenders[index].wire.clone() {
                    world.contenders[index].wire = Wire::Answered(self.serve(world, &call));
                }
            }
            Action::Receive(index) => {
                if let Wire::Answered(input) = world.contenders[index].wire.clone() {
                    self.step(world, index, input);
                }
            }
            Action::GiveUpCall(index) => {
                let call = abandon(&mut world.contenders[index]);
                let trusted = Input::Wrote(Version { uid: String::new(), resource: "lost".to_owned() });
                let lost_write = self.mutation == Mutation::TrustLostWrites && call;
                self.step(world, index, if lost_write { trusted } else { Input::Failed });
            }
            Action::ServeStray(index) => {
                if let Some(call) = world.contenders[index].stray.take() {
                    self.serve(world, &call);
                }
            }
            Action::Stop(index) => {
                world.vacant = 0;
                abandon(&mut world.contenders[index]);
                self.step(world, index, Input::Shutdown);
            }
            Action::Crash(index) => {
                world.vacant = 0;
                abandon(&mut world.contenders[index]);
                self.bury(world, index, Wire::Crashed);
            }
            Action::Restart(index) => self.bury(world, index, Wire::Asleep(NOW)),
            Action::Delete => world.lease = None,
        }
        self.forget(world);
    }

    /// Lets a contender take in `input` and begin what it then wants.
    fn step(&self, world: &mut World, index: usize, input: Input) {
        let contender = &mut world.contenders[index];
        if matches!(input, Input::Wrote(_)) && self.mutation == Mutation::CountFromEnd {
            contender.wrote_at = Some(NOW);
        }
        contender.wire = match contender.machine.step(NOW, input) {
            Effect::Sleep { ms } => Wire::Asleep(NOW.plus_ms(ms)),
            Effect::Stop(outcome) => Wire::Ended(outcome),
            call => Wire::Sent(call),
        };
    }

    /// The API server: reads are of the newest state, writes compare and swap.
    fn serve(&self, world: &mut World, call: &Effect) -> Input {
        let claim = match (call, &world.lease) {
            (Effect::Get, lease) => return Input::Observed(lease.clone()),
            (Effect::Create(claim), None) => claim,
            (Effect::Replace { over, claim }, Some(lease))
                if lease.version == *over || self.mutation == Mutation::NoVersion =>
            {
                claim
            }
            (Effect::Replace { claim, .. }, None) if self.mutation == Mutation::NoUid => claim,
            _ => return Input::Conflict,
        };
        let version = Version { uid: String::new(), resource: "new".to_owned() };
        let (holder, duration_s) = (Some(claim.holder.clone()), i32::try_from(claim.duration_s).ok());
        world.lease = Some(Record { version: version.clone(), holder, duration_s, transitions: None });
        Input::Wrote(version)
    }

    /// Everything remembered gets older by what the clock of its owner made of the tick.
    fn time_passes(&self, world: &mut World) {
        if self.prompt {
            world.vacant = if self.leaders(world) > 0 { 0 } else { world.vacant.saturating_add(1).min(9) };
        }
        for (contender, (rate_ms, _)) in world.contenders.iter_mut().zip(&self.contenders) {
            contender.times().into_iter().for_each(|time| *time = Mono(time.0.saturating_sub(*rate_ms)));
        }
    }

    /// A process is gone; what it sent may still arrive, under a name nobody has.
    fn bury(&self, world: &mut World, index: usize, wire: Wire) {
        let new = self.newcomer(index);
        let old = std::mem::replace(&mut world.contenders[index], Contender { wire, ..new });
        world.contenders[index].stray = old.stray;
        if self.mutation == Mutation::SameIdentity {
            return;
        }
        let renamed = |holder: &mut String| {
            if *holder == old.machine.me {
                *holder = "dead".to_owned();
            }
        };
        if let Some(Effect::Create(claim) | Effect::Replace { claim, .. }) = &mut world.contenders[index].stray {
            renamed(&mut claim.holder);
        }
        world.records().into_iter().filter_map(|record| record.holder.as_mut()).for_each(renamed);
    }

    /// Drops differences that nothing depends on.
    fn forget(&self, world: &mut World) {
        let lease_ms = self.contenders.iter().map(|(_, timing)| timing.lease_ms()).max().unwrap_or(0);
        let current = world.lease.as_ref().map(|record| record.version.clone());
        for contender in &mut world.contenders {
            contender.forget(Mono(NOW.0.saturating_sub(lease_ms)));
            let outdated =
                |call: &Effect| matches!(call, Effect::Replace { over, .. } if Some(over) != current.as_ref());
            if self.mutation == Mutation::None && contender.stray.as_ref().is_some_and(outdated) {
                contender.stray = None;
            }
        }
        let mut names: Vec<String> = Vec::new();
        for version in world.versions() {
            let known = names.iter().position(|name| *name == version.resource);
            let number = known.unwrap_or_else(|| {
                names.push(version.resource.clone());
                names.len() - 1
            });
            version.resource = number.to_string();
        }
    }
}

/// The watch tells standbys at once that the Lease was released.
fn released_unseen(world: &World, contender: &Contender) -> bool {
    let released = world.lease.as_ref().is_some_and(Record::is_released);
    let follows = contender.machine.leader_until().is_none();
    released && follows && contender.machine.lease().is_none_or(|seen| !seen.is_released())
}

/// Stops waiting for an answer; whether that was a write. One that was not served yet may arrive later.
fn abandon(contender: &mut Contender) -> bool {
    if let Wire::Sent(call @ (Effect::Create(_) | Effect::Replace { .. })) = &contender.wire {
        contender.stray = Some(call.clone());
    }
    matches!(contender.machine.call, Call::Write { .. })
}

impl Contender {
    /// Every time in it.
    fn times(&mut self) -> Vec<&mut Mono> {
        let machine = &mut self.machine;
        let mut times = vec![&mut machine.round];
        times.extend(machine.seen.as_mut().map(|seen: &mut Seen| &mut seen.since));
        times.extend(machine.leader_until.as_mut());
        times.extend(self.wrote_at.as_mut());
        if let Call::Write { started, .. } = &mut machine.call {
            times.push(started);
        }
        if let Stage::Releasing(until) = &mut machine.stage {
            times.push(until);
        }
        if let Wire::Asleep(until) = &mut self.wire {
            times.push(until);
        }
        times
    }

    /// Drops what will be overwritten before it is read, and ages beyond every rule.
    fn forget(&mut self, oldest: Mono) {
        match self.wire {
            Wire::Asleep(_) => (self.machine.round, self.machine.reread) = (Mono(0), false),
            Wire::Ended(_) | Wire::Crashed => {
                (self.machine.seen, self.machine.round, self.machine.reread) = (None, Mono(0), false);
                (self.machine.call, self.machine.unsure) = (Call::None, false);
            }
            Wire::Sent(_) | Wire::Answered(_) => {}
        }
        let timing = self.machine.timing;
        let ago = |ms: u64| Mono(NOW.0.saturating_sub(ms));
        let machine = &mut self.machine;
        machine.round = machine.round.max(ago(timing.retry_ms()));
        machine.leader_until = machine.leader_until.map(|until| until.max(NOW));
        if let Some(seen) = &mut machine.seen {
            let free =
                seen.record.as_ref().is_some_and(|record| record.is_released() || record.is_held_by(&machine.me));
            seen.since = if free { NOW } else { seen.since.max(oldest) };
        }
        if let Call::Write { started, .. } = &mut machine.call {
            *started = (*started).max(ago(timing.deadline_ms()));
        }
        if let Stage::Releasing(until) = &mut machine.stage {
            *until = (*until).max(NOW);
        }
        if let Wire::Asleep(until) = &mut self.wire {
            *until = (*until).max(NOW);
        }
        self.wrote_at = self.wrote_at.map(|at| at.max(ago(timing.deadline_ms())));
        let machine = &mut self.machine;
        let claims = [self.stray.as_mut(), sent(&mut self.wire)].into_iter().flatten();
        for call in claims {
            if let Effect::Create(claim) | Effect::Replace { claim, .. } = call {
                (claim.transitions, claim.acquired) = (0, false);
            }
        }
        if let Call::Write { claim, .. } = &mut machine.call {
            (claim.transitions, claim.acquired) = (0, false);
        }
        if let Some(record) = machine.seen.as_mut().and_then(|seen| seen.record.as_mut()) {
            record.transitions = None;
        }
    }
}

fn sent(wire: &mut Wire) -> Option<&mut Effect> {
    if let Wire::Sent(call) = wire { Some(call) } else { None }
}

impl World {
    /// Every Lease that anybody knows.
    fn records(&mut self) -> Vec<&mut Record> {
        let mut records: Vec<&mut Record> = self.lease.as_mut().into_iter().collect();
        for contender in &mut self.contenders {
            records.extend(contender.machine.seen.as_mut().and_then(|seen| seen.record.as_mut()));
            if let Wire::Answered(Input::Observed(record)) = &mut contender.wire {
                records.extend(record.as_mut());
            }
        }
        records
    }

    /// Every version that anybody knows, always in the same order.
    fn versions(&mut self) -> Vec<&mut Version> {
        let mut versions: Vec<&mut Version> = self.lease.iter_mut().map(|record| &mut record.version).collect();
        for contender in &mut self.contenders {
            let seen = contender.machine.seen.as_mut().and_then(|seen| seen.record.as_mut());
            versions.extend(seen.map(|record| &mut record.version));
            match &mut contender.wire {
                Wire::Answered(Input::Observed(Some(record))) => versions.push(&mut record.version),
                Wire::Answered(Input::Wrote(version)) => versions.push(version),
                Wire::Sent(Effect::Replace { over, .. }) => versions.push(over),
                _ => {}
            }
            if let Some(Effect::Replace { over, .. }) = &mut contender.stray {
                versions.push(over);
            }
        }
        versions
    }
}
