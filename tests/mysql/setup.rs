//! What the tests share: options for the fixture's accounts, a clock, sessions for actions.

use std::{sync::Arc, time::Instant};

use baton::{
    core::{
        id::ServerAddr,
        observation::Observation,
        step::{Action, ActionError},
        time::Mono,
    },
    engine::ports::Servers,
    mysql::{
        execute::MysqlServers,
        options::{Account, Options, Queries, Tls, TlsMode},
    },
};
use tokio::sync::watch;

pub(crate) fn account(name: &str) -> Account {
    Account { user: name.to_owned(), password: name.into() }
}

pub(crate) fn options() -> Options {
    Options {
        operator: account("baton"),
        operator_before: None,
        replication: Some(account("repl")),
        tls: Tls::new(TlsMode::Preferred, None, None, std::collections::BTreeMap::new()),
        queries: Queries::default(),
        read_replica_hosts: true,
        keeps_semi_sync: false,
        connect_ms: 2000,
    }
}

pub(crate) fn clock() -> Arc<dyn Fn() -> Mono + Send + Sync> {
    let start = Instant::now();
    Arc::new(move || Mono(u64::try_from(start.elapsed().as_millis()).unwrap()))
}

pub(crate) struct Acts {
    servers: MysqlServers,
    _options: watch::Sender<Arc<Options>>,
}

impl Acts {
    pub(crate) fn new(options: Options) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(options));
        Self { servers: MysqlServers::new(receiver, clock()), _options: sender }
    }

    pub(crate) async fn try_act(&self, addr: &ServerAddr, action: Action) -> Result<Box<Observation>, ActionError> {
        self.servers.act(addr, action, 5000).await
    }

    pub(crate) async fn act(&self, addr: &ServerAddr, action: Action) -> Box<Observation> {
        let name = action.name();
        self.try_act(addr, action).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// A port of the loopback address that nobody used a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
