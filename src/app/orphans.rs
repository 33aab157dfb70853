//! Failovers that people ask for of clusters that do not exist, or that cannot be served: they are told
//! so, by the leader, once it is sure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::Api;
use tokio::time::sleep;

use super::Shared;
use crate::{
    api::{MysqlCluster, MysqlFailover},
    core::id::ClusterKey,
    k8s::{
        deadline::call,
        records::{Records, history::history},
    },
};

/// A cluster and what is asked of it may be applied together and seen in either order.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before it is tried again, and between questions whether this process leads.
const RETRY: Duration = Duration::from_secs(1);

/// Refuses what is asked of a cluster that nobody has told us of.
pub(super) async fn watch(shared: Shared, key: ClusterKey, records: Arc<Vec<MysqlFailover>>) {
    let clusters = Api::<MysqlCluster>::namespaced(shared.client.clone(), &key.namespace);
    sleep(PATIENCE).await;
    loop {
        if shared.leads() {
            match call("read the MysqlCluster", clusters.get_opt(&key.name)).await {
                Ok(Some(_)) => return,
                Ok(None) => {
                    let reason = format!("there is no MysqlCluster {} in namespace {}", key.name, key.namespace);
                    if refuse(&shared, &key, &records, &reason).await {
                        return;
                    }
                }
                Err(error) => tracing::debug!("{error}"),
            }
        }
        sleep(RETRY).await;
    }
}

/// Refuses everything that is asked of a cluster. True: it is done.
pub(super) async fn refuse(shared: &Shared, key: &ClusterKey, records: &[MysqlFailover], reason: &str) -> bool {
    let journal = Records::new(&shared.client, key.clone());
    let mut done = true;
    for request in history(records, &key.name, Timestamp::now()).requests {
        if let Err(error) = journal.refuse(&request.record, reason).await {
            tracing::warn!(cluster = %key, recovery = request.record, "{key}: {} is not refused yet: {error}", request.record);
            done = false;
        }
    }
    done
}
