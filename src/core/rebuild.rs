//! Whether a server in quarantine may be overwritten with the data of another one, from which, and how that goes
//! (safety.md, "Rebuilding"). It discards what the server has for good: whatever is not known speaks against it.
//!
//! Decided on looks that were made for it, the primary's last. What is decided here is asked again by the server
//! itself in the moment in which it begins.

mod course;
mod donor;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub use self::course::{Copying, Course, course};
use super::{
    gtid::GtidSet,
    id::ServerAddr,
    observation::Observation,
    policy::{OldPrimary, Policy},
    rules::{Rule, holds},
    snapshot::extra,
    status::{Acknowledged, Quarantined},
    version::Flavor,
};

/// What is written down about one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// How far it is.
    pub state: State,
    /// Whose data it gets.
    pub donor: Option<ServerAddr>,
    /// `server_uuid` of the server.
    pub uuid: Option<String>,
    /// What it has alone, which is saved and discarded.
    pub extra: Option<GtidSet>,
    /// When it began; `None`: nothing was done to the server.
    pub began: Option<Timestamp>,
    /// What it waits for, or why it failed; empty: nothing to say.
    pub message: String,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Something must hold that does not.
    Waiting,
    /// The server is being overwritten, or is about to be.
    Running,
    /// It needs a person.
    Failed,
}

impl Rebuild {
    /// Something does not hold, and nothing was done.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        let (state, message) = match refusal {
            Refusal::Waits(reason) | Refusal::Doubt(reason) => (State::Waiting, reason.clone()),
            Refusal::Unfit(reason) => (State::Failed, reason.clone()),
        };
        Self { state, donor: None, uuid: None, extra: None, began: None, message }
    }

    /// The server may have lost its data, and a person decides.
    #[must_use]
    pub fn stuck(&self) -> bool {
        self.state == State::Failed && self.began.is_some()
    }

    /// Nothing else is to be done with the server: its data is not there, or may not be.
    #[must_use]
    pub fn unusable(&self) -> bool {
        self.state == State::Running || self.stuck()
    }
}

/// Why a server is not overwritten now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// That may pass by itself, or never does.
    Waits(String),
    /// Somebody has to change something on a server.
    Unfit(String),
    /// Clients may have been told that its transactions are committed: never.
    Doubt(String),
}

fn waits(reason: impl Into<String>) -> Refusal {
    Refusal::Waits(reason.into())
}

/// What a server says about copies of its data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The plugin is loaded and active.
    pub plugin: bool,
    /// It refuses everybody's writes since it started, because its own configuration says so.
    pub closed_since_start: bool,
    /// Its binary log leaves out databases.
    pub binlog_filtered: bool,
    /// While it is copied, it refuses changes of tables.
    pub blocks_ddl: bool,
    /// What both servers must have alike, by name.
    pub alike: BTreeMap<String, String>,
    /// Rights of Baton's account there, for everything.
    pub rights: BTreeSet<String>,
    /// That account, as GRANT names it.
    pub account: String,
    /// It has certificates to check another server with.
    pub checks_certificates: bool,
    /// A table that a copy would leave empty, as far as the account may see them.
    pub foreign: Option<String>,
}

/// What one server said when it was asked for this.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The look.
    pub look: Observation,
    /// The rest.
    pub facts: Facts,
}

/// Everything that is decided on.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The owner's wishes.
    pub policy: &'a Policy,
    /// The server.
    pub one: &'a Quarantined,
    /// `server_uuid` of the server that was replaced, and all that the new primary had then, as the record of that failover
    /// says.
    pub replaced: Option<(&'a str, &'a GtidSet)>,
    /// What it has alone, exactly that, is saved.
    pub saved: bool,
    /// It was overwritten since that failover, or was to be.
    pub rebuilt: bool,
    /// Replicas have an account to replicate with.
    pub account: bool,
    /// A failover that is not over, or was asked for.
    pub open: Option<&'a str>,
    /// The primary, and whether it is known to be writable.
    pub primary: Option<(&'a ServerAddr, bool)>,
    /// Servers that may acknowledge, as it is written down.
    pub ackers: &'a BTreeSet<ServerAddr>,
    /// All servers of the cluster: how the look went that was made for this.
    pub looks: &'a BTreeMap<ServerAddr, Result<Seen, String>>,
    /// Certificates of servers are to be checked.
    pub verify: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The server that is overwritten.
    pub recipient: ServerAddr,
    /// Its `server_uuid`.
    pub uuid: String,
    /// What only it has, and is saved.
    pub extra: GtidSet,
    /// All that it may have when it begins.
    pub allowed: GtidSet,
    /// Whose data it gets.
    pub donor: ServerAddr,
    /// Why that one, for people; empty: it is a replica.
    pub note: String,
}

/// Rights that Baton's account needs where data is overwritten.
const RECIPIENT_RIGHTS: [&str; 3] = ["CLONE_ADMIN", "SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"];

/// Decides.
///
/// # Errors
/// [`Refusal`], with the first reason against it.
pub fn plan(scene: &Scene<'_>) -> Result<Plan, Refusal> {
    wanted(scene)?;
    let (primary_addr, primary) = primary(scene)?;
    let one = scene.one;
    let recipient = look_of(scene, &one.server)?;
    closed(scene, recipient)?;
    let promoted = lonely(scene, recipient)?;
    let found =
        extra(&recipient.look, &primary.look).ok_or_else(|| waits("the servers were not looked at in order"))?;
    let wanted = one.extra.as_ref().ok_or_else(|| waits("its transactions may become more"))?;
    if found != *wanted || found.is_empty() {
        return Err(waits("what it has alone is not what is saved: it has become more, or less"));
    }
    received(recipient, primary)?;
    if !promoted.contains(&recipient.look.executed.subtract(&found)) {
        return Err(Refusal::Doubt(REJOINED.to_owned()));
    }
    plugged(&one.server, &recipient.facts)?;
    lacks(&one.server, &recipient.facts, &RECIPIENT_RIGHTS, true)?;
    if scene.verify && !recipient.facts.checks_certificates {
        return Err(Refusal::Unfit(format!(
            "{} has no certificates to check the other server with, as spec.tls demands: set ssl_ca there",
            one.server
        )));
    }
    let (donor, note) = donor::choose(scene, recipient, (primary_addr, primary))?;
    Ok(Plan {
        recipient: one.server.clone(),
        uuid: recipient.look.identity.uuid.clone(),
        allowed: primary.look.executed.union(&found),
        extra: found,
        donor: donor.clone(),
        note,
    })
}

/// What speaks against it without a look at any server.
///
/// # Errors
/// [`Refusal::Waits`].
pub fn wanted(scene: &Scene<'_>) -> Result<(), Refusal> {
    let (policy, one) = (scene.policy, scene.one);
    let reason = match () {
        () if !policy.failover.rebuild => "failover.rebuild is Never".to_owned(),
        () if policy.failover.old_primary != OldPrimary::Rejoin => "failover.oldPrimary is not Rejoin".to_owned(),
        () if policy.paused => "the cluster is paused".to_owned(),
        () if policy.maintenance.contains(&one.server) => "it is under maintenance".to_owned(),
        () if one.acknowledged == Acknowledged::Possible || one.record.is_none() => {
            format!(
                "a person decides, because clients may have been told that its transactions are committed: {}",
                one.reason
            )
        }
        () if one.version.flavor == Flavor::MariaDb => {
            "MariaDB cannot copy a server: follow the instructions".to_owned()
        }
        () if !one.version.has_clone() => "it is older than MySQL 8.0.17: follow the instructions".to_owned(),
        () if one.extra.is_none() => "its transactions may become more".to_owned(),
        () if scene.rebuilt => {
            "a person decides, because it was overwritten, or was to be, since that failover already".to_owned()
        }
        () if let Some(open) = scene.open => format!("a failover is under way or asked for: {open}"),
        () if !scene.saved && holds(Rule::SavedFirst) => "what it has alone is not saved yet: see export".to_owned(),
        () if scene.ackers.contains(&one.server) => "it is written down as one that may acknowledge".to_owned(),
        () => return Ok(()),
    };
    Err(Refusal::Waits(reason))
}

fn look_of<'a>(scene: &Scene<'a>, addr: &ServerAddr) -> Result<&'a Seen, Refusal> {
    match scene.looks.get(addr) {
        Some(Ok(seen)) => Ok(seen),
        Some(Err(reason)) => Err(waits(format!("{addr} cannot be looked at: {reason}"))),
        None => Err(waits(format!("{addr} is not looked at"))),
    }
}

/// The primary, if it is proven to take writes.
fn primary<'a>(scene: &Scene<'a>) -> Result<(&'a ServerAddr, &'a Seen), Refusal> {
    let Some((addr, writable)) = scene.primary else { return Err(waits("no primary is known")) };
    if *addr == scene.one.server {
        return Err(waits("it is the primary"));
    }
    if scene.policy.maintenance.contains(addr) {
        return Err(waits(format!("the primary {addr} is under maintenance")));
    }
    let seen = look_of(scene, addr)?;
    if !writable || !seen.look.settings.writable() || !seen.look.channels.is_empty() {
        return Err(waits(format!("the primary {addr} does not accept writes")));
    }
    let waiting = seen.look.semi_sync.source.as_ref().filter(|source| source.enabled);
    if waiting.is_some_and(|source| source.clients < source.wait_count) {
        return Err(waits(format!("too few replicas acknowledge what the primary {addr} writes")));
    }
    Ok((addr, seen))
}

/// Why what it has may have been acknowledged after it was replaced.
const REOPENED: &str = "its own configuration does not prove that it refused writes (super_read_only) since it started: \
                        clients may have been told after it was replaced that their transactions are committed";

const REJOINED: &str = "it has got transactions since it was replaced: what it has alone may be from then, and clients may have \
                        been told that it is committed";

/// It must take no writes, and apply nothing.
fn closed(scene: &Scene<'_>, recipient: &Seen) -> Result<(), Refusal> {
    let look = &recipient.look;
    let waits_there = look.semi_sync.source.as_ref().is_some_and(|source| source.waiting > 0);
    let applies = look.channels.iter().any(|channel| channel.applier_running);
    match () {
        () if look.identity.version != scene.one.version => Err(waits("it is another version than before")),
        () if !look.settings.read_only || !look.settings.super_read_only => Err(waits("it is not super_read_only")),
        () if !recipient.facts.closed_since_start => Err(Refusal::Doubt(REOPENED.to_owned())),
        () if recipient.facts.binlog_filtered => Err(waits(
            "its binary log leaves out databases (binlog-do-db, binlog-ignore-db): what is not in it is not saved",
        )),
        () if waits_there => Err(waits("sessions wait there for replicas to acknowledge")),
        () if applies => Err(waits("it replicates")),
        () => Ok(()),
    }
}

/// Nobody may replicate from it, and no other address may lead to it. What the new primary had when it replaced it.
fn lonely<'a>(scene: &Scene<'a>, recipient: &Seen) -> Result<&'a GtidSet, Refusal> {
    let uuid = &recipient.look.identity.uuid;
    let replaced = scene.replaced.filter(|(replaced, _)| !uuid.is_empty() && replaced == uuid);
    let Some((_, promoted)) = replaced else {
        return Err(waits("the record of the failover does not say that it is the server which was replaced"));
    };
    if let Some(replica) = recipient.look.downstream.first() {
        return Err(waits(format!("{} replicates from it, or reads its binary logs", replica.host)));
    }
    for (addr, look) in scene.looks.iter().filter(|(addr, _)| **addr != scene.one.server) {
        let Ok(seen) = look else { continue };
        if seen.look.identity.uuid == *uuid {
            return Err(waits(format!("{addr} is the same server")));
        }
        let from = |channel: &super::observation::Channel| {
            channel.source.as_ref() == Some(&scene.one.server) || channel.source_uuid.as_ref() == Some(uuid)
        };
        if seen.look.channels.iter().any(from) {
            return Err(waits(format!("{addr} replicates from it")));
        }
    }
    Ok(promoted)
}

/// What it has received and not applied is discarded too.
fn received(recipient: &Seen, primary: &Seen) -> Result<(), Refusal> {
    let known = recipient.look.executed.union(&primary.look.executed);
    let lost = recipient.look.channels.iter().any(|channel| !known.contains(&channel.received));
    if lost { Err(waits("it has received transactions that nobody else is known to have")) } else { Ok(()) }
}

/// The plugin is never loaded by Baton: a server must be opened for that.
fn plugged(addr: &ServerAddr, facts: &Facts) -> Result<(), Refusal> {
    if facts.plugin {
        return Ok(());
    }
    Err(Refusal::Unfit(format!(
        "{addr} has not loaded the plugin clone: set plugin-load-add = mysql_clone.so in its configuration and restart \
         it (or, on a server that accepts writes: INSTALL PLUGIN clone SONAME 'mysql_clone.so')"
    )))
}

/// What the account lacks, with the statement that gives it. `alone`: the server gets nothing from the primary.
fn lacks(addr: &ServerAddr, facts: &Facts, rights: &[&str], alone: bool) -> Result<(), Refusal> {
    let missing: Vec<_> = rights.iter().filter(|right| !facts.rights.contains(**right)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let grant = format!("GRANT {} ON *.* TO {}", missing.join(", "), facts.account);
    let how = if alone {
        format!(
            "{grant} on all servers, before the failover; it gets nothing from the primary any more and must not be \
             opened: rebuild it by hand"
        )
    } else {
        format!("{grant}; on the primary, from where it gets there")
    };
    Err(Refusal::Unfit(format!("Baton's account lacks rights on {addr}: {how}")))
}

#[cfg(test)]
mod tests;
