//! Recoveries of intermediate primaries, one at a time: record, moves, end. They stand back for whatever
//! concerns the primary, and go on from what the servers show then.

use std::sync::Arc;

use futures::FutureExt;

use super::{Cluster, Done};
use crate::{
    core::{
        housekeeping::Duty,
        id::ServerAddr,
        recovery::Recovery,
        relocation::{
            course::{Beginning, Course},
            hold::{Earlier, next_number},
            record_name,
        },
        step::ActionError,
        time::Mono,
        topology::Topology,
    },
    engine::{
        calm::GAP_MS,
        decide,
        outlook::Outlook,
        ports::{JournalError, World},
    },
};

/// How long it is tried to close a record, in milliseconds; then it is left to whoever reads it next.
const CLOSE_MS: u64 = 30_000;

/// How far the recovery of an intermediate primary is.
#[derive(Debug)]
pub(super) enum Relocating {
    /// Its record is being written.
    Beginning(Box<Course>),
    /// One that another process has begun is being taken over.
    Claiming,
    /// Replicas are being moved.
    Acting(Box<Course>),
    /// Its record is being closed, since when and again from when.
    Closing(Box<Course>, Mono, Option<Mono>),
}

/// What is remembered of these recoveries.
#[derive(Debug, Default)]
pub(super) struct Relocations {
    pub(super) now: Option<Relocating>,
    /// The newest that ended here, and when, while the records that were read do not show it.
    ended: Option<(Earlier, Mono)>,
    /// The next is begun at this moment at the earliest.
    not_before: Mono,
    /// Numbers up to this one are not to be tried again.
    spoilt: u64,
}

/// How a write of a record ended.
pub(super) enum Written {
    Begun(Result<(), JournalError>),
    Claimed(Result<Box<Recovery>, JournalError>),
    Closed(Result<(), JournalError>),
}

impl Relocations {
    /// All that are known at `now`: those that were read and the one that has just ended here.
    pub(super) fn known(&self, read: &[Earlier], now: Mono) -> Vec<Earlier> {
        let unread = |(past, _): &&(Earlier, Mono)| {
            read.iter().all(|known| known.record != past.record || !known.phase.finished())
        };
        let own = self
            .ended
            .as_ref()
            .filter(unread)
            .map(|(past, at)| Earlier { age_ms: past.age_ms.saturating_add(now.since_ms(*at)), ..past.clone() });
        let others = read.iter().filter(|past| own.as_ref().is_none_or(|own| own.record != past.record));
        others.cloned().chain(own.clone()).collect()
    }

    /// An action on a server ended.
    pub(super) fn acted(&mut self, now: Mono, server: &ServerAddr, error: Option<&ActionError>) {
        if let Some(Relocating::Acting(course)) = &mut self.now {
            course.acted(now, server, error);
        }
    }
}

impl<W: World> Cluster<W> {
    /// The next thing to do for an intermediate primary that is lost.
    pub(super) fn relocate(&mut self, now: Mono, until: Mono, outlook: Outlook) {
        match self.relocations.now.take() {
            None if !outlook.free || now < self.relocations.not_before => {}
            None => match (self.history.relocating.clone(), outlook.begin) {
                (Some(record), _) if !self.closed_here(&record) => self.take_over(record),
                (_, Some((analysis, plan))) => {
                    let first_sign = self.snapshot.servers.get(&analysis.server).and_then(|state| state.failing_since);
                    let first_sign = first_sign.unwrap_or(now);
                    let known = self.relocations.known(&self.history.relocations, now);
                    let number = next_number(&known).max(self.relocations.spoilt.saturating_add(1));
                    let beginning = Beginning {
                        record: record_name(&self.key.name, number),
                        epoch: self.epoch(),
                        executor: &self.executor,
                        analysis: &analysis,
                        evidence: decide::evidence(&analysis, first_sign),
                        first_sign,
                    };
                    self.begin_relocation(Course::new(now, &self.snapshot, plan, beginning));
                }
                _ => {}
            },
            Some(Relocating::Acting(course)) => self.move_on(now, until, course, &outlook),
            Some(Relocating::Closing(course, since, Some(at))) if now >= at => self.close(course, since),
            other => self.relocations.now = other,
        }
    }

    fn closed_here(&self, record: &str) -> bool {
        self.relocations.ended.as_ref().is_some_and(|(past, _)| past.record == record)
    }

    fn begin_relocation(&mut self, course: Course) {
        let (world, record) = (Arc::clone(&self.world), course.record().clone());
        tracing::warn!(cluster = %self.key, recovery = record.record, "{} of {}: its replicas are moved", record.cause.analysis, record.old_primary);
        self.relocations.now = Some(Relocating::Beginning(Box::new(course)));
        self.side.push(async move { Done::Relocation(Written::Begun(world.begin(&record).await)) }.boxed());
    }

    fn take_over(&mut self, record: String) {
        let (world, executor) = (Arc::clone(&self.world), self.executor.clone());
        self.relocations.now = Some(Relocating::Claiming);
        let claim = async move {
            Done::Relocation(Written::Claimed(world.claim(&record, &executor, None).await.map(Box::new)))
        };
        self.side.push(claim.boxed());
    }

    fn move_on(&mut self, now: Mono, until: Mono, mut course: Box<Course>, outlook: &Outlook) {
        if outlook.free {
            let called_for = outlook.lost.contains(&course.record().old_primary);
            let topology = Topology::of(&self.snapshot);
            for duty in course.pass(&self.snapshot, &topology, &self.desired.policy, called_for) {
                if self.free_at(&duty.server, now) {
                    course.started(now, &duty.server, duty.action.clone());
                    self.start(now, until, duty);
                }
            }
        }
        if course.finished() {
            self.close(course, now);
        } else {
            self.relocations.now = Some(Relocating::Acting(course));
        }
    }

    fn close(&mut self, course: Box<Course>, since: Mono) {
        let (world, record) = (Arc::clone(&self.world), course.record().clone());
        self.relocations.now = Some(Relocating::Closing(course, since, None));
        self.side.push(async move { Done::Relocation(Written::Closed(world.save(&record).await)) }.boxed());
    }

    /// A write of a record ended.
    pub(super) fn relocation_written(&mut self, written: Written) {
        let now = self.world.now();
        match (self.relocations.now.take(), written) {
            (Some(Relocating::Beginning(mut course)), Written::Begun(Ok(()))) => {
                course.recorded(now);
                self.relocations.now = Some(Relocating::Acting(course));
            }
            (Some(Relocating::Beginning(course)), Written::Begun(Err(error))) => {
                if matches!(error, JournalError::Lost(_)) {
                    let number = course.record().record.rsplit('-').next().and_then(|number| number.parse().ok());
                    self.relocations.spoilt = number.unwrap_or(self.relocations.spoilt);
                }
                self.relocation_failed(now, &error);
            }
            (Some(Relocating::Claiming), Written::Claimed(Ok(record))) if record.phase.finished() => {
                self.relocation_ended(now, &record);
            }
            (Some(Relocating::Claiming), Written::Claimed(Ok(record))) => {
                let mut course = Course::resume(*record, now);
                course.recorded(now);
                self.relocations.now = Some(Relocating::Acting(Box::new(course)));
            }
            (Some(Relocating::Claiming), Written::Claimed(Err(error))) => self.relocation_failed(now, &error),
            (Some(Relocating::Closing(course, since, _)), Written::Closed(result)) => match result {
                Err(JournalError::Unavailable(_)) if now.since_ms(since) < CLOSE_MS => {
                    self.relocations.now = Some(Relocating::Closing(course, since, Some(now.plus_ms(GAP_MS))));
                }
                _ => self.relocation_ended(now, course.record()),
            },
            (other, _) => self.relocations.now = other,
        }
    }

    fn relocation_failed(&mut self, now: Mono, error: &JournalError) {
        self.relocations.not_before = now.plus_ms(GAP_MS);
        tracing::warn!(cluster = %self.key, "the recovery of an intermediate primary waits: {error}");
    }

    fn relocation_ended(&mut self, now: Mono, record: &Recovery) {
        let left = record.pending_replicas.iter().chain(&record.lost_replicas);
        let past = Earlier {
            record: record.record.clone(),
            lost: record.old_primary.clone(),
            phase: record.phase,
            age_ms: record.timings.completed.unwrap_or_default(),
            acknowledged: record.acknowledged,
            left: left.cloned().collect(),
        };
        self.relocations.ended = Some((past, now));
    }

    /// What the owner wants repaired, after everything else. `free`: nothing more urgent is going on.
    pub(super) fn repair(&mut self, now: Mono, until: Mono, free: bool, due: Vec<Duty>) {
        for duty in self.repairs.allowed(now, due) {
            if free && self.free_at(&duty.server, now) {
                if self.repairs.tried(now, &duty.server) {
                    tracing::warn!(cluster = %self.key, server = %duty.server, "{}: the last attempt at its repair for now", duty.server);
                }
                self.start(now, until, duty);
            }
        }
    }
}
