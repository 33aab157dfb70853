//! Rules that are judged when something is done: beginning a failover, writing an epoch, letting clients in,
//! making a replica of a server, showing that all is well.

use baton::{
    core::{
        gtid::GtidSet,
        id::{Epoch, ServerAddr},
        recovery::{Part, Recovery},
        status::ClusterView,
    },
    engine::ports::JournalError,
};

use super::{
    api::is_job,
    check::shown,
    fleet::Fleet,
    server::{Power, addr, index_of, uuid},
    sim::State,
    statements::{Answer, Statement},
};

/// A replica that has heard the primary for so long is a witness, in milliseconds.
const WITNESS_MS: u64 = 4000;
/// A process that was gone a moment ago may have been seen so, in milliseconds.
const GONE_MS: u64 = 10_000;
/// After so many failovers within the block period the next waits, whatever happened.
const FAILOVERS_MAX: usize = 3;
/// Ages are told late, in milliseconds.
const AGE_SLACK_MS: u64 = 3000;
/// What keeps clients from writing is shown within this time (I6), in milliseconds.
const SHOWN_MS: u64 = 5000;

/// A leader needs so long until all is as it should be, in milliseconds: a receiver may try again after a second.
const SETTLES_MS: u64 = 2000;
/// Time from a look to what is done because of it, in milliseconds.
const UNSEEN_MS: u64 = 150;

impl State {
    /// A recovery was begun, or not. One that was left unfinished may be begun again by somebody else.
    pub fn began(&mut self, operator: usize, recovery: &Recovery, result: &Result<(), JournalError>) {
        let (record, executor) = (recovery.record.clone(), recovery.executor.clone());
        self.say(|| format!("{executor} begins {record} for {}: {result:?}", recovery.old_primary));
        if result.is_err() || recovery.part == Part::IntermediatePrimary {
            return;
        }
        let before = self.faults.recoveries.insert(record.clone(), executor.clone());
        if before == Some(executor) {
            self.fleet.fail(|| format!("I7: {record} is begun again by who had ended it"));
        }
        if before.is_some() || recovery.cause.is_forced() {
            return;
        }
        let old = index_of(&recovery.old_primary);
        if recovery.cause.reopens() {
            if self.fleet.servers[old].open() {
                self.fleet.fail(|| format!("I7: {record} opens {old}, which is open"));
            }
            return;
        }
        let idle = self.fleet.replicas_of(old).into_iter().all(|it| self.fleet.servers[it].idle);
        if idle && self.fleet.servers[old].runs() && self.fleet.now > self.faults.cause_until {
            self.fleet
                .fail(|| format!("I7: {record} begins without a cause: no replica had tried to hear the primary"));
        }
        if let Some(witness) = self.witness(operator, old).filter(|_| self.fleet.now > self.faults.cause_until) {
            self.fleet.fail(|| format!("I7: {record} begins without a cause: {witness} hears the primary"));
        }
        if self.seats[operator].isolated.contains(&old) {
            self.fleet.fail(|| format!("I7: {record} begins where most servers fell silent at once"));
        }
        if self.blocked(&recovery.old_primary) {
            self.fleet.fail(|| format!("I7: {record} begins within the block period"));
        }
        if recovery.evidence.is_empty() {
            self.fleet.fail(|| format!("I11: {record} begins without evidence"));
        }
    }

    /// A replica that this operator can ask and that has heard the primary for a while.
    fn witness(&self, operator: usize, primary: usize) -> Option<usize> {
        let seat = &self.seats[operator];
        let hears = |replica: &usize| {
            let channel = self.fleet.servers[*replica].channel.as_ref();
            let since = channel.and_then(|channel| channel.live_since);
            let asked = !seat.deaf.contains(replica) && !seat.unheard.contains(replica);
            asked && self.fleet.live(*replica) && since.is_some_and(|since| since + WITNESS_MS <= self.fleet.now)
        };
        self.fleet.replicas_of(primary).into_iter().filter(|it| !self.fleet.servers[*it].hidden).find(hears)
    }

    /// Whether a primary was made not long ago, and nothing proves that this one is gone, or too many were.
    fn blocked(&self, primary: &ServerAddr) -> bool {
        let recent = |created: u64| self.fleet.now - created + AGE_SLACK_MS < self.block_ms;
        let stored = self.api.records.values().filter(|stored| recent(stored.created));
        let all = stored.filter_map(|stored| stored.status.as_ref());
        let promoted = all.filter(|record| record.phase.promoted() && !record.cause.reopens());
        let server = &self.fleet.servers[index_of(primary)];
        let gone = server.power == Power::Dead || server.died_at.is_some_and(|at| at + GONE_MS > self.fleet.now);
        match promoted.count() {
            0 => false,
            count => count >= FAILOVERS_MAX || !gone,
        }
    }

    /// A statement was begun and answered so far like this.
    pub fn judge(&mut self, operator: usize, server: usize, statement: &Statement, answer: &Answer) {
        match (statement, answer) {
            (Statement::SemiSyncReplica(true), Answer::Done) => self.acknowledges_unwritten(server),
            (Statement::WriteEpoch(epoch), Answer::Wait | Answer::Done) if *epoch > self.api.epoch => {
                self.fleet.fail(|| format!("I8: epoch {epoch} is written on {server} and was not won"));
            }
            (Statement::Unfence, Answer::Done) => {
                self.opened_beside(server);
                self.opened_late(operator, server);
            }
            _ => {}
        }
    }

    /// Where Baton keeps semi-sync, a server that begins to acknowledge is written down, or in the record under way.
    fn acknowledges_unwritten(&mut self, server: usize) {
        let kept = self.jobs.as_ref().is_some_and(|policy| policy.semi_sync.is_some());
        let written = self.api.members.as_ref().is_some_and(|members| members.ackers.contains(&addr(server)));
        if kept && !written && self.api.unfinished().is_none() {
            self.fleet.fail(|| format!("semi-sync: {server} is made to acknowledge, and is not written down"));
        }
    }

    /// I3 without semi-sync: who forces a failover leaves no primary open that can be reached.
    fn opened_beside(&mut self, server: usize) {
        let forced = self.api.unfinished().filter(|record| record.cause.is_forced());
        let Some(old) = forced.map(|record| index_of(&record.old_primary)).filter(|old| *old != server) else { return };
        let found = &self.fleet.servers[old];
        let lives = self.fleet.now > self.faults.cause_until && found.runs() && found.open() && found.waits_for() == 0;
        if lives && self.fleet.servers[server].open() {
            self.fleet.fail(|| format!("I3: {server} is opened beside {old}, which accepts writes"));
        }
    }

    /// I3: nobody lets clients in when another one leads by now.
    fn opened_late(&mut self, operator: usize, server: usize) {
        let executor = self.api.unfinished().map(|record| record.executor.clone()).unwrap_or_default();
        let of_job = self.jobs.is_some() && operator + 1 == self.seats.len();
        let late = self.fleet.servers[server].open() && !self.fleet.servers[server].clock_was_set;
        if late && of_job != is_job(&executor) {
            let told = format!("I3: clients are let into {server} by {operator} while {executor:?} executes");
            self.fleet.fail(|| told);
        }
        if of_job {
            return;
        }
        let leads = |seat: &super::sim::Seat| seat.process.as_ref().is_some_and(|it| it.leads(self.fleet.now));
        let other = (0..self.seats.len()).find(|it| *it != operator && leads(&self.seats[*it]));
        let found = &self.fleet.servers[server];
        // A clock that is set back gives a claim more time.
        if let Some(other) = other.filter(|_| found.open() && !found.clock_was_set) {
            self.fleet.fail(|| format!("I3: clients are let into {server} by {operator} while {other} leads"));
        }
    }

    /// I6: what keeps clients from writing is shown in time, where somebody leads who can see and tell it.
    pub fn says_so(&mut self) {
        let told_at = self.fleet.told.map_or(0, |told| told.at);
        let quiet_since = told_at.max(self.trouble_at);
        let well_since = self.well_since.take();
        let calm = !self.writers_rest && self.fleet.now > quiet_since + SHOWN_MS;
        if !calm || self.seats.iter().any(|seat| seat.leads && seat.led_since + SHOWN_MS > self.fleet.now) {
            return;
        }
        let Some(view) = shown(self) else { return };
        let well = view.writable.value == Some(true) && view.analyses.is_empty();
        // It may be so since a moment ago.
        self.well_since = well.then(|| well_since.unwrap_or(self.fleet.now));
        if self.well_since.is_some_and(|since| self.fleet.now > since + SHOWN_MS) {
            self.fleet.fail(|| "I6: nobody can write for 5 s, and all is well as far as people are told".to_owned());
        }
    }

    /// I12: before the first fault somebody leads, and nothing is written.
    pub fn idle_is_silent(&mut self) {
        if self.trouble_at > 0 {
            return;
        }
        let (now, writes, before) = (self.fleet.now, self.api.writes, self.idle_writes);
        if before.is_some_and(|before| writes > before) {
            self.fleet.fail(|| "I12: something is written, and nothing has happened".to_owned());
        }
        let settled = self.seats.iter().any(|seat| seat.leads && seat.led_since + SETTLES_MS < now);
        self.idle_writes = before.or_else(|| settled.then_some(writes));
    }

    /// I11: what is shown explains itself.
    pub fn explains_itself(&mut self, view: &ClusterView) {
        let answers = [&view.writable, &view.replicating, &view.durable, &view.ready, &view.paused];
        let silent = answers.iter().any(|answer| answer.reason.is_empty() || answer.message.is_empty())
            || view.analyses.iter().any(|analysis| analysis.message.is_empty())
            || view.quarantined.iter().any(|it| it.reason.is_empty());
        if silent {
            self.fleet.fail(|| format!("I11: this does not say why: {view:?}"));
        }
    }

    /// Leadership: two are never sure of it at the same time.
    pub fn one_leads(&mut self) {
        let now = self.fleet.now;
        let sure = self.seats.iter().filter_map(|seat| seat.process.as_ref()).filter(|process| process.leads(now));
        let sure: Vec<_> = sure.map(|process| process.identity.clone()).collect();
        if sure.len() > 1 {
            self.fleet.fail(|| format!("leadership: {sure:?} are sure to lead at the same time"));
        }
    }
}

impl Fleet {
    /// Clients were let in by a claim of this reign.
    pub fn judge_opening(&mut self, index: usize, reign: Epoch) {
        let newest = self.newest_epoch(index);
        if newest != reign {
            self.fail(|| format!("I8: {index} is opened for epoch {reign} and shows {newest}"));
        }
        let written = |server: &super::server::Server| !server.executed.is_empty();
        let epochs = self.epochs.iter().fold(GtidSet::default(), |set, (row, _)| set.union(row));
        let empty = self.servers[index].executed.subtract(&epochs).is_empty();
        if empty && self.servers.iter().any(|it| it.index != index && written(it)) {
            self.fail(|| format!("I1: {index} is opened and has nothing that the others have"));
        }
        let strays = self.strays.subtract(&self.strays.subtract(&self.servers[index].log()));
        if !strays.is_empty() {
            self.fail(|| format!("I5: {index} is opened with {strays}, which nobody else has"));
        }
    }

    /// I5: what only one server has stays there, and it does not become a replica.
    pub fn judge_source(&mut self, index: usize, source: usize) {
        let all = |server: usize| {
            let found = &self.servers[server];
            found.channel.iter().fold(found.log(), |set, channel| set.union(&channel.received))
        };
        let own: GtidSet = all(index).subtract(&all(source));
        let own = own.subtract(&own.of_source(&uuid(source)));
        // Who writes there between the look and the statement is seen with the next look only.
        let unseen = self.stray_at.is_some_and(|(server, at)| server == index && self.now < at + UNSEEN_MS);
        if !own.is_empty() && !unseen {
            self.fail(|| format!("I5: {index} becomes a replica of {source} and has {own} alone"));
        }
    }
}
