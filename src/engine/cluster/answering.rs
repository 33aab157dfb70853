//! How the task answers what people ask for.

use std::sync::Arc;

use futures::FutureExt;

use super::{Cluster, Done};
use crate::{
    core::{
        id::ServerAddr,
        recovery::{Cause, FORCED, machine::Machine},
        time::Mono,
    },
    engine::ports::{JournalError, World},
};

impl<W: World> Cluster<W> {
    /// Begins what a person asked for.
    pub(super) fn force(&mut self, now: Mono, old_primary: ServerAddr, dead: bool) {
        let Some(request) = self.requests.take(now) else { return };
        let cause = Cause { analysis: FORCED.to_owned(), server: old_primary, reason: request.reason };
        let epoch = self.next_epoch();
        let policy = &self.desired.policy;
        let mut machine = Machine::new(&self.snapshot, policy, cause, epoch, &self.executor, now);
        machine.record_mut().record = request.record;
        machine.record_mut().candidate = request.candidate;
        machine.record_mut().timings.detected = Some(0);
        if dead {
            machine.presume_dead();
        }
        self.employ(&mut machine, &request.uid);
        self.launch(machine);
    }

    /// Writes into a request why it is refused.
    pub(super) fn refuse(&mut self, now: Mono, reason: String) {
        let Some(request) = self.requests.take(now) else { return };
        let world = Arc::clone(&self.world);
        let refuse = async move {
            let result = world.refuse(&request.record, &reason).await;
            Done::Refused(request.record, reason, result)
        };
        self.side.push(refuse.boxed());
    }

    /// One recovery at a time: what else is asked for meanwhile is refused.
    pub(super) fn refuse_others(&mut self, now: Mono) {
        let ours = self.runner.as_ref().map(|runner| runner.record().record.clone());
        let under_way = ours.or_else(|| self.with_a_job());
        if let Some(record) = under_way.filter(|_| self.requests.first(now).is_some()) {
            self.refuse(now, format!("another recovery is under way: {record}"));
        }
    }

    pub(super) fn refused(&mut self, record: &str, reason: &str, result: Result<(), JournalError>) {
        match result {
            Ok(()) => {
                tracing::warn!(cluster = %self.key, recovery = record, "{}: {record} is refused: {reason}", self.key)
            }
            Err(error) => {
                tracing::warn!(cluster = %self.key, recovery = record, "{}: {record} is not refused yet: {error}", self.key);
                self.requests.again(record, self.world.now());
            }
        }
    }
}
