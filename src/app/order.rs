//! The order in which writes go to the API server when there are many: what a failover waits for goes before what
//! only shows something. When a zone is lost, all clusters write at once, and none is to wait for another's Events.
//!
//! At most [`ALL`] writes are under way, of which at most [`CALM`] can wait; each kind in the order in which they
//! came. After the server asked for patience, what can wait does. Leases and reads are never held up. Whoever waits
//! too long gives up by its own deadline; that failovers do not wait too long for each other is the work of
//! [`crate::engine::turns`].

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::http::{Method, Request, Response, StatusCode, header::RETRY_AFTER};
use futures::{FutureExt, future::BoxFuture};
use kube::{Client, client::Body};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Writes under way.
const ALL: usize = 32;
/// Of those, writes that can wait.
const CALM: usize = 8;
/// Patience, when the server does not say how much, and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// What a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It is a read, or it keeps the Lease.
    Free,
    /// A failover waits for it.
    Urgent,
    /// It shows something.
    Calm,
}

/// Marks a request that only shows something.
#[derive(Debug, Clone, Copy)]
struct Shows;

/// The same client for whoever only shows something. The epoch is won, and ackers are written down, by the same call
/// on the same object that shows the cluster: it does not tell.
pub(super) fn showing(client: &Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let mark = move |mut request: Request<Body>| {
        request.extensions_mut().insert(Shows);
        let client = client.clone();
        async move { client.send(request).await }
    };
    Client::new(service_fn(mark), namespace)
}

impl Class {
    fn of<B>(request: &Request<B>) -> Self {
        let plural = request.uri().path().split('/').skip_while(|word| *word != "namespaces").nth(2);
        match plural {
            _ if *request.method() == Method::GET => Self::Free,
            Some("leases") => Self::Free,
            _ if request.extensions().get::<Shows>().is_some() => Self::Calm,
            Some("mysqlclusters" | "mysqlfailovers" | "services" | "endpointslices" | "jobs") => Self::Urgent,
            _ => Self::Calm,
        }
    }
}

/// Puts writes in order.
#[derive(Debug, Clone)]
pub(super) struct Order {
    all: Arc<Semaphore>,
    calm: Arc<Semaphore>,
    rest_until: Arc<Mutex<Option<Instant>>>,
}

impl Default for Order {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL)), calm: Arc::new(Semaphore::new(CALM)), rest_until: Arc::default() }
    }
}

impl Order {
    async fn rest(&self) {
        loop {
            let until = *self.rest_until.lock().unwrap_or_else(PoisonError::into_inner);
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    fn learn<R>(&self, response: &Response<R>) {
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let patience = asked.map_or(PATIENCE.0, Duration::from_secs).min(PATIENCE.1);
            *self.rest_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + patience);
        }
    }
}

impl<S> Layer<S> for Order {
    type Service = Ordered<S>;

    fn layer(&self, inner: S) -> Ordered<S> {
        Ordered { inner, order: self.clone() }
    }
}

/// A client's way to the API server, in order.
#[derive(Debug, Clone)]
pub(super) struct Ordered<S> {
    inner: S,
    order: Order,
}

impl<S, B, R> Service<Request<B>> for Ordered<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
    B: Send + 'static,
    R: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let class = Class::of(&request);
        if class == Class::Free {
            return self.inner.call(request).boxed();
        }
        let (order, inner) = (self.order.clone(), self.inner.clone());
        async move {
            // Never closed: an error cannot be.
            let _calm = match class {
                Class::Calm => {
                    let turn = order.calm.acquire().await.ok();
                    order.rest().await;
                    turn
                }
                Class::Free | Class::Urgent => None,
            };
            let _turn = order.all.acquire().await.ok();
            let response = inner.oneshot(request).await?;
            order.learn(&response);
            Ok(response)
        }
        .boxed()
    }
}

#[cfg(test)]
mod storm;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::time::sleep;

    use super::*;

    const RECORD: &str = "/apis/mysql.baton.dev/v1alpha1/namespaces/prod/mysqlfailovers/shop-1/status";
    const CLUSTER: &str = "/apis/mysql.baton.dev/v1alpha1/namespaces/prod/mysqlclusters/shop/status";
    const JOB: &str = "/apis/batch/v1/namespaces/prod/jobs";
    const EVENT: &str = "/apis/events.k8s.io/v1/namespaces/prod/events";
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/baton/leases/baton";

    fn request(method: Method, path: &str) -> Request<()> {
        Request::builder().method(method).uri(path).body(()).unwrap()
    }

    #[test]
    fn what_a_failover_waits_for_is_urgent() {
        for (method, path, class) in [
            (Method::GET, RECORD, Class::Free),
            (Method::PUT, LEASE, Class::Free),
            (Method::PUT, RECORD, Class::Urgent),
            (Method::POST, JOB, Class::Urgent),
            (Method::PUT, CLUSTER, Class::Urgent),
            (Method::POST, EVENT, Class::Calm),
        ] {
            let mut asked = request(method.clone(), path);
            assert_eq!(Class::of(&asked), class, "{method} {path}");
            asked.extensions_mut().insert(Shows);
            let shown = if class == Class::Urgent { Class::Calm } else { class };
            assert_eq!(Class::of(&asked), shown, "{method} {path}");
        }
    }

    /// A thousand clusters lose their primaries at once, and the server takes 50 writes in a second, one after the
    /// other (F54): Events wait, records do not wait for them, and no cluster waits for all others twice.
    #[tokio::test(start_paused = true)]
    async fn a_thousand_failovers_are_not_held_up_by_what_they_tell() {
        let server = Arc::new(Semaphore::new(1));
        let answer = move |_: Request<()>| {
            let server = Arc::clone(&server);
            async move {
                let _turn = server.acquire().await.unwrap();
                sleep(Duration::from_millis(20)).await;
                Ok::<_, Infallible>(Response::new(()))
            }
        };
        let service = Order::default().layer(service_fn(answer));
        let started = Instant::now();
        let send = |method, path| {
            let service = service.clone();
            tokio::spawn(async move {
                service.oneshot(request(method, path)).await.unwrap();
                started.elapsed().as_millis()
            })
        };
        let events: Vec<_> = (0..2000).map(|_| send(Method::POST, EVENT)).collect();
        tokio::task::yield_now().await;
        let records: Vec<_> = (0..1000).map(|_| send(Method::PUT, RECORD)).collect();
        let lease = send(Method::PUT, LEASE);
        assert!(lease.await.unwrap() < 1000, "the Lease waits for what is under way and no more");
        let mut ended = Vec::new();
        for record in records {
            ended.push(record.await.unwrap());
        }
        assert!(ended.is_sorted(), "in the order in which they came");
        let last = ended.last().copied().unwrap();
        // 20 s for themselves, and a quarter more for what goes beside them.
        assert!(last < 30_000, "{last} ms");
        for event in events {
            assert!(event.await.unwrap() <= 61_000, "events come in the end");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_does_when_the_server_asks_for_patience() {
        let answer = |request: Request<()>| async move {
            let full = request.uri().path() == RECORD;
            let response = Response::builder().status(if full { 429 } else { 200 }).header(RETRY_AFTER, "3");
            Ok::<_, Infallible>(response.body(()).unwrap())
        };
        let service = Order::default().layer(service_fn(answer));
        let started = Instant::now();
        for (path, waited) in [(EVENT, 0), (RECORD, 0), (RECORD, 0), (EVENT, 3), (EVENT, 3)] {
            service.clone().oneshot(request(Method::POST, path)).await.unwrap();
            assert_eq!(started.elapsed().as_secs(), waited, "{path}");
        }
    }
}
