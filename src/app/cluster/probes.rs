//! Looks on their way to the engine: each is counted, and a server that falls silent or comes back is
//! told once.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    core::{
        id::{ClusterKey, ServerAddr},
        observation::{FailureKind, Look},
        time::Mono,
    },
    telemetry::{
        event::{
            Event,
            probe::{ProbeFailed, Probed, ServerBack},
        },
        metrics::Metrics,
    },
};

/// Hands looks on until either end is gone.
pub(super) async fn relay(
    key: ClusterKey,
    metrics: Arc<Metrics>,
    mut from: mpsc::Receiver<(ServerAddr, Look)>,
    to: mpsc::Sender<(ServerAddr, Look)>,
) {
    let mut failing = BTreeMap::new();
    while let Some((addr, look)) = from.recv().await {
        tell(&key, &metrics, &mut failing, &addr, &look);
        if to.send((addr, look)).await.is_err() {
            return;
        }
    }
}

/// Servers that do not answer: how, and since when.
type Failing = BTreeMap<ServerAddr, (FailureKind, Mono)>;

fn tell(cluster: &ClusterKey, metrics: &Metrics, failing: &mut Failing, server: &ServerAddr, look: &Look) {
    match look {
        Ok(seen) => {
            Probed { cluster, server, took_ms: seen.took_ms }.emit(metrics);
            if let Some((_, since)) = failing.remove(server) {
                ServerBack { cluster, server, down_ms: seen.at.since_ms(since) }.emit(metrics);
            }
        }
        Err(failure) => {
            let known = failing.get(server).copied();
            ProbeFailed { cluster, server, failure, before: known.map(|(kind, _)| kind) }.emit(metrics);
            failing.insert(server.clone(), (failure.kind, known.map_or(failure.at, |(_, since)| since)));
        }
    }
}
