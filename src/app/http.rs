//! The endpoints of probes and scrapes: alive, ready, metrics. They take copies and wait for nothing.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::Metrics;

#[derive(Clone)]
struct Endpoints {
    metrics: Arc<Metrics>,
    ready: watch::Receiver<bool>,
}

pub(super) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let served = axum::serve(listener, router(metrics, ready)).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!("probes and metrics are not served any more: {error}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn router(metrics: Arc<Metrics>, ready: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Endpoints { metrics, ready })
}

async fn readyz(State(endpoints): State<Endpoints>) -> (StatusCode, &'static str) {
    if *endpoints.ready.borrow() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "resources are not read yet\n")
    }
}

async fn scrape(State(endpoints): State<Endpoints>) -> (StatusCode, String) {
    match endpoints.metrics.text() {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
