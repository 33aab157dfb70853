//! Who may execute: what is left to a Job, claimed by it, renewed, and taken over when it is dead.

use super::*;
use crate::{
    core::recovery::{Hold, JobRecord},
    k8s::records::executor::{Found, found},
};

/// Executed by the operator `a`, with a Job that it may be left to.
fn with_job() -> Recovery {
    Recovery { job: Some(JobRecord { name: "shop-7-failover".to_owned(), problem: String::new() }), ..recovery(7, "a") }
}

fn job(server: &ApiServer) -> Records {
    records(server).of_job(3)
}

async fn stored(server: &ApiServer) -> MysqlFailover {
    all(server).await.remove(0)
}

async fn hold(server: &ApiServer) -> Option<Hold> {
    history(&all(server).await, "shop", Timestamp::now()).hold
}

fn lost<T>(result: Result<T, JournalError>) -> bool {
    matches!(result, Err(JournalError::Lost(reason)) if !reason.is_empty())
}

fn kept<T>(result: Result<T, JournalError>) -> bool {
    matches!(result, Err(JournalError::Unavailable(reason)) if reason.contains("is not this process' to claim"))
}

#[tokio::test]
async fn a_job_has_only_what_is_left_to_it_and_then_nobody_else_has() {
    let server = server();
    let (leader, job) = (records(&server), job(&server));
    leader.begin(&with_job()).await.unwrap();
    assert_eq!((hold(&server).await, found(&stored(&server).await, "job")), (None, Found::Waiting));
    assert!(kept(job.claim("shop-7", "job", None).await), "the operator executes it");
    leader.leave(&with_job()).await.unwrap();
    let nobody = hold(&server).await.unwrap();
    assert_eq!((nobody.patience_ms, found(&stored(&server).await, "job")), (10_000, Found::Left));
    assert!(lost(leader.save(&with_job()).await), "it was left");
    assert!(kept(leader.claim("shop-7", "b", None).await), "the Job may come yet");

    let taken = job.claim("shop-7", "job", None).await.unwrap();
    assert_eq!((taken.executor.as_str(), taken.job), ("job", with_job().job));
    assert!(matches!(found(&stored(&server).await, "another"), Found::Over(_)));
    assert_eq!(hold(&server).await.unwrap().patience_ms, 3000);
    assert!(kept(job.claim("shop-7", "another", None).await), "one Job");
    assert!(kept(leader.claim("shop-7", "b", Some(&nobody)).await), "it is not as it was");
    let next = Recovery { phase: Phase::Fencing, ..with_job() };
    let next = Recovery { executor: "job".to_owned(), ..next };
    job.save(&next).await.unwrap();
    assert_eq!(recovery_of(&stored(&server).await).unwrap(), next);
}

#[tokio::test]
async fn a_renewed_claim_is_not_taken_over_and_a_dead_one_is_once() {
    let server = server();
    let (leader, job) = (records(&server), job(&server));
    leader.begin(&with_job()).await.unwrap();
    leader.leave(&with_job()).await.unwrap();
    job.claim("shop-7", "job", None).await.unwrap();
    let before = hold(&server).await.unwrap();
    job.renew("shop-7", "job").await.unwrap();
    assert!(kept(leader.claim("shop-7", "b", Some(&before)).await), "it was renewed meanwhile");
    let dead = hold(&server).await.unwrap();
    assert_eq!(dead.reason, "Job shop-7-failover did not renew its claim within 3000 ms");
    let taken = leader.claim("shop-7", "b", Some(&dead)).await.unwrap();
    assert_eq!((taken.executor.as_str(), taken.job.unwrap().problem), ("b", dead.reason.clone()));
    assert_eq!((hold(&server).await, stored(&server).await.status.unwrap().claim), (None, None));
    assert!(lost(job.renew("shop-7", "job").await) && lost(job.save(&with_job()).await));
    assert!(kept(job.claim("shop-7", "job", None).await));
    // Another operator that saw the same is late; it leads no more.
    let other = records(&server);
    assert!(other.claim("shop-7", "c", Some(&dead)).await.is_ok(), "as from any leader that was replaced");
    assert!(lost(leader.save(&Recovery { executor: "b".to_owned(), ..with_job() }).await));
}

#[tokio::test]
async fn that_it_is_left_already_is_as_good() {
    let server = server();
    let leader = records(&server);
    leader.begin(&with_job()).await.unwrap();
    server.set_faults(|call| (call.verb == Verb::Replace).then_some(Fault::DoneButHang));
    leader.leave(&with_job()).await.unwrap();
    server.clear_faults();
    leader.leave(&with_job()).await.unwrap();
    job(&server).claim("shop-7", "job", None).await.unwrap();
    records(&server).leave(&with_job()).await.unwrap();
    let executor = stored(&server).await.status.unwrap().executor;
    assert_eq!(executor.as_deref(), Some("job"), "whoever has it keeps it");
}

#[tokio::test]
async fn what_is_only_to_be_completed_is_waited_for_less() {
    let server = server();
    let leader = records(&server);
    leader.begin(&with_job()).await.unwrap();
    let writable = Recovery { phase: Phase::Writable, ..with_job() };
    leader.leave(&writable).await.unwrap();
    assert_eq!(hold(&server).await.unwrap().patience_ms, 5000);
}

#[tokio::test]
async fn a_record_that_is_gone_is_nobodys() {
    let server = server();
    let (leader, job) = (records(&server), job(&server));
    leader.begin(&with_job()).await.unwrap();
    leader.leave(&with_job()).await.unwrap();
    job.claim("shop-7", "job", None).await.unwrap();
    let ours = Recovery { executor: "job".to_owned(), ..with_job() };
    let api: Api<MysqlFailover> = Api::namespaced(server.client(), "default");
    api.delete("shop-7", &DeleteParams::default()).await.unwrap();
    // Once by what was written last, and once by a read.
    for _ in 0..2 {
        assert!(lost(job.save(&Recovery { phase: Phase::Fencing, ..ours.clone() }).await));
    }
    assert!(lost(job.renew("shop-7", "job").await));
}

#[tokio::test]
async fn a_claim_that_a_job_does_not_know_that_it_has_is_claimed_again() {
    let server = server();
    let (leader, job) = (records(&server), job(&server));
    leader.begin(&with_job()).await.unwrap();
    leader.leave(&with_job()).await.unwrap();
    // The record is written, and then the cluster cannot be read.
    server.set_faults(|call| (call.resource == "mysqlclusters").then_some(Fault::Hang));
    assert!(job.claim("shop-7", "job", None).await.is_err());
    server.clear_faults();
    let before = stored(&server).await;
    assert_eq!(found(&before, "job"), Found::Left);
    assert!(matches!(found(&before, "another"), Found::Over(_)));
    assert!(kept(job.claim("shop-7", "another", None).await));
    let held = hold(&server).await.unwrap();
    assert_eq!(job.claim("shop-7", "job", None).await.unwrap().executor, "job");
    assert_ne!(hold(&server).await.unwrap().version, held.version, "whoever waits sees that it lives");
    assert!(kept(leader.claim("shop-7", "b", Some(&held)).await));
}

/// Names of records are made of a cluster's name and a number: they may meet.
#[tokio::test]
async fn the_record_of_another_cluster_is_not_claimed() {
    let server = server();
    records(&server).begin(&recovery(7, "a")).await.unwrap();
    let key = ClusterKey { namespace: "default".to_owned(), name: "other".to_owned() };
    let other = Records::new(&server.client(), key).with_budget(Duration::from_millis(200));
    assert!(lost(other.claim("shop-7", "b", None).await));
    assert_eq!(recovery_of(&stored(&server).await).unwrap().executor, "a");
}
