//! What is said between the world and the real state machine: small words for the worlds, the real ones for it.

use baton::core::{
    gtid::GtidSet,
    id::{Epoch, ServerAddr},
    observation::{Failure, FailureKind, Observation},
    recovery::machine::{Effect, Event},
    step::{Action, ActionError},
    time::Mono,
};

use super::{
    fake::{self, addr},
    servers::{Fleet, PER_SERVER, SERVERS, Set, one},
    statements::Say,
};

/// What everyone's clock shows, in milliseconds; more than any rule looks back.
pub(super) const NOW: Mono = Mono(100_000);

/// What a look at a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct View {
    server: u8,
    pub executed: Set,
    received: Set,
    source: Option<u8>,
    receiver: bool,
    connected: bool,
    applier: bool,
    read_only: bool,
    offline: bool,
    source_side: bool,
    acker: bool,
    clients: u8,
}

impl View {
    pub(super) fn of(fleet: &Fleet, server: u8) -> Self {
        let it = fleet.at(server);
        Self {
            server,
            executed: it.executed,
            received: it.received,
            source: it.source,
            receiver: it.receiver,
            connected: it.source.is_some_and(|source| fleet.at(source).up && !fleet.at(source).offline),
            applier: it.applier,
            read_only: it.read_only || it.super_read_only,
            offline: it.offline,
            source_side: it.source_side,
            acker: it.acker,
            clients: fleet.attached(server),
        }
    }

    pub(super) fn observation(&self, at: Mono) -> Observation {
        let server = fake::Server {
            executed: transactions(self.executed),
            received: transactions(self.received),
            source: self.source.map(usize::from),
            receiver: self.receiver,
            applier: self.applier,
            read_only: self.read_only,
            offline: self.offline,
            source_side: self.source_side,
            acker: self.acker,
            ..fake::Server::replica(usize::from(self.server), 0, 0)
        };
        server.observe(at, u32::from(self.clients), 1, self.connected)
    }
}

fn transactions(set: Set) -> GtidSet {
    let all = (0..SERVERS).flat_map(|server| (0..PER_SERVER).map(move |number| (server, number)));
    let there = all.filter(|(server, number)| set & one(*server, *number) != 0);
    let text: Vec<_> =
        there.map(|(server, number)| fake::one(usize::from(server), u64::from(number) + 1).to_string()).collect();
    text.join(",").parse().unwrap()
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Seen(View),
    /// None came.
    Silent,
    /// No process was there.
    Gone,
    Precondition,
    Denied,
}

/// What a machine is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Told {
    Start,
    Begun(bool),
    Saved(Option<u8>, bool),
    Routed(Option<u8>, bool),
    Acted(u8, Answer),
    /// The watch looked at a server.
    Looked(View),
    /// Time passed, in milliseconds.
    Passed(u64),
}

/// What a machine wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wish {
    Begin,
    Save,
    Route(Option<u8>),
    Act(u8, Say),
}

pub(super) fn index_of(server: &ServerAddr) -> u8 {
    (0..SERVERS).find(|index| addr(usize::from(*index)) == *server).unwrap()
}

/// A process that runs and is out of reach is silent; where none is, the host says so.
pub(super) fn failure(up: bool) -> Failure {
    let kind = if up { FailureKind::Silent } else { FailureKind::Refused };
    Failure { at: NOW, kind, message: kind.reason().to_owned() }
}

pub(super) fn event(told: Told, old_primary: &ServerAddr) -> Event {
    let result = |done: bool| if done { Ok(()) } else { Err("unavailable".to_owned()) };
    let named = |server: Option<u8>| server.map(|server| addr(usize::from(server)));
    match told {
        Told::Start => Event::Start,
        Told::Begun(done) => Event::Begun(result(done)),
        Told::Saved(choice, done) => Event::Saved(named(choice), result(done)),
        Told::Routed(target, done) => Event::Routed(named(target), result(done)),
        Told::Acted(server, answer) => {
            let server = addr(usize::from(server));
            let result = outcome(&server, answer);
            Event::Acted(server, result)
        }
        Told::Looked(view) => {
            let server = addr(usize::from(view.server));
            // It began after everything that is known.
            let seen = Box::new(view.observation(NOW.plus_ms(2)));
            if server == *old_primary { Event::OldAnswers(seen) } else { Event::Looked(server, seen) }
        }
        Told::Passed(_) => Event::Tick,
    }
}

fn outcome(server: &ServerAddr, answer: Answer) -> Result<Box<Observation>, ActionError> {
    let server = server.clone();
    match answer {
        Answer::Seen(view) => Ok(Box::new(view.observation(NOW))),
        Answer::Silent => Err(ActionError::Contact { server, failure: failure(true) }),
        Answer::Gone => Err(ActionError::Contact { server, failure: failure(false) }),
        Answer::Precondition => Err(ActionError::Precondition { server, reason: "it did not hold".to_owned() }),
        Answer::Denied => {
            Err(ActionError::Refused { server, statement: "a test", code: 1290, message: "refused".to_owned() })
        }
    }
}

pub(super) fn wish(effect: &Effect) -> Option<Wish> {
    Some(match effect {
        Effect::Begin => Wish::Begin,
        Effect::Save => Wish::Save,
        Effect::Route(target) => Wish::Route(target.as_ref().map(index_of)),
        Effect::Act(server, action, _) => Wish::Act(index_of(server), say(action)),
        Effect::StartJob | Effect::Leave => panic!("no recovery is left to a Job here"),
        Effect::Finish => return None,
    })
}

fn say(action: &Action) -> Say {
    let number = |epoch: &Epoch| u8::try_from(epoch.0).unwrap();
    match action {
        Action::StopReceiver => Say::StopReceiver,
        Action::StartReceiver => Say::StartReceiver,
        Action::StartApplier => Say::StartApplier,
        Action::WaitApplied { .. } => Say::WaitApplied,
        Action::SemiSyncSource { on, .. } => Say::SourceSide(*on),
        Action::Fence => Say::Fence,
        Action::SetReadOnly => Say::SetReadOnly,
        Action::Claim { epoch, .. } => Say::Claim(number(epoch)),
        Action::WriteEpoch { epoch, .. } => Say::WriteEpoch(number(epoch)),
        Action::Unfence => Say::Unfence,
        Action::ForgetSource => Say::ForgetSource,
        Action::Repoint { source, semi_sync } => Say::Repoint(index_of(source), *semi_sync),
        other => panic!("a recovery is not known to say {other:?}"),
    }
}
