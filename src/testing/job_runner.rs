//! Runs the Jobs of a namespace as processes where there is no kubelet: what a test cluster without nodes needs
//! to see what Jobs do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt, api::ListParams};
use tokio::time::{Instant, sleep};

use super::{
    kubernetes::{Kubernetes, KubernetesError, Operator},
    process::Signal,
};

/// Time between two looks for new Jobs.
const EVERY: Duration = Duration::from_millis(50);

/// Starts what Jobs ask for, each once.
pub struct JobRunner {
    jobs: Api<Job>,
    program: PathBuf,
    folder: PathBuf,
    environment: Vec<String>,
    started: BTreeMap<String, Operator>,
}

impl std::fmt::Debug for JobRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobRunner").field("started", &self.started.keys()).finish_non_exhaustive()
    }
}

impl JobRunner {
    /// For the Jobs of `kubernetes`' namespace. Whatever their image is, `program` is started with their arguments;
    /// logs go to `folder`.
    #[must_use]
    pub fn new(kubernetes: &Kubernetes, program: &Path, folder: &Path) -> Self {
        let jobs = Api::namespaced(kubernetes.client().clone(), kubernetes.namespace());
        let (program, folder) = (program.to_owned(), folder.to_owned());
        Self { jobs, program, folder, environment: Vec::new(), started: BTreeMap::new() }
    }

    /// With more environment, as `NAME=value`, for what is started from now on.
    #[must_use]
    pub fn with(mut self, environment: &[&str]) -> Self {
        self.environment = environment.iter().map(|text| (*text).to_owned()).collect();
        self
    }

    /// Starts the processes of Jobs that are new.
    ///
    /// # Errors
    /// When the API server refuses, or a process cannot be started.
    pub async fn start(&mut self) -> Result<(), KubernetesError> {
        for job in self.all().await? {
            let name = job.name_any();
            let container = job.spec.and_then(|spec| spec.template.spec?.containers.into_iter().next());
            let Some(container) = container.filter(|_| !self.started.contains_key(&name)) else { continue };
            let given = container.env.unwrap_or_default().into_iter();
            let given = given.filter_map(|env| Some(format!("{}={}", env.name, env.value?)));
            let pod = format!("POD_NAME={name}-0");
            let environment: Vec<_> = given.chain([pod]).chain(self.environment.iter().cloned()).collect();
            let log = self.log_of(&name);
            let args = container.args.unwrap_or_default();
            let process = Operator::start_on(None, &self.program, &args, &environment, &log)?;
            self.started.insert(name, process);
        }
        Ok(())
    }

    /// All Jobs of the namespace.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn all(&self) -> Result<Vec<Job>, KubernetesError> {
        let list = self.jobs.list(&ListParams::default()).await;
        let what = || "list the Jobs".to_owned();
        list.map(|list| list.items).map_err(|source| KubernetesError::Api { what: what(), source: Box::new(source) })
    }

    /// Starts what is new until a process runs that was not there, at most for `bound`; its Job.
    ///
    /// # Errors
    /// As [`JobRunner::start`], and when no Job came.
    pub async fn next(&mut self, bound: Duration) -> Result<String, KubernetesError> {
        let (before, began) = (self.started.keys().cloned().collect::<Vec<_>>(), Instant::now());
        loop {
            self.start().await?;
            if let Some(name) = self.started.keys().find(|name| !before.contains(name)) {
                return Ok(name.clone());
            }
            if began.elapsed() > bound {
                return Err(KubernetesError::Object("no Job was created".to_owned()));
            }
            sleep(EVERY).await;
        }
    }

    /// The process of a Job.
    pub fn process(&mut self, job: &str) -> Option<&mut Operator> {
        self.started.get_mut(job)
    }

    /// Sends the process of a Job a signal.
    ///
    /// # Errors
    /// When there is none, or it has ended.
    pub fn signal(&mut self, job: &str, signal: Signal) -> std::io::Result<()> {
        self.started.get_mut(job).ok_or_else(|| std::io::Error::other("no such Job"))?.signal(signal)
    }

    fn log_of(&self, job: &str) -> PathBuf {
        self.folder.join(format!("{job}.log"))
    }

    /// What a Job has logged.
    #[must_use]
    pub fn log(&self, job: &str) -> String {
        std::fs::read_to_string(self.log_of(job)).unwrap_or_default()
    }
}
