//! Jobs that Baton runs: how their pods are confined, named and cleaned up, the same for every purpose.
//!
//! The name follows from cluster, record and purpose, so a Job exists once whoever asks for it and however
//! often (I10). It goes with its cluster, and some time after its end by itself.

use std::{collections::BTreeMap, hash::Hasher};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, LocalObjectReference,
            ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile,
            SecretKeySelector, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{Api, Client, api::PostParams};

use super::{
    apply::owned_by,
    conditions::cut,
    deadline::{CallError, within},
};
use crate::{
    api::{FIELD_MANAGER, LABEL_CLUSTER, LABEL_RECORD},
    core::id::ClusterKey,
};

/// Longest wait for the creation of a Job: a failover may wait for it.
const BUDGET: std::time::Duration = std::time::Duration::from_secs(2);
/// Longest label value.
const LABEL_LEN_MAX: usize = 63;
/// Of a Job's name the part that people read; with purpose and number it stays below 63 bytes.
const READABLE_LEN_MAX: usize = 34;
/// Who runs in the pods: nobody in particular, the same as in the operator's.
const USER: i64 = 65_532;

/// What all Jobs have in common, as the operator is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The image; the operator's own has everything.
    pub image: String,
    /// When it is pulled; `None`: as Kubernetes decides.
    pub pull_policy: Option<String>,
    /// Secrets with which it is pulled.
    pub pull_secrets: Vec<String>,
    /// ServiceAccount in the cluster's namespace.
    pub service_account: String,
    /// CPU asked for.
    pub cpu: String,
    /// Memory asked for.
    pub memory: String,
    /// Longest memory.
    pub memory_limit: String,
}

/// One Job.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// The cluster that it is about.
    pub key: &'a ClusterKey,
    /// Its UID.
    pub uid: &'a str,
    /// Its name: the same for the same purpose, see [`name`].
    pub name: String,
    /// The record that it is about; empty: none.
    pub record: &'a str,
    /// Arguments of the image's program.
    pub args: Vec<String>,
    /// Environment ([`text`], [`secret`]); `POD_NAME` is there already.
    pub env: Vec<EnvVar>,
    /// Volumes with where they are mounted, and whether they can be written to.
    pub volumes: Vec<(Volume, String, bool)>,
    /// It talks to the API server, and gets a token for that.
    pub token: bool,
    /// The whole Job is ended after so many seconds.
    pub deadline_s: i64,
    /// Pods that are started after one failed.
    pub retries: i32,
    /// It is removed so many seconds after its end.
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

/// The name of a Job: the same for everybody, another for each object with UID `uid`, record and purpose, which has at
/// most 10 letters.
#[must_use]
pub fn name(uid: &str, record: &str, purpose: &str) -> String {
    let mut number = Fnv(0xcbf2_9ce4_8422_2325);
    for part in [uid, record, purpose] {
        number.write(part.as_bytes());
        number.write(&[0]);
    }
    let readable = cut(record, READABLE_LEN_MAX).replace('.', "-");
    format!("{}-{purpose}-{:016x}", readable.trim_end_matches('-'), number.finish())
}

/// FNV-1a: unlike the standard library's hash it is the same in every version of the program.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The object.
#[must_use]
pub fn job(setup: &Setup, task: &Task<'_>) -> Job {
    let label = |text: &str| cut(text, LABEL_LEN_MAX).trim_end_matches(['.', '-']).to_owned();
    let labels = [(LABEL_CLUSTER, task.key.name.as_str()), (LABEL_RECORD, task.record)].into_iter();
    let labels: BTreeMap<_, _> =
        labels.filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name.to_owned(), label(text))).collect();
    Job {
        metadata: ObjectMeta {
            name: Some(task.name.clone()),
            namespace: Some(task.key.namespace.clone()),
            labels: Some(labels.clone()),
            owner_references: Some(vec![owned_by(task.key, task.uid)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: Some(task.deadline_s),
            backoff_limit: Some(task.retries),
            ttl_seconds_after_finished: Some(task.keep_s),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod(setup, task)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn pod(setup: &Setup, task: &Task<'_>) -> PodSpec {
    let secrets = setup.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    PodSpec {
        containers: vec![container(setup, task)],
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(setup.service_account.clone()).filter(|name| task.token && !name.is_empty()),
        automount_service_account_token: Some(task.token),
        enable_service_links: Some(false),
        image_pull_secrets: Some(secrets.collect()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(task.volumes.iter().map(|(volume, ..)| volume.clone()).chain([tmp()]).collect()),
        ..PodSpec::default()
    }
}

/// Certificates for MySQL are handed to the driver as files; they live in memory only.
fn tmp() -> Volume {
    Volume {
        name: "tmp".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity("16Mi".to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn container(setup: &Setup, task: &Task<'_>) -> Container {
    let quantity = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
    let mount = |name: &str, path: &str, writable: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: (!writable).then_some(true),
        ..VolumeMount::default()
    };
    let mounts = task.volumes.iter().map(|(volume, path, writable)| mount(&volume.name, path, *writable));
    let pod_name = EnvVar {
        name: "POD_NAME".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: "metadata.name".to_owned(), api_version: None }),
            ..EnvVarSource::default()
        }),
    };
    Container {
        name: "baton".to_owned(),
        image: Some(setup.image.clone()),
        image_pull_policy: setup.pull_policy.clone(),
        args: Some(task.args.clone()),
        env: Some([pod_name].into_iter().chain(task.env.iter().cloned()).collect()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        resources: Some(ResourceRequirements {
            requests: Some([quantity("cpu", &setup.cpu), quantity("memory", &setup.memory)].into()),
            limits: Some([quantity("memory", &setup.memory_limit)].into()),
            claims: None,
        }),
        volume_mounts: Some(mounts.chain([mount("tmp", "/tmp", true)]).collect()),
        // The reason of a failure shows in the pod's status.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// Creates Jobs.
#[derive(Clone)]
pub struct Jobs {
    client: Client,
    setup: Setup,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl Jobs {
    /// Jobs that are set up so.
    #[must_use]
    pub fn new(client: &Client, setup: Setup) -> Self {
        Self { client: client.clone(), setup }
    }

    /// Creates a Job; that it is there already is as good.
    ///
    /// # Errors
    /// [`CallError`]; after a timeout it may be there.
    pub async fn create(&self, task: &Task<'_>) -> Result<(), CallError> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &task.key.namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match within(BUDGET, "create the Job", api.create(&params, &job(&self.setup, task))).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sees to it that a Job is there and tells how far it is. Doing it twice is doing it once. A Job of the name that
    /// belongs to another object, or does something else, has failed.
    ///
    /// # Errors
    /// [`CallError`]; after a timeout it may be there.
    pub async fn ensure(&self, task: &Task<'_>) -> Result<Outcome, CallError> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &task.key.namespace);
        match within(BUDGET, "read the Job", api.get_opt(&task.name)).await? {
            Some(found) if !same(&found, &job(&self.setup, task)) => {
                Ok(Outcome::Failed(format!("the Job {} is not what Baton makes: somebody else made it", task.name)))
            }
            Some(job) => Ok(outcome(&job)),
            None => self.create(task).await.map(|()| Outcome::Pending),
        }
    }
}

/// Whether a Job belongs to whom it should and does what it should, where it should. Image and resources may be those of
/// another version of Baton.
fn same(found: &Job, wanted: &Job) -> bool {
    let owners = |job: &Job| {
        let owners = job.metadata.owner_references.iter().flatten();
        owners.map(|owner| (owner.kind.clone(), owner.uid.clone())).collect::<Vec<_>>()
    };
    let pod = |job: &Job| job.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
    let claims = |pod: &PodSpec| {
        let claim = |volume: &Volume| {
            let claim = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
            (volume.name.clone(), claim)
        };
        pod.volumes.iter().flatten().map(claim).collect::<Vec<_>>()
    };
    let work = |pod: &PodSpec| {
        let work = |one: &Container| {
            // The API server leaves out what is empty.
            let env = one.env.iter().flatten();
            let env: Vec<_> = env.map(|env| (env.name.clone(), env.value.clone().unwrap_or_default())).collect();
            let mounts = one.volume_mounts.iter().flatten();
            let mounts: Vec<_> = mounts.map(|mount| (mount.name.clone(), mount.mount_path.clone())).collect();
            (one.command.clone().unwrap_or_default(), one.args.clone(), env, mounts)
        };
        pod.containers.iter().map(work).collect::<Vec<_>>()
    };
    let (is, should) = (pod(found), pod(wanted));
    owners(found) == owners(wanted) && claims(&is) == claims(&should) && work(&is) == work(&should)
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
mod tests;
