//! Clients of the API server for purposes that the ordinary one does not fit.

use std::time::Duration;

use kube::Config;

use crate::core::election::Timing;

/// The settings of a client that only keeps the Lease: nothing is repeated behind the elector's back, and
/// nothing waits longer than an attempt or, for a watch without events, than a lease.
#[must_use]
pub fn lease_config(mut config: Config, timing: Timing) -> Config {
    let attempt = Duration::from_millis(timing.retry_ms());
    config.default_retry = false;
    config.connect_timeout = Some(attempt);
    config.write_timeout = Some(attempt);
    config.read_timeout = Some(Duration::from_millis(timing.lease_ms()));
    // Otherwise the idle time of a pooled connection counts against the next answer on it.
    config.reset_reader_on_write = true;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_retried_and_everything_ends() {
        let config = lease_config(Config::new("https://127.0.0.1:1".parse().unwrap()), Timing::FAST);
        assert!(!config.default_retry);
        assert_eq!(config.connect_timeout, Some(Duration::from_millis(400)));
        assert_eq!(config.write_timeout, Some(Duration::from_millis(400)));
        assert_eq!(config.read_timeout, Some(Duration::from_secs(3)));
        assert!(config.reset_reader_on_write);
    }
}
