//! Writes the status of one `MysqlCluster`: only when its meaning changed, at most once a second, at
//! once when the primary moves or a recovery has ended, by compare-and-swap, and only while this process leads.
//!
//! A recovery under way is told by its record; most have ended before two seconds have passed, and what is written then
//! says all of it at once.

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
/// How long a recovery may be under way before that is shown. Its epoch is won by compare-and-swap on the same object,
/// and a failover must not be delayed by telling of it.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// Time between two urgent writes while a recovery is under way.
const UNDER_WAY_URGENT_PACE: Duration = Duration::from_secs(1);
/// Time between two ordinary writes while a recovery is under way: servers come and go then.
const UNDER_WAY_PACE: Duration = Duration::from_secs(3);
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
        let (mut last, mut began) = (None, None);
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
            began = wanted.under_way().then(|| began.unwrap_or_else(Instant::now));
            let until = self.earliest(&wanted, written.as_ref(), last, began);
            if Instant::now() < until {
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
            last = Some(Instant::now());
        }
    }

    /// When `wanted` may be written, after `written` was at `last`; a recovery is under way since `began`.
    fn earliest(
        &self,
        wanted: &Shown,
        written: Option<&Shown>,
        last: Option<Instant>,
        began: Option<Instant>,
    ) -> Instant {
        let urgent = written.is_none_or(|old| old.urgent_part() != wanted.urgent_part());
        let pace = match (began, urgent) {
            (None, true) => URGENT_PACE.min(self.pace),
            (None, false) => self.pace,
            (Some(_), true) => UNDER_WAY_URGENT_PACE,
            (Some(_), false) => UNDER_WAY_PACE,
        };
        let (rested, shown) = (last.map(|last| last + pace), began.map(|began| began + UNDER_WAY));
        rested.max(shown).unwrap_or_else(Instant::now)
    }

    /// Writes one status if it says something else than what is stored. Answers whether it did.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn write(&mut self, shown: &Shown) -> Result<bool, CallError> {
        // A recovery that began a new epoch wrote it there.
        let began = |object: &MysqlCluster| shown.epoch() > object.status.as_ref().and_then(|status| status.epoch);
        let mut object = match self.newest.take().filter(|object| !began(object)) {
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
        for _ in 0..300 {
            if what() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 3 s");
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
    async fn a_recovery_that_ends_soon_is_one_write_that_meets_no_conflict() {
        let server = server();
        let of = |epoch, recovering: Option<u64>| {
            let recovering = recovering.map(Epoch);
            let view = crate::core::status::ClusterView { epoch: Epoch(epoch), recovering, ..view() };
            Some(Shown { view: Some(view), ..shown() })
        };
        let (sender, receiver) = watch::channel(of(3, None));
        let task = tokio::spawn(shower(&server).run(receiver, || true));
        soon(|| status(&server)["epoch"] == 3).await;
        sender.send_replace(of(3, Some(4)));
        let mut object = server.object("mysqlclusters", "default", "shop").unwrap();
        object["status"]["epoch"] = json!(4);
        server.put("mysqlclusters", &object);
        for _ in 0..4 {
            sleep(Duration::from_millis(100)).await;
            sender.send_replace(of(4, Some(4)));
        }
        let mut over = of(4, None);
        over.as_mut().and_then(|shown| shown.view.as_mut()).unwrap().primary = Some("db-2:3306".parse().unwrap());
        sender.send_replace(over);
        soon(|| status(&server)["primary"] == "db-2:3306").await;
        sleep(Duration::from_millis(700)).await;
        assert_eq!(server.writes().len(), 2, "{:?}", server.writes());
        task.abort();
    }

    #[tokio::test]
    async fn a_recovery_that_takes_longer_is_shown() {
        let server = server();
        let recovering = |message: &str| {
            let mut view = crate::core::status::ClusterView { recovering: Some(Epoch(3)), ..view() };
            view.analyses[0].message = message.to_owned();
            Some(Shown { view: Some(view), ..shown() })
        };
        let (sender, receiver) = watch::channel(recovering("first"));
        let task = tokio::spawn(shower(&server).run(receiver, || true));
        soon(|| status(&server)["conditions"][6]["reason"] == "Recovering").await;
        for message in ["second", "third"] {
            sleep(Duration::from_millis(600)).await;
            sender.send_replace(recovering(message));
        }
        sleep(Duration::from_millis(300)).await;
        assert_eq!(server.writes().len(), 1, "ordinary changes wait");
        let mut blocked = recovering("third");
        let view = blocked.as_mut().and_then(|shown| shown.view.as_mut()).unwrap();
        view.writable = crate::core::status::Answer::new(Some(false), "Blocked", "it waits for an acker");
        sender.send_replace(blocked);
        soon(|| status(&server)["conditions"][4]["reason"] == "Blocked").await;
        assert_eq!(server.writes().len(), 2);
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
