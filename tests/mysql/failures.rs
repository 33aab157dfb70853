//! Every way a look fails has its kind, within its deadline.

use std::{sync::Arc, time::Duration};

use baton::{
    core::{
        id::ServerAddr,
        observation::{FailureKind, Look},
        step::{Action, ActionError},
    },
    mysql::{
        options::Options as Reach,
        watch::{Pace, Watch},
    },
    testing::{
        series::Series,
        topology::{Options, Topology},
    },
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

use super::setup::{Acts, account, clock, options};

async fn kind(reach: Reach, addr: &ServerAddr) -> FailureKind {
    let started = Instant::now();
    let result = Acts::new(reach).try_act(addr, Action::Look).await;
    assert!(started.elapsed() < Duration::from_secs(4), "took {:?}", started.elapsed());
    match result {
        Err(ActionError::Contact { failure, .. }) => failure.kind,
        other => panic!("{other:?}"),
    }
}

async fn listener(greeting: &'static [u8]) -> ServerAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                socket.write_all(greeting).await.unwrap();
                tokio::time::sleep(Duration::from_secs(30)).await;
            });
        }
    });
    ServerAddr::new("127.0.0.1", port).unwrap()
}

#[tokio::test]
async fn what_is_no_server_is_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(kind(options(), &ServerAddr::new("127.0.0.1", free).unwrap()).await, FailureKind::Refused);
    assert_eq!(kind(options(), &listener(b"").await).await, FailureKind::Silent);
    assert_eq!(kind(options(), &listener(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await, FailureKind::NotMysql);
    assert_eq!(kind(options(), &listener(b"SSH-2.0-OpenSSH_9.2\r\n").await).await, FailureKind::NotMysql);
    assert_eq!(kind(options(), &ServerAddr::new("no-such-host.invalid", 3306).unwrap()).await, FailureKind::Address);
}

#[tokio::test]
async fn a_living_server_that_refuses_is_alive() {
    for series in [Series::Mysql56, Series::Mysql97, Series::MariaDb1011] {
        let topology = Topology::start(&Options::new(series, 0)).await.unwrap();
        let wrong = Reach { operator: account("nobody"), ..options() };
        assert_eq!(kind(wrong, topology.servers[0].addr()).await, FailureKind::Credentials, "{series:?}");
    }
}

#[tokio::test]
async fn the_password_before_the_last_change_is_tried_once_more() {
    let topology = Topology::start(&Options::new(Series::Mysql97, 0)).await.unwrap();
    let changed = Reach { operator: account("nobody"), operator_before: Some(account("baton")), ..options() };
    Acts::new(changed).act(topology.servers[0].addr(), Action::Look).await;
}

/// The next look that satisfies `wanted`, with the time it took to come.
async fn wait_for(looks: &mut mpsc::Receiver<(ServerAddr, Look)>, wanted: impl Fn(&Look) -> bool) -> Duration {
    let started = Instant::now();
    loop {
        let (_, look) = timeout(Duration::from_secs(10), looks.recv()).await.unwrap().unwrap();
        if wanted(&look) {
            return started.elapsed();
        }
    }
}

#[tokio::test]
async fn a_standing_watch_sees_a_crash_at_once_and_a_freeze_in_time() {
    let mut topology = Topology::start(&Options::new(Series::Mysql97, 0)).await.unwrap();
    let (_reach, reach) = watch::channel(Arc::new(options()));
    let pace = Pace { interval_ms: 500, answer_ms: 500, hurry_ms: None, held: true };
    let (_pace, pace) = watch::channel(pace);
    let (sender, mut looks) = mpsc::channel(16);
    let addr = topology.servers[0].addr().clone();
    let task = Watch { addr, options: reach, pace, looks: sender, servers: None, now: clock() };
    let task = tokio::spawn(task.run());
    for _ in 0..3 {
        wait_for(&mut looks, Result::is_ok).await;
    }
    topology.servers[0].freeze().unwrap();
    let failed = |kind: FailureKind| move |look: &Look| look.as_ref().is_err_and(|failure| failure.kind == kind);
    let took = wait_for(&mut looks, failed(FailureKind::Silent)).await;
    assert!(took < Duration::from_millis(1500), "frozen: {took:?}");
    topology.servers[0].thaw().unwrap();
    wait_for(&mut looks, Result::is_ok).await;
    wait_for(&mut looks, Result::is_ok).await;
    topology.servers[0].crash().unwrap();
    wait_for(&mut looks, failed(FailureKind::Refused)).await;
    task.abort();
}
