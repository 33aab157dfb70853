//! Objects, their versions and their changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    merge::{merge_patch, prune},
    request::{Key, Parsed},
};

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub code: u16,
    reason: String,
    message: String,
}

impl Failure {
    pub(super) fn new(code: u16, reason: &str, message: &str) -> Self {
        Self { code, reason: reason.to_owned(), message: message.to_owned() }
    }

    pub(super) fn not_found(key: &Key) -> Self {
        Self::new(404, "NotFound", &format!("{} \"{}\" not found", key.resource, key.name))
    }

    /// A fault with the reason that goes with its HTTP status.
    pub(super) fn injected(code: u16, message: &str) -> Self {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            422 => "Invalid",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        };
        Self::new(code, reason, message)
    }

    fn conflict(key: &Key) -> Self {
        Self::new(409, "Conflict", &format!("{} \"{}\": the object has been modified", key.resource, key.name))
    }

    pub(super) fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}

/// One change of one object.
#[derive(Debug, Clone)]
pub(super) struct Change {
    version: u64,
    key: Key,
    old: Option<Value>,
    new: Option<Value>,
}

impl Change {
    /// The watch event that `wanted` gets of it.
    pub(super) fn event(&self, wanted: &Parsed) -> Option<Value> {
        let seen = |object: &&Value| wanted.wants(&self.key, object);
        let (old, new) = (self.old.as_ref().filter(seen), self.new.as_ref().filter(seen));
        let (kind, object) = match (old, new) {
            (None, None) => return None,
            (None, Some(new)) => ("ADDED", new.clone()),
            (Some(_), Some(new)) => ("MODIFIED", new.clone()),
            (Some(old), None) => {
                let mut last = self.new.clone().unwrap_or_else(|| old.clone());
                set_meta(&mut last, "resourceVersion", json!(self.version.to_string()));
                ("DELETED", last)
            }
        };
        (self.version > wanted.resource_version).then(|| json!({ "type": kind, "object": object }))
    }
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<Key, Value>,
    applied: BTreeMap<(Key, String), Value>,
    log: Vec<Change>,
    version: u64,
    compacted: u64,
    uids: u64,
}

type Changed = Result<(Value, Change), Failure>;

fn set_meta(object: &mut Value, field: &str, value: Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert(field.to_owned(), value);
    }
}

fn meta<'a>(object: &'a Value, field: &str) -> &'a Value {
    object.get("metadata").and_then(|meta| meta.get(field)).unwrap_or(&Value::Null)
}

/// Custom resources here have a status subresource.
fn has_status(object: &Value) -> bool {
    object.get("apiVersion").and_then(Value::as_str).is_some_and(|version| version.starts_with(crate::api::GROUP))
}

fn set_or_remove(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(object) = object.as_object_mut() else { return };
    match value {
        Some(value) => drop(object.insert(field.to_owned(), value)),
        None => drop(object.remove(field)),
    }
}

impl Store {
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn compact(&mut self) {
        self.log.clear();
        self.compacted = self.version;
    }

    pub(super) fn get(&self, key: &Key) -> Option<Value> {
        self.objects.get(key).cloned()
    }

    pub(super) fn list<'a>(&'a self, parsed: &'a Parsed) -> impl Iterator<Item = Value> + 'a {
        self.objects.iter().filter(|(key, object)| parsed.wants(key, object)).map(|(_, object)| object.clone())
    }

    /// Changes after `version`; `None`: forgotten.
    pub(super) fn since(&self, version: u64) -> Option<Vec<Change>> {
        let missed = || self.log.iter().filter(|change| change.version > version).cloned().collect();
        (version >= self.compacted).then(missed)
    }

    /// Stores what is given, with the next version.
    fn write(&mut self, key: Key, mut object: Value) -> (Value, Change) {
        self.version += 1;
        set_meta(&mut object, "resourceVersion", json!(self.version.to_string()));
        let old = self.objects.insert(key.clone(), object.clone());
        let change = Change { version: self.version, key, old, new: Some(object.clone()) };
        self.log.push(change.clone());
        (object, change)
    }

    /// An update that changes nothing is no change, as in a real API server.
    fn update(&mut self, key: &Key, old: &Value, mut new: Value) -> Changed {
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
            set_meta(&mut new, field, meta(old, field).clone());
        }
        if new == *old {
            let change =
                Change { version: self.version, key: key.clone(), old: Some(old.clone()), new: Some(old.clone()) };
            return Ok((new, change));
        }
        if new.get("spec") != old.get("spec") {
            set_meta(&mut new, "generation", json!(meta(old, "generation").as_u64().unwrap_or_default() + 1));
        }
        Ok(self.write(key.clone(), new))
    }

    pub(super) fn put(&mut self, key: Key, object: Value) -> (Value, Change) {
        match self.objects.get(&key).cloned() {
            Some(old) => {
                let unchanged = Change { version: self.version, key: key.clone(), old: None, new: None };
                self.update(&key, &old, object).unwrap_or((old, unchanged))
            }
            None => {
                let object = self.with_identity(&key, object);
                self.write(key, object)
            }
        }
    }

    fn with_identity(&mut self, key: &Key, mut object: Value) -> Value {
        self.uids += 1;
        if !object.get("metadata").is_some_and(Value::is_object) {
            set_or_remove(&mut object, "metadata", Some(json!({})));
        }
        set_meta(&mut object, "name", json!(key.name));
        if !key.namespace.is_empty() {
            set_meta(&mut object, "namespace", json!(key.namespace));
        }
        let uid = format!("00000000-0000-0000-0000-{:012}", self.uids);
        for (field, value) in
            [("uid", json!(uid)), ("creationTimestamp", json!("2026-01-01T00:00:00Z")), ("generation", json!(1))]
        {
            if meta(&object, field).is_null() {
                set_meta(&mut object, field, value);
            }
        }
        object
    }

    pub(super) fn create(&mut self, key: Key, mut object: Value) -> Changed {
        if self.objects.contains_key(&key) {
            let message = format!("{} \"{}\" already exists", key.resource, key.name);
            return Err(Failure::new(409, "AlreadyExists", &message));
        }
        if has_status(&object) {
            set_or_remove(&mut object, "status", None);
        }
        let object = self.with_identity(&key, object);
        Ok(self.write(key, object))
    }

    pub(super) fn replace(&mut self, key: &Key, body: &Value, status_only: bool) -> Changed {
        let old = self.get(key).ok_or_else(|| Failure::not_found(key))?;
        let version = meta(body, "resourceVersion");
        if !version.is_null() && version != meta(&old, "resourceVersion") {
            return Err(Failure::conflict(key));
        }
        let new = Self::side(&old, body, status_only);
        self.update(key, &old, new)
    }

    /// `new` as far as this side of the object may be written.
    fn side(old: &Value, new: &Value, status_only: bool) -> Value {
        let mut result = if status_only { old.clone() } else { new.clone() };
        if status_only {
            set_or_remove(&mut result, "status", new.get("status").cloned());
        } else if has_status(old) {
            set_or_remove(&mut result, "status", old.get("status").cloned());
        }
        result
    }

    pub(super) fn merge(&mut self, key: &Key, patch: &Value, status_only: bool) -> Changed {
        let old = self.get(key).ok_or_else(|| Failure::not_found(key))?;
        let version = meta(patch, "resourceVersion");
        if !version.is_null() && version != meta(&old, "resourceVersion") {
            return Err(Failure::conflict(key));
        }
        let mut new = old.clone();
        merge_patch(&mut new, patch);
        let new = Self::side(&old, &new, status_only);
        self.update(key, &old, new)
    }

    pub(super) fn apply(&mut self, key: &Key, wanted: &Value, status_only: bool, manager: &str) -> Changed {
        let side = if status_only { format!("{manager}/status") } else { manager.to_owned() };
        let before = self.applied.insert((key.clone(), side), wanted.clone()).unwrap_or(Value::Null);
        let Some(old) = self.get(key) else {
            return if status_only { Err(Failure::not_found(key)) } else { self.create(key.clone(), wanted.clone()) };
        };
        let mut new = old.clone();
        prune(&mut new, &before, wanted);
        merge_patch(&mut new, wanted);
        let new = Self::side(&old, &new, status_only);
        self.update(key, &old, new)
    }

    pub(super) fn delete(&mut self, key: &Key, options: &Value) -> Changed {
        let old = self.get(key).ok_or_else(|| Failure::not_found(key))?;
        for field in ["uid", "resourceVersion"] {
            let wanted = options.get("preconditions").and_then(|wanted| wanted.get(field));
            if wanted.is_some_and(|wanted| wanted != meta(&old, field)) {
                return Err(Failure::conflict(key));
            }
        }
        self.objects.remove(key);
        self.applied.retain(|(applied, _), _| applied != key);
        self.version += 1;
        let change = Change { version: self.version, key: key.clone(), old: Some(old), new: None };
        self.log.push(change.clone());
        Ok((json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }), change))
    }
}
