//! Jobs that run this program: one restricted pod each, made at most once because the name says what it is for,
//! with a deadline, and gone some time after the end. What they run and why is decided elsewhere.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, PodSecurityContext, PodSpec,
            PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext, Volume,
            VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use kube::{Api, api::PostParams};

use super::deadline::{CallError, call};
use crate::api::FIELD_MANAGER;

/// User and group that the program runs as, and that volumes belong to.
const USER: i64 = 65_532;

/// A Job that is to be there.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Its name: the same for the same purpose.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Labels of Job and pod.
    pub labels: BTreeMap<String, String>,
    /// Whom it goes with.
    pub owner: OwnerReference,
    /// Image of this program.
    pub image: String,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// Its environment ([`text`], [`secret`]).
    pub env: Vec<EnvVar>,
    /// Volumes with where they are mounted, and whether they can be written to.
    pub volumes: Vec<(Volume, String, bool)>,
    /// Longest time all attempts may take, in seconds.
    pub deadline_s: i64,
    /// Attempts after the first.
    pub retries: i32,
    /// How long it is kept after its end, in seconds.
    pub keep_s: i32,
}

/// How far a Job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No pod runs yet.
    Pending,
    /// It runs.
    Running,
    /// It succeeded.
    Succeeded,
    /// It failed for good, with the reason that Kubernetes gives.
    Failed(String),
}

/// A variable of a Job's environment.
#[must_use]
pub fn text(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), value_from: None }
}

/// The same from a key of a Secret.
#[must_use]
pub fn secret(name: &str, of: &str, key: &str) -> EnvVar {
    let selector = SecretKeySelector { key: key.to_owned(), name: of.to_owned(), optional: None };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

/// The object: no token, no privileges, nothing writable but its volumes and `/tmp`.
#[must_use]
pub fn build(wish: &Wish) -> Job {
    let metadata = |name: Option<&String>| ObjectMeta {
        name: name.cloned(),
        namespace: name.map(|_| wish.namespace.clone()),
        labels: Some(wish.labels.clone()),
        owner_references: name.map(|_| vec![wish.owner.clone()]),
        ..ObjectMeta::default()
    };
    let spec = JobSpec {
        active_deadline_seconds: Some(wish.deadline_s),
        backoff_limit: Some(wish.retries),
        ttl_seconds_after_finished: Some(wish.keep_s),
        template: PodTemplateSpec { metadata: Some(metadata(None)), spec: Some(pod(wish)) },
        ..JobSpec::default()
    };
    Job { metadata: metadata(Some(&wish.name)), spec: Some(spec), status: None }
}

fn pod(wish: &Wish) -> PodSpec {
    let tmp = Volume {
        name: "tmp".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity("16Mi".to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mount = |name: &str, path: &str, writable: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: (!writable).then_some(true),
        ..VolumeMount::default()
    };
    let mounts = wish.volumes.iter().map(|(volume, path, writable)| mount(&volume.name, path, *writable));
    let requests = [("cpu", "10m"), ("memory", "32Mi")];
    let requests = requests.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
    let container = Container {
        name: "baton".to_owned(),
        image: Some(wish.image.clone()),
        args: Some(wish.args.clone()),
        env: Some(wish.env.clone()),
        volume_mounts: Some(mounts.chain([mount("tmp", "/tmp", true)]).collect()),
        resources: Some(ResourceRequirements { requests: Some(requests.into()), ..ResourceRequirements::default() }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        // The reason of a failure shows in the pod's status.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        containers: vec![container],
        volumes: Some(wish.volumes.iter().map(|(volume, ..)| volume.clone()).chain([tmp]).collect()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// Sees to it that the Job is there and tells how far it is. Doing it twice is doing it once: a Job of the name is
/// the Job.
///
/// # Errors
/// [`CallError`]; after a timeout it may have been made.
pub async fn ensure(api: &Api<Job>, wish: &Wish) -> Result<Outcome, CallError> {
    if let Some(job) = call("read the Job", api.get_opt(&wish.name)).await? {
        return Ok(outcome(&job));
    }
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match call("create the Job", api.create(&params, &build(wish))).await {
        Ok(job) => Ok(outcome(&job)),
        Err(error) if error.is_already_exists() => Ok(Outcome::Pending),
        Err(error) => Err(error),
    }
}

/// How far a Job is.
#[must_use]
pub fn outcome(job: &Job) -> Outcome {
    let Some(status) = &job.status else { return Outcome::Pending };
    let ended = |kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind && condition.status == "True")
    };
    if ended("Complete").is_some() {
        return Outcome::Succeeded;
    }
    if let Some(failed) = ended("Failed") {
        let message = failed.message.as_deref().or(failed.reason.as_deref());
        return Outcome::Failed(message.unwrap_or("it failed").chars().take(256).collect());
    }
    if status.active.unwrap_or_default() > 0 { Outcome::Running } else { Outcome::Pending }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{core::id::ClusterKey, k8s::apply::owned_by, testing::api_server::ApiServer};

    fn wish() -> Wish {
        let key = ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() };
        Wish {
            name: "baton-export-1".to_owned(),
            namespace: "default".to_owned(),
            labels: BTreeMap::from([("mysql.baton.dev/cluster".to_owned(), "shop".to_owned())]),
            owner: owned_by(&key, "uid"),
            image: "baton:1".to_owned(),
            args: vec!["job".to_owned(), "export".to_owned()],
            env: vec![text("BATON_SERVER", "db-1:3306"), secret("BATON_PASSWORD", "shop", "password")],
            volumes: vec![(Volume { name: "export".to_owned(), ..Volume::default() }, "/export".to_owned(), true)],
            deadline_s: 3600,
            retries: 3,
            keep_s: 86_400,
        }
    }

    #[test]
    fn a_job_is_restricted_and_holds_no_secret() {
        insta::assert_yaml_snapshot!(build(&wish()));
    }

    #[tokio::test]
    async fn it_is_made_once() {
        let server = ApiServer::new();
        let api: Api<Job> = Api::namespaced(server.client(), "default");
        for _ in 0..3 {
            assert_eq!(ensure(&api, &wish()).await.unwrap(), Outcome::Pending);
        }
        assert_eq!(server.writes().len(), 1);
    }

    #[test]
    fn its_end_is_told_from_its_failure() {
        let job = |status: serde_json::Value| -> Job { serde_json::from_value(json!({ "status": status })).unwrap() };
        let condition = |kind: &str| json!({ "conditions": [{ "type": kind, "status": "True", "message": "why" }] });
        for (status, wanted) in [
            (json!({}), Outcome::Pending),
            (json!({ "active": 1 }), Outcome::Running),
            (condition("FailureTarget"), Outcome::Pending),
            (condition("Complete"), Outcome::Succeeded),
            (condition("Failed"), Outcome::Failed("why".to_owned())),
        ] {
            assert_eq!(outcome(&job(status.clone())), wanted, "{status}");
        }
    }
}
