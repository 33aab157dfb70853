//! A small world in which contenders fight for one Lease: an API server, a network that loses and delays,
//! clocks of different rates, processes that stop for any time, restart, or end in good order.
//!
//! There is no end of time: everyone's clock always shows [`NOW`], and when time passes, everything that is
//! remembered becomes older. With what `forget` drops, the world has finitely many states, and searching
//! them all covers histories of every length.
//!
//! Nobody is ever forced to run: a pause of any length is just a schedule in which others act. Except in a
//! prompt world anybody may also wake at any time, however long it meant to sleep: that allows more than
//! can happen, and saves remembering when. A read is served as soon as it is sent, because it could as well
//! have been sent later; its answer may take any time.

use super::forget::{forget, names};
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
    /// Ticks until the world ends; `None`: never.
    pub horizon: Option<u8>,
    /// Time passes only when nobody has anything to do: what a healthy system does.
    pub prompt: bool,
    pub mutation: Mutation,
}

/// One state of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub lease: Option<Record>,
    pub contenders: Vec<Contender>,
    /// In a world that ends: ticks so far.
    ticks: u8,
    /// In a prompt world: ticks since there was last a leader, an orderly stop or a crash.
    pub vacant: u8,
}

/// A process and its connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Contender {
    pub machine: Election,
    pub wire: Wire,
    /// A write that its sender gave up and that may still arrive.
    pub stray: Option<Effect>,
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
        World { lease: Some(lease), contenders, ticks: 0, vacant: 0 }
    }

    fn newcomer(&self, index: usize) -> Contender {
        let identity = match self.mutation {
            Mutation::SameIdentity => "baton-0".to_owned(),
            _ => index.to_string(),
        };
        let machine = Election::new(&identity, self.contenders[index].1);
        Contender { machine, wire: Wire::Asleep(NOW), stray: None }
    }

    pub(super) fn leaders(&self, world: &World) -> usize {
        let leads = |contender: &&Contender| contender.machine.leader_until().is_some_and(|until| NOW < until);
        world.contenders.iter().filter(leads).count()
    }

    pub(super) fn can_happen(&self, world: &World) -> Vec<Action> {
        let mut actions = Vec::new();
        for (index, contender) in world.contenders.iter().enumerate() {
            self.own_actions(world, index, contender, &mut actions);
        }
        let busy = !actions.is_empty() || world.contenders.iter().any(|contender| contender.stray.is_some());
        for (index, contender) in world.contenders.iter().enumerate() {
            self.misfortunes(index, contender, &mut actions);
        }
        if self.deletions && world.lease.is_some() {
            actions.push(Action::Delete);
        }
        if !(self.prompt && busy) && self.horizon.is_none_or(|horizon| world.ticks < horizon) {
            actions.push(Action::TimePasses);
        }
        actions
    }

    fn own_actions(&self, world: &World, index: usize, contender: &Contender, actions: &mut Vec<Action>) {
        match &contender.wire {
            Wire::Asleep(until) if !self.prompt || NOW >= *until || released_unseen(world, contender) => {
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
        forget(self, world);
    }

    /// Lets a contender take in `input` and begin what it then wants.
    fn step(&self, world: &mut World, index: usize, input: Input) {
        let machine = &mut world.contenders[index].machine;
        let wrote = matches!(input, Input::Wrote(_));
        let effect = machine.step(NOW, input);
        if self.mutation == Mutation::CountFromEnd && wrote && machine.stage == Stage::Running {
            machine.leader_until = Some(NOW.plus_ms(machine.timing.deadline_ms()));
        }
        world.contenders[index].wire = match effect {
            Effect::Sleep { ms } => Wire::Asleep(NOW.plus_ms(ms)),
            Effect::Stop(outcome) => Wire::Ended(outcome),
            Effect::Get if !self.prompt => Wire::Answered(self.serve(world, &Effect::Get)),
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
        world.ticks += u8::from(self.horizon.is_some());
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
        for name in names(world) {
            if *name == old.machine.me {
                *name = "dead".to_owned();
            }
        }
        world.contenders[index].machine.me = old.machine.me;
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
}
