//! What the owner wants done about failures, from the words of the resource to those of the core.

use crate::{
    api::{MysqlClusterSpec, mysql_cluster as wire},
    core::policy::{DataLoss, Detection, Failover, Mode, OldPrimary, Tier},
};

pub(super) fn detection(spec: &MysqlClusterSpec) -> Detection {
    let tier = match spec.detection.tier {
        wire::Tier::Fast => Tier::Fast,
        wire::Tier::Standard => Tier::Standard,
        wire::Tier::Relaxed => Tier::Relaxed,
    };
    let heartbeat_ms = spec.detection.heartbeat_interval.map(|interval| interval.as_ms());
    Detection::of(tier, heartbeat_ms, spec.detection.replication_settings == wire::ReplicationSettings::Enforce)
}

pub(super) fn failover(spec: &MysqlClusterSpec) -> Failover {
    let given = &spec.failover;
    let mode = |given| match given {
        wire::Mode::Automatic => Mode::Automatic,
        wire::Mode::DetectOnly => Mode::DetectOnly,
    };
    Failover {
        mode: mode(given.mode),
        intermediate: mode(given.intermediate),
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
