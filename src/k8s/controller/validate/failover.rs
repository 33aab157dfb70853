//! How failures are noticed and what is done about them, in the words of the core.

use crate::{
    api::mysql_cluster::{self as wire, MysqlClusterSpec},
    core::policy::{DataLoss, Detection, Failover, Mode, OldPrimary, SemiSync, Tier},
};

pub(super) fn detection(spec: &MysqlClusterSpec) -> Detection {
    let tier = match spec.detection.tier {
        wire::Tier::Fast => Tier::Fast,
        wire::Tier::Standard => Tier::Standard,
        wire::Tier::Relaxed => Tier::Relaxed,
    };
    let heartbeat_ms = spec.detection.heartbeat_interval.map(crate::api::common::Duration::as_ms);
    let enforce = spec.detection.replication_settings == wire::ReplicationSettings::Enforce;
    let found = Detection::of(tier, heartbeat_ms, enforce);
    Detection {
        stall_ms: spec.detection.stall_after.map_or(found.stall_ms, crate::api::common::Duration::as_ms),
        write_canary: spec.detection.write_canary == wire::WriteCanary::On,
        ..found
    }
}

pub(super) fn failover(spec: &MysqlClusterSpec) -> Failover {
    let given = &spec.failover;
    Failover {
        mode: mode(given.mode),
        intermediate: mode(given.intermediate),
        stalled: mode(given.stalled_primary),
        read_only: mode(given.read_only_primary),
        by_job: given.executor == wire::Executor::Job,
        data_loss: given.data_loss.map(|choice| match choice {
            wire::DataLoss::Refuse => DataLoss::Refuse,
            wire::DataLoss::Accept => DataLoss::Accept,
        }),
        block_ms: given.block_period.as_ms(),
        priority: given.priority,
        detach_lost: given.detach_lost,
        old_primary: match given.old_primary {
            wire::OldPrimary::Rejoin => OldPrimary::Rejoin,
            wire::OldPrimary::Fence => OldPrimary::Fence,
            wire::OldPrimary::Leave => OldPrimary::Leave,
        },
        rebuild: given.rebuild == wire::Rebuild::Clone,
        rebuild_timeout_ms: given.rebuild_timeout.as_ms(),
        keep_records: given.keep_records,
    }
}

fn mode(given: wire::Mode) -> Mode {
    match given {
        wire::Mode::Automatic => Mode::Automatic,
        wire::Mode::DetectOnly => Mode::DetectOnly,
    }
}

/// One acknowledgement and one zone, where semi-sync is wanted and nothing else is said.
pub(super) fn semi_sync(spec: &MysqlClusterSpec) -> Option<SemiSync> {
    let given = &spec.durability;
    let wanted = SemiSync { acks: given.acks.unwrap_or(1), zones: given.zones.unwrap_or(1) };
    (given.mode == wire::DurabilityMode::SemiSync).then_some(wanted)
}
