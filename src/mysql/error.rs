//! What a failure of the driver means: the difference between "no process", "no answer" and "alive
//! but unwilling" decides failovers, so it is made here, once.

use std::io::ErrorKind;

use mysql_async::{DriverError, Error, IoError};

use crate::core::{
    observation::{Failure, FailureKind},
    time::Mono,
};

/// Longest message kept, in characters.
const MESSAGE_MAX: usize = 300;

/// A failed exchange with a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SessionError {
    /// What it means.
    pub kind: FailureKind,
    /// MySQL error number where the server answered with one.
    pub code: Option<u16>,
    /// In words, bounded, without secrets.
    pub message: String,
}

impl SessionError {
    /// No answer in time.
    #[must_use]
    pub fn silent(what: &str, waited_ms: u64) -> Self {
        Self { kind: FailureKind::Silent, code: None, message: format!("no answer to {what} within {waited_ms} ms") }
    }

    /// A failure of a kind.
    #[must_use]
    pub fn new(kind: FailureKind, message: &str) -> Self {
        Self { kind, code: None, message: shorten(message) }
    }

    /// As the core records it.
    #[must_use]
    pub fn failure(&self, at: Mono) -> Failure {
        Failure { at, kind: self.kind, message: self.message.clone() }
    }
}

impl From<Error> for SessionError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Server(server) => Self {
                kind: server_kind(server.code),
                code: Some(server.code),
                message: shorten(&format!("error {}: {}", server.code, server.message)),
            },
            Error::Io(IoError::Io(io)) => Self::new(io_kind(io.kind()), &io_words(io)),
            Error::Io(IoError::Tls(tls)) => Self::new(FailureKind::Tls, &format!("TLS: {tls}")),
            Error::Driver(driver) => Self::new(driver_kind(driver), &driver_words(driver)),
            Error::Other(other) => Self::new(FailureKind::NotMysql, &format!("not a MySQL answer: {other}")),
            Error::Url(_) => Self::new(FailureKind::Address, "unusable address"),
        }
    }
}

/// Error numbers of MySQL and MariaDB by what they say about the server.
fn server_kind(code: u16) -> FailureKind {
    match code {
        // Access denied, account locked, password expired, host not allowed, plugin not loaded.
        1044 | 1045 | 1130 | 1251 | 1524 | 1698 | 1820 | 1862 | 3118 | 3159 => FailureKind::Credentials,
        // Too many connections, per account, out of resources.
        1040 | 1041 | 1129 | 1135 | 1203 | 1226 => FailureKind::Saturated,
        _ => FailureKind::Statement,
    }
}

fn io_kind(kind: ErrorKind) -> FailureKind {
    match kind {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => FailureKind::Silent,
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::AddrNotAvailable
        | ErrorKind::NotFound => FailureKind::Address,
        // Packets that make no sense come as `Other`.
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => FailureKind::NotMysql,
        _ => FailureKind::Refused,
    }
}

fn io_words(io: &std::io::Error) -> String {
    match io.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        _ => io.to_string(),
    }
}

fn driver_kind(driver: &DriverError) -> FailureKind {
    match driver {
        DriverError::ConnectionClosed | DriverError::PoolDisconnected => FailureKind::Refused,
        DriverError::UnknownAuthPlugin { .. } => FailureKind::Credentials,
        DriverError::NoClientSslFlagFromServer => FailureKind::Tls,
        _ => FailureKind::NotMysql,
    }
}

fn driver_words(driver: &DriverError) -> String {
    match driver {
        DriverError::ConnectionClosed => "connection closed".to_owned(),
        DriverError::NoClientSslFlagFromServer => "the server offers no TLS".to_owned(),
        DriverError::UnknownAuthPlugin { name } => format!("unknown authentication plugin {name:?}"),
        // The others carry packets and values, which may hold anything.
        _ => "the answer is not one of a MySQL server".to_owned(),
    }
}

/// One line, bounded.
fn shorten(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect()
}
