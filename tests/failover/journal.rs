//! The journal of the fleet, and recoveries that are left to a Job in it.

use baton::core::{
    policy::{DataLoss, Policy},
    recovery::{
        Loss, Phase, Recovery,
        leave::When,
        machine::{Effect, Event, Gate, Machine},
    },
    snapshot::Snapshot,
    time::Mono,
};

use super::fleet::{Fate, Server, World, addr, policy, trx};

impl World {
    /// The next leader claims the record and continues.
    pub fn resume(&mut self, policy: &Policy) -> Machine {
        let snapshot = self.snapshot();
        self.take(&snapshot, policy, Mono::default())
    }

    /// The same, when all looks are from before the claim.
    pub fn resume_late(&mut self, policy: &Policy) -> Machine {
        let snapshot = self.snapshot();
        self.take(&snapshot, policy, self.now.plus_ms(1))
    }

    /// A Job claims the record and continues.
    pub fn employ(&mut self, policy: &Policy) -> Machine {
        let snapshot = self.first_look();
        self.take(&snapshot, policy, Mono::default())
    }

    fn take(&mut self, snapshot: &Snapshot, policy: &Policy, since: Mono) -> Machine {
        let executor = format!("b{}", self.log.len());
        let record = self.journal.as_mut().unwrap();
        record.executor.clone_from(&executor);
        Machine::resume(record.clone(), snapshot, policy, &executor, since)
    }

    /// What a Job sees, which looks for the first time.
    fn first_look(&self) -> Snapshot {
        let mut snapshot = Snapshot { at: self.now, primary: Some(addr(0)), ..Snapshot::default() };
        for (key, server) in self.servers.iter().filter(|(_, server)| !server.hidden) {
            let attached = u32::try_from(self.attached(server.index).len()).unwrap();
            let seen = Box::new(server.observe(self.now, attached, self.wait_count, false));
            let look = if server.alive && !server.cut { Ok(seen) } else { Err(self.silence(server)) };
            snapshot.servers.entry(key.clone()).or_default().apply(look);
        }
        snapshot
    }

    pub fn save(&mut self, machine: &Machine, fate: Fate) -> Result<(), String> {
        let record = machine.record();
        let theirs = |journal: &Recovery| journal.executor != record.executor;
        if self.journal.as_ref().is_some_and(theirs) {
            return Err("lost".to_owned());
        }
        if fate != Fate::NotDone {
            self.journal = Some(record.clone());
        }
        if fate == Fate::Fine { Ok(()) } else { Err("unavailable".to_owned()) }
    }

    /// Leaves the record to its Job; that it is left already is as good.
    pub fn leave(&mut self, machine: &Machine, fate: Fate) -> Result<(), String> {
        if self.journal.as_ref().is_some_and(|journal| !journal.executor.is_empty()) {
            let saved = self.save(machine, fate);
            let ours = |journal: &&mut Recovery| journal.executor == machine.record().executor;
            if fate != Fate::NotDone
                && let Some(journal) = self.journal.as_mut().filter(ours)
            {
                journal.executor.clear();
            }
            return saved;
        }
        Ok(())
    }
}

fn world() -> World {
    World::new(vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10), Server::replica(3, 8, 8)], 1, 10)
}

/// Runs a leader that has a Job until it has left the record, or has done all by itself.
fn led(world: &mut World, when: When, fate: impl FnMut(&str) -> Fate) -> Machine {
    let mut fate = fate;
    let mut machine = world.machine(&policy(4));
    machine.leave_to("shop-7-failover".to_owned(), when);
    world.drive(&mut machine, 600, |effect| fate(&format!("{effect:?}")));
    machine
}

#[test]
fn a_recovery_is_left_before_anything_is_done_to_a_server_or_when_clients_can_write() {
    for (when, phase, done) in [(When::AtOnce, Phase::Pending, false), (When::Writable, Phase::Writable, true)] {
        let mut world = world();
        let machine = led(&mut world, when, |_| Fate::Fine);
        assert!(machine.left() && machine.finished(), "{}", world.log.join("\n"));
        let journal = world.journal.clone().unwrap();
        assert_eq!((journal.phase, journal.executor.as_str()), (phase, ""));
        let acted = world.log.iter().any(|line| line.contains("Act(") && !line.contains("Finish"));
        assert_eq!(acted, done, "{}", world.log.join("\n"));
        // Whoever starts again with a source looks like a replica of it.
        assert_eq!(world.servers[&addr(1)].source.is_none(), done);
        // The Job has only the record.
        let mut job = world.employ(&policy(4));
        assert!(world.run(&mut job, 2000, |_| 0), "{}", world.log.join("\n"));
        assert_eq!((job.record().phase, &job.record().new_primary), (Phase::Succeeded, &Some(addr(1))));
        let opened = world.log.iter().filter(|line| line.contains("Fine Act(") && line.contains("Unfence"));
        assert_eq!(opened.count(), 1, "clients are let in once\n{}", world.log.join("\n"));
        assert!(world.servers[&addr(1)].executed.contains(&trx(0, 10)));
    }
}

#[test]
fn without_a_job_the_leader_does_it_itself_and_says_why() {
    for when in [When::AtOnce, When::Writable] {
        let mut world = world();
        let machine = led(&mut world, when, |effect| if effect == "StartJob" { Fate::NotDone } else { Fate::Fine });
        assert!(!machine.left());
        let journal = world.journal.clone().unwrap();
        assert_eq!(journal.phase, Phase::Succeeded, "{}", world.log.join("\n"));
        assert_eq!(journal.job.unwrap().problem, "no quota");
    }
}

#[test]
fn while_it_is_not_known_whether_the_record_is_left_nothing_is_done() {
    for when in [When::AtOnce, When::Writable] {
        for lost in [Fate::AnswerLost, Fate::NotDone] {
            let mut world = world();
            let mut leaves = 0;
            let machine = led(&mut world, when, |effect| {
                leaves += u32::from(effect == "Leave");
                if effect == "Leave" && leaves < 4 { lost } else { Fate::Fine }
            });
            let first = world.log.iter().position(|line| line.contains("Leave")).unwrap();
            let after: Vec<_> = world.log[first..].iter().filter(|line| line.contains("Act(")).collect();
            assert!(after.is_empty() && machine.left(), "{after:?}");
        }
    }
}

#[test]
fn a_job_knows_what_its_leader_saw_of_the_old_primary() {
    for (choice, phase) in [(DataLoss::Refuse, Phase::Refused), (DataLoss::Accept, Phase::Succeeded)] {
        let mut world = World::new(vec![Server::replica(1, 8, 8), Server::replica(2, 8, 8)], 0, 10);
        world.old_seen = trx(0, 10);
        let mut policy = policy(3);
        policy.failover.data_loss = Some(choice);
        let mut leader = world.machine(&policy);
        leader.leave_to("shop-7-failover".to_owned(), When::AtOnce);
        world.drive(&mut leader, 100, |_| Fate::Fine);
        assert!(leader.left(), "{}", world.log.join("\n"));
        let mut job = world.employ(&policy);
        assert!(world.run(&mut job, 2000, |_| 0), "{}", world.log.join("\n"));
        assert_eq!(job.record().phase, phase, "{}", job.record().message);
        let lost = Some(Loss::AtLeast(trx(0, 10).subtract(&trx(0, 8))));
        assert!(choice == DataLoss::Refuse || job.record().lost == lost, "{:?}", job.record().lost);
    }
}

#[test]
fn an_old_primary_that_returns_while_it_is_not_known_whether_the_record_is_left_is_the_jobs() {
    let mut world = world();
    let mut machine = world.machine(&policy(4));
    machine.leave_to("shop-7-failover".to_owned(), When::Writable);
    world.drive(&mut machine, 600, |effect| if *effect == Effect::Leave { Fate::NotDone } else { Fate::Fine });
    assert!(machine.record().phase == Phase::Writable && !machine.left(), "{}", world.log.join("\n"));
    let old = world.servers.get_mut(&addr(0)).unwrap();
    (old.alive, old.read_only) = (true, false);
    let seen = Box::new(old.observe(world.now, 0, 1, false));
    let mut done = Vec::new();
    for ms in 0..2000 {
        let now = world.now.plus_ms(ms);
        let event = match ms {
            0 => Event::Saved(None, Err("unavailable".to_owned())),
            _ if ms % 10 == 0 => Event::OldAnswers(seen.clone()),
            _ => Event::Tick,
        };
        let gate = Gate { now, leader_until: now.plus_ms(2000) };
        let effects = machine.step(gate, event);
        if effects.contains(&Effect::Leave) {
            machine.step(gate, Event::Left(Err("unavailable".to_owned())));
        }
        done.extend(effects);
    }
    assert!(done.contains(&Effect::Leave) && done.iter().all(|effect| *effect == Effect::Leave), "{done:?}");
}
