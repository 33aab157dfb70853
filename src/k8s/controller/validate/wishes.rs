//! The owner's wishes that the API server has checked already, in the words of the core.

use crate::{
    api::{MysqlClusterSpec, common, mysql_cluster as wire},
    core::policy::{DataLoss, Detection, Failover, Mode, OldPrimary, SemiSync, Tier},
};

pub(super) fn detection(spec: &MysqlClusterSpec) -> Detection {
    let tier = match spec.detection.tier {
        wire::Tier::Fast => Tier::Fast,
        wire::Tier::Standard => Tier::Standard,
        wire::Tier::Relaxed => Tier::Relaxed,
    };
    let heartbeat_ms = spec.detection.heartbeat_interval.map(common::Duration::as_ms);
    Detection::of(tier, heartbeat_ms, spec.detection.replication_settings == wire::ReplicationSettings::Enforce)
}

pub(super) fn failover(spec: &MysqlClusterSpec) -> Failover {
    let given = &spec.failover;
    Failover {
        mode: match given.mode {
            wire::Mode::Automatic => Mode::Automatic,
            wire::Mode::DetectOnly => Mode::DetectOnly,
        },
        data_loss: given.data_loss.map(|choice| match choice {
            wire::DataLoss::Refuse => DataLoss::Refuse,
            wire::DataLoss::Accept => DataLoss::Accept,
        }),
        block_ms: given.block_period.as_ms(),
        detach_lost: given.detach_lost,
        old_primary: match given.old_primary {
            wire::OldPrimary::Rejoin => OldPrimary::Rejoin,
            wire::OldPrimary::Fence => OldPrimary::Fence,
            wire::OldPrimary::Leave => OldPrimary::Leave,
        },
        keep_records: given.keep_records,
    }
}

/// One acknowledgement and one zone, where semi-sync is wanted and nothing else is said.
pub(super) fn semi_sync(spec: &MysqlClusterSpec) -> Option<SemiSync> {
    let given = &spec.durability;
    let wanted = SemiSync { acks: given.acks.unwrap_or(1), zones: given.zones.unwrap_or(1) };
    (given.mode == wire::DurabilityMode::SemiSync).then_some(wanted)
}
