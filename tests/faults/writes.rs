//! What the operators write to the API server: counted, and listed with what each write changed.

use std::{collections::BTreeMap, time::Duration};

use baton::testing::{
    api_proxy::Written,
    api_server::{Call, Verb},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::stage::{PATIENCE, Stage};

/// Without a write for this long everything is as it was: ordinary ones come a second after each other.
const QUIET: Duration = Duration::from_secs(3);
/// Longest value that is listed, in characters.
const VALUE_MAX: usize = 120;

/// Writes since the fault, the Lease aside.
#[derive(Debug, Clone, Copy, Default)]
pub struct Writes {
    /// To objects until the fault was dealt with.
    pub failover: usize,
    /// To objects after that: what was lost comes back.
    pub after: usize,
    /// Events.
    pub events: usize,
}

impl Stage {
    /// Starts a server again that was lost.
    pub async fn bring_back(&mut self, index: usize) -> anyhow::Result<()> {
        self.returned.get_or_insert_with(Instant::now);
        self.server_mut(index).restart().await?;
        Ok(())
    }

    /// All writes of all operators until now, the oldest first.
    pub fn written(&self) -> Vec<Written> {
        let mut all: Vec<_> = self.pods.iter().flat_map(|pod| pod.api.writes()).collect();
        all.sort_by_key(|one| one.at);
        all
    }

    /// Waits until nothing is written any more.
    pub async fn settled(&self) {
        let started = Instant::now();
        let rests = |all: &[Written]| all.last().is_none_or(|last| last.at.elapsed() > QUIET);
        while !rests(&self.written()) && started.elapsed() < PATIENCE {
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Counts what was written since the fault.
    pub fn counted(&self) -> Writes {
        let mut count = Writes::default();
        for one in self.written().iter().filter(|one| one.at >= self.since.1) {
            match self.returned {
                _ if one.call.resource == "events" => count.events += 1,
                Some(at) if one.at >= at => count.after += 1,
                _ => count.failover += 1,
            }
        }
        count
    }

    /// What was written since the fault, a line each: when, what, and what was different from the write before it.
    pub fn listed(&self) -> Vec<String> {
        let mut before = BTreeMap::<(String, String), Value>::new();
        let mut lines = Vec::new();
        for Written { at, call, body } in self.written() {
            let stored = (call.resource.clone(), call.name.clone());
            let old = before.insert(stored, body.clone()).unwrap_or_default();
            let Some(after) = at.checked_duration_since(self.since.1) else { continue };
            let mut changes = Vec::new();
            if call.resource != "events" {
                differences("", &old, &body, &mut changes);
            }
            lines.push(format!("{:>6} ms {}", after.as_millis(), named(&call)));
            lines.extend(changes.into_iter().map(|change| format!("            {change}")));
        }
        lines
    }
}

fn named(call: &Call) -> String {
    let Call { verb, resource, name, subresource, .. } = call;
    let verb = match verb {
        Verb::Create => "create",
        Verb::Delete => "delete",
        Verb::Patch => "patch",
        _ => "replace",
    };
    let part = subresource.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
    format!("{verb} {resource}/{name}{part}")
}

/// Says what differs, the bookkeeping of the API server aside.
pub fn differences(place: &str, old: &Value, new: &Value, said: &mut Vec<String>) {
    let parts = |value: &Value| match value {
        Value::Object(parts) => parts.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        Value::Array(parts) => parts.iter().enumerate().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        _ => BTreeMap::new(),
    };
    if place == "/metadata" {
        return;
    }
    let (before, after) = (parts(old), parts(new));
    if before.is_empty() && after.is_empty() && old != new {
        said.push(format!("{place}: {} became {}", short(old), short(new)));
    }
    for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))) {
        let (old, new) = (before.get(key).unwrap_or(&Value::Null), after.get(key).unwrap_or(&Value::Null));
        differences(&format!("{place}/{key}"), old, new, said);
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= VALUE_MAX { text } else { text.chars().take(VALUE_MAX).chain("...".chars()).collect() }
}
