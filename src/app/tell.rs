//! Tells how a recovery goes, at the moment its record was written: log line, metrics and Events from
//! one fact.

use std::sync::{Mutex, PoisonError};

use crate::{
    core::{
        id::ClusterKey,
        recovery::{Phase, Recovery, Timings},
        time::Mono,
    },
    k8s::events::Events,
    telemetry::{
        event::{
            Event,
            recovery::{RecoveryPhase, StepTaken, TakenBack},
        },
        metrics::Metrics,
    },
};

/// Tells the recoveries of one cluster.
#[derive(Debug)]
pub(super) struct Teller {
    key: ClusterKey,
    uid: String,
    events: Events,
    /// The record that was told last, its phase, and since when.
    last: Mutex<Option<(String, Phase, Mono)>>,
    /// Steps of that recovery that were told.
    steps: Mutex<(String, usize)>,
}

impl Teller {
    pub(super) fn new(key: ClusterKey, uid: &str, events: Events) -> Self {
        Self { key, uid: uid.to_owned(), events, last: Mutex::new(None), steps: Mutex::default() }
    }

    /// The record was written as `recovery` at `now`: a phase that was entered is told, once.
    pub(super) fn written(&self, recovery: &Recovery, metrics: &Metrics, now: Mono) {
        self.steps(recovery, metrics);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.as_ref().filter(|(record, ..)| *record == recovery.record);
        let before = before.map(|(_, phase, since)| (*phase, *since));
        if before.is_some_and(|(phase, _)| phase == recovery.phase) {
            return;
        }
        *last = Some((recovery.record.clone(), recovery.phase, now));
        drop(last);
        let record = recovery.record.as_str();
        let fact = RecoveryPhase {
            cluster: &self.key,
            record,
            recovery,
            left: before.map(|(phase, since)| (phase, now.since_ms(since))),
            at_ms: reached_ms(&recovery.timings),
        };
        fact.emit(metrics);
        for event in fact.kubernetes() {
            self.events.recovery(&self.key, &self.uid, record, &event);
        }
    }
}

impl Teller {
    /// The operator goes on with what it had left to a Job.
    pub(super) fn taken_back(&self, recovery: &Recovery, reason: &str, metrics: &Metrics) {
        let fact = TakenBack { cluster: &self.key, record: &recovery.record, epoch: recovery.epoch.0, reason };
        fact.emit(metrics);
        for event in fact.kubernetes() {
            self.events.recovery(&self.key, &self.uid, &recovery.record, &event);
        }
    }

    /// Steps that the record did not have when it was last written.
    fn steps(&self, recovery: &Recovery, metrics: &Metrics) {
        let mut told = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let known = if told.0 == recovery.record { told.1 } else { 0 };
        *told = (recovery.record.clone(), recovery.steps.len());
        drop(told);
        for step in recovery.steps.iter().skip(known) {
            let fact = StepTaken {
                cluster: &self.key,
                record: &recovery.record,
                epoch: recovery.epoch.0,
                step: &step.step,
                server: &step.server,
                took_ms: step.took_ms,
                outcome: &step.outcome,
            };
            fact.emit(metrics);
        }
    }
}

/// The latest moment that a record knows, in milliseconds since the first sign.
fn reached_ms(timings: &Timings) -> u64 {
    let Timings { detected, recorded, fenced, chosen, writable, routed, completed } = *timings;
    [detected, recorded, fenced, chosen, writable, routed, completed].into_iter().flatten().max().unwrap_or_default()
}
