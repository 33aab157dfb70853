//! How a fault begins and how it ends.

use std::collections::BTreeSet;

use baton::core::gtid::GtidSet;

use super::{
    faults::{Kind, Way},
    server::{Power, addr, one},
    sim::State,
};

impl State {
    pub fn strike(&mut self, kind: Kind, servers: &[usize], operators: &[usize]) {
        let first = servers.first().copied().unwrap_or_default();
        match kind {
            Kind::Kill(_) => self.fleet.kill(first),
            Kind::Freeze(_) => self.fleet.freeze(first, true),
            Kind::CutFromOperators { way, .. } => self.cut_operators(first, operators, way),
            Kind::CutFromServers(_, way) => self.cut_servers(first, way),
            Kind::Isolate(_) => {
                self.cut_operators(first, operators, Way::Both);
                self.cut_servers(first, Way::Both);
            }
            Kind::Split(_) => self.split(servers, operators),
            Kind::Lag(_, lag_ms) => self.fleet.servers[first].lag_ms = lag_ms,
            Kind::Poison(_) => self.fleet.servers[first].poisoned = true,
            Kind::SetClock(_, by_ms) => {
                self.fleet.servers[first].clock_offset_ms += by_ms;
                self.fleet.servers[first].clock_was_set = true;
            }
            Kind::KillLeader => self.seats[operators[0]].gate.killed.notify_one(),
            Kind::FreezeLeader => self.seats[operators[0]].gate.freeze(),
            Kind::ApiOut => self.api_out = true,
            Kind::ApiOutForLeader => self.seats[operators[0]].cut_from_api = true,
            Kind::ApiSlow(slow_ms) => self.api_slow_ms = slow_ms,
            Kind::Flaky(percent) => self.flaky = percent,
            Kind::WatchesLate(late_ms) => self.watch_late_ms = late_ms,
            Kind::WatchesReplay => self.replay = true,
            Kind::ApiRefuses(percent) => self.api_refuses = percent,
            Kind::ApiFails(percent) => self.api_fails = percent,
            Kind::WatchesLose(percent) => self.watch_loses = percent,
            Kind::Wipe(_) => self.wipe(first),
            Kind::Stray(_) => self.stray(first),
            Kind::Force(candidate) => {
                self.api.ask(candidate.map(|number| addr(number % self.fleet.servers.len())));
            }
            Kind::StopLeader => self.seats[operators[0]].gate.stopped.notify_one(),
            Kind::CutOff => {
                self.note_isolation(servers, operators);
                servers.iter().for_each(|server| self.cut_operators(*server, operators, Way::Both));
            }
        }
    }

    /// A new disk; in later seeds every second one has forgotten its source, too, as one with another data directory
    /// has.
    fn wipe(&mut self, server: usize) {
        let replica = self.fleet.servers[server].channel.is_some() && self.fleet.servers[server].runs();
        if self.api.unfinished().is_some() || !replica || server == self.primary() {
            return;
        }
        self.fleet.kill(server);
        self.fleet.servers[server].executed = GtidSet::default();
        if self.bare_wipes && self.fleet.now.is_multiple_of(2) {
            self.fleet.servers[server].channel = None;
        } else if let Some(channel) = &mut self.fleet.servers[server].channel {
            channel.received = GtidSet::default();
        }
    }

    /// A transaction that nobody else has, while nothing recovers.
    fn stray(&mut self, server: usize) {
        let replica = self.fleet.servers[server].channel.is_some() && self.fleet.servers[server].runs();
        if self.api.unfinished().is_none() && replica && server != self.primary() {
            let found = &mut self.fleet.servers[server];
            found.written += 1;
            let set = one(server, found.written);
            found.executed = found.executed.union(&set);
            self.fleet.strays = self.fleet.strays.union(&set);
            self.fleet.stray_at = Some((server, self.fleet.now));
        }
    }

    /// Which of these servers fall silent at once for these operators, if they are most of all.
    fn note_isolation(&mut self, servers: &[usize], operators: &[usize]) {
        for operator in operators {
            let seat = &self.seats[*operator];
            let known = self.fleet.servers.iter().filter(|server| !server.hidden).count();
            let audible = |server: &&usize| {
                let found = &self.fleet.servers[**server];
                found.runs() && !found.hidden && !seat.deaf.contains(*server) && !seat.unheard.contains(*server)
            };
            let silent: BTreeSet<_> = servers.iter().filter(audible).copied().collect();
            if silent.len() * 2 > known {
                self.seats[*operator].isolated = silent;
            }
        }
    }

    fn cut_operators(&mut self, server: usize, operators: &[usize], way: Way) {
        for operator in operators {
            if way != Way::Out {
                self.seats[*operator].unheard.insert(server);
            }
            if way != Way::In {
                self.seats[*operator].deaf.insert(server);
            }
        }
    }

    fn cut_servers(&mut self, server: usize, way: Way) {
        let hidden = |index: usize| self.fleet.servers[index].hidden;
        let others: Vec<_> =
            (0..self.fleet.servers.len()).filter(|other| *other != server && !hidden(*other)).collect();
        for other in others {
            if way != Way::Out {
                self.fleet.cut.insert((other, server));
            }
            if way != Way::In {
                self.fleet.cut.insert((server, other));
            }
        }
    }

    fn split(&mut self, servers: &[usize], operators: &[usize]) {
        let others: Vec<_> = (0..self.fleet.servers.len()).filter(|it| !servers.contains(it)).collect();
        for (one, other) in servers.iter().flat_map(|one| others.iter().map(move |other| (*one, *other))) {
            self.fleet.cut.extend([(one, other), (other, one)]);
        }
        for operator in 0..self.seats.len() {
            let away = if operators.contains(&operator) { &others } else { servers };
            self.note_isolation(away, &[operator]);
            self.seats[operator].unheard.extend(away.iter().copied());
            self.seats[operator].deaf.extend(away.iter().copied());
        }
    }

    pub fn undo(&mut self, number: usize) {
        let Some(at) = self.faults.begun.iter().position(|(begun, ..)| *begun == number) else { return };
        let (_, servers, operators) = self.faults.begun.remove(at);
        let kind = self.faults.plan[number].kind;
        self.say(|| format!("fault {kind:?} ends"));
        match kind {
            Kind::Kill(_) | Kind::Wipe(_) => self.boot(servers[0]),
            Kind::Freeze(_) => self.fleet.freeze(servers[0], false),
            Kind::CutFromOperators { .. }
            | Kind::CutFromServers(..)
            | Kind::Isolate(_)
            | Kind::Split(_)
            | Kind::CutOff => {
                let concerned: BTreeSet<_> = servers.into_iter().collect();
                self.reconnect(|server| matches!(kind, Kind::Split(_)) || concerned.contains(&server));
            }
            Kind::Lag(..) => self.fleet.servers[servers[0]].lag_ms = 0,
            Kind::Poison(_) => self.mend(servers[0]),
            Kind::FreezeLeader => self.seats[operators[0]].gate.thaw(),
            Kind::ApiOut => self.api_out = false,
            Kind::ApiOutForLeader => self.seats[operators[0]].cut_from_api = false,
            Kind::ApiSlow(_) => self.api_slow_ms = 0,
            Kind::Flaky(_) => self.flaky = 0,
            Kind::WatchesLate(_) => self.watch_late_ms = 0,
            Kind::WatchesReplay => self.replay = false,
            Kind::ApiRefuses(_) => self.api_refuses = 0,
            Kind::ApiFails(_) => self.api_fails = 0,
            Kind::WatchesLose(_) => self.watch_loses = 0,
            Kind::SetClock(..) | Kind::KillLeader | Kind::StopLeader | Kind::Stray(_) | Kind::Force(_) => {}
        }
        self.fleet.settle();
    }

    pub fn reconnect(&mut self, concerns: impl Fn(usize) -> bool) {
        self.fleet.cut.retain(|(one, other)| !concerns(*one) && !concerns(*other));
        for seat in &mut self.seats {
            seat.unheard.retain(|server| !concerns(*server));
            seat.deaf.retain(|server| !concerns(*server));
            seat.isolated.retain(|server| !concerns(*server));
            // Those that are left are most of all no more.
            if seat.isolated.len() * 2 <= self.fleet.servers.iter().filter(|server| !server.hidden).count() {
                seat.isolated.clear();
            }
        }
        (0..self.fleet.servers.len()).for_each(|server| self.fleet.hear(server));
    }

    pub fn mend(&mut self, server: usize) {
        let found = &mut self.fleet.servers[server];
        found.poisoned = false;
        if found.power != Power::Dead && found.channel.as_ref().is_some_and(|channel| channel.applier_error) {
            self.fleet.start_applier(server);
        }
    }
}
