//! What a failure of the driver means: the difference between "no process", "no answer" and "alive
//! but unwilling" decides failovers, so it is made here, once.

use std::io::ErrorKind;

use mysql_async::{DriverError, Error, IoError};
use rustls::CertificateError;

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
    /// Statements of the text that were answered before.
    pub answered: usize,
}

impl SessionError {
    /// No answer in time.
    #[must_use]
    pub fn silent(what: &str, waited_ms: u64) -> Self {
        Self::new(FailureKind::Silent, &format!("no answer to {what} within {waited_ms} ms"))
    }

    /// A failure of a kind.
    #[must_use]
    pub fn new(kind: FailureKind, message: &str) -> Self {
        Self { kind, code: None, message: shorten(message), answered: 0 }
    }

    /// The same without the server's words, which may repeat a statement that holds a secret.
    #[must_use]
    pub fn without_words(self) -> Self {
        let code = self.code.unwrap_or_default();
        Self { message: format!("error {code}: the words are left out, for they may repeat a secret"), ..self }
    }

    /// Whether the account may not do or see what was asked: another account could.
    #[must_use]
    pub fn lacks_privilege(&self) -> bool {
        // Database, table, column, global privilege, routine, others' connections, and tables that are not there.
        matches!(self.code, Some(1044 | 1142 | 1143 | 1227 | 1370 | 1095 | 1109 | 1146 | 1193 | 1235))
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
                answered: 0,
            },
            Error::Io(IoError::Io(io)) => Self::new(io_kind(io), &io_words(io)),
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
        // Access denied (three ways), host not allowed, plugin not known to the client or the server,
        // password expired (two ways), account locked (MySQL, MariaDB).
        1044 | 1045 | 1698 | 1130 | 1251 | 1524 | 1820 | 1862 | 3118 | 4151 => FailureKind::Credentials,
        // Too many connections: of all, per account, of a resource; no memory; host blocked; no thread.
        1040 | 1203 | 1226 | 1041 | 1129 | 1135 => FailureKind::Saturated,
        // Only encrypted connections are let in.
        3159 => FailureKind::Tls,
        _ => FailureKind::Statement,
    }
}

fn io_kind(io: &std::io::Error) -> FailureKind {
    if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return FailureKind::Tls;
    }
    match io.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => FailureKind::Silent,
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::AddrNotAvailable
        | ErrorKind::NotFound => FailureKind::Address,
        // Packets that make no sense come as `Other`, for instance the banner of another service.
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => FailureKind::NotMysql,
        _ => FailureKind::Refused,
    }
}

fn io_words(io: &std::io::Error) -> String {
    if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls_words(tls);
    }
    match io.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        _ => io.to_string(),
    }
}

/// Without times: what is shown is the same with each attempt.
fn tls_words(tls: &rustls::Error) -> String {
    match tls {
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet".to_owned(),
        other => other.to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> SessionError {
        let error = mysql_async::ServerError { code, message: message.to_owned(), state: "HY000".to_owned() };
        Error::Server(error).into()
    }

    #[test]
    fn error_numbers_say_what_is_wrong() {
        for (code, kind) in [
            (1045, FailureKind::Credentials),
            (1698, FailureKind::Credentials),
            (1862, FailureKind::Credentials),
            (3118, FailureKind::Credentials),
            (1040, FailureKind::Saturated),
            (1203, FailureKind::Saturated),
            (1226, FailureKind::Saturated),
            (3159, FailureKind::Tls),
            (1053, FailureKind::Statement),
            (3032, FailureKind::Statement),
            (1227, FailureKind::Statement),
        ] {
            assert_eq!(server(code, "x").kind, kind, "{code}");
            assert!(server(code, "x").kind.alive(), "{code}");
        }
    }

    #[test]
    fn a_process_that_is_gone_is_not_one_that_hangs() {
        let io = |kind: ErrorKind| SessionError::from(Error::from(std::io::Error::from(kind))).kind;
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof] {
            assert_eq!(io(kind), FailureKind::Refused);
        }
        assert_eq!(io(ErrorKind::TimedOut), FailureKind::Silent);
        assert_eq!(io(ErrorKind::HostUnreachable), FailureKind::Address);
        let closed = Error::Driver(DriverError::ConnectionClosed);
        assert_eq!(SessionError::from(closed).kind, FailureKind::Refused);
    }

    /// An expired certificate would be told with the time of each attempt: a write to the API server every time.
    #[test]
    fn an_expired_certificate_is_told_in_the_same_words() {
        let expired = |second| {
            let at = |second| rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(second));
            let expired = CertificateError::ExpiredContext { time: at(second), not_after: at(1) };
            SessionError::from(Error::from(std::io::Error::other(rustls::Error::InvalidCertificate(expired))))
        };
        assert_eq!(expired(10), expired(11));
        let told = (expired(10).kind, expired(10).message.as_str() == "the server's certificate has expired");
        assert_eq!(told, (FailureKind::Tls, true));
    }

    #[test]
    fn a_long_or_hostile_message_is_one_short_line() {
        let error = server(1064, &"line\nbell\u{7}".repeat(100));
        assert_eq!(error.message.chars().count(), MESSAGE_MAX);
        assert!(!error.message.chars().any(char::is_control));
    }
}
