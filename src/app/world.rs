//! The ports of one cluster, made of the shells: MySQL sessions, records, routing, leadership, clock.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::watch;

use super::{feed, jobs::FailoverJobs, strike::passing, tell::Teller};
use crate::{
    core::{
        id::{ClusterKey, ServerAddr},
        membership::Membership,
        observation::Observation,
        recovery::{Hold, Recovery},
        step::{Action, ActionError},
        time::Mono,
    },
    engine::{
        clock::SystemClock,
        facts::History,
        ports::{Clock, Jobs, Journal, JournalError, Leadership, Servers},
        turns::{Turn, Turns},
    },
    k8s::{records::Records, routing::Routing},
    mysql::execute::MysqlServers,
    telemetry::metrics::Metrics,
};

/// Everything the engine reaches the outside through.
pub(super) struct ClusterWorld {
    pub(super) servers: Arc<MysqlServers>,
    pub(super) records: Records,
    /// `None`: the cluster routes nobody.
    pub(super) routing: watch::Receiver<Option<Arc<Routing>>>,
    /// By what right it acts: the operator's Lease, or a Job's claim.
    pub(super) right: Arc<dyn Leadership>,
    /// `None`: there are no Jobs.
    pub(super) jobs: Option<FailoverJobs>,
    pub(super) clock: SystemClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) teller: Teller,
    pub(super) letting_in: LettingIn,
    pub(super) turns: Turns,
}

/// Statements that let clients in, and of which nobody knows yet that they arrive no more.
#[derive(Debug, Clone, Default)]
pub(super) struct LettingIn(Arc<AtomicUsize>);

impl LettingIn {
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// Counts one until it has an answer; for good when it gets none, or is not waited for to the end.
    async fn count<T>(&self, say: impl Future<Output = Result<T, ActionError>>) -> Result<T, ActionError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let result = say.await;
        if !matches!(result, Err(ActionError::Contact { .. })) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
        result
    }
}

impl std::fmt::Debug for ClusterWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterWorld").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Servers for ClusterWorld {
    async fn act(&self, addr: &ServerAddr, action: Action, budget_ms: u64) -> Result<Box<Observation>, ActionError> {
        let (name, lets_in) = (action.name(), action == Action::Unfence);
        let act = self.servers.act(addr, action, budget_ms);
        let act = async { if lets_in { self.letting_in.count(act).await } else { act.await } };
        passing(name, Box::pin(act)).await
    }
}

impl Journal for ClusterWorld {
    async fn begin(&self, recovery: &Recovery) -> Result<(), JournalError> {
        passing("Begin", Box::pin(self.records.begin(recovery))).await?;
        self.teller.written(recovery, &self.metrics, self.clock.now());
        Ok(())
    }

    fn turn(&self, cluster: &ClusterKey, priority: u32, now: Mono) -> Option<Turn> {
        self.turns.ask(cluster, priority, now)
    }

    async fn save(&self, recovery: &Recovery) -> Result<(), JournalError> {
        passing(&format!("Save:{:?}", recovery.phase), Box::pin(self.records.save(recovery))).await?;
        self.teller.written(recovery, &self.metrics, self.clock.now());
        Ok(())
    }

    async fn history(&self) -> Result<History, JournalError> {
        let records = self.records.all().await?;
        Ok(feed::history(&records, self.records.key()))
    }

    async fn claim(&self, name: &str, executor: &str, over: Option<&Hold>) -> Result<Recovery, JournalError> {
        let recovery = passing("TakeOver", Box::pin(self.records.claim(name, executor, over))).await?;
        if let Some(over) = over {
            // Its Job may have moved clients.
            let routing = self.routing.borrow().clone();
            if let Some(routing) = routing {
                routing.forget().await;
            }
            self.teller.taken_back(&recovery, &over.reason, &self.metrics);
        }
        Ok(recovery)
    }

    async fn refuse(&self, name: &str, reason: &str) -> Result<(), JournalError> {
        passing("Refuse", Box::pin(self.records.refuse(name, reason))).await
    }

    async fn members(&self, from: Option<&Membership>, to: &Membership) -> Result<(), JournalError> {
        passing("Members", Box::pin(self.records.members(from, to))).await
    }

    async fn route(&self, primary: Option<&ServerAddr>) -> Result<(), JournalError> {
        let Some(routing) = self.routing.borrow().clone() else { return Ok(()) };
        let holds = || self.leader_until().is_some_and(|until| until > self.clock.now());
        let what = if primary.is_some() { "Route" } else { "Withdraw" };
        match passing(what, routing.publish_if(primary, holds)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(JournalError::Unavailable("leadership is not sure any more".to_owned())),
            Err(error) => Err(JournalError::Unavailable(error.to_string())),
        }
    }
}

impl Jobs for ClusterWorld {
    fn job_for(&self, record: &str, request: &str) -> Option<String> {
        self.jobs.as_ref().map(|jobs| jobs.name(record, request))
    }

    async fn start_job(&self, recovery: &Recovery) -> Result<(), String> {
        match self.jobs.as_ref().zip(recovery.job.as_ref()) {
            Some((jobs, job)) => passing("StartJob", jobs.start(&job.name, &recovery.record)).await,
            None => Err("there are no Jobs".to_owned()),
        }
    }

    async fn leave(&self, recovery: &Recovery) -> Result<(), JournalError> {
        passing("Leave", Box::pin(self.records.leave(recovery))).await?;
        self.teller.written(recovery, &self.metrics, self.clock.now());
        Ok(())
    }
}

impl Leadership for ClusterWorld {
    fn leader_until(&self) -> Option<Mono> {
        self.right.leader_until()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::observation::{Failure, FailureKind},
        testing::snapshot::addr,
    };

    #[tokio::test]
    async fn a_word_without_an_answer_may_still_arrive() {
        let letting_in = LettingIn::default();
        letting_in.count(async { Ok(()) }).await.unwrap();
        let refused = ActionError::Precondition { server: addr("r1"), reason: "too late".to_owned() };
        assert!(letting_in.count(async { Err::<(), _>(refused) }).await.is_err());
        assert!(!letting_in.any());
        {
            let mut waits = std::pin::pin!(letting_in.count(std::future::pending::<Result<(), _>>()));
            assert!(futures::poll!(waits.as_mut()).is_pending());
        }
        assert!(letting_in.any(), "nobody waited for the answer");
        let silent = LettingIn::default();
        let failure = Failure { at: Mono(1), kind: FailureKind::Silent, message: String::new() };
        let contact = ActionError::Contact { server: addr("r1"), failure };
        assert!(silent.count(async { Err::<(), _>(contact) }).await.is_err());
        assert!(silent.any());
    }
}
