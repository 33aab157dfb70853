//! What a request asks for.

use std::collections::BTreeMap;

use axum::http::{Method, request::Parts};
use serde_json::Value;

use super::labels;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Plural of the kind.
    pub resource: String,
    /// Namespace; empty for objects without.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    pub(super) fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self { resource: resource.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// GET of one object.
    Get,
    /// GET of many.
    List,
    /// GET that goes on.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Replace,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// A call as it is remembered and as faults see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// What is done.
    pub verb: Verb,
    /// Plural of the kind.
    pub resource: String,
    /// Namespace; empty for none or all.
    pub namespace: String,
    /// Name; empty for many.
    pub name: String,
    /// Subresource.
    pub subresource: Option<String>,
}

impl Call {
    /// Whether it changes anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// A request, parsed.
#[derive(Debug, Clone)]
pub(in crate::testing) struct Parsed {
    pub(super) verb: Verb,
    pub(super) api_version: String,
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) subresource: Option<String>,
    pub(super) resource_version: u64,
    pub(super) apply: bool,
    pub(super) manager: String,
    requirements: Vec<Requirement>,
    field_name: Option<String>,
}

/// One part of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

impl Parsed {
    pub(super) fn key(&self, body: &Value) -> Key {
        let name = if self.name.is_empty() { body.pointer("/metadata/name").and_then(Value::as_str) } else { None };
        Key::new(&self.resource, &self.namespace, name.unwrap_or(&self.name))
    }

    pub(in crate::testing) fn call(&self, body: &Value) -> Call {
        let key = self.key(body);
        Call {
            verb: self.verb,
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            name: key.name,
            subresource: self.subresource.clone(),
        }
    }

    /// Whether a list or watch is about the object.
    pub(super) fn wants(&self, key: &Key, object: &Value) -> bool {
        let labels = labels(object);
        key.resource == self.resource
            && (self.namespace.is_empty() || key.namespace == self.namespace)
            && self.field_name.as_ref().is_none_or(|name| *name == key.name)
            && self.requirements.iter().all(|requirement| requirement.holds(&labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<&str, &str>) -> bool {
        let among = |key: &String, values: &[String]| {
            labels.get(key.as_str()).is_some_and(|value| values.iter().any(|one| one == value))
        };
        match self {
            Self::In(key, values) => among(key, values),
            Self::NotIn(key, values) => !among(key, values),
            Self::Exists(key) => labels.contains_key(key.as_str()),
            Self::Missing(key) => !labels.contains_key(key.as_str()),
        }
    }
}

pub(in crate::testing) fn parse(head: &Parts) -> Option<Parsed> {
    let mut path = head.uri.path().trim_matches('/').split('/');
    let api_version = match path.next()? {
        "api" => path.next()?.to_owned(),
        "apis" => format!("{}/{}", path.next()?, path.next()?),
        _ => return None,
    };
    let rest: Vec<&str> = path.collect();
    let (namespace, rest) = match rest.as_slice() {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let resource = (*rest.first()?).to_owned();
    let name = rest.get(1).copied().unwrap_or_default();
    let query = query(head.uri.query().unwrap_or_default());
    let get = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
    let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Some(Parsed {
        verb: verb(&head.method, name, get("watch"))?,
        api_version,
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: rest.get(2).map(|text| (*text).to_owned()),
        resource_version: get("resourceVersion").parse().unwrap_or_default(),
        apply: content_type.starts_with("application/apply-patch"),
        manager: get("fieldManager").to_owned(),
        requirements: requirements(get("labelSelector")),
        field_name: get("fieldSelector").strip_prefix("metadata.name=").map(str::to_owned),
    })
}

fn verb(method: &Method, name: &str, watch: &str) -> Option<Verb> {
    Some(match *method {
        Method::GET if matches!(watch, "true" | "1") => Verb::Watch,
        Method::GET if name.is_empty() => Verb::List,
        Method::GET => Verb::Get,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Replace,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ => return None,
    })
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (unescape(key), unescape(value))).collect()
}

/// Percent-decoding, `+` standing for a space.
fn unescape(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, joined by commas.
fn requirements(text: &str) -> Vec<Requirement> {
    let mut depth = 0;
    let parts = text.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).map(requirement).collect()
}

fn requirement(part: &str) -> Requirement {
    let one = |key: &str, value: &str| (key.trim().to_owned(), vec![value.trim().to_owned()]);
    let many = |key: &str, values: &str| {
        let values = values.trim_end_matches(')').split(',').map(|value| value.trim().to_owned());
        (key.trim().to_owned(), values.collect())
    };
    if let Some((key, values)) = part.split_once(" notin (") {
        let (key, values) = many(key, values);
        Requirement::NotIn(key, values)
    } else if let Some((key, values)) = part.split_once(" in (") {
        let (key, values) = many(key, values);
        Requirement::In(key, values)
    } else if let Some((key, value)) = part.split_once("!=") {
        let (key, values) = one(key, value);
        Requirement::NotIn(key, values)
    } else if let Some((key, value)) = part.split_once('=') {
        let (key, values) = one(key, value.trim_start_matches('='));
        Requirement::In(key, values)
    } else if let Some(key) = part.strip_prefix('!') {
        Requirement::Missing(key.trim().to_owned())
    } else {
        Requirement::Exists(part.to_owned())
    }
}
