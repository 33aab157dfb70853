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
    /// Name of the Job for `record`; `request`: UID of the object that a person made, else empty.
    pub(super) fn name(&self, record: &str, request: &str) -> String {
        jobs::name(&format!("{}{request}", self.uid), record, PURPOSE)
    }

    /// Creates the Job `name` for `record`. The error says why not.
    pub(super) async fn start(&self, name: &str, record: &str) -> Result<(), String> {
        let words = ["job", "failover", record, "--namespace", &self.key.namespace, "--lease-tier", &self.tier];
        let task = Task {
            key: &self.key,
            uid: &self.uid,
            name: name.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{k8s::jobs::Setup, testing::api_server::ApiServer};

    #[tokio::test]
    async fn a_request_of_the_same_name_has_another_job() {
        let server = ApiServer::new();
        let empty = String::new;
        let setup = Setup {
            image: empty(),
            pull_policy: None,
            pull_secrets: Vec::new(),
            service_account: empty(),
            cpu: "100m".to_owned(),
            memory: "64Mi".to_owned(),
            memory_limit: "256Mi".to_owned(),
        };
        let key = ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let (uid, tier) = ("uid".to_owned(), "Fast".to_owned());
        let jobs = FailoverJobs { jobs: Jobs::new(&server.client(), setup), key, uid, tier };
        let (first, second) = (jobs.name("drill", "1"), jobs.name("drill", "2"));
        for name in [&first, &second] {
            jobs.start(name, "drill").await.unwrap();
            let job = server.object("jobs", "prod", name).unwrap();
            assert_eq!(job["metadata"]["labels"]["mysql.baton.dev/record"], "drill");
            assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["args"][2], "drill");
        }
        assert_ne!(first, second);
        assert_eq!(jobs.name("shop-7", ""), jobs::name("uid", "shop-7", PURPOSE), "as it always was");
    }
}
