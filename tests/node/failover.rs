//! A dead primary in a real cluster: another pod takes over, the Service leads there, clients lose nothing,
//! and the pod that comes back becomes a replica.

use std::time::Duration;

use baton::{
    core::id::ServerAddr,
    testing::{
        history::Verdict,
        writers::{Config, Writers, check},
    },
};
use serde_json::Value;

use super::place::{Node, cluster, endpoints, get, kubectl, operators, run, until};

/// Longest time until somebody else is writable.
const WRITABLE_DEADLINE: Duration = Duration::from_secs(30);
/// Longest time until the record is finished.
const COMPLETE_DEADLINE: Duration = Duration::from_secs(60);

/// Writers that know nothing but the Service.
async fn writers() -> (Writers, Config) {
    let service = get(&["service", "shop-primary"]).await;
    let address = ServerAddr::new(service["spec"]["clusterIP"].as_str().unwrap(), 3306).unwrap();
    let config = Config { password: "app-password".to_owned(), ..Config::new(vec![address]) };
    let writers = Writers::start(config.clone()).await.unwrap();
    assert!(writers.acknowledged(200, Duration::from_secs(20)).await, "200 rows through the Service");
    (writers, config)
}

/// Name of the pod at `address`.
async fn pod_of(address: &str) -> String {
    let pods = get(&["pods", "--selector", "app=shop"]).await;
    let here = |pod: &&Value| pod["status"]["podIP"].as_str().is_some_and(|ip| format!("{ip}:3306") == address);
    let pod = pods["items"].as_array().unwrap().iter().find(here).expect("a pod has the primary's address");
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

/// The record of the failover that began this epoch, when it is finished.
async fn finished(epoch: u64) -> Result<Value, String> {
    let cluster = cluster().await;
    let last = &cluster["status"]["lastFailover"];
    if cluster["status"]["epoch"].as_u64() < Some(epoch) || last["phase"] != "Succeeded" {
        return Err(cluster["status"].to_string());
    }
    Ok(get(&["mysqlfailover", last["record"].as_str().unwrap()]).await)
}

/// What became of the old primary.
enum Fate {
    Replica,
    Quarantined,
}

/// The fate of the server at `address`, once it is decided.
async fn returned(address: &str) -> Result<Fate, String> {
    let status = cluster().await["status"].clone();
    let server = status["servers"].as_array().unwrap().iter().find(|server| server["address"] == address);
    let server = server.ok_or_else(|| status.to_string())?;
    let problems = server["problems"].to_string();
    match () {
        () if server["state"] != "Answering" => Err(server.to_string()),
        () if problems.contains("quarantined") => Ok(Fate::Quarantined),
        () if server["role"] == "Replica" && server["source"] == status["primary"] => Ok(Fate::Replica),
        () => Err(server.to_string()),
    }
}

async fn read_only(pod: &str) -> String {
    kubectl(&["exec", pod, "--", "mysql", "-NBe", "SELECT @@super_read_only"]).await.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_is_replaced_and_no_row_is_lost() {
    let node = Node::take().await;
    let before = cluster().await["status"].clone();
    let old = before["primary"].as_str().unwrap().to_owned();
    let pod = pod_of(&old).await;
    let (writers, config) = writers().await;
    let struck_us = writers.now_us();
    kubectl(&["exec", &pod, "--", "sh", "-c", "kill -KILL $(pidof mysqld)"]).await;
    let host = format!("{pod}.db:3306");
    let written = writers.written_elsewhere(&host, struck_us, WRITABLE_DEADLINE).await;
    assert!(written.is_some(), "rows are acknowledged by another server: {}", cluster().await["status"]);

    let epoch = before["epoch"].as_u64().unwrap_or_default() + 1;
    let record = until("the failover", COMPLETE_DEADLINE, || finished(epoch)).await;
    let new = cluster().await["status"]["primary"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    assert_eq!(record["status"]["newPrimary"], new);
    assert_eq!(record["status"]["lost"]["known"], "None", "{}", record["status"]);
    let new: ServerAddr = new.parse().unwrap();
    assert_eq!(endpoints().await, [new.host()]);

    let history = writers.stop().await;
    let changes = history.gaps();
    assert_eq!(changes.len(), 1, "one change of the acknowledging server: {changes:?}");
    let verdict = check(&config, &new, &history).await.unwrap();
    let Verdict { acknowledged, lost, unexpected, .. } = &verdict;
    assert!(*acknowledged > 200 && lost.is_empty() && unexpected.is_empty(), "{verdict:?}");

    match until("the old primary's return", COMPLETE_DEADLINE, || returned(&old)).await {
        Fate::Replica => {
            let old = old.parse().unwrap();
            let complete = || async {
                let verdict = check(&config, &old, &history).await.map_err(|error| error.to_string())?;
                if verdict.lost.is_empty() { Ok(()) } else { Err(format!("{} rows are missing", verdict.lost.len())) }
            };
            until("every row on the old primary too", COMPLETE_DEADLINE, complete).await;
        }
        // It had written down what nobody was told is committed.
        Fate::Quarantined => {
            let rebuild = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/demo/rebuild.sh");
            assert_eq!(read_only(&pod).await, "1");
            run(rebuild, &[&pod], "").await;
        }
    }
    assert_eq!(read_only(&pod).await, "1");
    node.healthy().await;
    for operator in operators().await {
        let log = kubectl(&["logs", &operator]).await;
        assert!(!log.contains("forbidden"), "the chart's rights are enough for {operator}: {log}");
    }
}
