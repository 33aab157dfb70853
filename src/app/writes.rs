//! Counts what this process writes to the API server, where all of it passes: "an idle cluster causes no
//! write" is then a number that can be seen (safety.md, I12).

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::http::{Method, Request, Response};
use futures::{FutureExt, future::BoxFuture};
use kube::{Client, Config, client::ClientBuilder};
use tower::{Layer, Service, buffer::BufferLayer};

use super::order::Order;
use crate::{
    engine::{clock::SystemClock, ports::Clock},
    telemetry::{
        event::{Event, api::ApiWritten, leadership::LeaseWritten},
        metrics::{Metrics, WriteOutcome},
    },
};

/// Requests that are handed on and not sent yet.
const UNDER_WAY: usize = 1024;

/// A client whose writes go in order and are counted.
///
/// # Errors
/// [`kube::Error`] when certificates or credentials in `config` cannot be used.
pub(super) fn client(config: Config, counter: &Counter) -> Result<Client, kube::Error> {
    let counted = ClientBuilder::try_from(config)?.with_layer(counter);
    Ok(counted.with_layer(&BufferLayer::new(UNDER_WAY)).with_layer(&Order::default()).build())
}

/// Counts writes.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SystemClock,
}

impl<S> Layer<S> for Counter {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, counter: self.clone() }
    }
}

/// A client's way to the API server, with the counter on it.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    inner: S,
    counter: Counter,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let reads = request.method() == Method::GET;
        let write = (!reads).then(|| Write::new(&self.counter, request.uri().path()));
        let answer = self.inner.call(request);
        async move {
            let result = answer.await;
            if let (Some(mut write), Ok(response)) = (write, &result) {
                write.outcome = match response.status().as_u16() {
                    200..300 => WriteOutcome::Applied,
                    409 => WriteOutcome::Conflict,
                    400..500 if response.status().as_u16() != 429 => WriteOutcome::Refused,
                    _ => WriteOutcome::Failed,
                };
                write.said = format!("the api server answers {}", response.status());
            }
            result
        }
        .boxed()
    }
}

/// One write; told when it ends, also when nobody waits for it any more.
struct Write {
    counter: Counter,
    kind: &'static str,
    object: String,
    started: Instant,
    at_unix_ms: u64,
    outcome: WriteOutcome,
    said: String,
}

impl Write {
    fn new(counter: &Counter, path: &str) -> Self {
        let (kind, object) = about(path);
        let (at_unix_ms, said) = (counter.clock.wall_ms(), "no answer".to_owned());
        let started = Instant::now();
        Self { counter: counter.clone(), kind, object, started, at_unix_ms, outcome: WriteOutcome::Failed, said }
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        let Self { kind, object, outcome, at_unix_ms, .. } = &*self;
        let took_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let error = if *outcome == WriteOutcome::Applied { "" } else { &self.said };
        let (outcome, at_unix_ms) = (*outcome, *at_unix_ms);
        if *kind == "Lease" {
            LeaseWritten { lease: object, outcome, took_ms, at_unix_ms, error }.emit(&self.counter.metrics);
        } else {
            ApiWritten { kind, object, outcome, took_ms, error }.emit(&self.counter.metrics);
        }
    }
}

/// Kind and name of the object that a path is about; the kinds are those that Baton writes.
fn about(path: &str) -> (&'static str, String) {
    let mut words = path.split('/').skip_while(|word| *word != "namespaces").skip(1);
    let (namespace, plural, name) = (words.next(), words.next(), words.next());
    let kind = match plural {
        Some("mysqlclusters") => "MysqlCluster",
        Some("mysqlfailovers") => "MysqlFailover",
        Some("services") => "Service",
        Some("endpointslices") => "EndpointSlice",
        Some("events") => "Event",
        Some("jobs") => "Job",
        Some("leases") => "Lease",
        _ => "Other",
    };
    (kind, format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::service_fn;

    use super::*;

    #[test]
    fn paths_tell_kind_and_name() {
        for (path, kind, object) in [
            ("/apis/mysql.baton.dev/v1alpha1/namespaces/prod/mysqlclusters/shop/status", "MysqlCluster", "prod/shop"),
            ("/apis/events.k8s.io/v1/namespaces/prod/events", "Event", "prod/"),
            ("/apis/coordination.k8s.io/v1/namespaces/baton/leases/baton", "Lease", "baton/baton"),
            ("/apis/batch/v1/namespaces/prod/jobs", "Job", "prod/"),
            ("/api/v1/nodes/a", "Other", "/"),
        ] {
            assert_eq!(about(path), (kind, object.to_owned()), "{path}");
        }
    }

    #[tokio::test]
    async fn writes_are_counted_and_reads_are_not_also_when_nobody_waits() {
        let metrics = Arc::new(Metrics::new("1").unwrap());
        let counter = Counter { metrics: Arc::clone(&metrics), clock: SystemClock::start() };
        let answer = |request: Request<()>| async move {
            if request.method() == Method::DELETE {
                std::future::pending::<()>().await;
            }
            let status = if request.method() == Method::PUT { 409 } else { 200 };
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        };
        let mut service = counter.layer(service_fn(answer));
        let path = "/apis/mysql.baton.dev/v1alpha1/namespaces/prod/mysqlclusters/shop";
        for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            let _late = tokio::time::timeout(std::time::Duration::from_millis(20), service.call(request)).await;
        }
        let text = metrics.text().unwrap();
        for outcome in ["applied", "conflict", "failed"] {
            let count = format!(r#"baton_api_write_seconds_count{{kind="MysqlCluster",outcome="{outcome}"}} 1"#);
            assert!(text.contains(&count), "{outcome}: {text}");
        }
    }
}
