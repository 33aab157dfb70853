//! The journal over the fake API server: who wins an epoch, what an unclear answer means, what is kept.

mod executor;
mod members;
mod rebuild_of_servers;
mod relocations;
mod requests;

use kube::api::DeleteParams;
use serde_json::json;

use super::{
    history::{acknowledge, history, prune, surplus},
    translate::recovery_of,
    *,
};
use crate::{
    core::{
        gtid::GtidSet,
        id::{Epoch, ServerAddr},
        recovery::{CandidateRecord, Cause, Evidence, Loss, Outcome, StepRecord, Timings, Verdict},
    },
    testing::api_server::{ApiServer, Fault, Verb},
};

const SET: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";

fn addr(text: &str) -> ServerAddr {
    text.parse().unwrap()
}

fn key() -> ClusterKey {
    ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() }
}

/// A recovery in which every field says something.
fn recovery(epoch: u64, executor: &str) -> Recovery {
    let set = GtidSet::try_from(SET.to_owned()).unwrap();
    Recovery {
        part: Part::Primary,
        record: format!("shop-{epoch}"),
        phase: Phase::Pending,
        epoch: Epoch(epoch),
        executor: executor.to_owned(),
        job: None,
        cause: Cause { analysis: "DeadPrimary".to_owned(), server: addr("db-1:3306"), reason: "why".to_owned() },
        candidate: None,
        evidence: vec![Evidence { server: addr("db-2:3306"), saw: "no heartbeat".to_owned(), at_ms: -12 }],
        candidates: vec![CandidateRecord {
            server: addr("db-2:3306"),
            verdict: Verdict::Excluded,
            reason: "it is delayed".to_owned(),
        }],
        old_primary: addr("db-1:3306"),
        old_primary_uuid: Some("3e11fa47-71ca-11e1-9e33-c80aa9429562".to_owned()),
        old_primary_set: Some(set.clone()),
        old_primary_dead: true,
        new_primary: Some(addr("[2001:db8::1]:3306")),
        promoted_set: Some(set.clone()),
        lost: Some(Loss::AtLeast(set)),
        lost_replicas: vec![addr("db-3:3306")],
        pending_replicas: vec![addr("db-4:3306")],
        ackers: vec![addr("db-2:3306")],
        unknown_ackers: 1,
        wait_count: 2,
        lossless: true,
        steps: vec![StepRecord {
            step: "StopReceiver".to_owned(),
            server: addr("db-2:3306"),
            started_ms: 3,
            took_ms: 4,
            outcome: Outcome::Failed("no answer".to_owned()),
        }],
        timings: Timings {
            detected: Some(1),
            recorded: Some(2),
            fenced: Some(3),
            chosen: Some(4),
            writable: Some(5),
            routed: Some(6),
            completed: Some(7),
        },
        message: "on its way".to_owned(),
        acknowledged: false,
    }
}

fn server() -> ApiServer {
    let server = ApiServer::new();
    server.put(
        "mysqlclusters",
        &json!({
            "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlCluster",
            "metadata": { "name": "shop", "namespace": "default" },
            "spec": { "credentials": { "secretName": "s" }, "servers": [{ "host": "db-1" }] },
            "status": { "epoch": 6, "primary": "db-1:3306" },
        }),
    );
    server
}

fn records(server: &ApiServer) -> Records {
    Records::new(&server.client(), key()).with_budget(Duration::from_millis(100))
}

async fn all(server: &ApiServer) -> Vec<MysqlFailover> {
    let api: Api<MysqlFailover> = Api::default_namespaced(server.client());
    api.list(&kube::api::ListParams::default()).await.unwrap().items
}

fn epoch_of(server: &ApiServer) -> i64 {
    server.object("mysqlclusters", "default", "shop").unwrap()["status"]["epoch"].as_i64().unwrap()
}

#[tokio::test]
async fn a_begun_recovery_is_read_back_as_it_was() {
    let server = server();
    let wanted = recovery(7, "a");
    records(&server).begin(&wanted).await.unwrap();
    let stored = all(&server).await;
    assert_eq!(recovery_of(&stored[0]).unwrap(), wanted);
    assert_eq!(stored[0].name_any(), "shop-7");
    assert_eq!(stored[0].owner_references()[0].name, "shop");
    assert_eq!(epoch_of(&server), 7);
    let cluster = server.object("mysqlclusters", "default", "shop").unwrap();
    assert_eq!(cluster["status"]["primary"], "db-1:3306", "the rest of the status is kept");
}

#[tokio::test]
async fn doing_it_twice_is_doing_it_once() {
    let server = server();
    let journal = records(&server);
    journal.begin(&recovery(7, "a")).await.unwrap();
    records(&server).begin(&recovery(7, "a")).await.unwrap();
    assert_eq!(all(&server).await.len(), 1);
    assert_eq!(epoch_of(&server), 7);
}

#[tokio::test]
async fn of_two_who_begin_one_loses() {
    let server = server();
    let (a, b) = (records(&server), records(&server));
    let (ours, theirs) = (recovery(7, "a"), recovery(7, "b"));
    let (first, second) = tokio::join!(a.begin(&ours), b.begin(&theirs));
    assert_eq!([&first, &second].iter().filter(|result| result.is_ok()).count(), 1, "{first:?} {second:?}");
    let lost = if first.is_err() { first } else { second };
    assert!(matches!(lost, Err(JournalError::Lost(_))), "{lost:?}");
}

#[tokio::test]
async fn an_epoch_that_has_begun_is_lost() {
    let server = server();
    let error = records(&server).begin(&recovery(6, "a")).await.unwrap_err();
    assert!(matches!(&error, JournalError::Lost(reason) if reason.contains("epoch 6")), "{error}");
    assert_eq!(all(&server).await.len(), 0, "nothing was written");
}

#[tokio::test]
async fn a_status_written_in_between_loses_nothing() {
    let server = server();
    let other = server.clone();
    let mut once = true;
    server.set_faults(move |call| {
        let swap = call.resource == "mysqlclusters" && call.verb == Verb::Replace;
        if swap && std::mem::take(&mut once) {
            let mut object = other.object("mysqlclusters", "default", "shop").unwrap();
            object["status"]["answering"] = json!("1/1");
            other.put("mysqlclusters", &object);
        }
        None
    });
    records(&server).begin(&recovery(7, "a")).await.unwrap();
    assert_eq!(epoch_of(&server), 7);
    assert_eq!(server.object("mysqlclusters", "default", "shop").unwrap()["status"]["answering"], "1/1");
}

#[tokio::test]
async fn done_but_answered_with_an_error_is_harmless() {
    for fault in [Fault::DoneBut(504), Fault::DoneButHang] {
        for faulty in [Verb::Create, Verb::Replace] {
            let server = server();
            let (mut left, fault) = (2, fault.clone());
            server.set_faults(move |call| {
                let hit = call.verb == faulty && left > 0;
                left -= i32::from(hit);
                hit.then(|| fault.clone())
            });
            let journal = records(&server);
            journal.begin(&recovery(7, "a")).await.unwrap();
            let mut next = recovery(7, "a");
            next.phase = Phase::Fencing;
            journal.save(&next).await.unwrap();
            assert_eq!(recovery_of(&all(&server).await[0]).unwrap(), next);
            assert_eq!((epoch_of(&server), all(&server).await.len()), (7, 1));
        }
    }
}

#[tokio::test]
async fn not_done_and_answered_with_an_error_is_unavailable() {
    for verb in [Verb::Get, Verb::Create, Verb::Replace] {
        for fault in [Fault::Refuse(503), Fault::Hang] {
            let server = server();
            server.set_faults(move |call| (call.verb == verb).then(|| fault.clone()));
            let error = records(&server).begin(&recovery(7, "a")).await.unwrap_err();
            assert!(matches!(error, JournalError::Unavailable(_)), "{error}");
        }
    }
}

#[tokio::test]
async fn saving_keeps_what_others_wrote_and_stops_when_taken_over() {
    let server = server();
    let old = records(&server);
    old.begin(&recovery(7, "a")).await.unwrap();
    let mut object = server.object("mysqlfailovers", "default", "shop-7").unwrap();
    object["status"]["acknowledged"] = json!(true);
    server.put("mysqlfailovers", &object);
    old.save(&recovery(7, "a")).await.unwrap();
    assert!(recovery_of(&all(&server).await[0]).unwrap().acknowledged);
    let new = records(&server);
    let taken = new.claim("shop-7", "b", None).await.unwrap();
    assert_eq!(taken.executor, "b");
    let next = Recovery { phase: Phase::Fencing, ..recovery(7, "a") };
    let error = old.save(&next).await.unwrap_err();
    assert!(matches!(&error, JournalError::Lost(reason) if reason.contains("carried out by b")), "{error}");
    new.save(&taken).await.unwrap();
}

#[tokio::test]
async fn a_claim_completes_a_begin_that_was_cut_short() {
    let server = server();
    server.set_faults(|call| {
        let swap = call.resource == "mysqlclusters" && call.verb == Verb::Replace;
        swap.then_some(Fault::Refuse(503))
    });
    records(&server).begin(&recovery(7, "a")).await.unwrap_err();
    server.clear_faults();
    assert_eq!(epoch_of(&server), 6);
    records(&server).claim("shop-7", "b", None).await.unwrap();
    assert_eq!(epoch_of(&server), 7);
}

#[tokio::test]
async fn saving_what_is_there_already_writes_nothing() {
    let server = server();
    let journal = records(&server);
    journal.begin(&recovery(7, "a")).await.unwrap();
    let before = server.writes().len();
    journal.save(&recovery(7, "a")).await.unwrap();
    records(&server).save(&recovery(7, "a")).await.unwrap();
    assert_eq!(server.writes().len(), before);
}

#[tokio::test]
async fn history_tells_what_is_unfinished_forced_and_acknowledged() {
    let server = server();
    for (epoch, phase) in [(7, Phase::Succeeded), (8, Phase::Failed), (9, Phase::Promoting)] {
        let mut wanted = recovery(epoch, "a");
        wanted.phase = phase;
        records(&server).begin(&wanted).await.unwrap();
    }
    server.put(
        "mysqlfailovers",
        &json!({
            "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlFailover",
            "metadata": { "name": "drill", "namespace": "default" },
            "spec": { "clusterName": "shop", "cause": { "analysis": "Forced", "reason": "a drill" }, "candidate": "db-2:3306" },
        }),
    );
    let mut object = server.object("mysqlfailovers", "default", "shop-7").unwrap();
    object["metadata"]["annotations"] = json!({ "mysql.baton.dev/acknowledged-by": "ada" });
    server.put("mysqlfailovers", &object);
    let found = history(&all(&server).await, "shop", Timestamp::now());
    assert_eq!(found.unfinished.as_deref(), Some("shop-9"));
    assert_eq!(found.last.as_ref().map(|last| last.epoch), Some(Epoch(7)));
    assert_eq!(
        found.past.iter().map(|past| (past.name.as_str(), past.acknowledged)).collect::<Vec<_>>(),
        [("shop-9", false), ("shop-8", false), ("shop-7", true)]
    );
    assert_eq!(found.requests.len(), 1);
    assert_eq!(found.requests[0].candidate, Some(addr("db-2:3306")));
    assert_eq!(found.unreadable, []);
    assert_eq!(history(&all(&server).await, "other", Timestamp::now()), history::History::default());
}

#[tokio::test]
async fn an_acknowledgement_is_written_once() {
    let server = server();
    records(&server).begin(&recovery(7, "a")).await.unwrap();
    let api: Api<MysqlFailover> = Api::default_namespaced(server.client());
    assert!(!acknowledge(&api, &all(&server).await[0]).await.unwrap(), "nobody acknowledged");
    let mut object = server.object("mysqlfailovers", "default", "shop-7").unwrap();
    object["metadata"]["annotations"] = json!({ "mysql.baton.dev/acknowledged-by": "ada" });
    server.put("mysqlfailovers", &object);
    assert!(acknowledge(&api, &all(&server).await[0]).await.unwrap());
    assert!(!acknowledge(&api, &all(&server).await[0]).await.unwrap());
    assert_eq!(server.object("mysqlfailovers", "default", "shop-7").unwrap()["status"]["acknowledged"], true);
}

#[tokio::test]
async fn old_finished_records_go() {
    let server = server();
    for (epoch, phase) in [(7, Phase::Promoting), (8, Phase::Succeeded), (9, Phase::Failed), (10, Phase::Succeeded)] {
        let mut wanted = recovery(epoch, "a");
        wanted.phase = phase;
        records(&server).begin(&wanted).await.unwrap();
    }
    let api: Api<MysqlFailover> = Api::default_namespaced(server.client());
    let found = all(&server).await;
    let surplus = surplus(&found, "shop", 1);
    api.delete("shop-8", &DeleteParams::default()).await.unwrap();
    prune(&api, &surplus).await.unwrap();
    let mut left: Vec<_> = all(&server).await.iter().map(ResourceExt::name_any).collect();
    left.sort();
    assert_eq!(left, ["shop-10", "shop-7"], "unfinished ones stay");
}

#[tokio::test]
async fn a_record_that_nobody_began_blocks_nobody() {
    let server = server();
    let journal = records(&server);
    let cluster = journal.cluster().await.unwrap();
    // Its maker died before the status, and saw one replica less.
    let mut left = recovery(7, "a");
    left.cause.analysis = "DeadPrimaryAndSomeReplicas".to_owned();
    journal.create(&cluster, "shop-7", &left).await.unwrap();
    journal.begin(&recovery(7, "b")).await.unwrap();
    assert_eq!(epoch_of(&server), 7);
}

#[tokio::test]
async fn an_epoch_is_carried_out_once() {
    let server = server();
    let journal = records(&server);
    let mut first = recovery(7, "a");
    journal.begin(&first).await.unwrap();
    first.phase = Phase::Refused;
    journal.save(&first).await.unwrap();
    let again = journal.begin(&recovery(7, "a")).await;
    assert!(matches!(again, Err(JournalError::Lost(_))), "{again:?}");
}
