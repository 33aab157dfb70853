//! Who may acknowledge: written by who knows what is written, once.

use std::collections::BTreeSet;

use super::*;
use crate::core::membership::Membership;

fn members(ackers: &[&str]) -> Membership {
    Membership {
        source: addr("db-1:3306"),
        acks: 1,
        ackers: ackers.iter().map(|text| addr(text)).collect::<BTreeSet<_>>(),
    }
}

fn server_with_cluster() -> ApiServer {
    let server = ApiServer::new();
    server.put(
        "mysqlclusters",
        &json!({
            "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlCluster",
            "metadata": { "name": "shop", "namespace": "default" },
            "spec": { "credentials": { "secretName": "s" }, "servers": [{ "host": "db-1" }] },
            "status": { "epoch": 4 },
        }),
    );
    server
}

fn written(server: &ApiServer) -> serde_json::Value {
    server.object("mysqlclusters", "default", "shop").unwrap()["status"].clone()
}

#[tokio::test]
async fn ackers_are_written_once_and_by_who_knows_what_is_there() {
    let server = server_with_cluster();
    let records = Records::new(&server.client(), key());
    let (first, second) = (members(&["db-2:3306"]), members(&["db-2:3306", "db-3:3306"]));
    records.members(None, &first).await.unwrap();
    assert_eq!(written(&server)["semiSync"], json!({ "source": "db-1:3306", "acks": 1, "ackers": ["db-2:3306"] }));
    assert_eq!(written(&server)["epoch"], 4, "the rest stays");
    let writes = server.writes().len();
    records.members(None, &first).await.unwrap();
    assert_eq!(server.writes().len(), writes, "it is there");
    let late = records.members(None, &second).await;
    assert!(matches!(late, Err(JournalError::Lost(_))), "{late:?}");
    records.members(Some(&first), &second).await.unwrap();
    assert_eq!(written(&server)["semiSync"]["ackers"], json!(["db-2:3306", "db-3:3306"]));
    let read = serde_json::from_value(written(&server)["semiSync"].clone()).unwrap();
    assert_eq!(membership::membership(&read), Some(second));
}

#[tokio::test]
async fn a_write_that_was_done_though_it_was_answered_with_an_error_counts() {
    let server = server_with_cluster();
    let records = Records::new(&server.client(), key());
    server.set_faults(|call| (call.verb == Verb::Replace).then_some(Fault::DoneBut(504)));
    records.members(None, &members(&["db-2:3306"])).await.unwrap();
    assert_eq!(written(&server)["semiSync"]["acks"], 1);
    assert_eq!(server.writes().len(), 1);
}
