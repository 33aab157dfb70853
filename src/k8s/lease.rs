//! Keeps the Lease: performs what [`Election`] wants and publishes until when this process leads.
//!
//! One task. Every request ends within a retry period, answered or not; the task ends when leadership is
//! lost, and the process is expected to follow it. Nothing here decides who leads.

mod released;
#[cfg(test)]
mod tests;
mod wire;

use std::{collections::hash_map::RandomState, hash::BuildHasher, sync::Arc, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};
use released::Releases;
use tokio::{select, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{
        election::{Effect, Election, Input, Lost, Outcome, Timing},
        time::Mono,
    },
    engine::ports::{Clock, Leadership},
};

/// Which Lease, who wants it, and how patiently.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this process is, unique to this start of it; see [`identity`].
    pub identity: String,
    /// The three durations.
    pub timing: Timing,
}

/// An identity for this start of the process: names of pods come back, so a name alone is not enough.
#[must_use]
pub fn identity(pod_name: &str) -> String {
    // The standard library's hash keys are the operating system's randomness.
    let number = RandomState::new().hash_one(pod_name);
    format!("{pod_name}_{number:016x}")
}

/// What is known about the leadership; for reading by anybody, at any time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Until when this process leads, on its own clock.
    pub leader_until: Option<Mono>,
    /// Who holds the Lease, as last read.
    pub holder: Option<String>,
    /// How often the Lease changed its holder.
    pub transitions: i32,
}

/// This process' leadership as the rest of it sees it.
#[derive(Debug, Clone)]
pub struct Leader {
    standing: watch::Receiver<Standing>,
}

impl Leader {
    /// What is known now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until something is known that was not when this handle last waited; `false`: nothing will be.
    pub async fn changed(&mut self) -> bool {
        self.standing.changed().await.is_ok()
    }
}

impl Leadership for Leader {
    fn leader_until(&self) -> Option<Mono> {
        self.standing.borrow().leader_until
    }
}

/// Why a request brought no answer that can be used.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no answer within {0} ms")]
    Timeout(u64),
    #[error("lease in the answer has no uid or resource version")]
    Malformed,
    #[error("lease was not read before it is written")]
    Unread,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// The task that keeps the Lease.
#[derive(Debug)]
pub struct Elector<C> {
    api: Api<Lease>,
    settings: Settings,
    clock: Arc<C>,
    machine: Election,
    /// The object as last read or written, for what the election does not care about.
    last: Option<Lease>,
    standing: watch::Sender<Standing>,
    /// While standing by.
    releases: Option<Releases>,
    failing: bool,
}

impl<C: Clock> Elector<C> {
    /// A contender and the handle that says whether it leads. `client` should be made of a
    /// [`lease_config`](super::client::lease_config).
    #[must_use]
    pub fn new(client: Client, settings: Settings, clock: Arc<C>) -> (Self, Leader) {
        let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
        let machine = Election::new(&settings.identity, settings.timing);
        let (standing, receiver) = watch::channel(Standing::default());
        let pause = Duration::from_millis(settings.timing.retry_ms());
        let releases = Some(Releases::of(api.clone(), &settings.name, pause));
        let elector = Self { api, settings, clock, machine, last: None, standing, releases, failing: false };
        (elector, Leader { standing: receiver })
    }

    /// Contends for the Lease and keeps it, until leadership is lost or `end` is cancelled. Cancel it when
    /// everything this process did as the leader has ended: the Lease is then given up at once. Drop the
    /// task instead to let the Lease expire.
    ///
    /// # Errors
    /// [`Lost`] when this process led and does no more: it must stop acting and exit.
    pub async fn run(mut self, end: CancellationToken) -> Result<Outcome, Lost> {
        let mut ending = false;
        let mut input = Input::Tick;
        loop {
            let mut effect = self.step(input);
            if !ending && end.is_cancelled() && !matches!(effect, Effect::Stop(_)) {
                ending = true;
                // What was wanted and is not begun counts as begun and unanswered; that is never wrong.
                effect = self.step(Input::Shutdown);
            }
            input = match effect {
                Effect::Stop(Outcome::Lost(lost)) => return Err(lost),
                Effect::Stop(outcome) => return Ok(outcome),
                Effect::Sleep { ms } if ending => {
                    self.clock.sleep_ms(ms).await;
                    Input::Tick
                }
                Effect::Sleep { ms } => {
                    ending = self.sleep(ms, &end).await;
                    if ending { Input::Shutdown } else { Input::Tick }
                }
                call => self.perform(call).await,
            };
        }
    }

    /// Feeds the machine and publishes what follows, before anything is done about it.
    fn step(&mut self, input: Input) -> Effect {
        let effect = self.machine.step(self.clock.now(), input);
        let lease = self.machine.lease();
        let new = Standing {
            leader_until: self.machine.leader_until(),
            holder: lease.and_then(|record| record.holder()).map(str::to_owned),
            transitions: lease.and_then(|record| record.transitions).unwrap_or(0),
        };
        let leads = new.leader_until.is_some();
        let led = self.standing.borrow().leader_until.is_some();
        self.standing.send_if_modified(|old| std::mem::replace(old, new.clone()) != new);
        if leads && !led {
            // Nobody but us will release it now.
            self.releases = None;
        }
        effect
    }

    async fn perform(&mut self, effect: Effect) -> Input {
        let result = self.call(effect).await;
        if result.is_ok() == self.failing {
            self.failing = result.is_err();
            match &result {
                Ok(_) => tracing::info!("requests for the lease succeed again"),
                Err(error) => tracing::warn!(%error, "request for the lease failed, trying on"),
            }
        }
        result.unwrap_or(Input::Failed)
    }

    /// Waits; less when the Lease is given up by somebody, or when `end` is cancelled, which it tells.
    async fn sleep(&mut self, ms: u64, end: &CancellationToken) -> bool {
        let releases = &mut self.releases;
        let released = async {
            match releases {
                Some(releases) => releases.next().await,
                None => std::future::pending().await,
            }
        };
        select! {
            biased;
            () = end.cancelled() => true,
            () = self.clock.sleep_ms(ms) => false,
            () = released => false,
        }
    }

    /// One request, within one retry period.
    async fn call(&mut self, effect: Effect) -> Result<Input, CallError> {
        let limit_ms = self.settings.timing.retry_ms();
        let (reads, replaces) = (matches!(effect, Effect::Get), matches!(effect, Effect::Replace { .. }));
        let clock = Arc::clone(&self.clock);
        let answer = select! {
            biased;
            answer = self.request(effect) => answer,
            () = clock.sleep_ms(limit_ms) => Err(CallError::Timeout(limit_ms)),
        };
        match answer {
            Ok(None) => Ok(Input::Observed(None)),
            Ok(Some(lease)) => {
                let record = wire::record(&lease).ok_or(CallError::Malformed)?;
                self.last = Some(lease);
                Ok(if reads { Input::Observed(Some(record)) } else { Input::Wrote(record.version) })
            }
            Err(CallError::Api(kube::Error::Api(status)))
                if !reads
                    && (status.is_conflict() || status.is_already_exists() || replaces && status.is_not_found()) =>
            {
                Ok(Input::Conflict)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes `&mut self` because a stream that is only `Send` cannot be shared with another thread.
    async fn request(&mut self, effect: Effect) -> Result<Option<Lease>, CallError> {
        let Settings { namespace, name, .. } = &self.settings;
        let (wall_ms, parameters) = (self.clock.wall_ms(), PostParams::default());
        let lease = match effect {
            Effect::Create(claim) => {
                self.api.create(&parameters, &wire::create(namespace, name, &claim, wall_ms)).await?
            }
            Effect::Replace { over, claim } => {
                let last = self.last.as_ref().ok_or(CallError::Unread)?;
                self.api.replace(name, &parameters, &wire::replace(last, &over, &claim, wall_ms)).await?
            }
            Effect::Get | Effect::Sleep { .. } | Effect::Stop(_) => return Ok(self.api.get_opt(name).await?),
        };
        Ok(Some(lease))
    }
}
