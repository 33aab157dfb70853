//! Transactions that only one server has, on real servers of each series: found, told apart, saved as a binary log
//! that the series' own reader understands, and replayed from it.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use baton::{
    app::export::{Manifest, Order, save},
    core::{gtid::GtidSet, id::ServerAddr, observation::Observation, snapshot::extra, time::Mono},
    mysql::{
        look::{Glance, Kept, take},
        options::{Tls, TlsMode},
        session::{Known, Session},
    },
    testing::{
        folder::Folder,
        process::run,
        series::Series,
        servers::{self, Account, Server},
        topology::{Options, Topology, eventually},
    },
};
use futures::StreamExt;
use mysql_async::{BinlogStreamRequest, Conn, prelude::Queryable};

use super::setup::{account, clock, options};

async fn look(server: &Server, now: &Arc<dyn Fn() -> Mono + Send + Sync>) -> Box<Observation> {
    let mut session = Session::connect(server.addr(), &options(), &Known::default(), "baton/test", 2000).await.unwrap();
    let glance = Glance { slow: true, replica_hosts: false, commits: false, pause_ms: None, budget_ms: 2000 };
    let now = Arc::clone(now);
    take(&mut session, &mut Kept::default(), glance, move || now()).await.unwrap()
}

/// What `seen` has and `primary` has not, by looks in the right order.
async fn alone(seen: &Server, primary: &Server) -> GtidSet {
    let now = clock();
    let mut looks = Vec::new();
    for server in [seen, primary] {
        looks.push(look(server, &now).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    extra(&looks[0], &looks[1]).expect("the series can tell")
}

fn order(server: &ServerAddr, extra: &GtidSet, folder: &Path) -> Order {
    Order {
        server: server.clone(),
        account: account("baton"),
        tls: Tls::new(TlsMode::Preferred, None, None, std::collections::BTreeMap::new()),
        extra: extra.clone(),
        cluster: "default/shop".to_owned(),
        record: "shop-7".to_owned(),
        folder: folder.to_owned(),
        name: "shop-db-1".to_owned(),
        deadline: Duration::from_secs(60),
    }
}

fn read(series: Series, file: &Path, more: &[&str]) -> String {
    let file = file.to_string_lossy().into_owned();
    let args: Vec<_> = more.iter().copied().chain([file.as_str()]).collect();
    run(&series.binlog_reader().unwrap().to_string_lossy(), &args).unwrap()
}

/// Runs what the reader of binary logs makes of a file.
async fn replay(text: &str, server: &Server) {
    let mut conn = server.connect(Account::Baton).await.unwrap();
    for statement in text.split("/*!*/;") {
        let lines = statement.lines().filter(|line| !line.starts_with('#') && !line.starts_with("DELIMITER"));
        let statement = lines.collect::<Vec<_>>().join("\n");
        // A command of the client: which characters follow.
        if !statement.trim().is_empty() && !statement.contains("/*!\\C ") {
            conn.query_drop(&statement).await.unwrap_or_else(|error| panic!("{error}: {statement}"));
        }
    }
}

/// Ids of `app.t` from `from` on.
async fn ids(server: &Server, from: u32) -> BTreeSet<u32> {
    let rows = server.query(&format!("SELECT id FROM app.t WHERE id >= {from}")).await.unwrap();
    rows.into_iter().map(mysql_async::from_row::<u32>).collect()
}

/// An old primary and its replica go apart: each writes what the other never gets.
async fn saved(series: Series, more: &[&str]) {
    let more = more.iter().map(|option| (*option).to_owned()).collect();
    let topology = Topology::start(&Options { durable: false, more, ..Options::new(series, 1) }).await.unwrap();
    let [old, new] = topology.servers.as_slice() else { panic!() };
    old.query("CREATE TABLE app.t (id INT PRIMARY KEY, text LONGTEXT) ENGINE = InnoDB").await.unwrap();
    for id in 0..20 {
        old.query(&format!("INSERT INTO app.t VALUES ({id}, 'both')")).await.unwrap();
    }
    topology.caught_up(new, old).await.unwrap();
    assert!(alone(old, new).await.is_empty() && alone(new, old).await.is_empty());
    let stop = if series == Series::Mysql97 { "STOP REPLICA" } else { "STOP SLAVE" };
    new.query(stop).await.unwrap();
    new.query("SET GLOBAL read_only = OFF").await.unwrap();

    let (rows, large) = (30, "x".repeat(300_000));
    for id in 100..100 + rows {
        let text = if id == 110 { large.as_str() } else { "alone" };
        old.query(&format!("INSERT INTO app.t VALUES ({id}, '{text}')")).await.unwrap();
        // Over several files.
        if id % 10 == 5 {
            old.query("FLUSH BINARY LOGS").await.unwrap();
        }
    }
    old.query("UPDATE app.t SET text = 'changed' WHERE id < 10").await.unwrap();
    for id in 200..205 {
        new.query(&format!("INSERT INTO app.t VALUES ({id}, 'new')")).await.unwrap();
    }
    let found = alone(old, new).await;
    assert_eq!(found.count(), u64::from(rows) + 1, "{found}");
    assert_eq!(alone(new, old).await.count(), 5);

    let folder = Folder::new().unwrap();
    let wanted = order(old.addr(), &found, folder.path());
    let manifest = save(&wanted).await.unwrap();
    assert_eq!((manifest.count, manifest.transactions.parse::<GtidSet>().unwrap()), (found.count(), found.clone()));
    let file = folder.path().join(&manifest.file);
    let text = read(series, &file, &["--verify-binlog-checksum", "--base64-output=DECODE-ROWS", "--verbose"]);
    let inserted = text.matches("### INSERT INTO `app`.`t`").count();
    let updated = text.matches("### UPDATE `app`.`t`").count();
    assert_eq!((inserted, updated), (rows as usize, 10), "{text}");
    let gtids: Vec<_> = match series {
        Series::MariaDb1011 => text.lines().filter(|line| line.contains("GTID 0-")).collect(),
        _ => text.lines().filter(|line| line.starts_with("SET @@SESSION.GTID_NEXT") && line.contains(':')).collect(),
    };
    assert_eq!(gtids.len() as u64, found.count(), "{gtids:?}");

    // Again: nothing is read or written, and what was damaged is made anew.
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!((save(&wanted).await.unwrap(), entries()), (manifest.clone(), 2));
    std::fs::write(&file, b"damaged").unwrap();
    assert_eq!(save(&wanted).await.unwrap(), manifest);
    let stored: Manifest =
        serde_json::from_slice(&std::fs::read(folder.path().join("shop-db-1.json")).unwrap()).unwrap();
    assert_eq!((stored, entries()), (manifest, 2));

    // The server that lacks them gets them back.
    let skip: &[&str] = if series == Series::MariaDb1011 { &[] } else { &["--skip-gtids"] };
    let text = read(series, &file, skip);
    if series == Series::MariaDb1011 {
        // Numbers of a history that it does not share.
        new.query("SET GLOBAL gtid_strict_mode = OFF").await.unwrap();
    }
    replay(&text, new).await;
    assert_eq!(ids(new, 100).await, (100..100 + rows).chain(200..205).collect());
    assert_eq!(new.value("SELECT COUNT(*) FROM app.t WHERE text = 'changed'").await.unwrap(), "10");
    assert_eq!(new.value("SELECT LENGTH(text) FROM app.t WHERE id = 110").await.unwrap(), "300000");

    purged_is_not_saved(old, &found).await;
}

/// What is purged cannot be saved, and nothing is left that could be taken for it.
async fn purged_is_not_saved(old: &Server, found: &GtidSet) {
    let last = old.query("SHOW BINARY LOGS").await.unwrap();
    let last: String = last.last().unwrap().get(0).unwrap();
    // Not while somebody reads them, as the reader before may for a moment yet.
    let purged = async || {
        old.query(&format!("PURGE BINARY LOGS TO '{last}'")).await?;
        Ok(old.query("SHOW BINARY LOGS").await?.len() == 1)
    };
    eventually("purged", Duration::from_secs(20), purged).await.unwrap();
    let empty = Folder::new().unwrap();
    let error = save(&order(old.addr(), found, empty.path())).await.unwrap_err();
    assert!(error.to_string().ends_with("are purged"), "{error}");
    assert!(
        std::fs::read_dir(empty.path())
            .unwrap()
            .all(|entry| entry.unwrap().path().ends_with("shop-db-1.binlog.partial"))
    );
}

#[tokio::test]
async fn what_an_old_primary_of_mysql_97_has_alone_is_saved() {
    saved(Series::Mysql97, &[]).await;
}

#[tokio::test]
async fn compressed_transactions_are_saved_as_they_are() {
    saved(Series::Mysql97, &["--binlog-transaction-compression=ON"]).await;
}

#[tokio::test]
async fn what_an_old_primary_of_mysql_56_has_alone_is_saved() {
    saved(Series::Mysql56, &[]).await;
}

#[tokio::test]
async fn what_an_old_primary_of_mariadb_has_alone_is_saved() {
    saved(Series::MariaDb1011, &[]).await;
}

/// Transactions of others between those that are wanted, and tags in their names.
#[tokio::test]
async fn errant_transactions_of_a_replica_are_picked_out() {
    let topology = Topology::start(&Options { durable: false, ..Options::new(Series::Mysql97, 1) }).await.unwrap();
    let [primary, replica] = topology.servers.as_slice() else { panic!() };
    primary.query("CREATE TABLE app.t (id INT PRIMARY KEY, text LONGTEXT) ENGINE = InnoDB").await.unwrap();
    let mut conn = replica.connect(Account::Baton).await.unwrap();
    conn.query_drop("SET GLOBAL super_read_only = OFF").await.unwrap();
    for round in 0..5 {
        primary.query(&format!("INSERT INTO app.t VALUES ({round}, 'both')")).await.unwrap();
        topology.caught_up(replica, primary).await.unwrap();
        if round == 3 {
            conn.query_drop("SET SESSION gtid_next = 'AUTOMATIC:repair'").await.unwrap();
        }
        conn.query_drop(format!("INSERT INTO app.t VALUES ({}, 'errant')", 100 + round)).await.unwrap();
    }
    let found = alone(replica, primary).await;
    assert!(found.count() == 5 && found.to_string().contains(":repair:1"), "{found}");
    let folder = Folder::new().unwrap();
    let manifest = save(&order(replica.addr(), &found, folder.path())).await.unwrap();
    assert_eq!(manifest.transactions.parse::<GtidSet>().unwrap(), found);
    let text = read(Series::Mysql97, &folder.path().join(&manifest.file), &["--base64-output=DECODE-ROWS", "-v"]);
    assert_eq!(text.matches("### INSERT INTO").count(), 5, "{text}");
    assert!((100..105).all(|id| text.contains(&format!("###   @1={id}\n"))), "{text}");
}

/// Whoever else reads binary logs may be a replica that Baton does not know.
#[tokio::test]
async fn what_reads_binary_logs_for_baton_is_no_replica() {
    let topology = Topology::start(&Options { durable: false, ..Options::new(Series::Mysql97, 0) }).await.unwrap();
    let server = &topology.servers[0];
    let file: String = server.query("SHOW BINARY LOGS").await.unwrap()[0].get(0).unwrap();
    let mut held = Vec::new();
    for (program, reader, shown) in [("baton/export", 901, 0), ("mysqlbinlog", 902, 1)] {
        let options = servers::options(server.addr(), Account::Baton).connect_attribute("program_name", program);
        let conn = Conn::new(options).await.unwrap();
        let request = BinlogStreamRequest::new(reader).with_filename(file.as_bytes());
        let mut stream = conn.get_binlog_stream(request).await.unwrap();
        stream.next().await.unwrap().unwrap();
        held.push(stream);
        let seen = look(server, &clock()).await;
        assert_eq!(seen.downstream.len(), shown, "{program}: {:?}", seen.downstream);
    }
}
