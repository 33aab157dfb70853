//! What comes of it when something happens in a world.

use super::{
    api::Won,
    mind::Stepped,
    servers::SERVERS,
    statements::{Part, Say},
    words::{Answer, Told, View, Wish},
    world::{Act, Action, Call, End, LONG_MS, Leader, Setup, Stray, World},
};

impl Setup {
    pub(super) fn happen(&self, world: &mut World, action: Action) {
        let fleet = &mut world.fleet;
        match action {
            Action::Act(index) => self.act(world, index),
            Action::Call(index) => self.call(world, index, true, true),
            Action::Lose(index) => {
                world.left.losses -= 1;
                self.lose(world, index);
            }
            Action::LoseCall(index, done) => {
                world.left.losses -= 1;
                self.call(world, index, done, false);
            }
            Action::Stray(index) => self.stray(world, index),
            Action::Wait(ms) => {
                world.left.longs -= u8::from(ms == LONG_MS);
                self.tell(world, Told::Passed(ms));
            }
            Action::Look(server) => {
                let view = View::of(fleet, server);
                self.tell(world, Told::Looked(view));
            }
            Action::Decide => self.decide(world),
            Action::TakeOver => self.take_over(world),
            Action::End(end) => world.end(end),
            Action::Deadlines => world.pass_deadlines(),
            Action::Write(server) => {
                world.left.writes -= 1;
                fleet.write(server);
            }
            Action::Receive(server) => fleet.receive(server),
            Action::Release(server) => fleet.release(server),
            Action::Apply(server) => fleet.apply(server),
            Action::Die(server) => {
                world.left.deaths -= 1;
                fleet.crash(server);
                world.strays.retain(|stray| !matches!(stray, Stray::Act(_, _, act) if act.server == server));
            }
            Action::Boot(server, fenced) => {
                world.left.returns -= u8::from(server == 0);
                fleet.boot(server, fenced);
            }
            Action::Cut(server) => {
                world.left.cuts -= 1;
                fleet.at_mut(server).cut = true;
            }
            Action::Heal(server) => {
                world.left.returns -= u8::from(server == 0);
                fleet.at_mut(server).cut = false;
            }
        }
        self.tidy(world);
    }

    /// Drops order that nobody sees, and what would change nothing.
    fn tidy(&self, world: &mut World) {
        world.strays.retain(|stray| !matches!(stray, Stray::Act(_, _, act) if act.say == Say::WaitApplied));
        let leads = world.leader.as_ref().map(|leader| leader.who);
        for server in 0..SERVERS {
            // In one reign a session that says nothing more is like none.
            let speaks = |by: u8| {
                let says =
                    |stray: &Stray| matches!(stray, Stray::Act(who, _, act) if (*who, act.server) == (by, server));
                Some(by) == leads || world.strays.iter().any(says)
            };
            let claim = world.fleet.at(server).claim.filter(|claim| self.reigns > 1 || speaks(claim.by));
            world.fleet.at_mut(server).claim = claim;
        }
        if let Some(leader) = &mut world.leader {
            leader.acts.sort_unstable();
            leader.calls.sort_by_key(|call| match call {
                Call::Begin(..) => 0,
                Call::Save(_) => 1,
                Call::Route(target) => target.map_or(2, |target| 3 + target),
            });
        }
    }

    fn act(&self, world: &mut World, index: usize) {
        let Some(leader) = &mut world.leader else { return };
        let Act { server, say, part } = leader.acts[index];
        let it = world.fleet.at(server);
        let answer = match (it.up, it.cut) {
            (false, _) => Answer::Gone,
            (true, true) => Answer::Silent,
            (true, false) => {
                let who = leader.who;
                match world.say(who, Act { server, say, part }) {
                    Part::More => {
                        if let Some(leader) = &mut world.leader {
                            leader.acts[index].part += 1;
                        }
                        return;
                    }
                    Part::Done => Answer::Seen(View::of(&world.fleet, server)),
                    Part::Waits => Answer::Silent,
                    Part::Precondition => Answer::Precondition,
                    Part::Denied => Answer::Denied,
                }
            }
        };
        if let Some(leader) = &mut world.leader {
            leader.acts.remove(index);
        }
        self.tell(world, Told::Acted(server, answer));
    }

    fn lose(&self, world: &mut World, index: usize) {
        let Some(leader) = &mut world.leader else { return };
        let act = leader.acts.remove(index);
        let who = leader.who;
        world.strays.push(Stray::Act(who, End::GaveUp, act));
        self.tell(world, Told::Acted(act.server, Answer::Silent));
    }

    /// `done`: it takes effect; `answered`: the machine learns how it ended.
    fn call(&self, world: &mut World, index: usize, done: bool, answered: bool) {
        let Some(leader) = &mut world.leader else { return };
        let call = leader.calls.remove(index);
        let result = !done || world.serve(call);
        let told = match call {
            Call::Begin(note, false) if answered && result => {
                if let Some(leader) = &mut world.leader {
                    leader.calls.push(Call::Begin(note, true));
                }
                return;
            }
            Call::Begin(..) => Told::Begun(result && answered),
            Call::Save(note) => Told::Saved(note.new_primary, result && answered),
            Call::Route(target) => Told::Routed(target, result && answered),
        };
        self.tell(world, told);
    }

    fn stray(&self, world: &mut World, index: usize) {
        let stray = world.strays.remove(index);
        let leads = world.leader.as_ref().map(|leader| leader.who);
        match stray {
            Stray::Act(who, _, act) => {
                world.late |= leads.is_some_and(|leads| leads != who);
                let it = world.fleet.at(act.server);
                if it.up && !it.cut {
                    world.say(who, act);
                } else if it.up {
                    // On its way until the network is back.
                    world.strays.push(stray);
                }
            }
            Stray::Call(who, _, call) => {
                world.late |= leads.is_some_and(|leads| leads != who);
                world.serve(call);
            }
        }
    }

    /// The leader's machine takes in `told`, and what it then wants is under way.
    fn tell(&self, world: &mut World, told: Told) {
        let Some(machine) = world.leader.as_ref().and_then(|leader| leader.machine) else { return };
        self.follow(world, self.mind.tell(machine, told));
    }

    fn follow(&self, world: &mut World, (machine, wishes): Stepped) {
        let Some(leader) = &mut world.leader else { return };
        leader.machine = Some(machine);
        let note = self.mind.note(machine);
        for wish in wishes {
            match wish {
                Wish::Begin => leader.calls.push(Call::Begin(note, false)),
                Wish::Save if leader.saves() => leader.save_again = true,
                Wish::Save => leader.calls.push(Call::Save(note)),
                Wish::Route(target) => leader.calls.push(Call::Route(target)),
                Wish::Act(server, say) => leader.acts.push(Act { server, say, part: 0 }),
            }
        }
        if leader.save_again && !leader.saves() {
            leader.save_again = false;
            leader.calls.push(Call::Save(note));
        }
        if self.mind.finished(machine) && leader.acts.is_empty() && leader.calls.is_empty() {
            leader.machine = None;
            if note.phase.finished() {
                world.look_around();
            }
        }
    }

    /// Goes on with what is not finished, or begins.
    fn decide(&self, world: &mut World) {
        let Some(who) = world.leader.as_ref().map(|leader| leader.who) else { return };
        let stepped = match world.api.unfinished() {
            Some(found) => {
                let note = self.mind.taken_over(found.record, who);
                world.api.records[usize::from(note.epoch)] = Some(note);
                if world.win(note.epoch) == Won::Lost {
                    return;
                }
                self.mind.resume(&world.fleet, &world.known, note, who)
            }
            None => {
                let epoch = self.next_epoch(world);
                self.mind.begin(&world.fleet, &world.known, world.api.primary(), epoch, who)
            }
        };
        self.follow(world, stepped);
    }

    /// Another process leads: the validity of the one before has ended, or it gave the Lease up.
    fn take_over(&self, world: &mut World) {
        world.leader = Some(Leader::new(world.started));
        world.started += 1;
        let late = |end: End, act: &Act| end != End::Crashed && act.say.decided_there();
        world.strays.retain(|stray| match stray {
            Stray::Act(_, end, act) => late(*end, act),
            Stray::Call(_, end, call) => *end != End::Crashed && !matches!(call, Call::Route(_)),
        });
        if world.ended != Some(End::Stopped) {
            world.pass_deadlines();
        }
        self.decide(world);
    }
}
