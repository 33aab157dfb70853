//! A Kubernetes API server in this process: storage, resource versions, watches, status subresources,
//! server-side apply (simplified), label selectors, and faults on demand. No socket, no real time, so
//! controllers and journals are tested and simulated with the client they really use.
//!
//! Simplified: no admission and no schema, no field-manager conflicts, no JSON patch, no finalizers, no
//! paging. `tests/cluster` runs what matters against a real API server.

mod merge;
pub(super) mod request;
mod store;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use request::Parsed;
pub use request::{Call, Key, Verb};
pub use store::Failure;
use store::{Change, Store};

/// Longest body of a request, in bytes.
const BODY_MAX: usize = 4 << 20;
/// Changes that a watch may lag behind before it is cut.
const WATCH_BACKLOG: usize = 4096;

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this HTTP status; nothing is done.
    Refuse(u16),
    /// Done, and yet answered with this HTTP status.
    DoneBut(u16),
    /// Never answered; nothing is done.
    Hang,
    /// Done, and never answered.
    DoneButHang,
    /// Done this many milliseconds later.
    Delay(u64),
}

/// Decides about the fault of a call.
type Faults = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

struct State {
    store: Mutex<Store>,
    calls: Mutex<Vec<Call>>,
    faults: Mutex<Faults>,
    changes: broadcast::Sender<Change>,
    cuts: watch::Sender<u64>,
}

/// The server. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<State>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("objects", &lock(&self.state.store).len()).finish()
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ApiServer {
    /// An empty server.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            store: Mutex::new(Store::default()),
            calls: Mutex::new(Vec::new()),
            faults: Mutex::new(Box::new(|_| None)),
            changes: broadcast::Sender::new(WATCH_BACKLOG),
            cuts: watch::Sender::new(0),
        };
        Self { state: Arc::new(state) }
    }

    /// A client of it, whose default namespace is `default`.
    #[must_use]
    pub fn client(&self) -> Client {
        let server = self.clone();
        let serve = move |request: Request| {
            let server = server.clone();
            async move { server.serve(request).await }
        };
        Client::new(Router::new().fallback(serve), "default")
    }

    /// Lets `faults` decide what goes wrong from now on.
    pub fn set_faults(&self, faults: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        *lock(&self.state.faults) = Box::new(faults);
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) {
        self.set_faults(|_| None);
    }

    /// Ends every watch that is open now.
    pub fn cut_watches(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Forgets the changes so far: a watch from before is answered with 410 Gone.
    pub fn compact(&self) {
        lock(&self.state.store).compact();
    }

    /// Every call so far, oldest first, also those with faults.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state.calls).clone()
    }

    /// The calls that write.
    #[must_use]
    pub fn writes(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::writes).collect()
    }

    /// An object as it is stored.
    #[must_use]
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        lock(&self.state.store).get(&Key::new(resource, namespace, name))
    }

    /// Stores an object as it is, status included, as if somebody else had written it.
    pub fn put(&self, resource: &str, object: &Value) -> Value {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = Key::new(resource, &text("/metadata/namespace"), &text("/metadata/name"));
        let (stored, change) = lock(&self.state.store).put(key, object.clone());
        self.tell(change);
        stored
    }

    /// Removes an object, as if somebody else had.
    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let removed = lock(&self.state.store).delete(&Key::new(resource, namespace, name), &Value::Null);
        if let Ok((_, change)) = removed {
            self.tell(change);
        }
    }

    fn tell(&self, change: Change) {
        // Nobody watches: nobody has to be told.
        drop(self.state.changes.send(change));
    }

    async fn serve(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let Some(parsed) = request::parse(&head) else {
            return failure(&Failure::new(404, "NotFound", "no such path"));
        };
        let Ok(body) = to_bytes(body, BODY_MAX).await else {
            return failure(&Failure::new(413, "RequestEntityTooLarge", "body too large"));
        };
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let call = parsed.call(&body);
        lock(&self.state.calls).push(call.clone());
        let fault = lock(&self.state.faults)(&call);
        match fault {
            None => self.answer(&parsed, body),
            Some(Fault::Refuse(code)) => failure(&Failure::injected(code, "injected fault")),
            Some(Fault::DoneBut(code)) => {
                drop(self.answer(&parsed, body));
                failure(&Failure::injected(code, "injected fault after the fact"))
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::DoneButHang) => {
                drop(self.answer(&parsed, body));
                std::future::pending().await
            }
            Some(Fault::Delay(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.answer(&parsed, body)
            }
        }
    }

    fn answer(&self, parsed: &Parsed, body: Value) -> Response {
        match parsed.verb {
            Verb::Watch => self.watch(parsed),
            Verb::List => json_response(StatusCode::OK, &self.list(parsed)),
            _ => match self.change(parsed, body) {
                Ok((code, object)) => json_response(code, &object),
                Err(refusal) => failure(&refusal),
            },
        }
    }

    fn list(&self, parsed: &Parsed) -> Value {
        let store = lock(&self.state.store);
        let items: Vec<_> = store.list(parsed).collect();
        json!({
            "kind": "List", "apiVersion": parsed.api_version,
            "metadata": { "resourceVersion": store.version().to_string() }, "items": items,
        })
    }

    fn change(&self, parsed: &Parsed, body: Value) -> Result<(StatusCode, Value), Failure> {
        let mut store = lock(&self.state.store);
        let key = parsed.key(&body);
        let status_only = parsed.subresource.as_deref() == Some("status");
        let before = store.version();
        let (object, change) = match parsed.verb {
            Verb::Get => {
                let found = store.get(&key).ok_or_else(|| Failure::not_found(&key))?;
                return Ok((StatusCode::OK, found));
            }
            Verb::Create => store.create(key, body)?,
            Verb::Replace => store.replace(&key, &body, status_only)?,
            Verb::Patch if parsed.apply => store.apply(&key, &body, status_only, &parsed.manager)?,
            Verb::Patch => store.merge(&key, &body, status_only)?,
            Verb::Delete | Verb::List | Verb::Watch => store.delete(&key, &body)?,
        };
        let changed = store.version() != before;
        drop(store);
        if changed {
            self.tell(change);
        }
        let code = if parsed.verb == Verb::Create { StatusCode::CREATED } else { StatusCode::OK };
        Ok((code, object))
    }

    fn watch(&self, parsed: &Parsed) -> Response {
        let store = lock(&self.state.store);
        let live = self.state.changes.subscribe();
        let Some(missed) = store.since(parsed.resource_version) else {
            let gone = Failure::new(410, "Expired", "too old resource version");
            let event = json!({ "type": "ERROR", "object": gone.status() });
            return Body::from(format!("{event}\n")).into_response();
        };
        drop(store);
        let (wanted, cut) = (parsed.clone(), self.state.cuts.subscribe());
        let live = stream::unfold((live, cut), |(mut live, mut cut)| async move {
            tokio::select! {
                change = live.recv() => change.ok().map(|change| (change, (live, cut))),
                _ = cut.changed() => None,
            }
        });
        let events = stream::iter(missed).chain(live).filter_map(move |change| {
            let line = change.event(&wanted).map(|event| Ok::<_, std::io::Error>(format!("{event}\n")));
            std::future::ready(line)
        });
        Body::from_stream(events).into_response()
    }
}

fn json_response(code: StatusCode, value: &Value) -> Response {
    (code, axum::Json(value.clone())).into_response()
}

fn failure(refusal: &Failure) -> Response {
    let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_response(code, &refusal.status())
}

/// Labels of an object.
fn labels(object: &Value) -> BTreeMap<&str, &str> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    labels.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}

#[cfg(test)]
mod tests;
