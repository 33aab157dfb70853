//! Real replicas in disorder, and an owner who wants them repaired.

use std::time::Duration;

use baton::testing::{
    series::Series,
    topology::{Options, Topology, eventually},
};
use tokio::time::sleep;

use super::{relocation::policy, whole::Whole};

#[tokio::test]
async fn replicas_of_mysql_97_are_repaired_and_one_with_an_error_is_told() {
    let options = Options {
        heartbeat_ms: Some(500),
        connect_retry_s: Some(1),
        durable: false,
        ..Options::new(Series::Mysql97, 3)
    };
    let topology = Topology::start(&options).await.unwrap();
    let addrs = topology.addresses();
    let [primary, stopped, open, broken] = topology.servers.as_slice() else { panic!() };
    primary.query("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
    for replica in &topology.servers[1..] {
        topology.caught_up(replica, primary).await.unwrap();
    }
    let mut wanted = policy(&topology);
    wanted.repair_replicas = true;
    let whole = Whole::start(wanted, &addrs[0], 1);
    whole.until("well", |view| view.replicating.value == Some(true)).await;

    stopped.query("STOP REPLICA").await.unwrap();
    // A row that is not in the binary log is in the way of the primary's.
    let conn = async |statements: &[&str]| {
        use mysql_async::prelude::Queryable;
        let mut conn = broken.connect(baton::testing::servers::Account::Baton).await.unwrap();
        for statement in statements {
            conn.query_drop(*statement).await.unwrap();
        }
    };
    conn(&[
        "SET GLOBAL super_read_only = OFF",
        "SET SESSION sql_log_bin = OFF",
        "INSERT IGNORE INTO app.t VALUES (1)",
        "SET GLOBAL super_read_only = ON",
    ])
    .await;
    primary.query("INSERT INTO app.t VALUES (1)").await.unwrap();
    open.query("SET GLOBAL read_only = OFF").await.unwrap();

    eventually("what was stopped and what was open is repaired", Duration::from_secs(60), async || {
        let rows = stopped.value("SELECT COUNT(*) FROM app.t").await?;
        let closed = open.value("SELECT @@global.super_read_only").await?;
        Ok((rows.as_str(), closed.as_str()) == ("1", "1"))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {:?}", whole.world.acts.lock().unwrap()));
    whole
        .until("told", |view| {
            view.servers.iter().any(|server| {
                let problems = server.problems.join(" ");
                server.addr == addrs[3] && problems.contains("not repaired: its applier stopped with error 1062")
            })
        })
        .await;
    sleep(Duration::from_secs(3)).await;
    let acts = whole.world.acts.lock().unwrap().clone();
    assert!(acts.iter().all(|(server, _)| *server != addrs[3]), "{acts:?}");
}
