//! What an analysis rests on: who showed what and when, as short exact sentences (I11).
//!
//! Words of servers are data: only error numbers of replication threads are quoted, and reasons of
//! failed looks after control characters were taken out and their length bounded.

use serde::{Deserialize, Serialize};

use crate::core::{
    id::ServerAddr,
    observation::{Channel, Failure, FailureKind, Receiver},
    snapshot::ServerState,
    time::Mono,
};

/// Longest reason quoted, in characters.
const REASON_LEN_MAX: usize = 160;

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// The server that was looked at.
    pub server: ServerAddr,
    /// What the look showed, as a sentence without full stop.
    pub saw: String,
    /// When.
    pub at: Mono,
}

impl Evidence {
    pub(in crate::core) fn new(server: &ServerAddr, at: Mono, saw: impl Into<String>) -> Self {
        Self { server: server.clone(), saw: saw.into(), at }
    }

    /// A new connection that was not taken.
    pub(super) fn new_connection(server: &ServerAddr, failure: &Failure) -> Self {
        Self::new(server, failure.at, format!("a new connection failed: {}", reason(failure)))
    }

    /// A failed look at a server, however many failed before.
    pub(super) fn of_one_failure(server: &ServerAddr, failure: &Failure) -> Self {
        Self::new(server, failure.at, in_words(failure, ""))
    }

    /// The newest failed look at a server.
    pub(super) fn of_failure(server: &ServerAddr, state: &ServerState) -> Vec<Self> {
        let saw = |failure: &Failure| Self::new(server, failure.at, failed(failure, state.failures));
        state.failure.as_ref().map(saw).into_iter().collect()
    }
}

fn failed(failure: &Failure, failures: u32) -> String {
    let times = if failures == 1 { " (1 look)".to_owned() } else { format!(" ({failures} looks)") };
    in_words(failure, &times)
}

fn in_words(failure: &Failure, times: &str) -> String {
    let what = match failure.kind {
        FailureKind::Refused => "refuses connections",
        FailureKind::Silent => "does not answer in time",
        FailureKind::Address => "cannot be reached by its address",
        FailureKind::Credentials => "is alive but refuses the credentials",
        FailureKind::Saturated => "is alive but has too many connections",
        FailureKind::Tls => "is alive but no TLS session could be made",
        FailureKind::NotMysql => "answers but does not speak MySQL",
        FailureKind::Statement => "is alive but refuses the statements of a look",
    };
    let reason = reason(failure);
    if reason.is_empty() { format!("{what}{times}") } else { format!("{what}{times}: {reason}") }
}

fn reason(failure: &Failure) -> String {
    failure.message.chars().filter(|c| !c.is_control()).take(REASON_LEN_MAX).collect()
}

/// A channel's receiver in words.
pub(super) fn receiver(channel: &Channel) -> String {
    let error = channel.receiver_error.as_ref().map(|error| format!(" with error {}", error.code));
    let error = error.unwrap_or_default();
    match channel.receiver {
        Receiver::Running => "its receiver runs".to_owned(),
        Receiver::Connecting => format!("its receiver tries to connect{error}"),
        Receiver::Stopped => format!("its receiver is stopped{error}"),
    }
}

/// Why a replica does not replicate, in words; `None`: it does.
pub(super) fn not_replicating(channel: &Channel) -> Option<String> {
    if channel.receiver != Receiver::Running {
        return Some(receiver(channel));
    }
    let error = channel.applier_error.as_ref().map(|error| format!(" with error {}", error.code));
    (!channel.applier_running).then(|| format!("its applier is stopped{}", error.unwrap_or_default()))
}
