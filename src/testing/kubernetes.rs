//! The operator as a process of our own against a real API server, and the objects it works on, as a
//! user would write them: through plain JSON, so that a wrong type in the program cannot hide itself.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{network::Host, process::Process};
use crate::core::id::ServerAddr;

/// Group of the resources.
const GROUP: &str = "mysql.baton.dev";
/// How long the API server may take to serve a new resource.
const SERVED_DEADLINE: Duration = Duration::from_secs(20);
/// Who applies.
const FIELD_MANAGER: &str = "baton-tests";

/// Why something about the API server or the operator failed.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// Files and processes.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The API server refused or was not reached.
    #[error("{what}")]
    Api {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A file is no object.
    #[error("not a Kubernetes object: {0}")]
    Object(String),
    /// Something did not happen in time.
    #[error("{what} within {seconds} s; status: {status}")]
    Late {
        /// What did not happen.
        what: String,
        /// The bound.
        seconds: u64,
        /// The object's status at the end.
        status: Value,
    },
}

/// One namespace of an API server.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Uses the cluster of `KUBECONFIG`, installs the resource definitions of `crds` and makes `namespace`.
    ///
    /// # Errors
    /// When the API server is away or refuses.
    pub async fn prepare(crds: &Path, namespace: &str) -> Result<Self, KubernetesError> {
        let client = Client::try_default().await.map_err(|source| api("reach the cluster of KUBECONFIG", source))?;
        let kubernetes = Self { client, namespace: namespace.to_owned() };
        let found = std::fs::read_dir(crds).map_err(|source| read_error(crds, source))?;
        for path in found.flatten().map(|entry| entry.path()) {
            let text = std::fs::read_to_string(&path).map_err(|source| read_error(&path, source))?;
            let definition =
                serde_saphyr::from_str(&text).map_err(|error| KubernetesError::Object(error.to_string()))?;
            kubernetes.apply_global("apiextensions.k8s.io", "CustomResourceDefinition", definition).await?;
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        kubernetes.apply_global("", "Namespace", object).await?;
        kubernetes.served("MysqlCluster").await?;
        kubernetes.served("MysqlFailover").await?;
        Ok(kubernetes)
    }

    async fn served(&self, kind: &str) -> Result<(), KubernetesError> {
        let started = Instant::now();
        while self.list(kind).await.is_err() {
            if started.elapsed() > SERVED_DEADLINE {
                return self.list(kind).await.map(drop);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn apply_global(&self, group: &str, kind: &str, object: Value) -> Result<(), KubernetesError> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        self.patch(&Api::all_with(self.client.clone(), &resource), object).await
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = match kind {
            "Secret" | "PersistentVolumeClaim" => ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind)),
            "Job" => ApiResource::from_gvk(&GroupVersionKind::gvk("batch", "v1", kind)),
            "Event" => ApiResource::from_gvk(&GroupVersionKind::gvk("events.k8s.io", "v1", kind)),
            "EndpointSlice" => ApiResource::from_gvk(&GroupVersionKind::gvk("discovery.k8s.io", "v1", kind)),
            "Lease" => ApiResource::from_gvk(&GroupVersionKind::gvk("coordination.k8s.io", "v1", kind)),
            _ => ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1alpha1", kind)),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    async fn patch(&self, api: &Api<DynamicObject>, object: Value) -> Result<(), KubernetesError> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.map(drop).map_err(|source| self::api(&format!("apply {name}"), source))
    }

    /// Applies the Secret `name` with the fixtures' accounts.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn apply_credentials(&self, name: &str) -> Result<(), KubernetesError> {
        let data = json!({"username": "baton", "password": "baton",
            "replication-username": "repl", "replication-password": "repl"});
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        self.patch(&self.api("Secret"), object).await
    }

    /// Applies a `MysqlCluster` of `servers`; `more` is merged into its spec.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn apply_cluster(
        &self,
        name: &str,
        servers: &[ServerAddr],
        secret: &str,
        more: &Value,
    ) -> Result<(), KubernetesError> {
        let servers: Vec<Value> =
            servers.iter().map(|addr| json!({"host": addr.host(), "port": addr.port()})).collect();
        let mut spec = json!({"servers": servers, "credentials": {"secretName": secret}});
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        let object = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "MysqlCluster",
            "metadata": {"name": name}, "spec": spec});
        self.patch(&self.api("MysqlCluster"), object).await
    }

    /// Applies any object of a kind that this knows.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn apply(&self, kind: &str, object: Value) -> Result<(), KubernetesError> {
        self.patch(&self.api(kind), object).await
    }

    /// The object `name` of `kind`, if there is one.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn get(&self, kind: &str, name: &str) -> Result<Option<DynamicObject>, KubernetesError> {
        self.api(kind).get_opt(name).await.map_err(|source| api(&format!("read {name}"), source))
    }

    /// Its name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The client that it uses.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All objects of `kind` in the namespace.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn list(&self, kind: &str) -> Result<Vec<DynamicObject>, KubernetesError> {
        let list = self.api(kind).list(&ListParams::default()).await;
        list.map(|list| list.items).map_err(|source| api(&format!("list {kind}"), source))
    }

    /// Waits until `accept` takes the object `name` of `kind`, and gives it.
    ///
    /// # Errors
    /// [`KubernetesError::Late`] after `bound`, with the last status.
    pub async fn wait(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        bound: Duration,
        accept: impl Fn(&DynamicObject) -> bool,
    ) -> Result<DynamicObject, KubernetesError> {
        let started = Instant::now();
        loop {
            let found = self.get(kind, name).await?;
            let status = found.as_ref().and_then(|object| object.data.get("status")).cloned().unwrap_or_default();
            if let Some(object) = found.filter(&accept) {
                return Ok(object);
            }
            if started.elapsed() > bound {
                let what = format!("{kind} {name}: not {what}");
                return Err(KubernetesError::Late { what, seconds: bound.as_secs(), status });
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the operator says of cluster `name`, in a line: for the message of a trial that failed.
    pub async fn state_of(&self, name: &str) -> String {
        let found = self.api("MysqlCluster").get_opt(name).await.ok().flatten();
        let part = |pointer| found.as_ref().and_then(|object| object.data.pointer(pointer)).unwrap_or(&Value::Null);
        let conditions = part("/status/conditions").as_array().cloned().unwrap_or_default();
        let message = |condition: &Value| {
            let text = |key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            format!("{}={} ({})", text("type"), text("status"), text("message"))
        };
        let conditions: Vec<_> = conditions.iter().map(message).collect();
        format!("the operator says: {}; analyses {}", conditions.join(", "), part("/status/analyses"))
    }

    /// The failover record of cluster `name`, the newest of several.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn failover_of(&self, name: &str) -> Result<Option<DynamicObject>, KubernetesError> {
        let of_cluster = |object: &DynamicObject| {
            object.data.pointer("/spec/clusterName").and_then(Value::as_str).is_some_and(|cluster| cluster == name)
        };
        let records = self.list("MysqlFailover").await?;
        Ok(records.into_iter().filter(of_cluster).max_by_key(ResourceExt::creation_timestamp))
    }

    /// Deletes all objects of `kind` in the namespace, which somebody may have left behind.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn clear(&self, kind: &str) -> Result<(), KubernetesError> {
        for object in self.list(kind).await? {
            self.delete(kind, object.metadata.name.as_deref().unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// Deletes an object if it is there.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<(), KubernetesError> {
        match self.api(kind).delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(api(&format!("delete {name}"), source)),
        }
    }
}

/// Whether `object` has condition `kind` with status True.
#[must_use]
pub fn condition(object: &DynamicObject, kind: &str) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let holds = |condition: &Value| {
        condition.get("type").and_then(Value::as_str) == Some(kind)
            && condition.get("status").and_then(Value::as_str) == Some("True")
    };
    conditions.is_some_and(|conditions| conditions.iter().any(holds))
}

/// A running operator; dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    log: PathBuf,
}

impl Operator {
    /// Starts `program` with `args` in `namespace`, logging to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, args: &[String], namespace: &str, log: &Path) -> Result<Self, KubernetesError> {
        let environment = [format!("POD_NAMESPACE={namespace}"), "POD_NAME=operator-0".to_owned()];
        Self::start_on(None, program, args, &environment, log)
    }

    /// Starts `program` on `host`, or where we are, with `environment` as `NAME=value`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_on(
        host: Option<&Host>,
        program: &Path,
        args: &[String],
        environment: &[String],
        log: &Path,
    ) -> Result<Self, KubernetesError> {
        let net = host.map(|host| ["nsenter".to_owned(), format!("--net={}", host.namespace()), "--".to_owned()]);
        let mut words: Vec<String> = net.into_iter().flatten().collect();
        words.push("env".to_owned());
        words.extend_from_slice(environment);
        words.push(program.to_string_lossy().into_owned());
        words.extend_from_slice(args);
        let what = || format!("start {}", program.display());
        let process = Process::start(&words.remove(0), &words, log);
        let process = process.map_err(|source| KubernetesError::Io { what: what(), source })?;
        Ok(Self { process, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: super::process::Signal) -> io::Result<()> {
        self.process.signal(signal)
    }

    /// Waits for its end and gives its exit code; `None`: it did not end within `bound`, or by a signal.
    pub async fn ended(&mut self, bound: Duration) -> Option<i32> {
        let started = Instant::now();
        while self.process.is_running() && started.elapsed() < bound {
            sleep(Duration::from_millis(20)).await;
        }
        self.process.exit_code()
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Where it logs.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }
}

fn api(what: &str, source: kube::Error) -> KubernetesError {
    KubernetesError::Api { what: what.to_owned(), source: Box::new(source) }
}

fn read_error(path: &Path, source: io::Error) -> KubernetesError {
    KubernetesError::Io { what: format!("read {}", path.display()), source }
}
