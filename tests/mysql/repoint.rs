//! Where a server replicates from: what a change keeps, what it refuses to lose, and its thread states.

use std::time::Duration;

use baton::{
    core::{
        id::ServerAddr,
        observation::{Observation, Receiver},
        step::{Action, ActionError},
    },
    mysql::options::{Account, Options as Reach},
    testing::{
        network::{Cut, enter_own_namespace},
        series::Series,
        servers,
        topology::{Options, Place, Topology, eventually},
    },
};

use mysql_async::prelude::Queryable;
use tokio::time::Instant;

use super::setup::{Acts, account, options};

fn pair_options(series: Series) -> Options {
    Options { heartbeat_ms: Some(700), connect_retry_s: Some(3), ..Options::new(series, 2) }
}

async fn pair(series: Series) -> Topology {
    Topology::start(&pair_options(series)).await.unwrap()
}

fn repoint(source: &ServerAddr) -> Action {
    Action::Repoint { source: source.clone(), semi_sync: None }
}

/// A sibling moved under another replica keeps its account and settings; an old primary joins.
async fn moves(series: Series) {
    let topology = pair(series).await;
    let addrs = topology.addresses();
    let without_account = Acts::new(Reach { replication: None, ..options() });
    let tls = without_account.act(&addrs[2], Action::Look).await.channels[0].tls;
    let moved = without_account.act(&addrs[2], repoint(&addrs[1])).await;
    let channel = &moved.channels[0];
    assert_eq!(channel.source.as_ref(), Some(&addrs[1]), "{series:?}");
    assert_eq!((channel.heartbeat_interval_ms, channel.connect_retry_s), (Some(700), 3), "{series:?}");
    assert!(channel.auto_position);
    assert_eq!(channel.tls, tls, "{series:?}: TLS stays as it was");
    topology.replicating(&topology.servers[2]).await.unwrap();

    let refused = without_account.try_act(&addrs[0], repoint(&addrs[1])).await;
    assert!(matches!(refused, Err(ActionError::Precondition { .. })), "{series:?}: {refused:?}");

    // The old primary becomes a replica of what was its replica.
    topology.servers[0].query("INSERT INTO app.t VALUES (1)").await.unwrap_err();
    topology.servers[0].query("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
    topology.caught_up(&topology.servers[1], &topology.servers[0]).await.unwrap();
    let acts = Acts::new(options());
    acts.act(&addrs[1], Action::ForgetSource).await;
    let forgotten = acts.act(&addrs[1], Action::Look).await;
    assert!(forgotten.channels.is_empty(), "{series:?}: {:?}", forgotten.channels);
    acts.act(&addrs[0], repoint(&addrs[1])).await;
    topology.replicating(&topology.servers[0]).await.unwrap();
    let read_only = if series == Series::Mysql97 { "super_read_only = OFF" } else { "read_only = OFF" };
    topology.servers[1].query(&format!("SET GLOBAL {read_only}")).await.unwrap();
    topology.servers[1].query("INSERT INTO app.t VALUES (7)").await.unwrap();
    for server in [&topology.servers[0], &topology.servers[2]] {
        eventually("the row is there", Duration::from_secs(10), async || {
            Ok(server.value("SELECT id FROM app.t").await? == "7")
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn replicas_of_mysql_56_move() {
    moves(Series::Mysql56).await;
}

#[tokio::test]
async fn replicas_of_mysql_97_move() {
    moves(Series::Mysql97).await;
}

#[tokio::test]
async fn replicas_of_mariadb_1011_move() {
    moves(Series::MariaDb1011).await;
}

/// What is received and not applied is not discarded by any action.
async fn keeps_relay_logs(series: Series) {
    let topology = pair(series).await;
    let addrs = topology.addresses();
    let acts = Acts::new(options());
    let stop = if series == Series::Mysql97 { "STOP REPLICA SQL_THREAD" } else { "STOP SLAVE SQL_THREAD" };
    topology.servers[1].query(stop).await.unwrap();
    topology.servers[0].query("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
    let waiting = |seen: &Observation| !seen.channels[0].drained(&seen.executed);
    let mut seen = acts.act(&addrs[1], Action::Look).await;
    for _ in 0..100 {
        if waiting(&seen) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = acts.act(&addrs[1], Action::Look).await;
    }
    assert!(waiting(&seen), "{series:?}: {:?}", seen.channels);
    let set = seen.channels[0].received.clone();
    let enforce = Action::EnforceReplicationSettings { heartbeat_ms: 500, net_timeout_s: 2 };
    for action in [repoint(&addrs[2]), Action::ForgetSource, enforce] {
        let name = action.name();
        let refused = acts.try_act(&addrs[1], action).await;
        assert!(matches!(refused, Err(ActionError::Precondition { .. })), "{series:?} {name}: {refused:?}");
    }
    acts.act(&addrs[1], Action::StopReceiver).await;
    acts.act(&addrs[1], Action::StartApplier).await;
    let applied = acts.act(&addrs[1], Action::WaitApplied { set, wait_ms: 3000 }).await;
    assert!(applied.channels[0].drained(&applied.executed), "{series:?}");
    topology.servers[1].query("SELECT * FROM app.t").await.unwrap();
    acts.act(&addrs[1], repoint(&addrs[0])).await;
    topology.replicating(&topology.servers[1]).await.unwrap();
}

#[tokio::test]
async fn mysql_56_keeps_relay_logs() {
    keeps_relay_logs(Series::Mysql56).await;
}

#[tokio::test]
async fn mysql_97_keeps_relay_logs() {
    keeps_relay_logs(Series::Mysql97).await;
}

#[tokio::test]
async fn mariadb_1011_keeps_relay_logs() {
    keeps_relay_logs(Series::MariaDb1011).await;
}

/// Receivers stop while they connect, start, and start anew; a primary has none and that is fine.
async fn threads(series: Series) {
    let mut topology = pair(series).await;
    let addrs = topology.addresses();
    let acts = Acts::new(options());
    let of = |seen: &Observation| (seen.channels[0].receiver, seen.channels[0].applier_running);
    assert_eq!(of(&*acts.act(&addrs[1], Action::StopReceiver).await), (Receiver::Stopped, true), "{series:?}");
    assert_eq!(of(&*acts.act(&addrs[1], Action::StopReceiver).await), (Receiver::Stopped, true), "{series:?}");
    acts.act(&addrs[1], Action::StartReceiver).await;
    topology.replicating(&topology.servers[1]).await.unwrap();
    let threads = "SELECT MAX(ID) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
    let before = topology.servers[0].value(threads).await.unwrap();
    acts.act(&addrs[1], Action::RestartReceiver).await;
    topology.replicating(&topology.servers[1]).await.unwrap();
    // It says that it is connected before it asks for the first event.
    let anew = async || Ok(topology.servers[0].value(threads).await? != before);
    eventually("it connected anew", Duration::from_secs(5), anew).await.unwrap();
    assert!(acts.act(&addrs[0], Action::StopReceiver).await.channels.is_empty());
    assert!(acts.act(&addrs[0], Action::StartApplier).await.channels.is_empty());

    topology.servers[0].crash().unwrap();
    let mut seen = acts.act(&addrs[2], Action::Look).await;
    for _ in 0..100 {
        if seen.channels[0].receiver == Receiver::Connecting {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = acts.act(&addrs[2], Action::Look).await;
    }
    assert_eq!(of(&seen), (Receiver::Connecting, true), "{series:?}");
    assert!(seen.channels[0].receiver_error.is_some(), "{series:?}: {:?}", seen.channels);
    assert_eq!(of(&*acts.act(&addrs[2], Action::StopReceiver).await), (Receiver::Stopped, true), "{series:?}");
}

#[tokio::test]
async fn threads_of_mysql_56() {
    threads(Series::Mysql56).await;
}

#[tokio::test]
async fn threads_of_mysql_97() {
    threads(Series::Mysql97).await;
}

#[tokio::test]
async fn threads_of_mariadb_1011() {
    threads(Series::MariaDb1011).await;
}

/// A transaction of which a part was received when the source died is not applied, and is in nobody's way
/// when another source follows.
#[tokio::test]
async fn half_a_transaction_is_left_behind() {
    for series in Series::ALL {
        let mut topology = pair(series).await;
        let addrs = topology.addresses();
        let acts = Acts::new(Reach { operator: account("least"), ..options() });
        let primary = &topology.servers[0];
        for statement in super::grants::statements(series) {
            primary.query(&statement).await.unwrap();
        }
        primary
            .query("CREATE TABLE app.big (id INT AUTO_INCREMENT PRIMARY KEY, x VARCHAR(4000)) ENGINE = InnoDB")
            .await
            .unwrap();
        for replica in &topology.servers[1..] {
            topology.caught_up(replica, primary).await.unwrap();
        }
        let start = acts.act(&addrs[1], Action::Look).await.channels[0].read_position.1;
        let hundred = vec!["SELECT 1"; 100].join(" UNION ALL ");
        let mut session = primary.connect(servers::Account::Baton).await.unwrap();
        let rows = format!("({hundred}) a, ({hundred}) b, (SELECT 1 UNION ALL SELECT 1) c");
        let text = format!("INSERT INTO app.big (x) SELECT REPEAT('x', 4000) FROM {rows}");
        let big = tokio::spawn(async move { session.query_drop(text).await });
        let mut read = start;
        let begun = Instant::now();
        while read < start + 5_000_000 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{series:?}: nothing was received");
            read = acts.act(&addrs[1], Action::Look).await.channels[0].read_position.1;
        }
        topology.servers[0].crash().unwrap();
        drop(big.await);
        assert!(read < start + 79_000_000, "{series:?}: all of it was received");
        for addr in &addrs[1..] {
            acts.act(addr, Action::StopReceiver).await;
        }
        acts.act(&addrs[1], Action::ForgetSource).await;
        acts.act(&addrs[2], repoint(&addrs[1])).await;
        let read_only = if series == Series::Mysql97 { "super_read_only = OFF" } else { "read_only = OFF" };
        topology.servers[1].query(&format!("SET GLOBAL {read_only}")).await.unwrap();
        topology.servers[1].query("INSERT INTO app.big (x) VALUES ('new')").await.unwrap();
        topology.caught_up(&topology.servers[2], &topology.servers[1]).await.unwrap();
        // MySQL 5.6 names a transaction executed a moment before it shows what it wrote.
        let mut shown = String::new();
        for _ in 0..50 {
            shown = topology.servers[2].value("SELECT GROUP_CONCAT(x) FROM app.big").await.unwrap();
            if !shown.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(shown, "new", "{series:?}");
        topology.replicating(&topology.servers[2]).await.unwrap();
    }
}

/// A receiver that connects into nothing stops long before its own time-out.
#[tokio::test]
async fn receivers_stop_while_their_source_is_cut_off() {
    if !enter_own_namespace("repoint::receivers_stop_while_their_source_is_cut_off").unwrap() {
        return;
    }
    for series in Series::ALL {
        let options = Options { place: Place::Network, net_timeout_s: Some(4), ..pair_options(series) };
        let topology = Topology::start(&options).await.unwrap();
        let addrs = topology.addresses();
        let acts = Acts::new(super::setup::options());
        acts.act(&addrs[1], Action::Look).await;
        topology.servers[0].host().unwrap().cut(Cut::Both).unwrap();
        let cut = Instant::now();
        let mut connecting = false;
        while !connecting {
            assert!(cut.elapsed() < Duration::from_secs(20), "{series:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            connecting = acts.act(&addrs[1], Action::Look).await.channels[0].receiver == Receiver::Connecting;
        }
        // One receiver is in the middle of a connection attempt, one waits for data that never comes.
        for addr in &addrs[1..] {
            let started = Instant::now();
            let stopped = acts.act(addr, Action::StopReceiver).await;
            assert_eq!(stopped.channels[0].receiver, Receiver::Stopped, "{series:?}");
            // MySQL 9.7 tells a connecting receiver again every two seconds, and it hears the second time.
            let bound = if series == Series::Mysql97 { 2500 } else { 1000 };
            assert!(started.elapsed() < Duration::from_millis(bound), "{series:?}: {:?}", started.elapsed());
        }
    }
}

/// Named channels keep their names, and two of them are left alone.
async fn named_channels(series: Series) {
    let topology = Topology::start(&Options::new(series, 1)).await.unwrap();
    let addrs = topology.addresses();
    let acts = Acts::new(options());
    let replica = &topology.servers[1];
    let host = addrs[0].host();
    let change = |name: &str, port: u16| match series {
        Series::MariaDb1011 => format!(
            "CHANGE MASTER '{name}' TO MASTER_HOST='{host}', MASTER_PORT={port}, MASTER_USER='repl', \
             MASTER_PASSWORD='repl', MASTER_USE_GTID=slave_pos"
        ),
        _ => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, SOURCE_USER='repl', \
             SOURCE_PASSWORD='repl', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1 FOR CHANNEL '{name}'"
        ),
    };
    acts.act(&addrs[1], Action::ForgetSource).await;
    replica.query(&change("one", addrs[0].port())).await.unwrap();
    let started = acts.act(&addrs[1], Action::StartReceiver).await;
    assert_eq!(started.channels.iter().map(|channel| channel.name.as_str()).collect::<Vec<_>>(), ["one"]);
    assert_ne!(started.channels[0].receiver, Receiver::Stopped);
    let moved = acts.act(&addrs[1], repoint(&addrs[0])).await;
    assert_eq!((moved.channels.len(), moved.channels[0].name.as_str()), (1, "one"));
    acts.act(&addrs[1], Action::EnforceReplicationSettings { heartbeat_ms: 900, net_timeout_s: 2 }).await;
    assert_eq!(acts.act(&addrs[1], Action::Look).await.channels[0].heartbeat_interval_ms, Some(900));
    acts.act(&addrs[1], Action::StopReceiver).await;
    replica.query(&change("two", addrs[1].port())).await.unwrap();
    let refused = acts.try_act(&addrs[1], repoint(&addrs[0])).await;
    assert!(matches!(refused, Err(ActionError::Precondition { .. })), "{refused:?}");
    let both = acts.act(&addrs[1], Action::StopReceiver).await;
    assert!(both.channels.len() == 2 && both.channels.iter().all(|channel| channel.receiver == Receiver::Stopped));
    assert!(acts.act(&addrs[1], Action::ForgetSource).await.channels.is_empty());
}

#[tokio::test]
async fn named_channels_of_mysql_97() {
    named_channels(Series::Mysql97).await;
}

#[tokio::test]
async fn named_channels_of_mariadb_1011() {
    named_channels(Series::MariaDb1011).await;
}

/// Quotes, backslashes and the like in a password are part of it, and never in an error.
#[tokio::test]
async fn hostile_passwords_are_only_passwords() {
    let password = r#"a'b"c\ ''$(id)`;-- "#;
    for series in Series::ALL {
        let topology = Topology::start(&Options::new(series, 1)).await.unwrap();
        let addrs = topology.addresses();
        let quoted = password.replace('\\', r"\\").replace('\'', r"\'");
        for statement in [
            format!("CREATE USER 'odd'@'%' IDENTIFIED BY '{quoted}'"),
            "GRANT REPLICATION SLAVE ON *.* TO 'odd'@'%'".to_owned(),
        ] {
            topology.servers[0].query(&statement).await.unwrap();
        }
        topology.caught_up(&topology.servers[1], &topology.servers[0]).await.unwrap();
        let odd = Account { user: "odd".to_owned(), password: password.into() };
        let reach = Reach { replication: Some(odd.clone()), ..options() };
        assert!(!format!("{reach:?}").contains("$(id)"), "no secret is printed");
        Acts::new(reach).act(&addrs[1], repoint(&addrs[0])).await;
        topology.replicating(&topology.servers[1]).await.unwrap();
        let wrong = Acts::new(Reach { operator: Account { user: "nobody".to_owned(), ..odd }, ..options() });
        let error = wrong.try_act(&addrs[1], Action::Look).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("$(id)"), "{error}");
        Acts::new(Reach { operator: account("baton"), ..options() }).act(&addrs[1], Action::Look).await;
    }
}
