//! One state of the world and what can happen in it: an executor takes steps of the real machine, what it
//! says takes effect or is lost, it crashes, freezes or goes, the next one takes over, servers die and come
//! back, clients write.
//!
//! Everyone's clock always shows the same; that time passes makes what a machine remembers older.

use super::{
    api::{Api, Won},
    mind::{Mind, Note},
    servers::{Broken, Claim, Fleet, SERVERS},
    statements::{Part, Say},
    words::{Told, View},
};

/// A pause that is longer than what a machine waits between attempts, and for those it can do without.
const SHORT_MS: u64 = 550;
/// Longer than anything is waited for.
pub(super) const LONG_MS: u64 = 31_000;

/// How often each may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Limits {
    /// An executor dies; what it just said may still take effect before the next one leads.
    pub crashes: u8,
    /// An executor freezes, and wakes beside the next one.
    pub freezes: u8,
    /// An executor is told to go: the next one leads at once.
    pub stops: u8,
    /// An answer is lost, or what was asked for.
    pub losses: u8,
    /// A replica dies. It comes back.
    pub deaths: u8,
    /// A replica is out of the operators' reach for a while.
    pub cuts: u8,
    /// The lost primary comes back.
    pub returns: u8,
    pub writes: u8,
    /// A long time passes.
    pub longs: u8,
}

/// What is explored.
pub(super) struct Setup {
    pub mind: Mind,
    pub limits: Limits,
    /// Whether the primary may have died, and whether it may live on out of the operators' reach.
    pub dead: bool,
    pub cut: bool,
    /// Recoveries that may begin.
    pub reigns: u8,
}

/// Something that was said to a server and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Act {
    pub server: u8,
    pub say: Say,
    pub part: u8,
}

/// Something that was said to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    /// The second part wins the epoch.
    Begin(Note, bool),
    Save(Note),
    Route(Option<u8>),
}

/// The process that leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    pub who: u8,
    /// The recovery under way.
    pub machine: Option<u32>,
    pub acts: Vec<Act>,
    pub calls: Vec<Call>,
    pub save_again: bool,
}

/// How a process ended, or gave up waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum End {
    Crashed,
    Frozen,
    Stopped,
    /// It runs, and waits for this answer no more.
    GaveUp,
}

/// Something whose answer nobody waits for, and that may still take effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Stray {
    Act(u8, End, Act),
    Call(u8, End, Call),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub fleet: Fleet,
    pub api: Api,
    pub leader: Option<Leader>,
    /// How the newest leader ended.
    pub ended: Option<End>,
    pub strays: Vec<Stray>,
    /// Processes so far.
    pub started: u8,
    /// What the watch saw before the newest failure.
    pub known: [View; 3],
    pub left: Limits,
    /// Something of a process that led before took effect beside the next one.
    pub late: bool,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// The next part of what was said takes effect; after the last the machine is told.
    Act(usize),
    Call(usize),
    /// No answer comes; it may still take effect.
    Lose(usize),
    /// The same; whether it took effect.
    LoseCall(usize, bool),
    Stray(usize),
    Wait(u64),
    Look(u8),
    /// The leader begins or goes on with a recovery.
    Decide,
    TakeOver,
    End(End),
    Deadlines,
    Write(u8),
    Receive(u8),
    Release(u8),
    Apply(u8),
    Die(u8),
    Boot(u8, bool),
    Cut(u8),
    Heal(u8),
}

impl Action {
    /// Whether it is a misfortune, or somebody's free will, rather than what goes on by itself.
    pub(super) fn is_fault(self) -> bool {
        matches!(self, Self::Lose(_) | Self::LoseCall(..) | Self::End(_) | Self::Write(_) | Self::Die(_) | Self::Cut(_))
    }
}

impl Setup {
    pub(super) fn begin(&self) -> Vec<World> {
        let fleet = Fleet::new();
        let known = [0, 1, 2].map(|server| View::of(&fleet, server));
        let world = World {
            fleet,
            api: Api::new(),
            leader: Some(Leader::new(0)),
            ended: None,
            strays: Vec::new(),
            started: 1,
            known,
            left: self.limits,
            late: false,
        };
        let (mut dead, mut cut) = (world.clone(), world);
        dead.fleet.crash(0);
        cut.fleet.at_mut(0).cut = true;
        [(self.dead, dead), (self.cut, cut)].into_iter().filter_map(|(may, world)| may.then_some(world)).collect()
    }

    /// Whether a leader has something to begin or to go on with.
    pub(super) fn due(&self, world: &World) -> bool {
        let primary = world.fleet.at(world.api.primary());
        let lost = !primary.up || primary.cut;
        world.api.unfinished().is_some() || lost && self.next_epoch(world) <= self.reigns
    }

    pub(super) fn next_epoch(&self, world: &World) -> u8 {
        world.api.newest().map_or(0, |note| note.epoch).max(world.api.epoch) + 1
    }

    pub(super) fn can_happen(&self, world: &World) -> Vec<Action> {
        let mut actions = Vec::new();
        match &world.leader {
            Some(leader) => self.executor_actions(world, leader, &mut actions),
            None if self.due(world) => actions.push(Action::TakeOver),
            None => {}
        }
        actions.extend((0..world.strays.len()).map(Action::Stray));
        if world.ended == Some(End::Stopped) && world.fleet.servers.iter().any(|it| world.outlived(it.claim)) {
            actions.push(Action::Deadlines);
        }
        for server in 0..SERVERS {
            self.server_actions(world, server, &mut actions);
        }
        actions
    }

    fn executor_actions(&self, world: &World, leader: &Leader, actions: &mut Vec<Action>) {
        let Some(machine) = leader.machine else {
            actions.extend(self.due(world).then_some(Action::Decide));
            return;
        };
        let left = &world.left;
        actions.extend((0..leader.acts.len()).map(Action::Act));
        actions.extend((0..leader.calls.len()).map(Action::Call));
        if left.losses > 0 {
            let reached = |act: &Act| world.fleet.at(act.server).up && !world.fleet.at(act.server).cut;
            let lost = leader.acts.iter().enumerate().filter(|(_, act)| reached(act));
            actions.extend(lost.map(|(index, _)| Action::Lose(index)));
            actions
                .extend((0..leader.calls.len()).flat_map(|index| [true, false].map(|it| Action::LoseCall(index, it))));
        }
        let changes = |told| self.mind.tell(machine, told) != (machine, Vec::new());
        if changes(Told::Passed(SHORT_MS)) {
            actions.push(Action::Wait(SHORT_MS));
        }
        if left.longs > 0 && leader.acts.is_empty() && changes(Told::Passed(LONG_MS)) {
            actions.push(Action::Wait(LONG_MS));
        }
        for server in 0..SERVERS {
            let it = world.fleet.at(server);
            if it.up && !it.cut && changes(Told::Looked(View::of(&world.fleet, server))) {
                actions.push(Action::Look(server));
            }
        }
        let ends = [(left.crashes, End::Crashed), (left.freezes, End::Frozen), (left.stops, End::Stopped)];
        actions.extend(ends.into_iter().filter(|(left, _)| *left > 0).map(|(_, end)| Action::End(end)));
    }

    pub(super) fn server_actions(&self, world: &World, server: u8, actions: &mut Vec<Action>) {
        let (fleet, it, left) = (&world.fleet, world.fleet.at(server), &world.left);
        let mut may = |may: bool, action| actions.extend(may.then_some(action));
        may(left.writes > 0 && fleet.may_write(server), Action::Write(server));
        may(fleet.may_receive(server), Action::Receive(server));
        may(fleet.releasable(server) != 0, Action::Release(server));
        may(fleet.may_apply(server), Action::Apply(server));
        if server == 0 {
            may(!it.up && left.returns > 0, Action::Boot(0, true));
            may(!it.up && left.returns > 0, Action::Boot(0, false));
            may(it.cut && left.returns > 0, Action::Heal(0));
        } else {
            may(it.up && left.deaths > 0, Action::Die(server));
            may(!it.up, Action::Boot(server, true));
            may(it.up && !it.cut && left.cuts > 0, Action::Cut(server));
            may(it.cut, Action::Heal(server));
        }
    }
}

impl Leader {
    pub(super) fn new(who: u8) -> Self {
        Self { who, machine: None, acts: Vec::new(), calls: Vec::new(), save_again: false }
    }

    pub(super) fn saves(&self) -> bool {
        self.calls.iter().any(|call| matches!(call, Call::Save(_)))
    }
}

impl World {
    pub(super) fn say(&mut self, who: u8, Act { server, say, part }: Act) -> Part {
        let leads = self.leader.as_ref().is_none_or(|leader| leader.who == who);
        if self.api.newest().is_none() {
            self.fleet.breaks(Broken::NoRecord);
        }
        self.fleet.say(server, say, part, who, leads)
    }

    /// The watch sees whoever it reaches, before anything fails again.
    pub(super) fn look_around(&mut self) {
        for server in 0..SERVERS {
            let it = self.fleet.at(server);
            if it.up && !it.cut {
                self.known[usize::from(server)] = View::of(&self.fleet, server);
            }
        }
    }

    pub(super) fn win(&mut self, epoch: u8) -> Won {
        let before = self.api.epoch;
        let won = self.api.win(epoch);
        if won == Won::Now && before >= epoch {
            self.fleet.breaks(Broken::EpochAgain);
        }
        won
    }

    /// The API server does what it is asked for. True: it was done.
    pub(super) fn serve(&mut self, call: Call) -> bool {
        match call {
            Call::Begin(note, false) => self.api.create(note),
            Call::Begin(note, true) => self.win(note.epoch) != Won::Lost,
            Call::Save(note) => self.api.save(note),
            Call::Route(target) => {
                if target.is_some_and(|target| !self.fleet.at(target).opened) {
                    self.fleet.breaks(Broken::RoutedUnopened);
                }
                self.api.routed = target;
                true
            }
        }
    }

    /// The leader leads no more; what it said is on its way.
    pub(super) fn end(&mut self, end: End) {
        let left = &mut self.left;
        let count = match end {
            End::Crashed => &mut left.crashes,
            End::Frozen => &mut left.freezes,
            End::Stopped | End::GaveUp => &mut left.stops,
        };
        *count -= 1;
        if let Some(leader) = self.leader.take() {
            self.strays.extend(leader.acts.into_iter().map(|act| Stray::Act(leader.who, end, act)));
            self.strays.extend(leader.calls.into_iter().map(|call| Stray::Call(leader.who, end, call)));
        }
        self.ended = Some(end);
    }

    /// Whether a claim is of a process that leads no more, and still valid.
    pub(super) fn outlived(&self, claim: Option<Claim>) -> bool {
        let leads = self.leader.as_ref().map(|leader| leader.who);
        claim.is_some_and(|claim| claim.valid && Some(claim.by) != leads)
    }

    pub(super) fn pass_deadlines(&mut self) {
        let leads = self.leader.as_ref().map(|leader| leader.who);
        let claims = self.fleet.servers.iter_mut().flat_map(|it| it.claim.iter_mut().chain(&mut it.outlasted));
        claims.filter(|claim| Some(claim.by) != leads).for_each(|claim| claim.valid = false);
    }
}
