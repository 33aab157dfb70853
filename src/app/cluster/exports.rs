//! Sees to it that what a server in quarantine has alone is saved, where the owner wishes for it: a Job for each,
//! made once and looked after until it ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::super::{AbortOnDrop, Shared};
use crate::{
    core::{
        id::{ClusterKey, ServerAddr},
        status::Quarantined,
    },
    k8s::{
        controller::{
            status::{Exported, Progress},
            validate::Desired,
        },
        exports::{Export, Wish},
        jobs::{Jobs, Outcome},
    },
};

/// Jobs are looked at this often.
const AGAIN: Duration = Duration::from_secs(2);

/// What is to be saved now; `None`: nothing, or this process does not lead.
type Work = Option<(Arc<Desired>, Vec<Quarantined>)>;

/// The Jobs of one cluster. They are looked after by a task of its own: a slow API server must not hold up what else
/// is written.
pub(super) struct Exports {
    work: watch::Sender<Work>,
    shown: watch::Receiver<BTreeMap<ServerAddr, Exported>>,
    _task: AbortOnDrop,
}

impl Exports {
    pub(super) fn new(shared: Shared, key: ClusterKey) -> Self {
        let (work, todo) = watch::channel(None);
        let (sender, shown) = watch::channel(BTreeMap::new());
        let task = Keeper { shared, key, known: BTreeMap::new(), shown: sender }.run(todo);
        Self { work, shown, _task: AbortOnDrop(tokio::spawn(task)) }
    }

    /// What is to be saved from now on.
    pub(super) fn want(&self, desired: Option<&Arc<Desired>>, quarantined: &[Quarantined]) {
        let wanted = desired.filter(|desired| desired.export.is_some());
        let work = wanted.map(|desired| (Arc::clone(desired), quarantined.to_vec()));
        self.work.send_if_modified(|old| {
            let same = match (&*old, &work) {
                (Some((desired, all)), Some((wanted, now))) => Arc::ptr_eq(desired, wanted) && all == now,
                (None, None) => true,
                _ => false,
            };
            *old = work;
            !same
        });
    }

    /// As it is shown; what is written down as saved is, before it was looked at.
    pub(super) fn shown(
        &self,
        key: &ClusterKey,
        desired: &Desired,
        all: &[Quarantined],
    ) -> BTreeMap<ServerAddr, Exported> {
        let mut found = self.shown.borrow().clone();
        let Some(wish) = &desired.export else { return found };
        for one in all {
            let export = Export::of(key, &desired.uid, wish, one);
            let saved = export.filter(|export| desired.saved.get(&one.server) == Some(&export.job));
            found.extend(saved.map(|export| {
                let Export { job, place, .. } = export;
                (one.server.clone(), Exported { job, place, progress: Progress::Succeeded })
            }));
        }
        found
    }
}

/// Does the work.
struct Keeper {
    shared: Shared,
    key: ClusterKey,
    known: BTreeMap<ServerAddr, (Export, Progress, Instant)>,
    shown: watch::Sender<BTreeMap<ServerAddr, Exported>>,
}

impl Keeper {
    async fn run(mut self, mut todo: watch::Receiver<Work>) {
        loop {
            let work = todo.borrow_and_update().clone();
            match &work {
                Some((desired, quarantined)) => self.round(desired, quarantined).await,
                None => self.known.clear(),
            }
            let shown = self.known.iter().map(shown).collect();
            self.shown.send_if_modified(|old| {
                let changed = *old != shown;
                *old = shown;
                changed
            });
            let done = self.known.values().all(|(_, progress, _)| *progress == Progress::Succeeded);
            let again = async {
                if done {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(AGAIN).await;
            };
            tokio::select! {
                changed = todo.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    async fn round(&mut self, desired: &Desired, quarantined: &[Quarantined]) {
        let Some(wish) = &desired.export else { return };
        self.known.retain(|addr, _| quarantined.iter().any(|one| one.server == *addr));
        for one in quarantined {
            let Some(export) = Export::of(&self.key, &desired.uid, wish, one) else {
                self.known.remove(&one.server);
                continue;
            };
            let known = self.known.get(&one.server).filter(|(known, ..)| *known == export);
            let rests = |progress: &Progress, at: &Instant| *progress == Progress::Succeeded || at.elapsed() < AGAIN;
            if known.is_some_and(|(_, progress, at)| rests(progress, at)) {
                continue;
            }
            let progress = match () {
                // It is written down: the Job may be gone by now.
                () if desired.saved.get(&one.server) == Some(&export.job) => Progress::Succeeded,
                () if !self.shared.leads() => return,
                () => progress(&self.shared, &self.key, &desired.uid, wish, &export, one).await,
            };
            self.known.insert(one.server.clone(), (export, progress, Instant::now()));
        }
    }
}

fn shown((addr, (export, progress, _)): (&ServerAddr, &(Export, Progress, Instant))) -> (ServerAddr, Exported) {
    let shown = Exported { job: export.job.clone(), place: export.place.clone(), progress: progress.clone() };
    (addr.clone(), shown)
}

async fn progress(
    shared: &Shared,
    key: &ClusterKey,
    uid: &str,
    wish: &Wish,
    export: &Export,
    one: &Quarantined,
) -> Progress {
    if let Some(reason) = export.impossible() {
        return Progress::Failed(reason.to_owned());
    }
    let Some(jobs) = &shared.jobs else {
        return Progress::Failed(
            "the operator was started without --job-image (jobs.enabled of the chart): it cannot make Jobs".to_owned(),
        );
    };
    let jobs = Jobs::new(&shared.client, jobs.setup.clone());
    match jobs.ensure(&export.task(key, uid, wish, one)).await {
        Ok(Outcome::Pending) => Progress::Pending,
        Ok(Outcome::Running) => Progress::Running,
        Ok(Outcome::Succeeded) => Progress::Succeeded,
        Ok(Outcome::Failed(reason)) => Progress::Failed(format!("{reason}: see kubectl logs job/{}", export.job)),
        Err(error) => {
            tracing::warn!(cluster = %key, "{key}: what {} has alone is not being saved: {error}", one.server);
            Progress::Failed(error.to_string())
        }
    }
}
