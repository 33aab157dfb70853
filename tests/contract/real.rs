//! The bench of real servers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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
    testing::{
        series::Series,
        servers::Account as Client,
        topology::{Options as Shape, Topology},
    },
};
use mysql_async::{Error, prelude::Queryable};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    script::{Bench, Fate, Setup},
    simulated::BUDGET_MS,
};

/// Longest wait for a client, a look.
const WAIT: Duration = Duration::from_secs(60);

pub struct Real {
    topology: Topology,
    executors: Vec<MysqlServers>,
    looks: MysqlServers,
    _options: watch::Sender<Arc<Options>>,
    before: Vec<u64>,
    rows: u64,
    client: Option<JoinHandle<Result<(), Error>>>,
    /// What the newest client was told.
    ended: Option<String>,
}

fn options() -> Options {
    let account = |name: &str| Account { user: name.to_owned(), password: name.into() };
    Options {
        operator: account("baton"),
        operator_before: None,
        replication: Some(account("repl")),
        tls: Tls::new(TlsMode::Preferred, None, None, std::collections::BTreeMap::new()),
        queries: Queries::default(),
        keeps_semi_sync: false,
        read_replica_hosts: false,
        connect_ms: 2000,
    }
}

impl Real {
    pub async fn start(series: Series, setup: Setup) -> Self {
        let mut shape = Shape::new(series, u32::try_from(setup.replicas).unwrap());
        (shape.heartbeat_ms, shape.net_timeout_s, shape.connect_retry_s) = (Some(700), Some(2), Some(3));
        shape.semi_sync_acks = (setup.acks > 0).then_some(setup.acks);
        let word = if series == Series::Mysql97 { "replica" } else { "slave" };
        shape.more.push(format!("--skip-{word}-start"));
        shape.more.extend(setup.relay_log_recovery.then(|| "--relay-log-recovery=ON".to_owned()));
        let topology = Topology::start(&shape).await.unwrap();
        let primary = &topology.servers[0];
        primary.query("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
        for replica in &topology.servers[1..] {
            topology.caught_up(replica, primary).await.unwrap();
        }
        let (sender, receiver) = watch::channel(Arc::new(options()));
        let began = Instant::now();
        let clock: Arc<dyn Fn() -> Mono + Send + Sync> =
            Arc::new(move || Mono(u64::try_from(began.elapsed().as_millis()).unwrap()));
        let executors = || MysqlServers::new(receiver.clone(), Arc::clone(&clock));
        let mut real = Self {
            executors: vec![executors(), executors()],
            looks: executors(),
            _options: sender,
            before: vec![0; topology.servers.len()],
            topology,
            rows: 0,
            client: None,
            ended: None,
        };
        for server in 0..real.before.len() {
            // A machine that is busy with other things is waited for.
            real.before[server] = loop {
                if let Some((seen, _)) = real.look(server).await {
                    break seen.executed.count();
                }
            };
        }
        real
    }
}

impl Bench for Real {
    fn addresses(&self) -> Vec<ServerAddr> {
        self.topology.addresses()
    }

    async fn act(&mut self, executor: usize, server: usize, action: Action) -> Result<(), ActionError> {
        let addr = self.topology.servers[server].addr().clone();
        self.executors[executor].act(&addr, action, BUDGET_MS).await.map(|_| ())
    }

    async fn write(&mut self, server: usize) {
        self.rows += 1;
        let statement = format!("INSERT INTO app.t VALUES ({})", self.rows);
        let options = baton::testing::servers::options(self.topology.servers[server].addr(), Client::App);
        self.ended = None;
        self.client = Some(tokio::spawn(async move {
            let write = async {
                let mut session = mysql_async::Conn::new(options).await?;
                session.query_drop(statement).await
            };
            timeout(WAIT, write).await.unwrap()
        }));
    }

    async fn told(&mut self) -> String {
        if let Some(client) = self.client.take_if(|client| client.is_finished()) {
            self.ended = Some(match client.await.unwrap() {
                Ok(()) => "told".to_owned(),
                Err(Error::Server(error)) if matches!(error.code, 1290 | 3032) => "refused".to_owned(),
                Err(_) => "cut off".to_owned(),
            });
        }
        self.ended.clone().unwrap_or_else(|| "waits".to_owned())
    }

    async fn look(&mut self, server: usize) -> Option<(Box<Observation>, u64)> {
        let addr = self.topology.servers[server].addr().clone();
        let seen = self.looks.act(&addr, Action::Look, 1000).await.ok()?;
        Some((seen, self.before[server]))
    }

    async fn stop_applier(&mut self, server: usize) {
        let server = &self.topology.servers[server];
        let word = if server.series() == Series::Mysql97 { "REPLICA" } else { "SLAVE" };
        server.query(&format!("STOP {word} SQL_THREAD")).await.unwrap();
    }

    async fn process(&mut self, server: usize, fate: Fate) {
        let server = &mut self.topology.servers[server];
        match fate {
            Fate::Crash => server.crash().unwrap(),
            Fate::Boot => server.restart().await.unwrap(),
            Fate::Freeze => server.freeze().unwrap(),
            Fate::Thaw => server.thaw().unwrap(),
        }
    }
}
