//! A server without a connection left, watched through its port for administrators.

use std::time::Duration;

use baton::{
    core::{
        id::ServerAddr,
        observation::{FailureKind, Look},
    },
    mysql::options::Options,
    testing::{
        folder::Folder,
        series::Series,
        servers::{Account, Server},
    },
};

use mysql_async::prelude::Queryable;

use super::{
    looks::{Watched, pace},
    setup::{account, free_port, options},
};

async fn saturated(series: Series, options_of: impl Fn(u16) -> Vec<String>, grant: &str) {
    let folder = Folder::new().unwrap();
    let addr = ServerAddr::new("127.0.0.1", free_port()).unwrap();
    let mut server = Server::prepare(series, 1, addr, folder.path(), None).unwrap();
    server.add_options(options_of(free_port()));
    server.start().unwrap();
    server.ready().await.unwrap();
    server.query("CREATE USER 'plain'@'%' IDENTIFIED BY 'plain'").await.unwrap();
    server.query(grant).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(server.connect(Account::App).await.unwrap());
    }
    let reach = || Options { operator: account("plain"), ..options() };
    let mut watched = Watched::start(server.addr(), reach(), pace(100));
    let full = |look: &Look| {
        let refused = look.as_ref().ok().and_then(|seen| seen.refuses_new.as_ref());
        refused.is_some_and(|refused| refused.kind == FailureKind::Saturated)
    };
    watched.until(Result::is_ok).await.0.unwrap();
    let id = server.value("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'plain' ORDER BY ID LIMIT 1");
    let end = format!("KILL {}", id.await.unwrap());
    let mut session = server.connect(Account::Baton).await.unwrap();
    session.query_drop("SET GLOBAL max_connections = 10").await.unwrap();
    session.query_drop(end).await.unwrap();
    let (seen, took, _) = watched.until(full).await;
    assert!(seen.is_ok(), "it is looked at all the same");
    assert!(took < Duration::from_secs(20), "{took:?}");
    // The port is known only to who was let in before.
    let stranger = Watched::start(server.addr(), reach(), pace(100)).next().await;
    assert_eq!(stranger.unwrap_err().kind, FailureKind::Saturated);
}

#[tokio::test]
async fn a_full_mysql_97_is_watched_through_its_admin_port() {
    let options = |port| vec!["--admin-address=127.0.0.1".to_owned(), format!("--admin-port={port}")];
    let grant = "GRANT REPLICATION CLIENT, PROCESS, SERVICE_CONNECTION_ADMIN ON *.* TO 'plain'@'%'";
    saturated(Series::Mysql97, options, grant).await;
}

#[tokio::test]
async fn a_full_mariadb_1011_is_watched_through_its_extra_port() {
    let options = |port| vec![format!("--extra-port={port}"), "--extra-max-connections=10".to_owned()];
    let grant = "GRANT BINLOG MONITOR, SLAVE MONITOR, PROCESS ON *.* TO 'plain'@'%'";
    saturated(Series::MariaDb1011, options, grant).await;
}
