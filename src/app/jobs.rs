//! The Jobs that recoveries of one cluster are left to.

use crate::{
    core::id::ClusterKey,
    k8s::jobs::{self, Jobs, Task},
};

/// Purpose of these Jobs, in their names.
const PURPOSE: &str = "failover";
/// Longest time that a Job runs, in seconds: a failover may have to wait for servers to come back.
const DEADLINE_S: i64 = 3600;
/// How long its log can be read after its end, in seconds.
const KEEP_S: i32 = 86_400;

/// Jobs for the recoveries of one cluster.
#[derive(Debug, Clone)]
pub(super) struct FailoverJobs {
    pub(super) jobs: Jobs,
    pub(super) key: ClusterKey,
    pub(super) uid: String,
    /// How quickly a Job that died is replaced, as `--lease-tier` has it.
    pub(super) tier: String,
}

impl FailoverJobs {
    /// Name of the Job for `record`.
    pub(super) fn name(&self, record: &str) -> String {
        jobs::name(&self.uid, record, PURPOSE)
    }

    /// Creates it. The error says why not.
    pub(super) async fn start(&self, record: &str) -> Result<(), String> {
        let words = ["job", "failover", record, "--namespace", &self.key.namespace, "--lease-tier", &self.tier];
        let task = Task {
            key: &self.key,
            uid: &self.uid,
            name: self.name(record),
            record,
            args: words.map(str::to_owned).into(),
            env: Vec::new(),
            volumes: Vec::new(),
            token: true,
            deadline_s: DEADLINE_S,
            retries: 0,
            keep_s: KEEP_S,
        };
        self.jobs.create(&task).await.map_err(|error| error.to_string())
    }
}
