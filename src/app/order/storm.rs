//! A zone is lost: forty clusters lose their primaries in the same moment, and the API server takes 50 writes in a
//! second, one after the other (F54). The engine, the records, the routing and the status are the real ones.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use kube::{Client, client::Body};
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Duration, Instant, sleep},
};
use tower::{Layer, service_fn};

use super::{Order, showing};
use crate::{
    core::{
        id::{ClusterKey, Epoch, ServerAddr},
        membership::Membership,
        observation::{Failure, FailureKind, Observation, Receiver},
        policy::{Detection, Tier},
        recovery::{Hold, Recovery},
        step::{Action, ActionError},
        time::Mono,
    },
    engine::{
        cluster::{Cluster, Inputs, Outputs},
        decide::Watching,
        facts::{Desired, History},
        ports::{Clock, Journal, JournalError, Leadership, NoJobs, Servers},
        turns::{AT_ONCE, Turn, Turns},
    },
    k8s::{
        controller::{show::Shower, status::Shown},
        records::Records,
        routing::{Routing, Wish},
    },
    testing::{
        api_server::{ApiServer, Verb},
        snapshot::{self, addr, policy},
    },
};

const CLUSTERS: usize = 40;
/// How long the API server takes for one write.
const WRITE: Duration = Duration::from_millis(20);
const SERVERS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

/// What happened, in all clusters.
#[derive(Default)]
struct Seen {
    /// Clusters in the order in which they wanted to recover, and in which their clients could write, with the
    /// milliseconds since the loss.
    wanted: Mutex<Vec<usize>>,
    recovered: Mutex<Vec<(usize, u128)>>,
    /// Recoveries that have begun and whose clients cannot write yet: now, and most.
    open: AtomicUsize,
    most: AtomicUsize,
}

/// The outside of one cluster.
struct World {
    number: usize,
    start: Instant,
    servers: Mutex<snapshot::Cluster>,
    records: Records,
    routing: Routing,
    turns: Turns,
    seen: Arc<Seen>,
}

impl Clock for World {
    fn now(&self) -> Mono {
        Mono(100_000 + u64::try_from(self.start.elapsed().as_millis()).unwrap())
    }
    fn wall_ms(&self) -> u64 {
        0
    }
    async fn sleep_ms(&self, ms: u64) {
        sleep(Duration::from_millis(ms)).await;
    }
}

impl Leadership for World {
    fn leader_until(&self) -> Option<Mono> {
        Some(self.now().plus_ms(2000))
    }
}

impl NoJobs for World {}

impl Servers for World {
    async fn act(&self, addr: &ServerAddr, action: Action, _: u64) -> Result<Box<Observation>, ActionError> {
        sleep(Duration::from_millis(5)).await;
        let mut servers = self.servers.lock().unwrap();
        let server = servers.server(addr.host());
        if let Some(kind) = server.failure {
            let failure = Failure { at: self.now(), kind, message: String::new() };
            return Err(ActionError::Contact { server: addr.clone(), failure });
        }
        let seen = &mut server.observation;
        match action {
            Action::StopReceiver => seen.channels.iter_mut().for_each(|channel| channel.receiver = Receiver::Stopped),
            Action::ForgetSource => seen.channels.clear(),
            Action::Repoint { source, .. } => {
                for channel in &mut seen.channels {
                    (channel.source, channel.receiver) = (Some(source.clone()), Receiver::Running);
                    (channel.source_uuid, channel.receiver_error) = (None, None);
                }
            }
            Action::Unfence => {
                let settings = &mut seen.settings;
                (settings.read_only, settings.super_read_only, settings.offline_mode) = (false, false, false);
            }
            _ => {}
        }
        Ok(Box::new(Observation { at: self.now(), ..seen.clone() }))
    }
}

impl Journal for World {
    fn turn(&self, cluster: &ClusterKey, priority: u32, now: Mono) -> Option<Turn> {
        let mut wanted = self.seen.wanted.lock().unwrap();
        if !wanted.contains(&self.number) {
            wanted.push(self.number);
        }
        self.turns.ask(cluster, priority, now)
    }
    async fn begin(&self, recovery: &Recovery) -> Result<(), JournalError> {
        let open = self.seen.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.most.fetch_max(open, Ordering::SeqCst);
        Box::pin(self.records.begin(recovery)).await
    }
    async fn save(&self, recovery: &Recovery) -> Result<(), JournalError> {
        Box::pin(self.records.save(recovery)).await
    }
    async fn claim(&self, name: &str, executor: &str, over: Option<&Hold>) -> Result<Recovery, JournalError> {
        Box::pin(self.records.claim(name, executor, over)).await
    }
    async fn refuse(&self, name: &str, reason: &str) -> Result<(), JournalError> {
        Box::pin(self.records.refuse(name, reason)).await
    }
    async fn members(&self, from: Option<&Membership>, to: &Membership) -> Result<(), JournalError> {
        Box::pin(self.records.members(from, to)).await
    }
    async fn route(&self, primary: Option<&ServerAddr>) -> Result<(), JournalError> {
        let result = self.routing.publish(primary).await;
        if primary.is_some() && result.is_ok() {
            self.seen.open.fetch_sub(1, Ordering::SeqCst);
            self.seen.recovered.lock().unwrap().push((self.number, self.start.elapsed().as_millis()));
        }
        result.map_err(|error| JournalError::Unavailable(error.to_string()))
    }
}

/// A client whose writes go in order to a server that takes them one after the other.
fn client(server: &ApiServer) -> Client {
    let (one, api) = (Arc::new(Semaphore::new(1)), server.client());
    let answer = move |request: axum::http::Request<Body>| {
        let (one, api) = (Arc::clone(&one), api.clone());
        async move {
            if request.method() != axum::http::Method::GET {
                let _turn = one.acquire().await.unwrap();
                sleep(WRITE).await;
            }
            Ok::<_, Infallible>(api.send(request).await.unwrap())
        }
    };
    Client::new(Order::default().layer(service_fn(answer)), "default")
}

fn servers() -> snapshot::Cluster {
    let mut servers = snapshot::Cluster::default();
    for name in SERVERS {
        servers.add(name);
    }
    for name in &SERVERS[1..] {
        servers.follow(name, SERVERS[0]);
        servers.lose_source(name);
    }
    servers.fail(SERVERS[0], FailureKind::Refused);
    servers
}

/// Everything of one cluster, whose primary dies now.
fn cluster(server: &ApiServer, client: &Client, world: World) {
    let key = ClusterKey { namespace: "default".to_owned(), name: format!("c{:02}", world.number) };
    let (name, uid) = (&key.name, format!("u{}", world.number));
    let spec = json!({ "credentials": { "secretName": "s" }, "servers": [{ "host": SERVERS[0] }] });
    server.put(
        "mysqlclusters",
        &json!({
            "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlCluster", "spec": spec, "status": { "epoch": 6 },
            "metadata": { "name": name, "namespace": "default", "uid": uid },
        }),
    );
    let mut policy = policy();
    policy.servers = SERVERS.iter().map(|name| (addr(name), Default::default())).collect();
    policy.detection = Detection::of(Tier::Fast, None, false);
    let desired = Desired { policy, primary: Some(addr(SERVERS[0])), epoch: Epoch(6), semi_sync: None };
    let (looks, looks_receiver) = mpsc::channel(64);
    let (desired, desired_receiver) = watch::channel(desired);
    let (history, history_receiver) = watch::channel(History::default());
    let (view_sender, mut view) = watch::channel(None);
    let (watching, _) = watch::channel(Watching::default());
    let inputs = Inputs { looks: looks_receiver, desired: desired_receiver, history: history_receiver };
    let (shown, shown_receiver) = watch::channel(None);
    let shower = Shower::new(&showing(client), &key);
    tokio::spawn(shower.run(shown_receiver, || true));
    let world = Arc::new(world);
    let outputs = Outputs { view: view_sender, watching };
    tokio::spawn(Cluster::new(key.clone(), "baton-0", Arc::clone(&world), inputs, outputs).run());
    tokio::spawn(async move {
        while view.changed().await.is_ok() {
            let view = view.borrow_and_update().clone();
            shown.send_replace(view.map(|view| status(&key, view)));
        }
    });
    tokio::spawn(async move {
        let _open = (desired, history);
        loop {
            let snapshot = world.servers.lock().unwrap().look();
            for (server, state) in snapshot.servers {
                let at = world.now();
                let look = match (state.failure, state.last) {
                    (Some(failure), _) => Err(Failure { at, ..failure }),
                    (None, Some(seen)) => Ok(Box::new(Observation { at, ..seen })),
                    (None, None) => continue,
                };
                looks.send((server, look)).await.unwrap();
            }
            sleep(Duration::from_millis(500)).await;
        }
    });
}

fn status(key: &ClusterKey, view: crate::core::status::ClusterView) -> Shown {
    Shown {
        generation: None,
        cluster_name: key.name.clone(),
        domain: None,
        instructions: Default::default(),
        exports: Default::default(),
        view: Some(view),
        last_failover: None,
        problem: None,
        routing: None,
    }
}

#[tokio::test(start_paused = true)]
async fn forty_clusters_that_lose_their_primaries_at_once_are_recovered_in_order_and_in_time() {
    let server = ApiServer::new();
    let (client, turns, seen) = (client(&server), Turns::default(), Arc::new(Seen::default()));
    let start = Instant::now();
    for number in 0..CLUSTERS {
        let key = ClusterKey { namespace: "default".to_owned(), name: format!("c{number:02}") };
        let wish = Wish { service: format!("s{number}"), port: 3306 };
        let world = World {
            number,
            start,
            servers: Mutex::new(servers()),
            records: Records::new(&client, key.clone()),
            routing: Routing::new(&client, key, &format!("u{number}"), wish),
            turns: turns.clone(),
            seen: Arc::clone(&seen),
        };
        cluster(&server, &client, world);
    }
    let succeeded = || {
        let record = |number| server.object("mysqlfailovers", "default", &format!("c{number:02}-7"));
        let phase = |number| record(number).map(|record| record["status"]["phase"] == "Succeeded");
        (0..CLUSTERS).filter(|number| phase(*number) == Some(true)).count()
    };
    while succeeded() < CLUSTERS && start.elapsed() < Duration::from_secs(300) {
        sleep(Duration::from_millis(500)).await;
    }
    let (took, writes) = (start.elapsed(), server.writes());
    let (wanted, recovered) = (seen.wanted.lock().unwrap().clone(), seen.recovered.lock().unwrap().clone());
    let made = writes.iter().filter(|call| call.verb == Verb::Create && call.resource == "mysqlfailovers").count();
    let told = format!("{took:?}, {} writes, {made} records made, {recovered:?}", writes.len());
    assert_eq!((succeeded(), made, recovered.len()), (CLUSTERS, CLUSTERS, CLUSTERS), "each once: {told}");
    assert!(took < Duration::from_secs(15), "{told}");
    let most = seen.most.load(Ordering::SeqCst);
    assert!(most <= AT_ONCE, "{most} at once: {told}");
    // The first are not held up by all the others, and nobody waits for many that asked later.
    assert!(recovered[0].1 < 4000, "{told}");
    for (place, (number, _)) in recovered.iter().enumerate() {
        let asked = wanted.iter().position(|other| other == number).unwrap();
        assert!(place <= asked + AT_ONCE, "{number} asked as number {asked} and was number {place}: {told}");
    }
}
