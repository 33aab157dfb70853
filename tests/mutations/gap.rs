//! An operator that did not run for a while, in the middle of making sure that a primary is dead.

use std::sync::atomic::Ordering;

use baton::{core::observation::FailureKind, engine::facts::History, testing::snapshot};
use tokio::{
    runtime::Builder,
    time::{Duration, sleep},
};

use super::task::Task;

/// How long the operator does not run, in milliseconds: its leadership lasts longer.
const GAP_MS: u64 = 1500;

/// A primary that did not answer two looks before the gap, and nobody has looked at it since: it may be back.
pub fn a_death_that_only_a_gap_made_long() -> bool {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut task = Task::start(snapshot::Cluster::primary_and_replicas(2), "p", History::default());
        task.look(3).await;
        task.servers.fail("p", FailureKind::Silent);
        ["r1", "r2"].into_iter().for_each(|name| task.servers.lose_source(name));
        task.look(2).await;
        assert_eq!(task.begun(), 0, "not for long yet");
        task.world.skipped_ms.fetch_add(GAP_MS, Ordering::Relaxed);
        sleep(Duration::from_millis(200)).await;
        let begun = task.begun();
        // It stays away: then it is replaced.
        task.look(100).await;
        assert!(task.begun() > 0, "nothing begins at all");
        begun == 0
    })
}
