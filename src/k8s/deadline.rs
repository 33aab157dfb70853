//! A deadline around every call to the API server.
//!
//! The client library waits without limit for an answer and silently retries calls, POST included, for
//! minutes; neither may happen to an operator that has a second. [`configure`] turns the retries off,
//! [`within`] bounds the wait. A call that ended without an answer may still have been done: callers
//! read again and compare, and use names that are the same every time.

use std::{future::Future, time::Duration};

/// Longest wait for one call.
pub const CALL: Duration = Duration::from_secs(5);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time: whether it was done is unknown.
    #[error("cannot {what}: the api server did not answer within {ms} ms")]
    Timeout {
        /// What was to be done.
        what: &'static str,
        /// How long it was waited, in milliseconds.
        ms: u128,
    },
    /// An answer other than success, or no connection.
    #[error("cannot {what}: {}", in_words(error))]
    Api {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        error: kube::Error,
    },
}

/// The API server's own words where it answered.
fn in_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

impl CallError {
    /// The API server's status, where it answered.
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { error: kube::Error::Api(status), .. } => Some(status),
            Self::Api { .. } | Self::Timeout { .. } => None,
        }
    }

    /// The object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_not_found)
    }

    /// An object of this name is there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    /// The object was changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        !self.is_already_exists() && self.status().is_some_and(kube::core::Status::is_conflict)
    }

    /// Baton lacks the permission.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_forbidden)
    }

    /// It was surely not done, and doing it again would not help: the request itself was refused.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| (400..500).contains(&status.code) && status.code != 429)
    }
}

/// Makes a client configuration fit for an operator: no hidden retries, no long waits for a connection.
pub fn configure(config: &mut kube::Config) {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
}

/// Waits for `call` at most `budget`. `what` completes "cannot ...".
///
/// # Errors
/// [`CallError`].
pub async fn within<T>(
    budget: Duration,
    what: &'static str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(budget, call).await {
        Ok(result) => result.map_err(|error| CallError::Api { what, error }),
        Err(_) => Err(CallError::Timeout { what, ms: budget.as_millis() }),
    }
}

/// [`within`] the usual time, [`CALL`].
///
/// # Errors
/// [`CallError`].
pub async fn call<T>(what: &'static str, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    within(CALL, what, call).await
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;

    use super::*;
    use crate::testing::api_server::{ApiServer, Fault};

    #[tokio::test]
    async fn a_silent_server_costs_no_more_than_the_budget() {
        let server = ApiServer::new();
        server.set_faults(|_| Some(Fault::Hang));
        let api: Api<ConfigMap> = Api::default_namespaced(server.client());
        let error = within(Duration::from_millis(20), "read it", api.get("a")).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot read it: the api server did not answer within 20 ms");
        assert!(!error.is_refusal());
    }

    #[tokio::test]
    async fn refusals_are_told_from_unknown_outcomes() {
        let server = ApiServer::new();
        let api: Api<ConfigMap> = Api::default_namespaced(server.client());
        let error = call("read it", api.get("a")).await.unwrap_err();
        assert!(error.is_not_found() && error.is_refusal(), "{error}");
        server.set_faults(|_| Some(Fault::Refuse(503)));
        let error = call("read it", api.get("a")).await.unwrap_err();
        assert!(!error.is_not_found() && !error.is_refusal(), "{error}");
    }
}
