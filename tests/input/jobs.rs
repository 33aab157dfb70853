//! Failovers that Jobs carry out or complete, with Jobs that die, freeze and wake, and never start. The test is
//! the kubelet: it runs what a Job asks for as a process of its own.

use std::time::Duration;

use baton::testing::{
    job_runner::JobRunner,
    process::Signal,
    topology::Topology,
    writers::{Config, Writers, check},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::scene::{API_SERVER, Scene, servers};

/// The image is never pulled: there is no node.
const WITH_JOBS: &[&str] = &["--job-image", "localhost/baton:test"];
/// Longest wait for a Job.
const CREATED: Duration = Duration::from_secs(40);

/// A cluster under load whose primary is killed.
struct Lost {
    name: String,
    topology: Topology,
    writers: Writers,
    config: Config,
}

impl Lost {
    /// `executor` is who is to carry out the failover.
    async fn primary_of(scene: &Scene, name: &str, executor: &str) -> Self {
        let mut topology = servers(2, &[]).await;
        let wish = json!({
            "discovery": { "follow": false }, "durability": { "mode": "SemiSync", "acks": 1 },
            "failover": { "executor": executor },
        });
        scene.healthy(name, &topology, &wish).await;
        scene.condition(name, "Durable", "True", "SemiSync").await;
        let config =
            Config { writers: 4, rate: 25, read_timeout: Duration::from_secs(3), ..Config::new(topology.addresses()) };
        let writers = Writers::start(config.clone()).await.unwrap();
        assert!(writers.acknowledged(100, Duration::from_secs(20)).await);
        writers.mark("kill");
        topology.servers[0].crash().unwrap();
        Self { name: name.to_owned(), topology, writers, config }
    }

    fn record(&self) -> String {
        format!("{}-1", self.name)
    }

    async fn succeeds(&self, scene: &Scene) -> Value {
        scene.record(&self.record(), "Succeeded", |status| status["phase"] == "Succeeded").await
    }

    /// It succeeded once, nothing acknowledged is missing, and one server takes writes.
    async fn ended_well(self, scene: &Scene) -> Value {
        let record = self.succeeds(scene).await;
        sleep(Duration::from_millis(500)).await;
        let history = self.writers.stop().await;
        let new = record["newPrimary"].as_str().unwrap().to_owned();
        let new = self.topology.servers.iter().find(|server| server.addr().to_string() == new).unwrap();
        let verdict = check(&self.config, new.addr(), &history).await.unwrap();
        println!("{}: acknowledged {}, lost {}", self.name, history.counts().0, verdict.lost.len());
        assert!(verdict.lost.is_empty(), "{verdict:?}\n{}", scene.log_tail());
        assert_eq!(record["lost"]["known"], "None", "{record:#}");
        for server in &self.topology.servers[1..] {
            let writable = server.value("SELECT NOT @@global.read_only").await.unwrap();
            assert_eq!(writable == "1", server.addr() == new.addr(), "{}", server.addr());
        }
        let records = scene.kubernetes.list("MysqlFailover").await.unwrap();
        let of_cluster = records.iter().filter(|record| record.data["spec"]["clusterName"] == self.name.as_str());
        assert_eq!(of_cluster.count(), 1, "one failover, whoever carried it out");
        record
    }
}

fn text<'a>(record: &'a Value, pointer: &str) -> &'a str {
    record.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Steps of the record that were done so, by name.
fn done(record: &Value, step: &str) -> usize {
    let steps = record["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().filter(|taken| taken["step"] == step && taken["outcome"] == "Done").count()
}

async fn next(jobs: &mut JobRunner, scene: &Scene) -> String {
    jobs.next(CREATED).await.unwrap_or_else(|error| panic!("{error}\n{}", scene.log_tail()))
}

async fn exit_code(jobs: &mut JobRunner, job: &str) -> Option<i32> {
    jobs.process(job).unwrap().ended(Duration::from_secs(20)).await
}

#[tokio::test]
async fn a_job_carries_out_a_failover_under_load() {
    let _calm = API_SERVER.read().await;
    let scene = Scene::with("job", WITH_JOBS).await;
    let rights = format!("KUBECONFIG={}", scene.rights_of_jobs());
    let mut jobs = scene.jobs().with(&[&rights]);
    let lost = Lost::primary_of(&scene, "shop", "Job").await;
    let job = next(&mut jobs, &scene).await;
    let record = lost.ended_well(&scene).await;
    assert_eq!(exit_code(&mut jobs, &job).await, Some(0), "{}", jobs.log(&job));
    assert!(text(&record, "/executor").starts_with(&job), "{record:#}");
    assert_eq!((text(&record, "/job/name"), text(&record, "/job/message")), (job.as_str(), ""));
    assert_eq!(record["claim"]["durationSeconds"], 6);
    println!("{}", jobs.log(&job));
    for line in ["goes on with the failover of", "begins: DeadPrimary", "promoting", "is writable", "is complete"] {
        assert!(jobs.log(&job).contains(line), "{line}: {}", jobs.log(&job));
    }
    assert_eq!(jobs.all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_that_dies_is_replaced_at_the_recorded_step() {
    let _calm = API_SERVER.read().await;
    let scene = Scene::with("job-dies", WITH_JOBS).await;
    for (name, point) in
        [("early", "KILL before:StopReceiver"), ("claim", "KILL after:Claim"), ("open", "KILL after:Unfence")]
    {
        let strike = scene.strike(point);
        let mut jobs = scene.jobs().with(&[&strike]);
        let lost = Lost::primary_of(&scene, name, "Job").await;
        // Those of the clusters before have ended.
        let job = loop {
            let job = next(&mut jobs, &scene).await;
            if job.starts_with(name) {
                break job;
            }
        };
        let record = lost.ended_well(&scene).await;
        assert_eq!(exit_code(&mut jobs, &job).await, None, "{point}: {}", jobs.log(&job));
        assert!(text(&record, "/executor").starts_with("operator-0"), "{point}: {record:#}");
        let message = format!("Job {job} did not renew its claim within 6000 ms");
        assert_eq!(text(&record, "/job/message"), message, "{point}");
        assert_eq!(record["claim"], Value::Null);
    }
}

#[tokio::test]
async fn a_job_that_froze_wakes_harmless() {
    let _calm = API_SERVER.read().await;
    let scene = Scene::with("job-freezes", WITH_JOBS).await;
    for (name, point) in [("fenced", "STOP after:StopReceiver"), ("opens", "STOP before:Unfence")] {
        let strike = scene.strike(point);
        let mut jobs = scene.jobs().with(&[&strike]);
        let lost = Lost::primary_of(&scene, name, "Job").await;
        let job = loop {
            let job = next(&mut jobs, &scene).await;
            if job.starts_with(name) {
                break job;
            }
        };
        let record = lost.succeeds(&scene).await;
        assert!(text(&record, "/executor").starts_with("operator-0"), "{point}: {record:#}");
        assert!(text(&record, "/job/message").contains("did not renew its claim"), "{point}");
        assert!(jobs.process(&job).unwrap().is_running(), "{point}: it is frozen");
        jobs.signal(&job, Signal::Continue).unwrap();
        assert_eq!(exit_code(&mut jobs, &job).await, Some(3), "{point}: {}", jobs.log(&job));
        let after = lost.ended_well(&scene).await;
        assert_eq!((&after["executor"], &after["newPrimary"]), (&record["executor"], &record["newPrimary"]), "{point}");
    }
}

#[tokio::test]
async fn a_job_that_never_starts_is_done_without() {
    let _calm = API_SERVER.read().await;
    let scene = Scene::with("job-missing", WITH_JOBS).await;
    let lost = Lost::primary_of(&scene, "shop", "Job").await;
    let record = lost.ended_well(&scene).await;
    assert!(text(&record, "/job/message").ends_with("did not begin within 10000 ms"), "{record:#}");
    assert!(text(&record, "/executor").starts_with("operator-0"));
    let told = async || {
        let events = scene.kubernetes.list("Event").await.unwrap();
        events.iter().any(|event| event.data["reason"] == "JobReplaced")
    };
    scene.until("told", told).await;
    // One that starts now has nothing to do.
    let mut jobs = scene.jobs();
    let job = next(&mut jobs, &scene).await;
    assert_eq!(exit_code(&mut jobs, &job).await, Some(0));
    assert!(jobs.log(&job).contains("nothing to do: it has ended: Succeeded"), "{}", jobs.log(&job));
}

#[tokio::test]
async fn a_job_completes_what_the_operator_began() {
    let _calm = API_SERVER.read().await;
    let scene = Scene::with("job-completes", WITH_JOBS).await;
    let rights = format!("KUBECONFIG={}", scene.rights_of_jobs());
    let mut jobs = scene.jobs().with(&[&rights]);
    let lost = Lost::primary_of(&scene, "shop", "Operator").await;
    let job = next(&mut jobs, &scene).await;
    let record = lost.ended_well(&scene).await;
    assert_eq!(exit_code(&mut jobs, &job).await, Some(0), "{}", jobs.log(&job));
    assert!(text(&record, "/executor").starts_with(&job), "{record:#}");
    assert_eq!(done(&record, "Unfence"), 1, "{record:#}");
    assert!(scene.log().contains("shop-1 is left to Job"));

    // The same, and it dies.
    let mut jobs = scene.jobs().with(&[&scene.strike("KILL before:ForgetSource")]);
    jobs.start().await.unwrap();
    let lost = Lost::primary_of(&scene, "dies", "Operator").await;
    let job = next(&mut jobs, &scene).await;
    let record = lost.ended_well(&scene).await;
    assert_eq!(exit_code(&mut jobs, &job).await, None, "{}", jobs.log(&job));
    assert!(text(&record, "/executor").starts_with("operator-0"), "{record:#}");
    assert!(text(&record, "/job/message").contains("did not renew its claim"));
    assert_eq!(done(&record, "Unfence"), 1, "{record:#}");
}
