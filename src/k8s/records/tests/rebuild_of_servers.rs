//! Overwriting a server: written before it is done, by who knows what is written, and only where all that it rests on is.

use super::*;
use crate::core::rebuild::{Rebuild, State};

const EXTRA: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:101-103";

type Change = fn(&mut serde_json::Value);

fn server_with_cluster(change: impl FnOnce(&mut serde_json::Value)) -> ApiServer {
    let server = ApiServer::new();
    let entry = |address: &str| {
        json!({
            "address": address, "record": "shop-4", "acknowledged": "Impossible", "reason": "because",
            "extra": { "count": 3, "set": EXTRA },
            "export": { "state": "Succeeded", "job": "baton-export-1", "place": "saved/x.binlog" },
        })
    };
    let mut cluster = json!({
        "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlCluster",
        "metadata": { "name": "shop", "namespace": "default", "generation": 3 },
        "spec": {
            "credentials": { "secretName": "s" }, "servers": [{ "host": "db-1" }],
            "failover": { "rebuild": "Clone", "export": { "volumeClaimName": "saved" } },
        },
        "status": { "epoch": 4, "primary": "db-2:3306", "quarantined": [entry("db-1:3306"), entry("db-3:3306")] },
    });
    change(&mut cluster);
    server.put("mysqlclusters", &cluster);
    server
}

fn written(server: &ApiServer) -> serde_json::Value {
    server.object("mysqlclusters", "default", "shop").unwrap()["status"]["quarantined"][0]["rebuild"].clone()
}

fn running() -> Rebuild {
    Rebuild {
        state: State::Running,
        donor: Some(addr("db-3:3306")),
        uuid: Some("3e11fa47-71ca-11e1-9e33-c80aa9429562".to_owned()),
        extra: Some(EXTRA.parse().unwrap()),
        began: Some("2026-11-28T05:00:00Z".parse().unwrap()),
        message: String::new(),
    }
}

fn basis() -> rebuild::Basis {
    rebuild::Basis {
        generation: Some(3),
        epoch: Epoch(4),
        primary: addr("db-2:3306"),
        record: "shop-4".to_owned(),
        job: "baton-export-1".to_owned(),
        extra: EXTRA.parse().unwrap(),
    }
}

async fn begin(server: &ApiServer) -> Result<(), JournalError> {
    let records = Records::new(&server.client(), key());
    records.rebuild(&addr("db-1:3306"), None, Some(&running()), Some(&basis())).await
}

#[tokio::test]
async fn it_begins_once_and_ends_by_who_knows_what_is_there() {
    let server = server_with_cluster(|_| {});
    begin(&server).await.unwrap();
    assert_eq!(written(&server)["state"], "Running");
    let status = server.object("mysqlclusters", "default", "shop").unwrap()["status"].clone();
    let read = serde_json::from_value(status).unwrap();
    assert_eq!(rebuild::rebuilds(&read), [(addr("db-1:3306"), running())].into());
    assert_eq!(rebuild::unusable(&read), [addr("db-1:3306")].into());
    let records = Records::new(&server.client(), key());
    let other = Rebuild { donor: None, ..running() };
    let late = records.rebuild(&addr("db-1:3306"), None, Some(&other), Some(&basis())).await;
    assert!(matches!(late, Err(JournalError::Lost(_))), "{late:?}");
    let second = records.rebuild(&addr("db-3:3306"), None, Some(&running()), Some(&basis())).await;
    assert!(second.unwrap_err().to_string().ends_with("db-3:3306: another server is being rebuilt"));
    records.rebuild(&addr("db-1:3306"), Some(&running()), None, None).await.unwrap();
    assert_eq!(written(&server), serde_json::Value::Null);
}

#[tokio::test]
async fn it_is_done_once_for_each_failover() {
    let server = server_with_cluster(|_| {});
    let records = Records::new(&server.client(), key());
    let early = records.rebuilt(&addr("db-1:3306"), "shop-4", &running()).await;
    assert!(matches!(early, Err(JournalError::Lost(_))), "nothing is written about it: {early:?}");
    begin(&server).await.unwrap();
    records.rebuilt(&addr("db-1:3306"), "shop-4", &running()).await.unwrap();
    let again = records.rebuilt(&addr("db-1:3306"), "shop-4", &running()).await;
    assert!(again.unwrap_err().to_string().ends_with("since that failover already"));
    records.rebuild(&addr("db-1:3306"), Some(&running()), None, None).await.unwrap();
    let again = begin(&server).await;
    assert!(again.unwrap_err().to_string().ends_with("since that failover already"));
}

#[tokio::test]
async fn doubt_is_written_down_about_the_same_failover() {
    let server = server_with_cluster(|_| {});
    let records = Records::new(&server.client(), key());
    records.doubt(&addr("db-1:3306"), "shop-3", "why").await.unwrap();
    assert_eq!(server.writes().len(), 0);
    records.doubt(&addr("db-1:3306"), "shop-4", "why").await.unwrap();
    let found = server.object("mysqlclusters", "default", "shop").unwrap()["status"]["quarantined"][0].clone();
    assert_eq!((&found["acknowledged"], &found["reason"]), (&json!("Possible"), &json!("why")));
    assert!(begin(&server).await.unwrap_err().to_string().contains("clients may have been told"));
}

#[tokio::test]
async fn a_write_that_was_done_though_it_was_answered_with_an_error_counts() {
    let server = server_with_cluster(|_| {});
    server.set_faults(|call| (call.verb == Verb::Replace).then_some(Fault::DoneBut(504)));
    begin(&server).await.unwrap();
    assert_eq!((written(&server)["state"].clone(), server.writes().len()), (json!("Running"), 1));
}

#[tokio::test]
async fn nothing_begins_on_what_is_not_so_any_more() {
    let cases: [(&str, Change); 15] = [
        ("the MysqlCluster has changed", |object| object["metadata"]["generation"] = json!(4)),
        ("it is not wished for", |object| object["spec"]["failover"]["rebuild"] = json!("Never")),
        ("it is not wished for", |object| object["spec"]["paused"] = json!(true)),
        ("another reign has begun", |object| object["status"]["epoch"] = json!(5)),
        ("another primary is written down", |object| object["status"]["primary"] = json!("db-1:3306")),
        ("another server is being rebuilt", |object| {
            object["status"]["quarantined"][1]["rebuild"] = json!({ "state": "Running" });
        }),
        ("it is written down as one that may acknowledge", |object| {
            object["status"]["semiSync"] = json!({ "source": "db-2:3306", "acks": 1, "ackers": ["db-1:3306"] });
        }),
        ("it was overwritten, or was to be, since that failover already", |object| {
            object["status"]["rebuilt"] = json!("shop-4");
        }),
        ("other transactions are written down, or too many to be written down", |object| {
            object["status"]["quarantined"][0]["extra"]["set"] = json!("3e11fa47-71ca-11e1-9e33-c80aa9429562:101-104");
        }),
        ("other transactions are written down, or too many to be written down", |object| {
            object["status"]["quarantined"][0]["extra"] = json!({ "count": 3 });
        }),
        ("it is not in quarantine", |object| object["status"]["quarantined"] = json!([])),
        ("another failover replaced it", |object| object["status"]["quarantined"][0]["record"] = json!("shop-3")),
        ("it is written down that clients may have been told that its transactions are committed", |object| {
            object["status"]["quarantined"][0]["acknowledged"] = json!("Possible");
        }),
        ("it is not written down that its transactions are saved", |object| {
            object["status"]["quarantined"][0]["export"]["state"] = json!("Running");
        }),
        ("it is not written down that its transactions are saved", |object| {
            object["status"]["quarantined"][0]["export"]["job"] = json!("baton-export-2");
        }),
    ];
    for (reason, change) in cases {
        let server = server_with_cluster(change);
        let error = begin(&server).await.unwrap_err().to_string();
        assert!(error.ends_with(&format!("db-1:3306: {reason}")), "{error}, not {reason}");
        assert_eq!(server.writes().len(), 0, "{reason}");
    }
}

#[test]
fn the_primary_is_never_left_alone_because_of_what_a_status_says() {
    let entry = json!({
        "address": "db-1:3306", "acknowledged": "Impossible", "reason": "", "rebuild": { "state": "Running" },
    });
    let status = |primary: &str| serde_json::from_value(json!({ "primary": primary, "quarantined": [entry] })).unwrap();
    assert_eq!(rebuild::unusable(&status("db-1:3306")), [].into());
    assert_eq!(rebuild::unusable(&status("db-2:3306")), [addr("db-1:3306")].into());
}
