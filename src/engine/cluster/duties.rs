//! How the task does what housekeeping asks for: one thing per server at a time, with a rest after it.

use std::sync::Arc;

use futures::FutureExt;

use super::{Cluster, Done};
use crate::{
    core::{
        id::ServerAddr,
        observation::Observation,
        step::{Action, Duty},
        time::Mono,
    },
    engine::ports::{ActionError, World},
};

/// Budget of one housekeeping action, in milliseconds.
const DUTY_MS: u64 = 3000;
/// Pause before a housekeeping action on the same server is tried again, in milliseconds.
const DUTY_RETRY_MS: u64 = 2000;
/// Receivers of one server are restarted at most this often, in milliseconds.
const RESTART_MS: u64 = 30_000;
/// Replication settings of one server are set at most this often, in milliseconds.
const SETTINGS_MS: u64 = 5000;
/// The same for semi-sync, whose status may follow a little later, in milliseconds.
const SEMI_SYNC_MS: u64 = 1000;
/// A replica that was made to connect anew is let be for so long, in milliseconds: its looks are seldom complete.
const RECONNECT_MS: u64 = 1500;
/// Plugins that could not be loaded are tried again after this long, in milliseconds.
const LOAD_RETRY_MS: u64 = 60_000;
/// Receivers that were refused have so long to connect before more connections are allowed, in milliseconds.
const ADMIT_MS: u64 = 5000;
/// Connections that this process allows a primary besides, at most.
const ADMITTED_MAX: u32 = 60;

/// How long a server is left alone after a housekeeping action, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    done_ms: u64,
    failed_ms: u64,
}

impl Rest {
    fn after(action: &Action) -> Self {
        let (done_ms, failed_ms) = match action {
            Action::RestartReceiver => (RESTART_MS, DUTY_RETRY_MS),
            // Looks show it only with their next slow part.
            Action::EnforceReplicationSettings { .. } => (SETTINGS_MS, DUTY_RETRY_MS),
            Action::Acknowledge { .. } => (RECONNECT_MS, DUTY_RETRY_MS),
            Action::LosslessSemiSync { .. } => (SEMI_SYNC_MS, DUTY_RETRY_MS),
            Action::LoadSemiSync => (SEMI_SYNC_MS, LOAD_RETRY_MS),
            Action::AllowConnections { .. } => (ADMIT_MS, DUTY_RETRY_MS),
            _ => (0, DUTY_RETRY_MS),
        };
        Self { done_ms, failed_ms }
    }
}

/// Whether an action makes a replica connect anew: one at a time, so that commits which wait for replicas
/// do not have to wait for all of them.
fn reconnects(action: &Action) -> bool {
    matches!(action, Action::Acknowledge { .. } | Action::EnforceReplicationSettings { .. })
}

/// Whether an action makes a replica acknowledge.
fn acknowledges(action: &Action) -> bool {
    matches!(action, Action::Acknowledge { on: true } | Action::Repoint { semi_sync: Some(true), .. })
}

impl<W: World> Cluster<W> {
    /// Begins what can be begun now; the rest comes again with the next pass.
    pub(super) fn begin_duties(&mut self, now: Mono, until: Mono, duties: Vec<Duty>) {
        for duty in duties {
            let waits = reconnects(&duty.action) && self.reconnecting.is_some();
            if self.free_at(&duty.server, now) && !waits && self.admits(&duty) {
                self.start(now, until, duty);
            }
        }
    }

    /// Notes connections that a primary is allowed besides; whether it is not too many.
    fn admits(&mut self, duty: &Duty) -> bool {
        let Action::AllowConnections { more } = duty.action else { return true };
        let before = self.admitted.take().filter(|(server, _)| *server == duty.server);
        let before = before.map_or(0, |(_, before)| before);
        let all = before.saturating_add(more);
        let few = all <= ADMITTED_MAX;
        self.admitted = Some((duty.server.clone(), if few { all } else { before }));
        few
    }

    /// Whether nothing is being done to a server, and it has been looked at since somebody last worked on it.
    pub(super) fn free_at(&self, server: &ServerAddr, now: Mono) -> bool {
        let fresh = self.snapshot.last(server).is_none_or(|seen| seen.began() >= self.settled);
        fresh && self.busy.get(server).is_none_or(|until| *until <= now)
    }

    /// Does one thing to a server, besides everything else. `until`: leadership is sure till then.
    pub(super) fn start(&mut self, now: Mono, until: Mono, duty: Duty) {
        let Duty { server, action, reason } = duty;
        if reconnects(&action) {
            self.reconnecting = Some(server.clone());
        }
        if matches!(action, Action::Repoint { .. }) {
            self.joining.insert(server.clone());
        }
        if acknowledges(&action) {
            self.snapshot.ledger.begins(&server);
        }
        let rest = Rest::after(&action);
        self.busy.insert(server.clone(), now.plus_ms(DUTY_MS.saturating_add(DUTY_RETRY_MS)));
        tracing::info!(cluster = %self.key, server = %server, "{server}: {}: {reason}", action.name());
        let world = Arc::clone(&self.world);
        // Whoever leads next must not be met by it.
        let budget_ms = DUTY_MS.min(until.since_ms(now));
        let act = async move {
            // Time in which this process did not run counts.
            let late_ms = world.now().since_ms(now);
            let result = world.act(&server, action, budget_ms.saturating_sub(late_ms)).await;
            Done::Duty(server, rest, result)
        };
        self.duties = self.duties.saturating_add(1);
        self.side.push(act.boxed());
    }

    pub(super) fn duty_done(
        &mut self,
        now: Mono,
        addr: &ServerAddr,
        rest: Rest,
        result: Result<Box<Observation>, ActionError>,
    ) {
        self.duties = self.duties.saturating_sub(1);
        self.joining.remove(addr);
        self.snapshot.ledger.has_begun(addr, now);
        if let Some(runner) = &mut self.runner {
            runner.bar_leaving(self.duties > 0);
        }
        if self.reconnecting.as_ref() == Some(addr) {
            self.reconnecting = None;
        }
        match result {
            Ok(seen) => {
                self.busy.insert(addr.clone(), now.plus_ms(rest.done_ms));
                self.relocations.acted(now, addr, None);
                self.snapshot.apply(addr, Ok(seen));
            }
            Err(error) => {
                self.busy.insert(addr.clone(), now.plus_ms(rest.failed_ms));
                self.relocations.acted(now, addr, Some(&error));
                tracing::warn!(cluster = %self.key, server = %addr, "housekeeping failed: {error}");
            }
        }
    }
}
