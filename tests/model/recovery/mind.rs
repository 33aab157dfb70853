//! The real state machine, remembered: machines and records are numbered, and what a machine answers to what it
//! is told is worked out once. A state of the world names them by number.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Mutex,
};

use baton::core::{
    id::Epoch,
    policy::Policy,
    recovery::{
        Cause, Phase, Recovery,
        machine::{Effect, Event, Gate, Machine},
    },
    snapshot::Snapshot,
    time::Mono,
};

use super::{
    fake::{self, addr},
    servers::{Fleet, SERVERS},
    words::{NOW, Told, View, Wish, event, failure, index_of, wish},
};

/// For how long leadership is sure, in milliseconds.
const LEADS_MS: u64 = 2000;

/// What matters of a record; all of it follows from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub record: u32,
    pub epoch: u8,
    pub executor: u8,
    pub phase: Phase,
    pub old_primary: u8,
    pub new_primary: Option<u8>,
    /// It says why it waits or ended as it did.
    pub reason: bool,
}

impl Hash for Note {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.record.hash(state);
    }
}

/// What came of telling a machine something: the machine, and what it wants.
pub(super) type Stepped = (u32, Vec<Wish>);

/// How a machine begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Begins {
    /// The record that is continued.
    record: Option<u32>,
    known: [View; 3],
    answers: [Option<View>; 3],
    up: [bool; 3],
    old_primary: u8,
    epoch: u8,
    who: u8,
}

#[derive(Default)]
struct Memory {
    machines: Vec<(Machine, Note)>,
    machine_numbers: HashMap<u128, u32>,
    records: Vec<Recovery>,
    record_numbers: HashMap<u128, u32>,
    begun: HashMap<Begins, Stepped>,
    told: HashMap<(u32, Told), Stepped>,
}

/// All machines and records that were met.
pub(super) struct Mind {
    policy: Policy,
    memory: Mutex<Memory>,
}

impl Mind {
    pub(super) fn new() -> Self {
        Self { policy: fake::policy(usize::from(SERVERS)), memory: Mutex::default() }
    }

    /// Machines and records that were met.
    pub(super) fn size(&self) -> (usize, usize) {
        let memory = self.memory.lock().unwrap();
        (memory.machines.len(), memory.records.len())
    }

    /// The record as a machine would write it now.
    pub(super) fn note(&self, machine: u32) -> Note {
        self.memory.lock().unwrap().machines[machine as usize].1
    }

    pub(super) fn message(&self, record: u32) -> String {
        self.memory.lock().unwrap().records[record as usize].message.clone()
    }

    pub(super) fn finished(&self, machine: u32) -> bool {
        self.memory.lock().unwrap().machines[machine as usize].0.finished()
    }

    /// The record with another executor.
    pub(super) fn taken_over(&self, record: u32, who: u8) -> Note {
        let mut memory = self.memory.lock().unwrap();
        let mut recovery = memory.records[record as usize].clone();
        recovery.executor = who.to_string();
        memory.record(recovery)
    }

    /// A new recovery of `old_primary`, of which, as of the other servers, `known` was last seen.
    pub(super) fn begin(&self, fleet: &Fleet, known: &[View; 3], old_primary: u8, epoch: u8, who: u8) -> Stepped {
        self.start(fleet, Begins { record: None, ..begins(fleet, known, old_primary, epoch, who) })
    }

    /// Goes on with a recovery.
    pub(super) fn resume(&self, fleet: &Fleet, known: &[View; 3], note: Note, who: u8) -> Stepped {
        let begins = begins(fleet, known, note.old_primary, note.epoch, who);
        self.start(fleet, Begins { record: Some(note.record), ..begins })
    }

    fn start(&self, fleet: &Fleet, mut begins: Begins) -> Stepped {
        begins.up = [0, 1, 2].map(|server| fleet.at(server).up);
        let mut memory = self.memory.lock().unwrap();
        if let Some(known) = memory.begun.get(&begins) {
            return known.clone();
        }
        let (snapshot, name) = (snapshot(&begins), begins.who.to_string());
        let mut machine = match begins.record {
            Some(record) => {
                Machine::resume(memory.records[record as usize].clone(), &snapshot, &self.policy, &name, NOW)
            }
            None => {
                let server = addr(usize::from(begins.old_primary));
                let cause = Cause { analysis: "DeadPrimary".to_owned(), server, reason: String::new() };
                let epoch = Epoch(u64::from(begins.epoch));
                let mut machine = Machine::new(&snapshot, &self.policy, cause, epoch, &name, NOW);
                machine.record_mut().record = format!("shop-{epoch}");
                machine
            }
        };
        let effects = machine.step(gate(), Event::Start);
        let stepped = memory.remember(machine, &effects);
        memory.begun.insert(begins, stepped.clone());
        stepped
    }

    pub(super) fn tell(&self, number: u32, told: Told) -> Stepped {
        let mut memory = self.memory.lock().unwrap();
        if let Some(known) = memory.told.get(&(number, told)) {
            return known.clone();
        }
        let mut machine = memory.machines[number as usize].0.clone();
        if let Told::Passed(ms) = told {
            machine.grow_older(ms);
        }
        let event = event(told, &machine.record().old_primary);
        let effects = machine.step(gate(), event);
        let stepped = memory.remember(machine, &effects);
        memory.told.insert((number, told), stepped.clone());
        stepped
    }
}

fn begins(fleet: &Fleet, known: &[View; 3], old_primary: u8, epoch: u8, who: u8) -> Begins {
    let answers = [0, 1, 2].map(|server| {
        let it = fleet.at(server);
        (it.up && !it.cut).then(|| View::of(fleet, server))
    });
    Begins { record: None, known: *known, answers, up: [true; 3], old_primary, epoch, who }
}

fn gate() -> Gate {
    Gate { now: NOW, leader_until: NOW.plus_ms(LEADS_MS) }
}

impl Memory {
    fn remember(&mut self, mut machine: Machine, effects: &[Effect]) -> Stepped {
        machine.forget(NOW);
        let digest = digest(&format!("{machine:?}"));
        let wishes = effects.iter().filter_map(wish).collect();
        if let Some(number) = self.machine_numbers.get(&digest) {
            return (*number, wishes);
        }
        let note = self.record(machine.record().clone());
        let number = u32::try_from(self.machines.len()).unwrap();
        self.machines.push((machine, note));
        self.machine_numbers.insert(digest, number);
        (number, wishes)
    }

    fn record(&mut self, mut recovery: Recovery) -> Note {
        recovery.forget();
        let fresh = u32::try_from(self.records.len()).unwrap();
        let number = *self.record_numbers.entry(digest(&format!("{recovery:?}"))).or_insert(fresh);
        let note = Note {
            record: number,
            epoch: u8::try_from(recovery.epoch.0).unwrap(),
            executor: recovery.executor.parse().unwrap(),
            phase: recovery.phase,
            old_primary: index_of(&recovery.old_primary),
            new_primary: recovery.new_primary.as_ref().map(index_of),
            reason: !recovery.message.is_empty(),
        };
        if number == fresh {
            self.records.push(recovery);
        }
        note
    }
}

fn digest(text: &str) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// What the watch knew before the failure, and what it sees now.
fn snapshot(begins: &Begins) -> Snapshot {
    let primary = addr(usize::from(begins.old_primary));
    let mut snapshot = Snapshot { at: NOW, primary: Some(primary), ..Snapshot::default() };
    for (index, known) in begins.known.iter().enumerate() {
        let state = snapshot.servers.entry(addr(index)).or_default();
        state.apply(Ok(Box::new(known.observation(Mono(NOW.0 - 500)))));
        state.apply(match begins.answers[index] {
            Some(view) => Ok(Box::new(view.observation(NOW))),
            None => Err(failure(begins.up[index])),
        });
    }
    snapshot
}
