//! `baton job`: what the operator's Jobs run, and how their pods are set up.

use std::process::ExitCode;

use clap::Subcommand;

use super::{
    LeaseTier, LogFormat,
    export::{self, Export},
    fail,
};
use crate::{
    app::{
        JobSettings,
        job::{self, Ended, JobError, Settings},
    },
    core::recovery::Phase,
    k8s::jobs::Setup,
    telemetry::logging::{self, Level},
};

/// The claim has ended, and another executor goes on.
const LOST: u8 = 3;
/// The failover came to nothing.
const NOTHING_CAME: u8 = 4;

#[derive(Debug, Subcommand)]
pub(super) enum Job {
    /// Carry out, or complete, the failover that the operator left to this Job.
    ///
    /// The log reads as the story of the failover. Exit codes: 0 it succeeded, or there was nothing to do; 1 it could
    /// not be done here; 2 wrong usage; 3 the claim on it has ended and another executor goes on; 4 nobody was promoted.
    Failover(Failover),
    /// Save transactions that only one server has as a binary log in a folder.
    Export(Box<Export>),
}

#[derive(Debug, clap::Args)]
pub(super) struct Failover {
    /// Name of the MysqlFailover.
    name: String,
    /// Its namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    namespace: String,
    /// How quickly this Job is replaced when it dies: Fast within 3 s, Standard 6 s, Relaxed 15 s.
    #[arg(long, env = "BATON_LEASE_TIER", default_value = "Fast", ignore_case = true)]
    lease_tier: LeaseTier,
    /// Log level, for instance info or baton=debug,warn.
    #[arg(long, env = "BATON_LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// How log lines look: text, json, or auto: text on a terminal and json elsewhere.
    #[arg(long, env = "BATON_LOG_FORMAT", default_value = "text", ignore_case = true)]
    log_format: LogFormat,
    /// Name of this pod.
    #[arg(long, env = "POD_NAME", default_value = "baton-job")]
    pod_name: String,
}

/// How the pods of Jobs are set up.
#[derive(Debug, clap::Args)]
pub(super) struct Pods {
    /// Image of the Jobs that complete failovers or carry them out; without one the operator does it all by itself.
    #[arg(long, env = "BATON_JOB_IMAGE")]
    job_image: Option<String>,
    /// When that image is pulled: Always, IfNotPresent or Never; as Kubernetes decides when not given.
    #[arg(long, env = "BATON_JOB_PULL_POLICY")]
    job_pull_policy: Option<String>,
    /// Secrets with which it is pulled, separated by commas.
    #[arg(long, env = "BATON_JOB_PULL_SECRETS", value_delimiter = ',')]
    job_pull_secrets: Vec<String>,
    /// ServiceAccount of the Jobs, in the namespace of each cluster.
    #[arg(long, env = "BATON_JOB_SERVICE_ACCOUNT", default_value = "baton-job")]
    job_service_account: String,
    /// CPU that a Job asks for.
    #[arg(long, env = "BATON_JOB_CPU", default_value = "100m")]
    job_cpu: String,
    /// Memory that a Job asks for.
    #[arg(long, env = "BATON_JOB_MEMORY", default_value = "64Mi")]
    job_memory: String,
    /// Memory that a Job gets at most.
    #[arg(long, env = "BATON_JOB_MEMORY_LIMIT", default_value = "256Mi")]
    job_memory_limit: String,
}

impl Pods {
    pub(super) fn settings(self, tier: LeaseTier) -> Option<JobSettings> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let setup = Setup {
            image: given(self.job_image)?,
            pull_policy: given(self.job_pull_policy),
            pull_secrets: self.job_pull_secrets.into_iter().filter(|name| !name.is_empty()).collect(),
            service_account: self.job_service_account,
            cpu: self.job_cpu,
            memory: self.job_memory,
            memory_limit: self.job_memory_limit,
        };
        Some(JobSettings { setup, tier: tier.word().to_owned() })
    }
}

pub(super) fn run(job: Job) -> ExitCode {
    match job {
        Job::Failover(failover) => carry(failover),
        Job::Export(export) => export::run(*export),
    }
}

fn carry(failover: Failover) -> ExitCode {
    let level = match failover.log_level.parse::<Level>() {
        Ok(level) => level,
        Err(error) => return fail(&error.to_string(), 2),
    };
    if let Err(error) = logging::start(&level, failover.log_format.into()) {
        return fail(&error.to_string(), 1);
    }
    let settings = Settings {
        namespace: failover.namespace,
        record: failover.name,
        timing: failover.lease_tier.timing(),
        pod_name: failover.pod_name,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string(), 1),
    };
    let outcome = runtime.block_on(job::run(settings));
    runtime.shutdown_background();
    match outcome {
        Ok(Ended::Idle(reason)) => {
            tracing::info!("nothing to do: {reason}");
            ExitCode::SUCCESS
        }
        Ok(Ended::Carried(record)) if record.phase == Phase::Succeeded => ExitCode::SUCCESS,
        Ok(Ended::Carried(record)) => {
            fail(&format!("{}: {:?}: {}", record.record, record.phase, record.message), NOTHING_CAME)
        }
        Err(error @ JobError::Lost(_)) => fail(&error.to_string(), LOST),
        Err(error) => fail(&error.to_string(), 1),
    }
}
