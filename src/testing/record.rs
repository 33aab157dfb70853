//! A recovery as it is first written down, for tests that say only what they are about.

use crate::core::{
    id::{Epoch, ServerAddr},
    recovery::{Cause, Part, Phase, Recovery, Timings},
};

/// The recovery of a dead primary: nothing was done yet, nothing else is known.
#[must_use]
pub fn recovery(epoch: u64, executor: &str, old_primary: &ServerAddr) -> Recovery {
    Recovery {
        record: format!("shop-{epoch}"),
        part: Part::Primary,
        phase: Phase::Pending,
        epoch: Epoch(epoch),
        executor: executor.to_owned(),
        job: None,
        cause: Cause { analysis: "DeadPrimary".to_owned(), server: old_primary.clone(), reason: String::new() },
        candidate: None,
        evidence: Vec::new(),
        candidates: Vec::new(),
        old_primary: old_primary.clone(),
        old_primary_uuid: None,
        old_primary_set: None,
        old_primary_dead: false,
        new_primary: None,
        promoted_set: None,
        lost: None,
        lost_replicas: Vec::new(),
        pending_replicas: Vec::new(),
        ackers: Vec::new(),
        unknown_ackers: 0,
        wait_count: 0,
        lossless: false,
        steps: Vec::new(),
        timings: Timings::default(),
        message: String::new(),
        acknowledged: false,
    }
}
