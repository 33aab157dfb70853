//! Secrets by name in the namespace of the object that names them: never listed, never watched, so
//! Baton needs no more than `get` on the Secrets it is pointed at. They are read again every few
//! seconds; a changed one is used at once.

use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use secrecy::SecretString;

use super::deadline::{CallError, call};

/// A Secret as it was read. Equal when it is the same version; its content never prints.
#[derive(Clone)]
pub struct Loaded {
    name: String,
    version: (String, String),
    content: std::sync::Arc<Secret>,
}

impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.version == other.version
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {} at {}", self.name, self.version.1)
    }
}

/// Why a Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is not there.
    #[error("secret {0} does not exist in this namespace: create it, or correct the reference")]
    Missing(String),
    /// Baton may not read it.
    #[error("secret {0} may not be read: allow `get` on it to Baton's service account")]
    Forbidden(String),
    /// It lacks a key.
    #[error("secret {name} has no key {key}")]
    NoKey {
        /// Its name.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// A value is no text.
    #[error("secret {name}: the value of {key} is not text in utf-8")]
    NotText {
        /// Its name.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl SecretError {
    /// One word for conditions, Events and metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Missing(_) => "SecretMissing",
            Self::Forbidden(_) => "SecretForbidden",
            Self::NoKey { .. } | Self::NotText { .. } => "SecretIncomplete",
            Self::Call(_) => "ApiUnavailable",
        }
    }
}

/// Reads the Secret `name`.
///
/// # Errors
/// [`SecretError`].
pub async fn fetch(api: &Api<Secret>, name: &str) -> Result<Loaded, SecretError> {
    match call("read the Secret", api.get(name)).await {
        Ok(secret) => {
            let version = (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
            Ok(Loaded { name: name.to_owned(), version, content: secret.into() })
        }
        Err(error) if error.is_not_found() => Err(SecretError::Missing(name.to_owned())),
        Err(error) if error.is_forbidden() => Err(SecretError::Forbidden(name.to_owned())),
        Err(error) => Err(error.into()),
    }
}

impl Loaded {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of a key.
    ///
    /// # Errors
    /// [`SecretError::NoKey`].
    pub fn bytes(&self, key: &'static str) -> Result<Vec<u8>, SecretError> {
        let found = self.content.data.as_ref().and_then(|data| data.get(key));
        let found = found.ok_or_else(|| SecretError::NoKey { name: self.name.clone(), key })?;
        Ok(found.0.clone())
    }

    /// The text of a key that must be there; a line break at its end is not part of it.
    ///
    /// # Errors
    /// [`SecretError::NoKey`], [`SecretError::NotText`].
    pub fn text(&self, key: &'static str) -> Result<SecretString, SecretError> {
        let not_text = |_| SecretError::NotText { name: self.name.clone(), key };
        let text = String::from_utf8(self.bytes(key)?).map_err(not_text)?;
        Ok(SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// The text of a key that may be missing.
    ///
    /// # Errors
    /// [`SecretError::NotText`].
    pub fn text_opt(&self, key: &'static str) -> Result<Option<SecretString>, SecretError> {
        match self.text(key) {
            Ok(text) => Ok(Some(text)),
            Err(SecretError::NoKey { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;
    use crate::testing::api_server::{ApiServer, Fault};

    /// `data` is base64.
    fn put(server: &ApiServer, data: &serde_json::Value) {
        server.put(
            "secrets",
            &json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "namespace": "default" }, "data": data }),
        );
    }

    #[tokio::test]
    async fn values_are_read_and_never_printed() {
        let server = ApiServer::new();
        put(&server, &json!({ "username": "YmF0b24K", "password": "aHVudGVyMg==", "binary": "/w==" }));
        let api = Api::default_namespaced(server.client());
        let loaded = fetch(&api, "s").await.unwrap();
        assert_eq!(loaded.text("username").unwrap().expose_secret(), "baton", "without the line break");
        assert!(!format!("{loaded:?} {:?}", loaded.text("password")).contains("hunter2"));
        assert_eq!(loaded.text("nothing").unwrap_err().to_string(), "secret s has no key nothing");
        assert_eq!(loaded.text("binary").unwrap_err().category(), "SecretIncomplete");
        assert_eq!(loaded, fetch(&api, "s").await.unwrap());
        put(&server, &json!({ "username": "YmF0b24K", "password": "bmV3" }));
        assert_ne!(loaded, fetch(&api, "s").await.unwrap());
    }

    #[tokio::test]
    async fn reasons_are_told_apart() {
        let server = ApiServer::new();
        let api = Api::default_namespaced(server.client());
        assert_eq!(fetch(&api, "s").await.unwrap_err().category(), "SecretMissing");
        server.set_faults(|_| Some(Fault::Refuse(403)));
        assert_eq!(fetch(&api, "s").await.unwrap_err().category(), "SecretForbidden");
        server.set_faults(|_| Some(Fault::Refuse(503)));
        assert_eq!(fetch(&api, "s").await.unwrap_err().category(), "ApiUnavailable");
    }
}
