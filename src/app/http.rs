//! The endpoints of probes and scrapes (alive, ready, metrics) and, apart from them, of the log level.
//! They take copies and wait for nothing.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::telemetry::{
    logging::{LEVEL_LEN_MAX, Level, LevelControl},
    metrics::Metrics,
};

/// What the endpoints show and change.
#[derive(Debug, Clone)]
pub(super) struct Endpoints {
    pub(super) metrics: Arc<Metrics>,
    pub(super) ready: watch::Receiver<bool>,
    pub(super) level: LevelControl,
}

pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!("an endpoint is not served any more: {error}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// For probes and scrapes: they only read.
pub(super) fn open(endpoints: &Endpoints) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(endpoints.clone())
}

/// For people on this machine: `GET` shows the log level, `PUT` changes it.
pub(super) fn admin(endpoints: &Endpoints) -> Router {
    let level = get(level).put(set_level).layer(DefaultBodyLimit::max(LEVEL_LEN_MAX));
    Router::new().route("/log-level", level).with_state(endpoints.clone())
}

async fn level(State(endpoints): State<Endpoints>) -> (StatusCode, String) {
    match endpoints.level.get() {
        Ok(level) => (StatusCode::OK, format!("{level}\n")),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn set_level(State(endpoints): State<Endpoints>, text: String) -> (StatusCode, String) {
    let level = match text.parse::<Level>() {
        Ok(level) => level,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    match endpoints.level.set(&level) {
        Ok(()) => {
            tracing::warn!(%level, "the log level is {level} from now on");
            (StatusCode::OK, format!("{level}\n"))
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
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
