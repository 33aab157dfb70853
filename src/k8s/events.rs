//! Events on objects, for the people who read `kubectl describe`.
//!
//! They are published by a task of their own through a bounded queue: telling never holds up what is
//! told, and when the API server is slow the newest Events are dropped, not kept without limit. The API
//! aggregates Events that differ in their note only, so an Event on a cluster names the record it is
//! about as its second object.

use std::{fmt, future::Future};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

use super::deadline::call;
use crate::{
    api::{GROUP, VERSION},
    core::id::ClusterKey,
    telemetry::event::{self as fact, KubernetesEvent},
};

/// Events that may wait.
const QUEUE: usize = 256;
/// The longest word the API takes, in bytes.
const WORD_LEN_MAX: usize = 128;

/// Publishes Events. Clones publish to the same queue.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("free", &self.queue.capacity()).finish()
    }
}

/// An object as Events name it.
#[must_use]
pub fn reference(kind: &str, namespace: &str, name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

impl Events {
    /// A publisher and the task that does its work, which ends with the last publisher. `instance` is
    /// this process' identity.
    pub fn new(client: &Client, instance: &str) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        let instance = super::conditions::cut(instance, WORD_LEN_MAX).to_owned();
        let reporter = Reporter { controller: GROUP.to_owned(), instance: Some(instance) };
        let recorder = Recorder::new(client.clone(), reporter);
        let work = async move {
            while let Some((event, about)) = waiting.recv().await {
                if let Err(error) = call("publish an Event", recorder.publish(&event, &about)).await {
                    tracing::debug!("{error}");
                }
            }
        };
        (Self { queue }, work)
    }

    /// Publishes what happened to `about`, and with it to `related`.
    pub fn publish(&self, about: ObjectReference, related: Option<ObjectReference>, event: &KubernetesEvent) {
        let word = |text: &str| super::conditions::cut(text, WORD_LEN_MAX).to_owned();
        let event = Event {
            type_: match event.type_ {
                fact::EventType::Normal => EventType::Normal,
                fact::EventType::Warning => EventType::Warning,
            },
            reason: word(&event.reason),
            note: Some(event.note.clone()),
            action: word(&event.action),
            secondary: related,
        };
        if self.queue.try_send((event, about)).is_err() {
            tracing::warn!("an Event is dropped: too many are waiting");
        }
    }

    /// Publishes a fact of a cluster.
    pub fn cluster(&self, cluster: &ClusterKey, uid: &str, event: &KubernetesEvent) {
        self.publish(reference("MysqlCluster", &cluster.namespace, &cluster.name, Some(uid)), None, event);
    }

    /// Publishes a fact of the recovery `record` on the cluster and on the record.
    pub fn recovery(&self, cluster: &ClusterKey, uid: &str, record: &str, event: &KubernetesEvent) {
        let of_record = reference("MysqlFailover", &cluster.namespace, record, None);
        let of_cluster = reference("MysqlCluster", &cluster.namespace, &cluster.name, Some(uid));
        self.publish(of_cluster, Some(of_record.clone()), event);
        self.publish(of_record, None, event);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::api_server::{ApiServer, Fault};

    fn event(reason: &str) -> KubernetesEvent {
        KubernetesEvent::new(fact::EventType::Warning, reason, "Failover", "db-2:3306 is writable")
    }

    fn key() -> ClusterKey {
        ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() }
    }

    #[tokio::test]
    async fn a_phase_is_told_on_cluster_and_record() {
        let server = ApiServer::new();
        let (events, work) = Events::new(&server.client(), "baton-0");
        events.recovery(&key(), "uid", "shop-7", &event("Writable"));
        events.recovery(&key(), "uid", "shop-8", &event("Writable"));
        drop(events);
        work.await;
        let written = server.writes();
        assert_eq!(written.len(), 4, "the second failover is not aggregated with the first: {written:?}");
        let stored = server.object("events", "default", &written[0].name).unwrap();
        assert_eq!(stored["regarding"]["kind"], "MysqlCluster");
        assert_eq!(stored["related"]["name"], "shop-7");
        assert_eq!((stored["reason"].as_str(), stored["type"].as_str()), (Some("Writable"), Some("Warning")));
    }

    #[tokio::test]
    async fn telling_never_waits_and_is_bounded() {
        let server = ApiServer::new();
        server.set_faults(|_| Some(Fault::Hang));
        let (events, work) = Events::new(&server.client(), "baton-0");
        let work = tokio::spawn(work);
        let telling = async {
            for count in 0..10 * QUEUE {
                events.recovery(&key(), "uid", &format!("shop-{count}"), &event("Writable"));
            }
        };
        tokio::time::timeout(Duration::from_secs(1), telling).await.expect("telling does not wait");
        assert!(server.calls().len() <= 2);
        work.abort();
    }
}
