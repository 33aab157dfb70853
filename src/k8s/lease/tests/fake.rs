//! An API server for one Lease: compare and swap, watches, and faults that can be set for each client.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use futures::stream;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::broadcast;

const NAME: &str = "baton";

/// What is wrong between one client and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Requests never arrive.
    Lost,
    /// Requests are served, answers never arrive.
    Unanswered,
    /// The server answers 500 and does nothing.
    Broken,
}

/// One client's way to the server.
#[derive(Debug, Clone)]
pub(super) struct Way {
    server: FakeServer,
    fault: Arc<Mutex<Option<Fault>>>,
    /// Method of each request for the Lease itself, watches and their lists left out.
    requests: Arc<Mutex<Vec<Method>>>,
}

impl Way {
    pub(super) fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(super) fn requests(&self) -> Vec<Method> {
        self.requests.lock().unwrap().clone()
    }
}

#[derive(Debug, Clone)]
pub(super) struct FakeServer {
    store: Arc<Mutex<Store>>,
    events: broadcast::Sender<Value>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub lease: Option<Value>,
    version: u64,
}

impl FakeServer {
    /// With a Lease that is released; `None` of it when `empty`.
    pub(super) fn start(empty: bool) -> Self {
        let server = Self { store: Arc::default(), events: broadcast::channel(1_000).0 };
        if !empty {
            let spec = json!({"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 4});
            server.put(json!({"metadata": {"name": NAME, "namespace": "ops", "uid": "u"}, "spec": spec}));
        }
        server
    }

    pub(super) fn client(&self) -> (Client, Way) {
        let way = Way { server: self.clone(), fault: Arc::default(), requests: Arc::default() };
        let router = Router::new().fallback(any(handle)).with_state(way.clone());
        (Client::new(router, "ops"), way)
    }

    pub(super) fn lease(&self) -> Value {
        self.store().lease.clone().unwrap_or_default()
    }

    /// Somebody changes the Lease by hand.
    pub(super) fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut lease = self.lease();
        change(&mut lease);
        self.put(lease);
    }

    pub(super) fn delete(&self) {
        let lease = self.store().lease.take();
        self.tell("DELETED", &lease.unwrap_or_default());
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    fn put(&self, mut lease: Value) -> Value {
        let mut store = self.store();
        store.version += 1;
        lease["apiVersion"] = json!("coordination.k8s.io/v1");
        lease["kind"] = json!("Lease");
        lease["metadata"]["resourceVersion"] = json!(store.version.to_string());
        let kind = if store.lease.replace(lease.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        drop(store);
        self.tell(kind, &lease);
        lease
    }

    fn tell(&self, kind: &str, lease: &Value) {
        // Nobody may be watching.
        drop(self.events.send(json!({"type": kind, "object": lease})));
    }

    fn serve(&self, method: &Method, uri: &Uri, body: &[u8]) -> Response {
        let query = uri.query().unwrap_or("");
        let named = uri.path().ends_with(&format!("/leases/{NAME}"));
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        let now = self.store().lease.clone();
        match (method.as_str(), named, now) {
            ("GET", false, _) if query.contains("watch=") => self.watch(),
            ("GET", false, now) => {
                let version = self.store().version.to_string();
                let items: Vec<Value> = now.into_iter().collect();
                Json(json!({"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1",
                    "metadata": {"resourceVersion": version}, "items": items}))
                .into_response()
            }
            ("GET", true, Some(lease)) => Json(lease).into_response(),
            ("GET", true, None) => status(StatusCode::NOT_FOUND, "NotFound"),
            ("POST", false, Some(_)) => status(StatusCode::CONFLICT, "AlreadyExists"),
            ("POST", false, None) => {
                let mut lease = sent;
                lease["metadata"]["uid"] = json!(format!("u{}", self.store().version));
                (StatusCode::CREATED, Json(self.put(lease))).into_response()
            }
            ("PUT", true, now) => {
                let same =
                    |field: &str| now.as_ref().is_some_and(|now| now["metadata"][field] == sent["metadata"][field]);
                if same("uid") && same("resourceVersion") {
                    Json(self.put(sent)).into_response()
                } else {
                    status(StatusCode::CONFLICT, "Conflict")
                }
            }
            _ => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn watch(&self) -> Response {
        let lines = stream::unfold(self.events.subscribe(), |mut events| async {
            let event = events.recv().await.ok()?;
            Some((Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))), events))
        });
        Body::from_stream(lines).into_response()
    }
}

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "message": reason, "code": code.as_u16()});
    (code, Json(body)).into_response()
}

async fn handle(State(way): State<Way>, method: Method, uri: Uri, body: Bytes) -> Response {
    let fault = *way.fault.lock().unwrap();
    if method != Method::GET || uri.path().ends_with(NAME) {
        way.requests.lock().unwrap().push(method.clone());
    }
    match fault {
        None => return way.server.serve(&method, &uri, &body),
        Some(Fault::Broken) => return status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Some(Fault::Unanswered) => drop(way.server.serve(&method, &uri, &body)),
        Some(Fault::Lost) => {}
    }
    std::future::pending().await
}
