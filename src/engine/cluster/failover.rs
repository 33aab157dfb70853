//! The failover of a cluster, from the moment the task begins or resumes it until it is over.

use std::sync::Arc;

use super::Cluster;
use crate::{
    core::{
        analysis::Analysis,
        recovery::{
            Phase,
            machine::{Event, Machine},
        },
        throttle::Past,
        time::Mono,
    },
    engine::{calm::GAP_MS, decide, ports::World, recover::Runner},
};

/// Pause after a recovery that came to nothing, in milliseconds.
const RETRY_MS: u64 = 30_000;

impl<W: World> Cluster<W> {
    pub(super) fn begin(&mut self, now: Mono, analysis: &Analysis) {
        let first_sign =
            self.snapshot.servers.get(&analysis.server).and_then(|state| state.failing_since).unwrap_or(now);
        let cause = decide::cause(analysis);
        let epoch = self.epoch().next();
        let mut machine = Machine::new(&self.snapshot, &self.desired.policy, cause, epoch, &self.executor, first_sign);
        machine.record_mut().evidence = decide::evidence(analysis, first_sign);
        machine.record_mut().timings.detected = Some(now.since_ms(first_sign));
        tracing::warn!(cluster = %self.key, epoch = epoch.0, "{} of {}: failover begins", analysis.code.name(), analysis.server);
        self.launch(machine);
    }

    pub(super) fn launch(&mut self, machine: Machine) {
        match Runner::start(Arc::clone(&self.world), machine) {
            Ok(runner) => self.runner = Some(runner),
            Err(error) => tracing::warn!(cluster = %self.key, "recovery not started: {error}"),
        }
    }

    pub(super) fn recovery_event(&mut self, event: Event) {
        if let Event::Acted(addr, result) = &event {
            match result {
                Ok(seen) => self.snapshot.apply(addr, Ok(seen.clone())),
                Err(error) => tracing::warn!(cluster = %self.key, server = %addr, "recovery step failed: {error}"),
            }
        }
        if let Some(runner) = &mut self.runner {
            let before = runner.record().phase;
            if runner.feed(event).is_err() {
                self.stop_recovery();
            } else if runner.record().phase != before {
                let record = runner.record();
                let (phase, epoch) = (record.phase, record.epoch.0);
                tracing::warn!(cluster = %self.key, epoch, phase = ?phase, timings = ?record.timings, "failover of {}: {phase:?} {}", record.old_primary, record.message);
            }
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
        let record = runner.record().clone();
        self.history.unfinished = None;
        if record.phase.promoted() {
            self.snapshot.primary.clone_from(&record.new_primary);
            self.history.past.push(Past {
                name: format!("{}-{}", self.key.name, record.epoch),
                phase: record.phase,
                age_ms: 0,
                acknowledged: false,
            });
            self.history.last = Some(record);
        } else {
            // Where not even the intent could be written, nothing was done.
            let pause_ms = if record.phase == Phase::Pending { GAP_MS } else { RETRY_MS };
            self.not_before = self.world.now().plus_ms(pause_ms);
        }
    }
}
