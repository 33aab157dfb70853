//! Failovers that people ask for, in the journal.

use super::*;

/// What a person applies.
fn ask(server: &ApiServer, name: &str) {
    server.put(
        "mysqlfailovers",
        &json!({
            "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlFailover",
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "clusterName": "shop", "cause": { "analysis": "Forced", "reason": "a drill" }, "candidate": "db-2:3306" },
        }),
    );
}

fn forced(name: &str, executor: &str) -> Recovery {
    Recovery {
        record: name.to_owned(),
        cause: Cause { analysis: "Forced".to_owned(), server: addr("db-1:3306"), reason: "a drill".to_owned() },
        candidate: Some(addr("db-2:3306")),
        ..recovery(7, executor)
    }
}

#[tokio::test]
async fn a_persons_object_becomes_the_record_whatever_its_name() {
    let server = server();
    ask(&server, "drill");
    records(&server).begin(&forced("drill", "a")).await.unwrap();
    assert_eq!(recovery_of(&all(&server).await[0]).unwrap(), forced("drill", "a"));
    assert_eq!((all(&server).await.len(), epoch_of(&server)), (1, 7));
    let cluster = server.object("mysqlclusters", "default", "shop").unwrap();
    assert_eq!(cluster["status"]["lastFailover"]["record"], "drill");
    let taken = records(&server).claim("drill", "b", None).await.unwrap();
    assert_eq!((taken.executor.as_str(), taken.candidate), ("b", Some(addr("db-2:3306"))));
}

#[tokio::test]
async fn a_request_that_loses_the_epoch_is_refused_and_holds_nothing_up() {
    let server = server();
    ask(&server, "drill");
    // The record was written, the epoch was not; then somebody else began it.
    server.set_faults(|call| {
        let swap = call.resource == "mysqlclusters" && call.verb == Verb::Replace;
        swap.then_some(Fault::Refuse(503))
    });
    records(&server).begin(&forced("drill", "a")).await.unwrap_err();
    server.clear_faults();
    records(&server).begin(&recovery(7, "b")).await.unwrap();
    let left = records(&server).claim("drill", "c", None).await.unwrap();
    assert_eq!(left.phase, Phase::Refused);
    let found = history(&all(&server).await, "shop", Timestamp::now());
    assert_eq!(found.unfinished.as_deref(), Some("shop-7"));
    assert_eq!(server.object("mysqlfailovers", "default", "drill").unwrap()["status"]["phase"], "Refused");
}

#[tokio::test]
async fn a_refusal_is_written_once_and_never_over_a_recovery() {
    let server = server();
    ask(&server, "drill");
    for _ in 0..2 {
        records(&server).refuse("drill", "db-2:3306 is no server of this cluster").await.unwrap();
    }
    assert_eq!(server.writes().len(), 1);
    let status = server.object("mysqlfailovers", "default", "drill").unwrap()["status"].clone();
    assert_eq!((status["phase"].as_str(), status["conditions"][2]["status"].as_str()), (Some("Refused"), Some("True")));
    let found = history(&all(&server).await, "shop", Timestamp::now());
    assert_eq!((found.requests.len(), found.unreadable.len(), found.unfinished), (0, 0, None));
    let begun = records(&server).begin(&forced("drill", "a")).await;
    assert!(matches!(begun, Err(JournalError::Lost(_))), "{begun:?}");
    assert_eq!(epoch_of(&server), 6);
    records(&server).begin(&recovery(7, "a")).await.unwrap();
    records(&server).refuse("shop-7", "no").await.unwrap();
    assert_eq!(server.object("mysqlfailovers", "default", "shop-7").unwrap()["status"]["phase"], "Pending");
    records(&server).refuse("gone", "no").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_told() {
    let server = server();
    for (name, cause, candidate) in [
        ("one", json!({ "analysis": "Forced", "reason": "r", "server": "db-1:99999" }), "db-2:3306"),
        ("two", json!({ "analysis": "DeadPrimary", "server": "db-1:3306" }), "db-2:3306"),
    ] {
        server.put(
            "mysqlfailovers",
            &json!({
                "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlFailover",
                "metadata": { "name": name, "namespace": "default" },
                "spec": { "clusterName": "shop", "cause": cause, "candidate": candidate },
            }),
        );
    }
    let requests = history(&all(&server).await, "shop", Timestamp::now()).requests;
    let problems: Vec<_> = requests.iter().map(|request| request.problem.clone().unwrap_or_default()).collect();
    assert!(problems[0].contains("spec.cause.server: port"), "{problems:?}");
    assert!(problems[1].contains("made by Baton alone"), "{problems:?}");
}
