//! What `baton job failover` does: claims one recovery that the operator left to it, carries it out or completes
//! it, and ends. Its log is the story of the failover.

use std::{sync::Arc, time::Duration};

use kube::{Client, Config};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    AbortOnDrop,
    cluster::{LOOKS, routing, watches},
    feed,
    tell::Teller,
    world::{ClusterWorld, LettingIn},
};
use crate::{
    core::{claim::Right, election::Timing, id::ClusterKey, recovery::Recovery, time::Mono},
    engine::{
        carry::Carrier,
        clock::SystemClock,
        decide::Watching,
        ports::{Clock, Journal, JournalError, Leadership},
        recover::NotLeading,
        turns::Turns,
    },
    k8s::{
        controller::{
            once::{ReadError, of_record},
            validate::Desired,
        },
        deadline,
        events::Events,
        lease,
        records::{Records, executor::Found},
    },
    mysql::execute::MysqlServers,
    telemetry::metrics::{Metrics, MetricsError},
};

/// Time between two looks at a record that is not left yet.
const ASK: Duration = Duration::from_millis(100);
/// The same for one that was not left in time, as when a failover waits for servers.
const ASK_SELDOM: Duration = Duration::from_secs(1);
/// In time, in milliseconds.
const SOON_MS: u64 = 10_000;
/// How long it is tried to read what the Job is about, and to claim it.
const TRIES: u32 = 50;
/// Longest wait for the last Events.
const EVENTS: Duration = Duration::from_secs(2);

/// What one Job is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespace of cluster and record.
    pub namespace: String,
    /// Name of the record.
    pub record: String,
    /// Durations of its claim.
    pub timing: Timing,
    /// Name of this pod.
    pub pod_name: String,
}

/// How a Job ended in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// The recovery has ended as its record says.
    Carried(Box<Recovery>),
    /// There was nothing to do for it; why.
    Idle(String),
}

/// Why a Job could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The Kubernetes configuration cannot be used.
    #[error("cannot reach Kubernetes: {0}")]
    Kubernetes(String),
    /// Cluster, record or Secret cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The record cannot be read or claimed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Another one executes the recovery.
    #[error("the claim has ended: another executor goes on")]
    Lost(#[from] NotLeading),
    /// Metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// The right to act, as the claim's task knows it.
#[derive(Debug)]
struct Claimed(watch::Receiver<Option<Mono>>);

impl Leadership for Claimed {
    fn leader_until(&self) -> Option<Mono> {
        *self.0.borrow()
    }
}

/// Does what the Job is for.
///
/// # Errors
/// [`JobError`].
pub async fn run(settings: Settings) -> Result<Ended, JobError> {
    let mut config = Config::infer().await.map_err(|error| JobError::Kubernetes(error.to_string()))?;
    deadline::configure(&mut config);
    let client = Client::try_from(config).map_err(|error| JobError::Kubernetes(error.to_string()))?;
    let desired = read(&client, &settings).await?;
    let identity = lease::identity(&settings.pod_name);
    let (events, publishing) = Events::new(&client, &identity);
    let publishing = tokio::spawn(publishing);
    let result = Box::pin(work(&client, settings, identity, desired, events)).await;
    // Whoever tells has ended.
    drop(timeout(EVENTS, publishing).await);
    result
}

/// Reads what the Job is about; the API server may be away for a moment.
async fn read(client: &Client, settings: &Settings) -> Result<Desired, JobError> {
    for _ in 1..TRIES {
        match Box::pin(of_record(client, &settings.namespace, &settings.record)).await {
            Err(ReadError::Call(error)) if !error.is_refusal() => tracing::warn!("{error}"),
            read => return Ok(read?),
        }
        sleep(ASK).await;
    }
    Ok(Box::pin(of_record(client, &settings.namespace, &settings.record)).await?)
}

async fn work(
    client: &Client,
    settings: Settings,
    identity: String,
    desired: Desired,
    events: Events,
) -> Result<Ended, JobError> {
    let Settings { record, timing, .. } = settings;
    let (key, clock) = (desired.key.clone(), SystemClock::start());
    let (until_sender, until) = watch::channel(None);
    let journal = || Records::new(client, key.clone()).of_job(timing.lease_s());
    let claim = Claim { journal: journal(), record, identity, timing, clock: clock.clone() };
    let (_options, options) = watch::channel(Arc::new(feed::options(&desired.connect)));
    let (_routing, routed) = watch::channel(routing(client, &desired));
    let timer = clock.clone();
    let now: Arc<dyn Fn() -> Mono + Send + Sync> = Arc::new(move || timer.now());
    let servers = Arc::new(MysqlServers::new(options.clone(), Arc::clone(&now)));
    let world = Arc::new(ClusterWorld {
        servers: Arc::clone(&servers),
        records: journal(),
        routing: routed,
        right: Arc::new(Claimed(until)),
        jobs: None,
        clock,
        metrics: Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"))?),
        teller: Teller::new(key.clone(), &desired.uid, events),
        letting_in: LettingIn::default(),
        turns: Turns::default(),
    });
    let (watching_sender, watching) = watch::channel(Watching::default());
    let (seen, looks) = mpsc::channel(LOOKS);
    let _watches = AbortOnDrop(tokio::spawn(watches(watching, options, seen, now, servers)));
    let policy = desired.policy.clone();
    let mut carrier = Carrier::new(Arc::clone(&world), policy, &claim.identity, looks, watching_sender);
    let found = carrier.observe(Box::pin(claim.take(&world, &until_sender))).await?;
    let (recovery, right) = match found {
        Ok(claimed) => claimed,
        Err(reason) => return Ok(Ended::Idle(reason)),
    };
    claim.told(&key, &recovery);
    let _keeping = AbortOnDrop(tokio::spawn(claim.keep(right, until_sender)));
    Ok(Ended::Carried(Box::new(carrier.carry(recovery).await?)))
}

/// The pause before a record is looked at again that was waited for so long, in milliseconds.
fn pause(waited_ms: u64) -> Duration {
    if waited_ms < SOON_MS { ASK } else { ASK_SELDOM }
}

/// The claim on the record.
struct Claim {
    journal: Records,
    record: String,
    identity: String,
    timing: Timing,
    clock: SystemClock,
}

impl Claim {
    /// Waits until the record is left to this Job and claims it. `Err` inside: there is nothing to do.
    async fn take(
        &self,
        world: &ClusterWorld,
        until: &watch::Sender<Option<Mono>>,
    ) -> Result<Result<(Recovery, Right), String>, JobError> {
        let (mut failures, began) = (0, self.clock.now());
        loop {
            let failed = match self.journal.look(&self.record, &self.identity).await {
                Ok(Found::Over(reason)) => return Ok(Err(reason)),
                Ok(Found::Waiting) => None,
                Ok(Found::Left) => {
                    let started = self.clock.now();
                    match world.claim(&self.record, &self.identity, None).await {
                        Ok(recovery) if recovery.phase.finished() => return Ok(Err("it has ended".to_owned())),
                        Ok(recovery) => {
                            let right = Right::claimed(self.timing, started, self.clock.now());
                            until.send_replace(right.until());
                            return Ok(Ok((recovery, right)));
                        }
                        Err(error) => Some(error),
                    }
                }
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                failures += 1;
                tracing::warn!(recovery = self.record, "{error}");
                if failures >= TRIES {
                    return Err(error.into());
                }
            }
            sleep(pause(self.clock.now().since_ms(began))).await;
        }
    }

    fn told(&self, cluster: &ClusterKey, recovery: &Recovery) {
        let Recovery { record, phase, epoch, old_primary, .. } = recovery;
        let identity = &self.identity;
        tracing::info!(%cluster, epoch = epoch.0, recovery = record, "{cluster}: {identity} goes on with the failover of {old_primary} from {phase:?}");
    }

    /// Renews the claim until it has ended.
    async fn keep(self, mut right: Right, until: watch::Sender<Option<Mono>>) {
        let pause = Duration::from_millis(self.timing.retry_ms());
        loop {
            sleep(pause).await;
            let started = self.clock.now();
            if right.pass(started) {
                match self.journal.renew(&self.record, &self.identity).await {
                    Ok(()) => right.renewed(started, self.clock.now()),
                    Err(JournalError::Lost(reason)) => {
                        tracing::warn!(recovery = self.record, "the claim is lost: {reason}");
                        right.lost();
                    }
                    Err(error) => tracing::warn!(recovery = self.record, "the claim is not renewed: {error}"),
                }
            }
            until.send_replace(right.until());
            if right.until().is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_not_left_is_not_asked_for_all_the_time() {
        assert_eq!([0, 9_999, 10_000, 3_600_000].map(pause), [ASK, ASK, ASK_SELDOM, ASK_SELDOM]);
    }
}
