//! How a look fails, and what that says.

use serde::{Deserialize, Serialize};

use crate::core::time::Mono;

/// How a look failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureKind {
    /// Refused, reset or closed: no process serves the port.
    Refused,
    /// No answer in time: hung, cut off, or only slow.
    Silent,
    /// Wrong user or password: alive.
    Credentials,
    /// Too many connections: alive.
    Saturated,
    /// TLS could not be agreed on or verified: alive.
    Tls,
    /// Something answers that does not speak MySQL.
    NotMysql,
    /// The name does not resolve, or there is no route.
    Address,
    /// The server refused the statements (privileges, shutting down, offline): alive.
    Statement,
}

impl FailureKind {
    /// Whether a process answered, so that the server is not dead whatever else is wrong.
    #[must_use]
    pub fn alive(self) -> bool {
        !matches!(self, Self::Refused | Self::Silent | Self::Address)
    }

    /// One word for conditions.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused => "ConnectionRefused",
            Self::Silent => "NoAnswer",
            Self::Credentials => "WrongCredentials",
            Self::Saturated => "TooManyConnections",
            Self::Tls => "TlsMismatch",
            Self::NotMysql => "NotMysql",
            Self::Address => "UnknownHost",
            Self::Statement => "StatementRefused",
        }
    }

    /// What to look at, for people.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Refused => "is MySQL running there, and is the port right?",
            Self::Silent => "is the server hung, or does a firewall drop what Baton sends?",
            Self::Credentials => "check the Secret of spec.credentials, and the hosts that the account may come from",
            Self::Saturated => "raise max_connections, or end connections",
            Self::Tls => "check spec.tls and the server's certificates",
            Self::NotMysql => "something else answers: check the port",
            Self::Address => "check the name, or name the server by its IP address",
            Self::Statement => "check what Baton's account may do",
        }
    }
}

/// A failed look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When it failed.
    pub at: Mono,
    /// How.
    pub kind: FailureKind,
    /// The reason in words, without secrets.
    pub message: String,
}

impl Failure {
    /// The reason as it is shown: the same words while it is the same kind of failure, for attempts at
    /// one server take turns in what they wait for and how long.
    #[must_use]
    pub fn shown(&self) -> &str {
        match self.kind {
            FailureKind::Silent => "no answer in time",
            FailureKind::Address => "its name does not resolve, or there is no route to it",
            _ => &self.message,
        }
    }
}
