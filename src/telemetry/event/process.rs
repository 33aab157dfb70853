//! The life of this process.

use std::net::SocketAddr;

use crate::telemetry::{event::Event, metrics::Metrics};

/// The operator started.
#[derive(Debug, Clone, Copy)]
pub struct Started<'a> {
    /// Version of the program.
    pub version: &'a str,
    /// Name of this process among its replicas.
    pub identity: &'a str,
    /// Namespaces it serves, in words.
    pub namespaces: &'a str,
}

impl Event for Started<'_> {
    fn emit(&self, _: &Metrics) {
        let Self { version, identity, namespaces } = self;
        tracing::info!(version, identity, namespaces, "baton {version} starts as {identity}, serving {namespaces}");
    }
}

/// A server of this process accepts connections.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// What it serves.
    pub what: &'static str,
    /// Where.
    pub address: SocketAddr,
}

impl Event for Listening {
    fn emit(&self, _: &Metrics) {
        let Self { what, address } = self;
        tracing::info!(what, %address, "{what} is served on {address}");
    }
}

/// A part of the process ended, in its turn.
#[derive(Debug, Clone, Copy)]
pub struct StageStopped {
    /// Which part.
    pub stage: &'static str,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// It ended by itself; otherwise it was left behind.
    pub in_time: bool,
}

impl Event for StageStopped {
    fn emit(&self, _: &Metrics) {
        let Self { stage, took_ms, in_time } = self;
        if *in_time {
            tracing::info!(stage, took_ms, "{stage} stopped after {took_ms} ms");
        } else {
            tracing::warn!(stage, took_ms, "{stage} did not stop within {took_ms} ms and is left behind");
        }
    }
}
