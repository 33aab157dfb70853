//! Notices at once that the Lease was given up, so that a standby need not wait for its next look.
//!
//! Only a hint: the election reads the Lease itself before it acts, so a watch that is late, stale or
//! refused costs time and nothing else.

use std::{fmt, pin::Pin, time::Duration};

use futures::{Stream, StreamExt, future};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};

use super::wire;
use crate::core::election::Record;

/// Ends a watch request after this long, in seconds: a connection that died silently is noticed then.
const WATCH_S: u32 = 60;

/// The watch on one Lease.
pub(super) struct Releases {
    stream: Pin<Box<dyn Stream<Item = ()> + Send>>,
}

impl fmt::Debug for Releases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Releases")
    }
}

impl Releases {
    /// Watches `name`; a watch that fails begins again after `pause`.
    pub(super) fn of(api: Api<Lease>, name: &str, pause: Duration) -> Self {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_S);
        let stream = watcher(api, config).backoff(Pause(pause)).filter_map(|event| future::ready(release(event)));
        Self { stream: Box::pin(stream) }
    }

    /// Waits until the Lease is seen released. What happens while nobody waits is told at the next call.
    pub(super) async fn next(&mut self) {
        if self.stream.next().await.is_none() {
            future::pending::<()>().await;
        }
    }
}

fn release(event: Result<Event<Lease>, watcher::Error>) -> Option<()> {
    match event {
        Ok(Event::Apply(lease) | Event::InitApply(lease)) => {
            wire::record(&lease).filter(Record::is_released).map(|_| ())
        }
        Ok(Event::Delete(_) | Event::Init | Event::InitDone) => None,
        Err(error) => {
            tracing::debug!(%error, "watch on the lease failed, looking at intervals goes on");
            None
        }
    }
}

/// The same pause before every new try.
#[derive(Debug)]
struct Pause(Duration);

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0)
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {}
}
