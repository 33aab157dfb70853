//! Writes the status of one `MysqlCluster`: only when its meaning changed, at most once a second, at
//! once when the primary or a recovery moves, by compare-and-swap, and only while this process leads.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::status::{Shown, render};
use crate::{
    api::{FIELD_MANAGER, MysqlCluster, mysql_cluster::DurabilityMode},
    core::id::ClusterKey,
    k8s::deadline::{CallError, call},
};

/// Time between two ordinary writes.
const PACE: Duration = Duration::from_secs(1);
/// Time between a write and an urgent one: a failover moves several things within it.
const URGENT_PACE: Duration = Duration::from_millis(300);
/// Pause after a write that failed, and between questions whether this process leads now.
const RETRY: Duration = Duration::from_secs(1);
/// How long what changes at the same time is gathered.
const GATHER: Duration = Duration::from_millis(50);
/// Longest wait for a recovery that is being written down: its epoch is won by compare-and-swap on the
/// same object, and a failover must not be delayed by telling of it.
const BEGINNING: Duration = Duration::from_secs(2);
/// Compare-and-swap attempts for one write.
const SWAPS_MAX: u32 = 5;

/// The writer of one cluster's status.
#[derive(Debug)]
pub struct Shower {
    api: Api<MysqlCluster>,
    name: String,
    newest: Option<MysqlCluster>,
    pace: Duration,
}

impl Shower {
    /// The writer for the cluster `key`.
    #[must_use]
    pub fn new(client: &Client, key: &ClusterKey) -> Self {
        let api = Api::namespaced(client.clone(), &key.namespace);
        Self { api, name: key.name.clone(), newest: None, pace: PACE }
    }

    /// With another time between writes.
    #[must_use]
    pub fn with_pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// Writes whatever `shown` becomes until its sender is dropped. `leads` is asked before every write.
    pub async fn run(mut self, mut shown: watch::Receiver<Option<Shown>>, leads: impl Fn() -> bool) {
        let mut written: Option<Shown> = None;
        let (mut next, mut next_urgent) = (Instant::now(), Instant::now());
        let mut begins = None;
        loop {
            let wanted = shown.borrow_and_update().clone();
            let due = wanted.filter(|wanted| written.as_ref() != Some(wanted));
            let Some(wanted) = due else {
                if shown.changed().await.is_err() {
                    return;
                }
                sleep(GATHER).await;
                continue;
            };
            let urgent = written.as_ref().is_none_or(|old| old.urgent_part() != wanted.urgent_part());
            begins = wanted.beginning().then(|| begins.unwrap_or_else(|| Instant::now() + BEGINNING));
            let earliest = if urgent { next_urgent } else { next };
            let rests = Some(begins.unwrap_or(earliest)).filter(|until| Instant::now() < *until);
            if let Some(until) = rests {
                tokio::select! {
                    () = sleep_until(until) => {}
                    changed = shown.changed() => if changed.is_err() { return },
                }
                continue;
            }
            if !leads() {
                // Whoever led meanwhile may have written something else.
                (written, self.newest) = (None, None);
                sleep(RETRY).await;
                continue;
            }
            match self.write(&wanted).await {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(cluster = %self.name, "status of {} not written: {error}", self.name);
                    sleep(RETRY).await;
                }
                _ => written = Some(wanted),
            }
            next = Instant::now() + self.pace;
            next_urgent = Instant::now() + URGENT_PACE.min(self.pace);
        }
    }

    /// Writes one status if it says something else than what is stored. Answers whether it did.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn write(&mut self, shown: &Shown) -> Result<bool, CallError> {
        let mut object = match self.newest.take() {
            Some(object) => object,
            None => self.read().await?,
        };
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        for attempt in 1.. {
            let previous = object.status.clone().unwrap_or_default();
            let mut status = render(shown, &previous, Timestamp::now());
            // By this object's own wish: what is to be shown may be older than it.
            status.semi_sync.take_if(|_| object.spec.durability.mode != DurabilityMode::SemiSync);
            if object.status.as_ref() == Some(&status) {
                self.newest = Some(object);
                return Ok(false);
            }
            object.status = Some(status);
            let put = self.api.replace_status(&self.name, &params, &object);
            match call("write the status of the MysqlCluster", put).await {
                Ok(stored) => {
                    self.newest = Some(stored);
                    return Ok(true);
                }
                Err(error) if error.is_conflict() && attempt < SWAPS_MAX => object = self.read().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    async fn read(&self) -> Result<MysqlCluster, CallError> {
        call("read the MysqlCluster", self.api.get(&self.name)).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        core::id::Epoch,
        k8s::controller::status::tests::{shown, view},
        testing::api_server::ApiServer,
    };

    fn server() -> ApiServer {
        let server = ApiServer::new();
        server.put(
            "mysqlclusters",
            &json!({
                "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlCluster",
                "metadata": { "name": "shop", "namespace": "default" },
                "spec": { "credentials": { "secretName": "s" }, "servers": [{ "host": "db-1" }] },
            }),
        );
        server
    }

    fn shower(server: &ApiServer) -> Shower {
        let key = ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() };
        Shower::new(&server.client(), &key).with_pace(Duration::from_millis(500))
    }

    fn status(server: &ApiServer) -> serde_json::Value {
        server.object("mysqlclusters", "default", "shop").unwrap()["status"].clone()
    }

    async fn soon(what: impl Fn() -> bool) {
        for _ in 0..200 {
            if what() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 2 s");
    }

    #[tokio::test]
    async fn an_idle_cluster_is_written_once() {
        let server = server();
        let mut shower = shower(&server);
        assert!(shower.write(&shown()).await.unwrap());
        for _ in 0..3 {
            assert!(!shower.write(&shown()).await.unwrap());
        }
        // A process that has just started reads what is there.
        assert!(!self::shower(&server).write(&shown()).await.unwrap());
        assert_eq!(server.writes().len(), 1);
    }

    #[tokio::test]
    async fn what_others_wrote_meanwhile_is_kept() {
        let server = server();
        let mut shower = shower(&server);
        shower.write(&shown()).await.unwrap();
        let mut object = server.object("mysqlclusters", "default", "shop").unwrap();
        object["status"]["epoch"] = json!(7);
        object["status"]["lastSwitchover"] =
            json!({ "record": "x", "time": "2026-01-01T00:00:00Z", "phase": "Succeeded" });
        object["spec"]["durability"] = json!({ "mode": "SemiSync", "acks": 1 });
        object["status"]["semiSync"] = json!({ "source": "db-1:3306", "acks": 1, "ackers": ["db-2:3306"] });
        server.put("mysqlclusters", &object);
        let mut changed = shown();
        changed.view.as_mut().unwrap().servers.pop();
        assert!(shower.write(&changed).await.unwrap());
        assert_eq!(status(&server)["epoch"], 7);
        assert_eq!(status(&server)["lastSwitchover"]["record"], "x");
        assert_eq!(status(&server)["semiSync"]["ackers"], json!(["db-2:3306"]), "the view knows less of the wish");
        assert_eq!(status(&server)["answering"], "1/1");
    }

    #[tokio::test]
    async fn changes_are_gathered_but_a_new_primary_is_shown_at_once() {
        let server = server();
        let (sender, receiver) = watch::channel(Some(shown()));
        let task = tokio::spawn(shower(&server).run(receiver, || true));
        soon(|| status(&server)["answering"] == "2/2").await;
        for count in 0..20 {
            let mut changed = shown();
            changed.view.as_mut().unwrap().analyses[0].message = format!("it lags {count}");
            sender.send_replace(Some(changed));
            sleep(Duration::from_millis(2)).await;
        }
        soon(|| status(&server)["analyses"][0]["message"] == "it lags 19").await;
        assert!(server.writes().len() <= 4, "{}", server.writes().len());
        let mut promoted = shown();
        promoted.view = Some(crate::core::status::ClusterView { epoch: Epoch(4), ..view() });
        let started = Instant::now();
        sender.send_replace(Some(promoted));
        soon(|| status(&server)["epoch"] == 4).await;
        assert!(started.elapsed() < Duration::from_millis(400), "{:?}", started.elapsed());
        drop(sender);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_recovery_is_told_of_once_it_is_written_down() {
        let server = server();
        let of = |epoch, recovering| {
            let view = crate::core::status::ClusterView { epoch: Epoch(epoch), recovering: Some(recovering), ..view() };
            Some(Shown { view: Some(view), ..shown() })
        };
        let (sender, receiver) = watch::channel(of(3, Epoch(4)));
        let task = tokio::spawn(shower(&server).run(receiver, || true));
        sleep(Duration::from_millis(300)).await;
        assert_eq!(server.writes().len(), 0);
        sender.send_replace(of(4, Epoch(4)));
        soon(|| status(&server)["epoch"] == 4).await;
        task.abort();
    }

    #[tokio::test]
    async fn who_does_not_lead_writes_nothing() {
        let server = server();
        let (_sender, receiver) = watch::channel(Some(shown()));
        let task = tokio::spawn(shower(&server).run(receiver, || false));
        sleep(Duration::from_millis(100)).await;
        task.abort();
        assert_eq!(server.writes().len(), 0);
    }
}
