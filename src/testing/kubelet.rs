//! Plays the kubelet where there is none: runs the pods of Jobs as processes of this machine and writes into their
//! status how they ended. Everything else about a Job is the real controller's doing.
//!
//! A pod's one container is run as the given program with its arguments and its environment; Secrets are read
//! through the API server. A volume is a folder: of a claim the one that the test gives, of a Secret one with its keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};

use super::process::Process;

/// How often pods are looked for, and processes for their end.
const AGAIN: Duration = Duration::from_millis(100);

/// A kubelet for one namespace; it ends when dropped.
#[derive(Debug)]
pub struct Kubelet {
    task: JoinHandle<()>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the runner works with.
struct Node {
    client: Client,
    namespace: String,
    program: PathBuf,
    /// Folders by the name of the claim.
    claims: BTreeMap<String, PathBuf>,
    /// For logs and Secrets.
    folder: PathBuf,
}

impl Kubelet {
    /// Runs the pods of `namespace` as `program`; `claims` are the folders behind claims, `folder` gets a log for each
    /// pod under its name.
    #[must_use]
    pub fn start(
        client: &Client,
        namespace: &str,
        program: &Path,
        claims: BTreeMap<String, PathBuf>,
        folder: &Path,
    ) -> Self {
        let node = Node {
            client: client.clone(),
            namespace: namespace.to_owned(),
            program: program.to_owned(),
            claims,
            folder: folder.to_owned(),
        };
        Self { task: tokio::spawn(node.run()) }
    }
}

impl Node {
    async fn run(self) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut known = BTreeSet::new();
        loop {
            let list = pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
            for pod in list.iter().filter(|pod| pod.labels().contains_key("batch.kubernetes.io/job-name")) {
                if known.insert(pod.name_any()) {
                    let code = self.pod(pod).await.unwrap_or_else(|error| {
                        // A kubelet says so in the pod's Events.
                        let _unheard = fs::write(self.log(pod), format!("cannot be started: {error}\n"));
                        128
                    });
                    self.ended(&pods, pod, code).await;
                }
            }
            sleep(AGAIN).await;
        }
    }

    fn log(&self, pod: &Pod) -> PathBuf {
        self.folder.join(format!("{}.log", pod.name_any()))
    }

    /// Runs a pod to its end; its exit code.
    async fn pod(&self, pod: &Pod) -> io::Result<i32> {
        let spec = pod.spec.as_ref().ok_or_else(|| io::Error::other("a pod without spec"))?;
        let container = spec.containers.first().ok_or_else(|| io::Error::other("a pod without container"))?;
        let folders = self.volumes(pod).await?;
        let mut args = vec!["-i".to_owned()];
        args.extend(self.env(container, &folders).await?);
        args.push(self.program.to_string_lossy().into_owned());
        args.extend(container.args.iter().flatten().cloned());
        let mut process = Process::start("env", &args, &self.log(pod))?;
        loop {
            if !process.is_running() {
                return Ok(process.exit_code().unwrap_or(137));
            }
            sleep(AGAIN).await;
        }
    }

    /// Folders by where they are mounted.
    async fn volumes(&self, pod: &Pod) -> io::Result<BTreeMap<String, PathBuf>> {
        let mut named = BTreeMap::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let folder = match (&volume.persistent_volume_claim, &volume.secret) {
                (Some(claim), _) => {
                    let folder = self.claims.get(&claim.claim_name);
                    folder.ok_or_else(|| io::Error::other(format!("no claim {}", claim.claim_name)))?.clone()
                }
                (None, Some(secret)) => {
                    let name = secret.secret_name.clone().unwrap_or_default();
                    let folder = self.folder.join(format!("secret-{name}"));
                    fs::create_dir_all(&folder)?;
                    for (key, value) in self.secret(&name).await?.data.unwrap_or_default() {
                        fs::write(folder.join(key), value.0)?;
                    }
                    folder
                }
                (None, None) => std::env::temp_dir(),
            };
            named.insert(volume.name.clone(), folder);
        }
        let mounts =
            pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|one| one.volume_mounts.iter().flatten());
        Ok(mounts.filter_map(|mount| Some((mount.mount_path.clone(), named.get(&mount.name)?.clone()))).collect())
    }

    /// `NAME=value` of each variable; paths below a mounted volume become those of this machine.
    async fn env(&self, container: &Container, folders: &BTreeMap<String, PathBuf>) -> io::Result<Vec<String>> {
        let mut env = Vec::new();
        for variable in container.env.iter().flatten() {
            let source = variable.value_from.as_ref().and_then(|source| source.secret_key_ref.as_ref());
            let value = match source {
                Some(key) => {
                    let data = self.secret(&key.name).await?.data.unwrap_or_default();
                    let value = data.get(&key.key).ok_or_else(|| io::Error::other(format!("no key {}", key.key)))?;
                    String::from_utf8_lossy(&value.0).into_owned()
                }
                None => translate(&variable.value.clone().unwrap_or_default(), folders),
            };
            env.push(format!("{}={value}", variable.name));
        }
        Ok(env)
    }

    async fn secret(&self, name: &str) -> io::Result<Secret> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        secrets.get(name).await.map_err(io::Error::other)
    }

    async fn ended(&self, pods: &Api<Pod>, pod: &Pod, code: i32) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone());
        let status = json!({ "status": { "phase": phase, "containerStatuses": [{
            "name": "baton", "ready": false, "restartCount": 0, "image": image, "imageID": "",
            "state": { "terminated": { "exitCode": code, "reason": phase } }
        }] } });
        let patch = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await;
        if let Err(error) = patch {
            let _unheard = fs::write(self.log(pod), format!("its end cannot be told: {error}\n"));
        }
    }
}

fn translate(value: &str, folders: &BTreeMap<String, PathBuf>) -> String {
    let below = folders.iter().find_map(|(mount, folder)| {
        let rest = value.strip_prefix(mount.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        Some(format!("{}{rest}", folder.display()))
    });
    below.unwrap_or_else(|| value.to_owned())
}
