//! The ports of one cluster, made of the shells: MySQL sessions, records, routing, leadership, clock.

use std::sync::Arc;

use tokio::sync::watch;

#[cfg(feature = "testing")]
use super::strike;
use super::tell::Teller;
use crate::{
    core::{
        id::ServerAddr,
        membership::Membership,
        observation::Observation,
        recovery::Recovery,
        step::{Action, ActionError},
        time::Mono,
    },
    engine::{
        clock::SystemClock,
        ports::{Clock, Journal, JournalError, Leadership, Servers},
    },
    k8s::{lease::Leader, records::Records, routing::Routing},
    mysql::execute::MysqlServers,
    telemetry::metrics::Metrics,
};

/// Everything the engine reaches the outside through.
#[derive(Debug)]
pub(super) struct ClusterWorld {
    pub(super) servers: Arc<MysqlServers>,
    pub(super) records: Records,
    /// `None`: the cluster routes nobody.
    pub(super) routing: watch::Receiver<Option<Arc<Routing>>>,
    pub(super) leader: Leader,
    pub(super) clock: SystemClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) teller: Teller,
}

impl Servers for ClusterWorld {
    async fn act(&self, addr: &ServerAddr, action: Action, budget_ms: u64) -> Result<Box<Observation>, ActionError> {
        #[cfg(feature = "testing")]
        let name = action.name();
        #[cfg(feature = "testing")]
        strike::at("before", name);
        let result = self.servers.act(addr, action, budget_ms).await;
        #[cfg(feature = "testing")]
        strike::at("after", name);
        result
    }
}

impl Journal for ClusterWorld {
    async fn begin(&self, recovery: &Recovery) -> Result<(), JournalError> {
        #[cfg(feature = "testing")]
        strike::at("before", "Begin");
        Box::pin(self.records.begin(recovery)).await?;
        #[cfg(feature = "testing")]
        strike::at("after", "Begin");
        self.teller.written(recovery, &self.metrics, self.clock.now());
        Ok(())
    }

    async fn save(&self, recovery: &Recovery) -> Result<(), JournalError> {
        #[cfg(feature = "testing")]
        strike::at("before", &format!("Save:{:?}", recovery.phase));
        Box::pin(self.records.save(recovery)).await?;
        #[cfg(feature = "testing")]
        strike::at("after", &format!("Save:{:?}", recovery.phase));
        self.teller.written(recovery, &self.metrics, self.clock.now());
        Ok(())
    }

    async fn claim(&self, name: &str, executor: &str) -> Result<Recovery, JournalError> {
        Box::pin(self.records.claim(name, executor)).await
    }

    async fn refuse(&self, name: &str, reason: &str) -> Result<(), JournalError> {
        Box::pin(self.records.refuse(name, reason)).await
    }

    async fn members(&self, from: Option<&Membership>, to: &Membership) -> Result<(), JournalError> {
        Box::pin(self.records.members(from, to)).await
    }

    async fn route(&self, primary: Option<&ServerAddr>) -> Result<(), JournalError> {
        #[cfg(feature = "testing")]
        strike::at("before", "Route");
        let routing = self.routing.borrow().clone();
        match routing {
            Some(routing) => {
                routing.publish(primary).await.map_err(|error| JournalError::Unavailable(error.to_string()))
            }
            None => Ok(()),
        }
    }
}

impl Leadership for ClusterWorld {
    fn leader_until(&self) -> Option<Mono> {
        self.leader.leader_until()
    }
}

impl Clock for ClusterWorld {
    fn now(&self) -> Mono {
        self.clock.now()
    }

    fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    async fn sleep_ms(&self, ms: u64) {
        self.clock.sleep_ms(ms).await;
    }
}
