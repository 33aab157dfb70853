//! The failover of a cluster, from the moment the task begins or resumes it until it is over.

use std::sync::Arc;

use super::{Cluster, history::past};
use crate::{
    core::{
        analysis::Analysis,
        id::Epoch,
        recovery::{
            Phase, Recovery,
            machine::{Event, Machine},
            record_name,
        },
        time::Mono,
    },
    engine::{calm::GAP_MS, decide, ports::World, recover::Runner},
};

/// Pause after a recovery that came to nothing, in milliseconds.
const RETRY_MS: u64 = 30_000;

impl<W: World> Cluster<W> {
    pub(super) fn begin(&mut self, now: Mono, analysis: &Analysis) {
        let failing_since = self.snapshot.servers.get(&analysis.server).and_then(|state| state.failing_since);
        let first_sign = failing_since.or(analysis.since).unwrap_or(now);
        let cause = decide::cause(analysis);
        let epoch = self.next_epoch();
        let mut machine = Machine::new(&self.snapshot, &self.desired.policy, cause, epoch, &self.executor, first_sign);
        machine.record_mut().record = record_name(&self.key.name, epoch);
        machine.record_mut().evidence = decide::evidence(analysis, first_sign);
        machine.record_mut().timings.detected = Some(now.since_ms(first_sign));
        self.employ(&mut machine, "");
        let (what, server) = (analysis.code.name(), &analysis.server);
        tracing::warn!(cluster = %self.key, epoch = epoch.0, "{what} of {server}: recovery begins");
        self.launch(machine);
    }

    /// A reign that is above all that are known and that nothing stood in the way of.
    pub(super) fn next_epoch(&self) -> Epoch {
        self.epoch().max(self.spoilt).next()
    }

    pub(super) fn launch(&mut self, mut machine: Machine) {
        machine.bar_leaving(self.duties > 0);
        machine.count_joining(&self.joining, &self.snapshot);
        machine.note_stall(&self.snapshot);
        let record = machine.record().clone();
        match Runner::start(Arc::clone(&self.world), machine) {
            Ok(runner) => self.runner = Some(runner),
            Err(error) => {
                tracing::warn!(cluster = %self.key, "recovery not started: {error}");
                self.requests.ended(&record, self.world.now());
            }
        }
    }

    /// An unfinished recovery is ours, or turned out to be finished.
    pub(super) fn claimed(&mut self, record: Recovery) {
        let since = self.claiming.take().unwrap_or_else(|| self.world.now());
        if record.phase.finished() {
            self.none_under_way();
            return;
        }
        tracing::warn!(cluster = %self.key, epoch = record.epoch.0, "continuing the failover of {}", record.old_primary);
        let mut machine = Machine::resume(record, &self.snapshot, &self.desired.policy, &self.executor, since);
        self.employ_again(&mut machine);
        self.launch(machine);
    }

    pub(super) fn recovery_event(&mut self, event: Event) {
        if let Event::Acted(addr, result) = &event {
            match result {
                Ok(seen) => self.snapshot.apply(addr, Ok(seen.clone())),
                Err(error) => tracing::warn!(cluster = %self.key, server = %addr, "recovery step failed: {error}"),
            }
        }
        if self.runner.as_mut().is_some_and(|runner| runner.feed(event).is_err()) {
            self.stop_recovery();
        }
    }

    pub(super) fn stop_recovery(&mut self) {
        tracing::warn!(cluster = %self.key, "leadership is not sure: the recovery is left to the next leader");
        self.runner = None;
        self.not_before = self.world.now().plus_ms(GAP_MS);
    }

    pub(super) fn recovery_finished(&mut self) {
        let Some(runner) = self.runner.take() else {
            return;
        };
        let (record, now) = (runner.record().clone(), self.world.now());
        self.history.unfinished = None;
        self.history.hold = None;
        let left = runner.left();
        if left {
            self.left(&record);
        } else {
            self.requests.ended(&record, now);
        }
        if record.phase.promoted() {
            self.snapshot.primary.clone_from(&record.new_primary);
            self.history.past.push(past(&record));
            if !record.cause.reopens() {
                self.history.last = Some(record);
            }
        } else if left {
            // It is under way.
        } else if record.phase == Phase::Pending {
            // It could not be written down: nothing was done. What was half written keeps its number.
            self.spoilt = record.epoch;
            self.not_before = now.plus_ms(GAP_MS);
            if runner.taken() {
                // No watch has shown it yet: what it came to is to be known before another one begins.
                self.read_again(now, record.epoch);
            }
        } else if record.cause.reopens() {
            self.history.past.push(past(&record));
        } else if !record.cause.is_forced() {
            self.rest_until = now.plus_ms(RETRY_MS);
        }
    }
}
