//! How a server is while it is overwritten, and after it: found out from the server alone, so that whoever leads next
//! goes on with it.

use crate::core::{
    gtid::GtidSet,
    id::ServerAddr,
    observation::{Observation, Receiver},
    snapshot::extra,
};

/// What a server says about the newest copy that it received (`performance_schema.clone_status`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copying {
    /// `Not Started`, `In Progress`, `Completed` or `Failed`.
    pub state: String,
    /// The connection that does it, while there is one.
    pub session: Option<u64>,
    /// Since when that copy goes on, by the server's clock, in milliseconds.
    pub took_ms: u64,
    /// Why it failed; data.
    pub error: String,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// It is being copied, by this connection.
    Copying(u64),
    /// Nothing is copied, and it has what it had.
    Idle,
    /// It is copied, and has nothing of its own: it can be made a replica.
    Join,
    /// It replicates from the primary.
    Joined,
    /// It is copied, and what it has does not fit to the primary.
    Astray(GtidSet),
    /// It ended before it was done, with the reason. If that lasts: a server that shuts down after it shows the same.
    Broken(String),
    /// Nothing can be told from these looks.
    Unknown,
}

/// How far it is, by a look at the server and one at the primary after it. `before`: what only the server had
/// when it was written down that it is overwritten.
///
/// A server whose copy was broken off has lost its data and has an empty set: it seems to have nothing of its own.
#[must_use]
pub fn course(
    seen: &Observation,
    copying: Option<&Copying>,
    (addr, primary): (&ServerAddr, &Observation),
    before: Option<&GtidSet>,
) -> Course {
    let state = copying.map_or("", |copying| copying.state.as_str());
    let session = copying.and_then(|copying| copying.session);
    if let Some(session) = session.filter(|_| state == "In Progress") {
        return Course::Copying(session);
    }
    let error = copying.map(|copying| copying.error.as_str()).filter(|error| !error.is_empty());
    let broken = || Course::Broken(error.unwrap_or("it was broken off").to_owned());
    let Some(own) = extra(seen, primary) else { return Course::Unknown };
    match state {
        "Failed" | "In Progress" => broken(),
        _ if seen.executed.is_empty() => Course::Broken("it has no data any more".to_owned()),
        // What it says may be about an earlier copy.
        "Completed" if !own.is_empty() => match before {
            Some(before) if own == *before => Course::Idle,
            Some(_) => Course::Astray(own),
            None => Course::Unknown,
        },
        "Completed" if follows(seen, addr, primary) => Course::Joined,
        "Completed" => Course::Join,
        _ => Course::Idle,
    }
}

fn follows(seen: &Observation, addr: &ServerAddr, primary: &Observation) -> bool {
    seen.channels.iter().any(|channel| {
        let uuid = Some(primary.identity.uuid.as_str());
        let source = channel.source.as_ref() == Some(addr) || channel.source_uuid.as_deref() == uuid;
        source && channel.receiver != Receiver::Stopped && channel.applier_running
    })
}
