//! What the leader writes besides recoveries: status, routing while nothing recovers, and what becomes of
//! old records.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::Api;
use tokio::{sync::watch, time::Instant};

use super::{
    super::{AbortOnDrop, Shared, orphans},
    Engine, Wanted,
    exports::Exports,
    seldom::Seldom,
};
use crate::{
    api::MysqlFailover,
    core::{
        id::{ClusterKey, ServerAddr},
        status::{ClusterView, Quarantined},
    },
    k8s::{
        controller::{
            show::Shower,
            status::{Exported, Problem, Progress, Shown},
        },
        records::history::{acknowledge, prune, summary, surplus},
        routing::Routing,
    },
    mysql::dialect::quarantine,
    telemetry::event::{Event, analysis::AnalysisChanged, cluster::ClusterShown, quarantine::QuarantineChanged},
};

/// Routing is compared with what is there this often.
const ROUTING: Duration = Duration::from_secs(30);
/// Routing that failed is tried again this often.
const ROUTING_RETRY: Duration = Duration::from_secs(2);

/// How long a cluster may be unserved before what is asked of it is refused.
const UNSERVED: Duration = Duration::from_secs(3);

/// What is written for one cluster.
pub(super) struct Report {
    shared: Shared,
    key: ClusterKey,
    records: Api<MysqlFailover>,
    shown: watch::Sender<Option<Shown>>,
    led: bool,
    tended: Option<Arc<Vec<MysqlFailover>>>,
    ensured: Option<(Arc<Routing>, Instant)>,
    failed: Option<(Problem, Instant)>,
    /// What was last said.
    told: Option<ClusterView>,
    often: Seldom,
    /// Since when nothing serves the cluster.
    unserved: Option<Instant>,
    /// Records in which nothing is left to refuse.
    refused: Option<Arc<Vec<MysqlFailover>>>,
    exports: Exports,
    _shower: AbortOnDrop,
}

impl Report {
    pub(super) fn new(shared: Shared, key: ClusterKey) -> Self {
        let (shown, receiver) = watch::channel(None);
        let asked = shared.clone();
        let shower = Shower::new(&shared.showing, &key).run(receiver, move || asked.leads());
        Self {
            records: Api::namespaced(shared.client.clone(), &key.namespace),
            exports: Exports::new(shared.clone(), key.clone()),
            shared,
            key,
            shown,
            led: false,
            tended: None,
            ensured: None,
            failed: None,
            told: None,
            often: Seldom::default(),
            unserved: None,
            refused: None,
            _shower: AbortOnDrop(tokio::spawn(shower)),
        }
    }

    /// One round: what has to be written is written, what is to be shown is handed on.
    pub(super) async fn round(&mut self, wanted: &Wanted, engine: Option<&Engine>) {
        let view = engine.and_then(|engine| engine.view.borrow().clone());
        let routing = engine.and_then(|engine| engine.routing.borrow().clone());
        let leads = self.shared.leads();
        if leads {
            self.route(routing.as_ref(), view.as_ref(), engine).await;
            self.tend(wanted).await;
            self.refuse_unserved(wanted, engine.is_none()).await;
        } else if self.led {
            if let Some(routing) = &routing {
                routing.forget().await;
            }
            (self.ensured, self.failed, self.tended) = (None, None, None);
        }
        self.led = leads;
        let quarantined = view.as_ref().map_or(&[][..], |view| &view.quarantined);
        self.exports.want(wanted.desired.as_ref().filter(|_| leads), quarantined);
        if let Some(view) = &view {
            self.tell(wanted, view, leads);
        }
        self.show(wanted, view);
    }

    /// What changed is counted and said; the leader publishes it on the object too.
    fn tell(&mut self, wanted: &Wanted, view: &ClusterView, leads: bool) {
        if self.told.as_ref() == Some(view) {
            return;
        }
        let before = self.told.replace(view.clone());
        let (analyses, quarantined) =
            before.as_ref().map_or((&[][..], &[][..]), |told| (&told.analyses[..], &told.quarantined[..]));
        let mut events = Vec::new();
        let fact = AnalysisChanged { cluster: &self.key, epoch: view.epoch, before: analyses, now: &view.analyses };
        if analyses != view.analyses {
            fact.emit(&self.shared.metrics);
            events.extend(fact.kubernetes());
        }
        let fact = QuarantineChanged { cluster: &self.key, before: quarantined, now: &view.quarantined };
        if quarantined != view.quarantined {
            fact.emit(&self.shared.metrics);
            events.extend(fact.kubernetes());
        }
        if let Some(desired) = wanted.desired.as_ref().filter(|_| leads) {
            for event in events.iter().filter(|event| self.often.admits(event)) {
                self.shared.events.cluster(&self.key, &desired.uid, event);
            }
        }
        ClusterShown { cluster: &self.key, view, before: before.as_ref() }.emit(&self.shared.metrics);
    }

    fn show(&self, wanted: &Wanted, view: Option<ClusterView>) {
        let problem = wanted.refusal.as_ref().map(|refusal| refusal.problem.clone());
        if view.is_none() && problem.is_none() {
            // Nothing was seen yet: what another process wrote before says more.
            return;
        }
        let told = wanted.desired.as_ref();
        let name = told.map(|told| told.policy.cluster_name.clone());
        let refused = wanted.refusal.as_ref();
        let exports = told.zip(view.as_ref());
        let exports = exports.map(|(desired, view)| self.exports.shown(&self.key, desired, &view.quarantined));
        let exports = exports.unwrap_or_default();
        let shown = Shown {
            generation: refused.map_or_else(|| told.and_then(|told| told.generation), |refused| refused.generation),
            cluster_name: name
                .or_else(|| refused.map(|refused| refused.cluster_name.clone()))
                .unwrap_or_else(|| self.key.name.clone()),
            domain: told.and_then(|told| told.domain.clone()),
            instructions: view.as_ref().map(|view| instructions(view, &exports)).unwrap_or_default(),
            exports,
            view,
            last_failover: summary(&wanted.records, &self.key.name),
            problem,
            routing: self.failed.as_ref().map(|(problem, _)| problem.clone()),
        };
        self.shown.send_if_modified(|old| {
            let changed = old.as_ref() != Some(&shown);
            *old = Some(shown);
            changed
        });
    }

    /// Keeps clients routed to the writable primary while no recovery does it. A primary that is not
    /// known to be writable keeps its clients: they may see more than Baton does.
    async fn route(&mut self, routing: Option<&Arc<Routing>>, view: Option<&ClusterView>, engine: Option<&Engine>) {
        let Some(routing) = routing else {
            (self.ensured, self.failed) = (None, None);
            return;
        };
        let Some(view) = view else { return };
        if view.recovering.is_some() {
            // Its Job routes too, and what this process knew is void then.
            self.ensured = None;
            return;
        }
        if self.failed.as_ref().is_some_and(|(_, at)| at.elapsed() < ROUTING_RETRY) {
            return;
        }
        let primary = view.primary.as_ref().filter(|_| view.writable.value == Some(true));
        let newest = engine.map(|engine| engine.view.clone());
        let holds = move || {
            let shown = newest.as_ref().map(|newest| newest.borrow());
            let shown = shown.as_ref().and_then(|shown| shown.as_ref());
            shown.is_some_and(|shown| shown.recovering.is_none() && shown.primary.as_ref() == primary)
        };
        match self.routed(routing, primary, &holds).await {
            Ok(()) => self.failed = None,
            Err(problem) => {
                if self.failed.as_ref().is_none_or(|(before, _)| *before != problem) {
                    tracing::warn!(cluster = %self.key, "{}: clients are not routed: {}", self.key, problem.message);
                }
                self.failed = Some((problem, Instant::now()));
            }
        }
    }

    async fn routed(
        &mut self,
        routing: &Arc<Routing>,
        primary: Option<&ServerAddr>,
        holds: &(impl Fn() -> bool + Send + Sync),
    ) -> Result<(), Problem> {
        let known = self.ensured.as_ref();
        if known.is_none_or(|(known, at)| !Arc::ptr_eq(known, routing) || at.elapsed() >= ROUTING) {
            routing.ensure().await.map_err(|error| problem(&error))?;
            self.ensured = Some((Arc::clone(routing), Instant::now()));
        }
        match primary {
            Some(primary) => {
                routing.publish_if(Some(primary), holds).await.map(|_| ()).map_err(|error| problem(&error))
            }
            None => Ok(()),
        }
    }

    /// What is asked of a cluster that cannot be served is refused, unless that soon passes.
    async fn refuse_unserved(&mut self, wanted: &Wanted, idle: bool) {
        let Some(refusal) = wanted.refusal.as_ref().filter(|_| idle) else {
            self.unserved = None;
            return;
        };
        let since = *self.unserved.get_or_insert_with(Instant::now);
        if since.elapsed() < UNSERVED || self.refused.as_ref().is_some_and(|done| Arc::ptr_eq(done, &wanted.records)) {
            return;
        }
        let reason = format!("{} is not served: {}", self.key, refusal.problem.message);
        if orphans::refuse(&self.shared, &self.key, &wanted.records, &reason).await {
            self.refused = Some(Arc::clone(&wanted.records));
        }
    }

    /// Acknowledgements are noted, and old records go, as many as the owner does not want to keep.
    async fn tend(&mut self, wanted: &Wanted) {
        if self.tended.as_ref().is_some_and(|tended| Arc::ptr_eq(tended, &wanted.records)) {
            return;
        }
        let Some(desired) = &wanted.desired else { return };
        let keep = desired.policy.failover.keep_records;
        let done = async {
            for record in wanted.records.iter() {
                acknowledge(&self.records, record).await?;
            }
            prune(&self.records, &surplus(&wanted.records, &self.key.name, keep)).await
        };
        match done.await {
            Ok(()) => self.tended = Some(Arc::clone(&wanted.records)),
            Err(error) => tracing::warn!(cluster = %self.key, "{}: records not tended: {error}", self.key),
        }
    }
}

/// What a person runs about each server in quarantine.
fn instructions(view: &ClusterView, exports: &BTreeMap<ServerAddr, Exported>) -> BTreeMap<ServerAddr, Vec<String>> {
    let Some(primary) = &view.primary else { return BTreeMap::new() };
    let told = |one: &Quarantined| {
        let extra = one.extra.as_ref()?;
        let saved = exports.get(&one.server).filter(|export| export.progress == Progress::Succeeded);
        let place = saved.map(|export| export.place.as_str());
        let told = quarantine::instructions(one.version, &one.server, primary, extra, place);
        Some((one.server.clone(), told))
    };
    view.quarantined.iter().filter_map(told).collect()
}

fn problem(error: &crate::k8s::routing::RoutingError) -> Problem {
    Problem { category: error.category().to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{election::Timing, id::Epoch},
        engine::clock::SystemClock,
        k8s::{
            controller::status::tests::view,
            events::Events,
            lease::{Elector, Settings},
            routing::Wish,
        },
        telemetry::metrics::Metrics,
        testing::api_server::ApiServer,
    };

    fn key() -> ClusterKey {
        ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() }
    }

    fn report(server: &ApiServer) -> Report {
        let clock = SystemClock::start();
        let (namespace, name, identity) = ("default".to_owned(), "baton".to_owned(), "baton-0".to_owned());
        let lease = Settings { namespace, name, identity: identity.clone(), timing: Timing::FAST };
        let (_, leader) = Elector::new(server.client(), lease, Arc::new(clock.clone()));
        let (events, _) = Events::new(&server.client(), &identity);
        let metrics = Arc::new(Metrics::new("0").unwrap());
        let client = server.client();
        Report::new(
            Shared {
                showing: client.clone(),
                client,
                clock,
                leader,
                identity,
                metrics,
                events,
                jobs: None,
                letting_in: Default::default(),
                turns: Default::default(),
            },
            key(),
        )
    }

    fn routing(server: &ApiServer) -> Arc<Routing> {
        let wish = Wish { service: "shop-primary".to_owned(), port: 3306 };
        Arc::new(Routing::new(&server.client(), key(), "uid-1", wish))
    }

    fn endpoints(server: &ApiServer) -> usize {
        let slice = server.object("endpointslices", "default", "shop-primary-baton").unwrap();
        slice["endpoints"].as_array().map_or(0, Vec::len)
    }

    #[tokio::test]
    async fn what_a_job_routed_is_read_when_its_failover_is_over() {
        let server = ApiServer::new();
        let (mut report, ours, job) = (report(&server), routing(&server), routing(&server));
        let primary: ServerAddr = "10.0.0.1:3306".parse().unwrap();
        report.routed(&ours, Some(&primary), &|| true).await.unwrap();
        assert_eq!(endpoints(&server), 1);
        let recovering = ClusterView { recovering: Some(Epoch(4)), ..view() };
        report.route(Some(&ours), Some(&recovering), None).await;
        job.withdraw().await.unwrap();
        assert_eq!(endpoints(&server), 0);
        report.route(Some(&ours), Some(&recovering), None).await;
        // It is given up; the old primary accepts writes.
        report.routed(&ours, Some(&primary), &|| true).await.unwrap();
        assert_eq!(endpoints(&server), 1);
    }
}
