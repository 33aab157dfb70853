//! A way to a real API server on which answers are refused, lost, late or forged, for an operator that is a
//! process of its own. It listens without TLS and asks the API server with our own client.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{Response, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};
use kube::Client;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::Instant};

use super::api_server::{
    Call, Fault, Verb,
    request::{Parsed, parse},
};

/// Longest body of a request or of an answer that is read whole, in bytes.
const BODY_MAX: usize = 16 << 20;

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// As with the API server of the tests.
    Fault(Fault),
    /// A watch whose every event comes twice, and then the one before once more.
    Replayed,
    /// A watch of which every second event is missing.
    Lossy,
    /// A list or an object is answered as it was first read; a watch tells nothing, and in the end that it is gone.
    Stale,
    /// The world stands still: an object is answered as it was first read, and what is written is kept here
    /// and never done.
    Forged,
}

type Troubles = Box<dyn FnMut(&Call) -> Option<Trouble> + Send>;

/// A call that writes, as it passed.
#[derive(Debug, Clone)]
pub struct Written {
    /// When it came.
    pub at: Instant,
    /// What it was.
    pub call: Call,
    /// What was to be stored; null where nothing was.
    pub body: Value,
}

struct State {
    client: Client,
    troubles: Mutex<Troubles>,
    writes: Mutex<Vec<Written>>,
    forged: Mutex<BTreeMap<String, Value>>,
    cuts: watch::Sender<u64>,
}

/// The proxy; it ends when dropped.
pub struct ApiProxy {
    state: Arc<State>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl fmt::Debug for ApiProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ApiProxy {
    /// Starts one on a free port of `address`.
    ///
    /// # Errors
    /// When the address is not ours.
    pub async fn start(client: Client, address: Ipv4Addr) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            client,
            troubles: Mutex::new(Box::new(|_| None)),
            writes: Mutex::default(),
            forged: Mutex::default(),
            cuts: watch::Sender::new(0),
        });
        let shared = Arc::clone(&state);
        let router = Router::new().fallback(move |request: Request| serve(Arc::clone(&shared), request));
        let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { state, address, task })
    }

    /// A kubeconfig that leads here.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let named = |key: &str, value: Value| json!([{ "name": "proxy", key: value }]);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": named("cluster", json!({ "server": format!("http://{}", self.address) })),
            "users": named("user", json!({})),
            "contexts": named("context", json!({ "cluster": "proxy", "user": "proxy" })),
        });
        config.to_string()
    }

    /// Lets `troubles` decide what goes wrong from now on.
    pub fn trouble(&self, troubles: impl FnMut(&Call) -> Option<Trouble> + Send + 'static) {
        *lock(&self.state.troubles) = Box::new(troubles);
    }

    /// Nothing goes wrong any more, and what was forged or stale is forgotten.
    pub fn calm(&self) {
        self.trouble(|_| None);
        lock(&self.state.forged).clear();
    }

    /// Ends every watch that is open now.
    pub fn cut_watches(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Calls that write anything but the Lease, the oldest first.
    #[must_use]
    pub fn writes(&self) -> Vec<Written> {
        lock(&self.state.writes).clone()
    }
}

async fn serve(state: Arc<State>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_MAX).await else { return refusal(413) };
    let parsed = parse(&head);
    let object = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let call = parsed.as_ref().map(|parsed: &Parsed| parsed.call(&object));
    if let Some(call) = call.as_ref().filter(|call| call.writes() && call.resource != "leases") {
        lock(&state.writes).push(Written { at: Instant::now(), call: call.clone(), body: object.clone() });
    }
    let trouble = call.as_ref().and_then(|call| lock(&state.troubles)(call));
    let ask = || ask(&state, &head, body.clone());
    let writes = call.as_ref().is_some_and(Call::writes);
    let watches = call.as_ref().is_some_and(|call| call.verb == Verb::Watch);
    let answer = match &trouble {
        Some(Trouble::Fault(Fault::Refuse(code))) => return refusal(*code),
        Some(Trouble::Fault(Fault::Hang)) => return std::future::pending().await,
        Some(Trouble::Fault(Fault::DoneBut(code))) => {
            drop(ask().await);
            return refusal(*code);
        }
        Some(Trouble::Fault(Fault::DoneButHang)) => {
            drop(ask().await);
            return std::future::pending().await;
        }
        Some(Trouble::Fault(Fault::Delay(ms))) => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            ask().await
        }
        Some(Trouble::Forged) if watches => return std::future::pending().await,
        Some(Trouble::Stale) if watches => return gone(&state),
        Some(Trouble::Stale) if !writes => return forge(&state, head.uri.path(), None, ask()).await,
        Some(Trouble::Forged) => return forge(&state, head.uri.path(), writes.then_some(object), ask()).await,
        None | Some(Trouble::Replayed | Trouble::Lossy | Trouble::Stale) => ask().await,
    };
    if !watches {
        return answer;
    }
    let (head, body) = answer.into_parts();
    let chunks = body.into_data_stream().map(Result::unwrap_or_default).boxed();
    let chunks = match trouble {
        Some(Trouble::Replayed) => replayed(chunks).boxed(),
        Some(Trouble::Lossy) => lossy(chunks).boxed(),
        _ => chunks,
    };
    Response::from_parts(head, Body::from_stream(chunks.take_until(cut(&state)).map(Ok::<_, io::Error>)))
}

/// Ends when watches are cut.
fn cut(state: &State) -> BoxFuture<'static, ()> {
    let mut cuts = state.cuts.subscribe();
    async move { drop(cuts.changed().await) }.boxed()
}

/// A watch that tells nothing until it is cut, and then to read the list again.
fn gone(state: &State) -> Response<Body> {
    let error = json!({ "type": "ERROR", "object": { "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "code": 410, "reason": "Expired", "message": "too old resource version" } });
    let line = cut(state).map(move |()| Ok::<_, io::Error>(Bytes::from(format!("{error}\n"))));
    Response::new(Body::from_stream(stream::once(line)))
}

/// Asks the API server itself.
async fn ask(state: &State, head: &axum::http::request::Parts, body: Bytes) -> Response<Body> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = axum::http::Request::builder().method(head.method.clone()).uri(path);
    for name in ["content-type", "accept"] {
        if let Some(value) = head.headers.get(name) {
            request = request.header(name, value);
        }
    }
    let Ok(request) = request.body(kube::client::Body::from(body.to_vec())) else { return refusal(400) };
    let Ok(answer) = state.client.send(request).await else { return refusal(502) };
    let (head, body) = answer.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).cloned();
    let mut answer = (head.status, Body::new(body)).into_response();
    if let Some(kind) = kind {
        answer.headers_mut().insert(CONTENT_TYPE, kind);
    }
    answer
}

/// Answers from what was first read or last written here.
async fn forge(
    state: &State,
    path: &str,
    written: Option<Value>,
    ask: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    let known = lock(&state.forged).get(path).cloned();
    let object = match (written, known) {
        (Some(mut written), known) => {
            let version = known.as_ref().and_then(|known| known.pointer("/metadata/resourceVersion")?.as_str());
            let next = version.and_then(|version| version.parse().ok()).unwrap_or(0_u64) + 1;
            if let Some(place) = written.pointer_mut("/metadata/resourceVersion") {
                *place = json!(next.to_string());
            }
            written
        }
        (None, Some(known)) => known,
        (None, None) => {
            let body = to_bytes(ask.await.into_body(), BODY_MAX).await.unwrap_or_default();
            serde_json::from_slice(&body).unwrap_or(Value::Null)
        }
    };
    lock(&state.forged).insert(path.to_owned(), object.clone());
    axum::Json(object).into_response()
}

fn refusal(code: u16) -> Response<Body> {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": if code == 409 { "Conflict" } else { "InternalError" }, "message": "trouble on the way" });
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, axum::Json(status)).into_response()
}

/// The lines of a watch, each with its end.
fn lines(chunks: impl Stream<Item = Bytes>) -> impl Stream<Item = Vec<u8>> {
    let split = |rest: &mut Vec<u8>, chunk: Bytes| {
        rest.extend_from_slice(&chunk);
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let whole: Vec<u8> = rest.drain(..end).collect();
        let whole: Vec<Vec<u8>> = whole.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        std::future::ready(Some(stream::iter(whole)))
    };
    chunks.scan(Vec::new(), split).flatten()
}

fn replayed(chunks: impl Stream<Item = Bytes>) -> impl Stream<Item = Bytes> {
    lines(chunks).scan(Vec::new(), |before: &mut Vec<u8>, line| {
        let again = std::mem::replace(before, line.clone());
        std::future::ready(Some(Bytes::from([line.clone(), line, again].concat())))
    })
}

fn lossy(chunks: impl Stream<Item = Bytes>) -> impl Stream<Item = Bytes> {
    let kept = |(number, _): &(usize, Vec<u8>)| std::future::ready(number % 2 == 0);
    lines(chunks).enumerate().filter(kept).map(|(_, line)| Bytes::from(line))
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, Uri};

    use super::*;
    use crate::testing::api_server::ApiServer;

    /// A proxy before an API server that has a ConfigMap `a`.
    async fn proxy() -> (ApiProxy, Client) {
        let api = ApiServer::new();
        api.put("configmaps", &json!({ "metadata": { "name": "a", "namespace": "default" }, "data": { "x": "1" } }));
        let proxy = ApiProxy::start(api.client(), Ipv4Addr::LOCALHOST).await.unwrap();
        let uri: Uri = format!("http://{}", proxy.address).parse().unwrap();
        let mut config = kube::Config::new(uri);
        config.default_retry = false;
        (proxy, Client::try_from(config).unwrap())
    }

    async fn call(client: &Client, method: Method, body: &str) -> (u16, Value) {
        let path = "/api/v1/namespaces/default/configmaps/a";
        let request = axum::http::Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/merge-patch+json");
        let answer = client.send(request.body(body.as_bytes().to_vec().into()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(Body::new(answer.into_body()), BODY_MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn calls_pass_are_counted_and_go_wrong_as_wished() {
        let (proxy, client) = proxy().await;
        assert_eq!(call(&client, Method::GET, "").await.1["data"]["x"], "1");
        assert_eq!(call(&client, Method::PATCH, r#"{"data":{"x":"2"}}"#).await.0, 200);
        proxy.trouble(|call| call.writes().then_some(Trouble::Fault(Fault::DoneBut(504))));
        assert_eq!(call(&client, Method::PATCH, r#"{"data":{"x":"3"}}"#).await.0, 504);
        proxy.trouble(|call| call.writes().then_some(Trouble::Fault(Fault::Refuse(409))));
        assert_eq!(call(&client, Method::PATCH, r#"{"data":{"x":"4"}}"#).await.0, 409);
        assert_eq!(call(&client, Method::GET, "").await.1["data"]["x"], "3");
        let written: Vec<_> = proxy.writes().into_iter().map(|one| one.body["data"]["x"].clone()).collect();
        assert_eq!(written, ["2", "3", "4"]);
    }

    #[tokio::test]
    async fn a_forged_world_stands_still_and_takes_everything() {
        let (proxy, client) = proxy().await;
        proxy.trouble(|_| Some(Trouble::Forged));
        let (_, mut object) = call(&client, Method::GET, "").await;
        let version = object["metadata"]["resourceVersion"].clone();
        object["data"]["x"] = json!("forged");
        let (status, written) = call(&client, Method::PUT, &object.to_string()).await;
        assert!(status == 200 && written["metadata"]["resourceVersion"] != version, "{written}");
        assert_eq!(call(&client, Method::GET, "").await.1["data"]["x"], "forged");
        proxy.calm();
        assert_eq!(call(&client, Method::GET, "").await.1["data"]["x"], "1");
    }

    #[tokio::test]
    async fn what_is_stale_is_read_as_it_was_and_written_as_it_is() {
        let (proxy, client) = proxy().await;
        proxy.trouble(|_| Some(Trouble::Stale));
        assert_eq!(call(&client, Method::GET, "").await.1["data"]["x"], "1");
        assert_eq!(call(&client, Method::PATCH, r#"{"data":{"x":"2"}}"#).await.1["data"]["x"], "2");
        assert_eq!(call(&client, Method::GET, "").await.1["data"]["x"], "1");
        proxy.calm();
        assert_eq!(call(&client, Method::GET, "").await.1["data"]["x"], "2");
    }

    #[tokio::test]
    async fn events_are_replayed_and_lost() {
        let chunks = || stream::iter(["1\n2", "\n3\n"].map(Bytes::from));
        let text = |bytes: Vec<Bytes>| String::from_utf8(bytes.concat()).unwrap();
        assert_eq!(text(replayed(chunks()).collect().await), "1\n1\n2\n2\n1\n3\n3\n2\n");
        assert_eq!(text(lossy(chunks()).collect().await), "1\n3\n");
    }
}
