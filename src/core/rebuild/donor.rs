//! Whose data a server gets: a replica of the primary that has everything, adds nothing and can be copied; the primary
//! itself only when no replica can be, for copying costs it disk and network.

use super::{Facts, Refusal, Scene, Seen, lacks, plugged, waits};
use crate::core::{
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    snapshot::extra,
    version::Version,
};

/// A replica that is further behind is no donor, in seconds.
const LAG_S_MAX: u64 = 10;

/// Rights that Baton's account needs where data is copied from.
const DONOR_RIGHTS: [&str; 1] = ["BACKUP_ADMIN"];

/// The donor, and why the primary is it.
pub(super) fn choose<'a>(
    scene: &Scene<'a>,
    recipient: &Seen,
    (primary_addr, primary): (&'a ServerAddr, &'a Seen),
) -> Result<(&'a ServerAddr, String), Refusal> {
    let (mut fit, mut reasons) = (Vec::new(), Vec::new());
    for (addr, look) in scene.looks.iter().filter(|(addr, _)| *addr != primary_addr && **addr != scene.one.server) {
        let obstacle = match look {
            Ok(seen) => match replica(scene, addr, seen, (primary_addr, primary)) {
                Ok(lag_s) => match copy(addr, seen, recipient, primary) {
                    Ok(()) => {
                        fit.push((scene.ackers.contains(addr), lag_s, addr));
                        continue;
                    }
                    Err(obstacle) => obstacle,
                },
                Err(reason) => waits(reason),
            },
            Err(reason) => waits(format!("it cannot be looked at: {reason}")),
        };
        reasons.push((addr, obstacle));
    }
    // Who acknowledges has enough to do.
    if let Some((.., addr)) = fit.into_iter().min() {
        return Ok((addr, String::new()));
    }
    let told = |(addr, obstacle): &(&ServerAddr, Refusal)| match obstacle {
        Refusal::Waits(reason) | Refusal::Unfit(reason) | Refusal::Doubt(reason) => format!("{addr}: {reason}"),
    };
    let told: Vec<_> = reasons.iter().map(told).collect();
    let none = if told.is_empty() { "there is none".to_owned() } else { told.join("; ") };
    // Its data has no channel that a replica could go on with.
    if !scene.account {
        return Err(waits(format!(
            "no replica can be copied ({none}), and a copy of the primary needs replication-username in the Secret"
        )));
    }
    // A right that is missing on the replicas is missing on the primary too: say that first.
    copy(primary_addr, primary, recipient, primary)?;
    Ok((primary_addr, format!("it is copied from the primary, because no replica can be copied: {none}")))
}

/// Whether a server is a replica of the primary that has everything and nothing of its own; its lag in seconds.
fn replica(
    scene: &Scene<'_>,
    addr: &ServerAddr,
    seen: &Seen,
    (primary_addr, primary): (&ServerAddr, &Seen),
) -> Result<u64, String> {
    let look = &seen.look;
    if let Some(reason) = scene.policy.rests(addr) {
        return Err(reason.to_owned());
    }
    let [channel] = look.channels.as_slice() else { return Err("it does not have one source".to_owned()) };
    let follows =
        channel.source.as_ref() == Some(primary_addr) || channel.source_uuid.as_deref() == Some(uuid(primary));
    let reason = match () {
        () if look.identity.uuid == uuid(primary) => "it is the primary",
        () if !follows || channel.source_uuid.as_deref() != Some(uuid(primary)) => "it does not follow the primary",
        () if !runs(channel) => "it does not replicate",
        () if !channel.auto_position => "it does not replicate by GTID",
        () if channel.filtered => "its replication is filtered",
        () if channel.delay_s > 0 => "its replication is delayed",
        () if !look.settings.read_only => "it accepts writes",
        () if !extra(look, &primary.look).is_some_and(|own| own.is_empty()) => "it has transactions of its own",
        () if lags(channel) => "it lags",
        () => return Ok(channel.seconds_behind.unwrap_or_default()),
    };
    Err(reason.to_owned())
}

fn uuid(seen: &Seen) -> &str {
    &seen.look.identity.uuid
}

fn runs(channel: &Channel) -> bool {
    channel.receiver == Receiver::Running && channel.applier_running
}

fn lags(channel: &Channel) -> bool {
    channel.seconds_behind.is_none_or(|lag_s| lag_s > LAG_S_MAX)
}

/// Whether the data of a server can be copied to the recipient, which must be able to follow the primary with it.
fn copy(addr: &ServerAddr, donor: &Seen, recipient: &Seen, primary: &Seen) -> Result<(), Refusal> {
    let (look, wanted) = (&donor.look, recipient.look.identity.version);
    if addr.host().contains(':') {
        return Err(waits(format!("{addr} is an IPv6 address, which CLONE does not take")));
    }
    if look.identity.uuid == recipient.look.identity.uuid {
        return Err(waits(format!("{addr} is the same server")));
    }
    if !copies(look.identity.version, wanted) {
        return Err(waits(format!(
            "{addr} is MySQL {}, and its data is of no use for {wanted}",
            look.identity.version
        )));
    }
    if donor.facts.blocks_ddl {
        return Err(waits(format!("{addr} refuses changes of tables while it is copied (clone_block_ddl)")));
    }
    if let Some(what) = differs(&donor.facts, &recipient.facts) {
        return Err(waits(format!("{what} is another on {addr}")));
    }
    if let Some(table) = &donor.facts.foreign {
        return Err(Refusal::Unfit(format!(
            "{addr} has tables that CLONE does not copy, such as {table}: it copies InnoDB alone"
        )));
    }
    if !joins(look, &primary.look) {
        return Err(waits(format!("the primary lacks binary logs that a copy of {addr} would need")));
    }
    plugged(addr, &donor.facts)?;
    lacks(addr, &donor.facts, &DONOR_RIGHTS, false)
}

fn joins(donor: &Observation, primary: &Observation) -> bool {
    donor.executed.contains(&primary.purged)
}

/// Whether data of one version can be copied to another: the same release, or one of the same series from where MySQL
/// allows it (8.0.37, 8.4 and 9). Before 8.0.27 a donor refuses changes of tables meanwhile, always.
fn copies(from: Version, to: Version) -> bool {
    let patched =
        |version: Version| version.series() == (8, 0) && version.number >= (8, 0, 37) || version.series() >= (8, 4);
    let unblocked = from.has_clone() && (from.series() > (8, 0) || from.number >= (8, 0, 27));
    unblocked && (from == to || from.series() == to.series() && patched(from) && patched(to))
}

/// What both must have alike and have not.
fn differs(one: &Facts, other: &Facts) -> Option<String> {
    let names = one.alike.keys().chain(other.alike.keys());
    names.into_iter().find(|name| one.alike.get(*name) != other.alike.get(*name)).cloned()
}
