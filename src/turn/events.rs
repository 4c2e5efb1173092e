//! Events (`events.k8s.io`), after the write, in the background: a refusing event API delays nothing.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event as Note, EventType, Recorder, Reporter as Source},
};
use tokio::{sync::Semaphore, time::timeout};

use crate::{api::Verification, lifecycle::Event, metrics::Metrics};

/// Longest time one event may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most events under way at once; more are dropped and counted.
const AT_ONCE: u16 = 64;

/// Tells the cluster what has happened.
#[derive(Clone)]
pub struct Reporter {
    recorder: Recorder,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Reporter {
    /// Reports as the operator's instance of that name.
    #[must_use]
    pub fn new(client: Client, instance: &str, metrics: Arc<Metrics>) -> Self {
        let source = Source { controller: "okid-operator".into(), instance: Some(instance.to_owned()) };
        Self {
            recorder: Recorder::new(client, source),
            places: Arc::new(Semaphore::new(usize::from(AT_ONCE))),
            metrics,
        }
    }

    /// Waits until everything is told that there was to tell.
    pub async fn told(&self) {
        drop(self.places.acquire_many(u32::from(AT_ONCE)).await);
    }

    /// Tells what happened to a verification.
    pub(super) fn tell(&self, object: &Verification, event: Event) {
        self.publish(object.object_ref(&()), event);
    }

    /// Tells what happened to a verification that is gone, on its namespace.
    pub(super) fn tell_namespace(&self, namespace: &str, event: Event) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            name: Some(namespace.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectReference::default()
        };
        self.publish(about, event);
    }

    fn publish(&self, about: ObjectReference, event: Event) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.events_dropped.inc();
            return;
        };
        let this = self.clone();
        tokio::spawn(async move {
            let note = Note {
                type_: if event.warns() { EventType::Warning } else { EventType::Normal },
                reason: event.reason().to_owned(),
                note: Some(event.note().to_owned()),
                action: "Verify".to_owned(),
                secondary: None,
            };
            match timeout(DEADLINE, this.recorder.publish(&note, &about)).await {
                Ok(Ok(())) => this.metrics.event(event),
                Ok(Err(_)) | Err(_) => {
                    this.metrics.events_dropped.inc();
                }
            }
            drop(place);
        });
    }
}
