//! Metrics whose first label is the cluster, and that know which series to drop with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus::core::{MetricVec, MetricVecBuilder};

use crate::core::id::ClusterKey;

/// A family of metrics with the label values in use, by cluster.
pub(super) struct PerCluster<V> {
    family: V,
    used: Mutex<BTreeMap<String, BTreeSet<Vec<String>>>>,
}

impl<V> std::fmt::Debug for PerCluster<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PerCluster").field("clusters", &self.lock().len()).finish_non_exhaustive()
    }
}

impl<V> From<V> for PerCluster<V> {
    fn from(family: V) -> Self {
        Self { family, used: Mutex::default() }
    }
}

impl<V> PerCluster<V> {
    /// The map stays whole whatever a thread did that held it.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<Vec<String>>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: MetricVecBuilder> PerCluster<MetricVec<B>> {
    /// The metric of `cluster` with the values of the labels after the first.
    pub(super) fn with(&self, cluster: &ClusterKey, labels: &[&str]) -> B::M {
        let mut values = vec![cluster.to_string()];
        values.extend(labels.iter().map(|label| (*label).to_owned()));
        let metric = self.family.with_label_values(&values);
        self.lock().entry(cluster.to_string()).or_default().insert(values);
        metric
    }

    /// Does something to every metric of `cluster` that was used.
    pub(super) fn each(&self, cluster: &ClusterKey, mut act: impl FnMut(B::M)) {
        for values in self.lock().get(&cluster.to_string()).into_iter().flatten() {
            act(self.family.with_label_values(values));
        }
    }

    /// Drops every metric of `cluster`.
    pub(super) fn forget(&self, cluster: &ClusterKey) {
        for values in self.lock().remove(&cluster.to_string()).unwrap_or_default() {
            // It is not there when another thread dropped it first: what was wanted.
            drop(self.family.remove_label_values(&values));
        }
    }
}
