//! Names of things: servers by address, clusters by namespace and name, reigns by epoch.
//!
//! Addresses come from people and from servers, so they are parsed against a strict grammar before
//! anything else sees them (safety.md, "Input that cannot be trusted").

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest host name the DNS allows (RFC 1035), and so the longest we accept.
const HOST_LEN_MAX: usize = 253;

/// A server's address as `host:port`; IPv6 hosts are kept without brackets and printed with them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerAddr {
    host: String,
    port: u16,
}

/// Why a text is no server address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    /// The host is empty, too long, or has a character that no host name or IP address has.
    #[error("host is not a host name or IP address: {0:?}")]
    Host(String),
    /// The port is missing or not in 1..=65535.
    #[error("port is not a number from 1 to 65535: {0:?}")]
    Port(String),
}

impl ServerAddr {
    /// Checks `host` against the grammar of host names and IP addresses.
    ///
    /// # Errors
    /// [`AddrError`] when the host or the port cannot be an address.
    pub fn new(host: &str, port: u16) -> Result<Self, AddrError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if port == 0 {
            return Err(AddrError::Port("0".to_owned()));
        }
        if !is_host(host) {
            return Err(AddrError::Host(host.chars().take(HOST_LEN_MAX).collect()));
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }

    /// Host name or IP address, lower case, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn is_host(host: &str) -> bool {
    let name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let starts_well = host.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let is_ip = host.parse::<std::net::IpAddr>().is_ok();
    is_ip || (host.len() <= HOST_LEN_MAX && starts_well && host.chars().all(name_char))
}

/// Whether a server's word for its cluster can be one: the grammar of `spec.clusterName`.
#[must_use]
pub fn is_cluster_name(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.len() <= 63 && ends(text.chars().next()) && ends(text.chars().last()) && text.chars().all(inner)
}

/// Whether a server's word for its domain can be one: a DNS name.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-');
    text.len() <= HOST_LEN_MAX && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ServerAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| AddrError::Port(String::new()))?;
        let port = port.parse().map_err(|_| AddrError::Port(port.to_owned()))?;
        Self::new(host, port)
    }
}

impl TryFrom<String> for ServerAddr {
    type Error = AddrError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServerAddr> for String {
    fn from(addr: ServerAddr) -> Self {
        addr.to_string()
    }
}

/// A `MysqlCluster` object: namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterKey {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Object name.
    pub name: String,
}

impl fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Number of a cluster's reign: grows by one with every change of primary, never falls (I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The reign after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_servers_tell_are_checked() {
        for good in ["shop", "Shop-2.eu_west"] {
            assert!(is_cluster_name(good), "{good}");
        }
        for bad in ["", "-shop", "shop.", "sh op", "$(id)", "a'b", "<b>", "sh\nop", &"x".repeat(64)] {
            assert!(!is_cluster_name(bad), "{bad}");
        }
        for good in ["shop-db.example", "_mysql._tcp.shop.example."] {
            assert!(is_domain(good), "{good}");
        }
        for bad in ["", ".", "a..b", "-a.example", "a b", "$(id).example", "a/b", &"x".repeat(64)] {
            assert!(!is_domain(bad), "{bad}");
        }
    }

    #[test]
    fn addresses_round_trip() {
        for text in ["db-1.example:3306", "10.0.0.7:3307", "[2001:db8::1]:3306"] {
            assert_eq!(text.parse::<ServerAddr>().unwrap().to_string(), text);
        }
        assert_eq!("DB.Example:1".parse::<ServerAddr>().unwrap().host(), "db.example");
    }

    #[test]
    fn hostile_addresses_are_refused() {
        let long = format!("{}:1", "a".repeat(254));
        for text in
            ["", "a", "a:", "a:0", "a:70000", ":1", "-a:1", "a'b:1", "$(x):1", "a\nb:1", "a b:1", "//a:1", &long]
        {
            assert!(text.parse::<ServerAddr>().is_err(), "{text:?}");
        }
    }
}
