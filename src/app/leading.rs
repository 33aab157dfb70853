//! Tells when this process begins or ceases to lead.

use std::sync::Arc;

use crate::{
    engine::ports::Leadership,
    k8s::lease::Leader,
    telemetry::{
        event::{
            Event,
            leadership::{LeadershipGained, LeadershipLost},
        },
        metrics::Metrics,
    },
};

/// Watches the leadership until nothing more will be known of it.
pub(super) async fn tell(mut leader: Leader, identity: String, lease: String, metrics: Arc<Metrics>) {
    let mut led = false;
    while leader.changed().await {
        let leads = leader.leader_until().is_some();
        if leads != led {
            told(leads, &identity, &lease, &metrics);
        }
        led = leads;
    }
    if led {
        told(false, &identity, &lease, &metrics);
    }
}

fn told(leads: bool, identity: &str, lease: &str, metrics: &Metrics) {
    if leads {
        LeadershipGained { identity, lease }.emit(metrics);
    } else {
        LeadershipLost { identity, lease, reason: "it was not renewed in time, or given up" }.emit(metrics);
    }
}
