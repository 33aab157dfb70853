//! Writes status, and only when its meaning changed; only the leader writes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt, api::PostParams};
use tokio::time::Instant;

use super::{super::Shared, feed, leads};
use crate::{
    api::{
        mysql_cluster::{FailoverSummary, MysqlCluster, MysqlClusterStatus},
        mysql_failover::MysqlFailover,
    },
    core::{
        id::{ClusterKey, ServerAddr},
        status::ClusterView,
    },
    k8s::{
        deadline::call,
        records,
        routing::PrimaryService,
        status,
        validate::{self, Invalid},
    },
};

/// Changes within this time are written together.
const COALESCE: Duration = Duration::from_millis(300);
/// Routing is looked at this often.
const ROUTING: Duration = Duration::from_secs(5);

/// The writer of one cluster's status.
pub(super) struct Report {
    shared: Shared,
    key: ClusterKey,
    api: Api<MysqlCluster>,
    wrote_at: Option<Instant>,
    routed: Option<(Option<ServerAddr>, Instant)>,
}

impl Report {
    pub(super) fn new(shared: Shared, key: ClusterKey) -> Self {
        let api = Api::namespaced(shared.client.clone(), &key.namespace);
        Self { shared, key, api, wrote_at: None, routed: None }
    }

    /// Shows a cluster that is served.
    pub(super) async fn served(&mut self, cluster: &MysqlCluster, view: &ClusterView) {
        if !leads(&self.shared) {
            return;
        }
        self.route(cluster, view).await;
        let previous = cluster.status.clone().unwrap_or_default();
        let name = validate::cluster_name(cluster);
        let last = self.last_failover();
        let generation = cluster.metadata.generation;
        let mut wanted = status::served(view, &previous, generation, &name, last, Timestamp::now());
        wanted.epoch = wanted.epoch.max(previous.epoch);
        self.write(cluster, &previous, wanted).await;
        self.prune(cluster).await;
    }

    /// Shows why a cluster is not served.
    pub(super) async fn stalled(&mut self, cluster: &MysqlCluster, error: &Invalid) {
        if !leads(&self.shared) {
            return;
        }
        let previous = cluster.status.clone().unwrap_or_default();
        let wanted = status::stalled(error, &previous, cluster.metadata.generation, Timestamp::now());
        self.write(cluster, &previous, wanted).await;
    }

    async fn write(&mut self, cluster: &MysqlCluster, previous: &MysqlClusterStatus, wanted: MysqlClusterStatus) {
        if *previous == wanted || self.wrote_at.is_some_and(|at| at.elapsed() < COALESCE) {
            return;
        }
        self.wrote_at = Some(Instant::now());
        let object = MysqlCluster { status: Some(wanted), ..cluster.clone() };
        let params = PostParams::default();
        // The resource version of what was read goes along: a newer status is never overwritten.
        match call("write the status", self.api.replace_status(&self.key.name, &params, &object)).await {
            Err(error) if !error.is_conflict() => tracing::warn!(cluster = %self.key, "status not written: {error}"),
            _ => {}
        }
    }

    /// Keeps clients routed to the writable primary while no recovery does it.
    async fn route(&mut self, cluster: &MysqlCluster, view: &ClusterView) {
        let name = cluster.spec.routing.as_ref().and_then(|routing| routing.primary_service.clone());
        let (Some(name), None) = (name, view.recovering) else {
            self.routed = None;
            return;
        };
        let Some(primary) = view.primary.clone().filter(|_| view.writable.value == Some(true)) else {
            return;
        };
        let right = self.routed.as_ref().is_some_and(|(routed, _)| *routed == Some(primary.clone()));
        if right {
            return;
        }
        let uid = cluster.uid().unwrap_or_default();
        let service = PrimaryService::new(&self.shared.client, &self.key, &uid, &name, cluster.spec.port);
        let done = async {
            service.ensure().await?;
            service.publish(Some(&primary)).await
        };
        match done.await {
            Ok(()) => self.routed = Some((Some(primary), Instant::now())),
            Err(error) => {
                let due = self.routed.as_ref().is_none_or(|(_, at)| at.elapsed() >= ROUTING);
                if due {
                    tracing::warn!(cluster = %self.key, "clients are not routed: {error}");
                    self.routed = Some((None, Instant::now()));
                }
            }
        }
    }

    fn records(&self) -> Vec<MysqlFailover> {
        let all = self.shared.records.state();
        let own = all.iter().filter(|record| {
            record.namespace().as_deref() == Some(self.key.namespace.as_str())
                && record.spec.cluster_name == self.key.name
        });
        own.map(|record| record.as_ref().clone()).collect()
    }

    fn last_failover(&self) -> Option<FailoverSummary> {
        let last = feed::history(&self.shared, &self.key).last?;
        let name = records::translate::record_name(&self.key.name, last.epoch);
        let record = self.records().into_iter().find(|record| record.name_any() == name)?;
        Some(FailoverSummary {
            record: name,
            time: record.metadata.creation_timestamp.clone().unwrap_or(Time(Timestamp::UNIX_EPOCH)),
            phase: format!("{:?}", last.phase),
            from: Some(last.old_primary.to_string()),
            to: last.new_primary.map(|addr| addr.to_string()),
        })
    }

    /// Old records go, as many as the owner does not want to keep.
    async fn prune(&self, cluster: &MysqlCluster) {
        let all = self.records();
        let surplus = records::history::surplus(&all, &self.key.name, cluster.spec.failover.keep_records);
        if surplus.is_empty() {
            return;
        }
        let api: Api<MysqlFailover> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        if let Err(error) = records::history::prune(&api, &surplus).await {
            tracing::warn!(cluster = %self.key, "old records not removed: {error}");
        }
    }
}
