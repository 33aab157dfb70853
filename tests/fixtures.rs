//! The fixtures themselves, on real servers: what other tests and the benchmarks build upon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use baton::testing::{
    series::Series,
    topology::{Options, Topology},
};

async fn replicates(series: Series) {
    let started = std::time::Instant::now();
    let topology = Topology::start(&Options::new(series, 3)).await.unwrap();
    println!("{}: up in {:?}", series.name(), started.elapsed());
    let (primary, replicas) = topology.servers.split_first().unwrap();
    primary.query("CREATE TABLE app.t (id INT PRIMARY KEY)").await.unwrap();
    primary.query("INSERT INTO app.t VALUES (1), (2)").await.unwrap();
    for replica in replicas {
        topology.caught_up(replica, primary).await.unwrap();
        assert_eq!(replica.value("SELECT COUNT(*) FROM app.t").await.unwrap(), "2");
    }
}

#[tokio::test]
async fn mysql_56_replicates() {
    replicates(Series::Mysql56).await;
}

#[tokio::test]
async fn mysql_97_replicates() {
    replicates(Series::Mysql97).await;
}

#[tokio::test]
async fn mariadb_1011_replicates() {
    replicates(Series::MariaDb1011).await;
}
