//! Events (`events.k8s.io`): published after the write, in the background, so that a failing event API delays nothing.
//! May depend on kube's client, `metrics` and tokio.
//!
//! They wait in a [queue](queue) of bounded bytes, in order per object, and [yield](throttle) to status calls. An event
//! that is lost is counted; if it is a warning, it is also logged.

pub(crate) mod note;
mod queue;
mod throttle;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event as Note;
use kube::{Api, Client, ResourceExt, api::Patch};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::{
    error::ApiError,
    request::{patch_params, post_params},
};
use crate::{api::Verification, lifecycle::Event, metrics::Metrics};
use note::{OwnPod, RecentEvents, about, event_name, on_own_pod, series_patch};
use queue::{EventQueue, Item, Kind, Subject};
use throttle::{Admit, Throttle};

/// The deadline of one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long the shutdown waits for the remaining events.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes events about verifications.
#[derive(Clone)]
pub(crate) struct Reporter(Arc<ReporterState>);

struct ReporterState {
    client: Client,
    instance: String,
    own_pod: Option<OwnPod>,
    metrics: Arc<Metrics>,
    waiting: Mutex<ThrottledQueue>,
    recent: Mutex<RecentEvents>,
    /// Status calls in flight.
    status_calls: AtomicUsize,
    changed: Notify,
    /// Notified when no event is left.
    empty: Notify,
}

struct ThrottledQueue {
    queue: EventQueue,
    throttle: Throttle,
}

/// A status call in flight: events yield to it until this is dropped.
pub(crate) struct StatusCall<'a>(&'a ReporterState);

impl Drop for StatusCall<'_> {
    fn drop(&mut self) {
        if self.0.status_calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_one();
        }
    }
}

/// How publishing an event ended.
enum Published {
    Done,
    /// There was no response, or none that says anything about the event.
    Retry,
    Refused(ApiError),
}

impl Reporter {
    /// A reporter for the instance of that name, which may run in that Pod. Must be called within a runtime.
    #[must_use]
    pub(crate) fn new(
        client: Client,
        instance: &str,
        own_pod: Option<OwnPod>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let throttle = Throttle::new(Instant::now());
        let inner = Arc::new(ReporterState {
            client,
            instance: instance.to_owned(),
            own_pod,
            metrics,
            waiting: Mutex::new(ThrottledQueue { queue: EventQueue::default(), throttle }),
            recent: Mutex::default(),
            status_calls: AtomicUsize::new(0),
            changed: Notify::new(),
            empty: Notify::new(),
        });
        tokio::spawn(Arc::clone(&inner).publish_all());
        Self(inner)
    }

    /// Events yield until the returned guard is dropped.
    pub(crate) fn begin_status_call(&self) -> StatusCall<'_> {
        self.0.status_calls.fetch_add(1, Ordering::AcqRel);
        StatusCall(&self.0)
    }

    /// Waits until every event is published, for ten seconds at most; the remaining ones are dropped.
    pub(crate) async fn flush(&self) {
        let empty = self.0.empty.notified();
        let is_empty = {
            let mut waiting = self.0.waiting.lock();
            waiting.throttle.shut_down();
            waiting.queue.is_empty()
        };
        self.0.changed.notify_one();
        if !is_empty && timeout(FLUSH_TIMEOUT, empty).await.is_err() {
            loop {
                let popped = self.0.waiting.lock().queue.pop();
                let Some((subject, item)) = popped else { return };
                self.0.drop_event(&subject, &item, "the operator is shutting down");
                self.0.waiting.lock().queue.done(&subject, None);
            }
        }
    }

    /// Reports an event of a verification.
    pub(crate) fn report(&self, object: &Verification, event: Event) {
        self.push(
            &Subject {
                kind: Kind::Verification,
                namespace: object.namespace().unwrap_or_default().into(),
                name: object.name_any().into(),
                uid: object.uid().unwrap_or_default().into(),
            },
            event,
        );
    }

    /// Drops an event of a verification, because it is unknown whether it has happened.
    pub(crate) fn abandon(&self, (namespace, name, uid): (&str, &str, &str), event: Event) {
        let kind = Kind::Verification;
        let subject = Subject { kind, namespace: namespace.into(), name: name.into(), uid: uid.into() };
        self.0.drop_event(&subject, &item(event), "the operator shut down before the write was confirmed");
    }

    /// Reports an event of a verification that no longer exists, on its namespace.
    pub(crate) fn report_on_namespace(&self, namespace: &str, event: Event) {
        let subject = Subject {
            kind: Kind::Namespace,
            namespace: namespace.into(),
            name: namespace.into(),
            uid: Box::default(),
        };
        self.push(&subject, event);
    }

    fn push(&self, subject: &Subject, event: Event) {
        let item = item(event);
        let pushed = self.0.waiting.lock().queue.push(subject.clone(), item);
        match pushed {
            Ok(()) => self.0.changed.notify_one(),
            Err(queue::Full) => self.0.drop_event(subject, &item, "too many events are queued"),
        }
    }
}

impl ReporterState {
    /// Publishes events for as long as the process runs.
    async fn publish_all(self: Arc<Self>) {
        loop {
            let next = {
                let mut waiting = self.waiting.lock();
                let ThrottledQueue { queue, throttle } = &mut *waiting;
                if queue.has_next() {
                    match throttle.admit(Instant::now(), self.status_calls.load(Ordering::Acquire)) {
                        Admit::Now => Ok(queue.pop()),
                        Admit::At(at) => Err(Some(at)),
                        Admit::Later => Err(None),
                    }
                } else {
                    Err(None)
                }
            };
            match next {
                Ok(Some((subject, item))) => {
                    tokio::spawn(Arc::clone(&self).publish_one(subject, item));
                }
                Ok(None) => self.waiting.lock().throttle.ended(Instant::now(), true),
                Err(Some(at)) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                Err(None) => self.changed.notified().await,
            }
        }
    }

    async fn publish_one(self: Arc<Self>, subject: Arc<Subject>, item: Item) {
        let published = self.publish(&subject, &item).await;
        let has_response = !matches!(published, Published::Retry);
        let retry = match published {
            Published::Done => {
                self.metrics.event(item.event.reason());
                None
            }
            Published::Retry => Some(item),
            Published::Refused(why) => {
                self.drop_event(&subject, &item, &why.to_string());
                None
            }
        };
        let is_empty = {
            let mut waiting = self.waiting.lock();
            waiting.throttle.ended(Instant::now(), has_response);
            waiting.queue.done(&subject, retry);
            waiting.queue.is_empty()
        };
        if is_empty {
            self.empty.notify_waiters();
        }
        self.changed.notify_one();
    }

    /// Publishes an event, or adds it to the series of a recent one. If the namespace of an orphan refuses it, it is
    /// published on the operator's own Pod.
    async fn publish(&self, subject: &Subject, item: &Item) -> Published {
        let recent = self.recent.lock().find(subject, item.event, Instant::now());
        if let Some(recent) = recent {
            let times = recent.times.saturating_add(item.times);
            match self.add_to_series(subject, recent.suffix, times, item).await {
                Ok(()) => {
                    self.recent.lock().remember(subject, item.event, (recent.suffix, times), Instant::now());
                    return Published::Done;
                }
                // The API server deletes events after an hour, or as configured.
                Err(Some(why)) if why.code() == Some(404) => self.recent.lock().forget(subject, item.event),
                Err(Some(why)) => return Published::Refused(why),
                Err(None) => return Published::Retry,
            }
        }
        let why = match self.create(&about(subject, item, &self.instance)).await {
            Ok(()) => {
                let first = (item.suffix, item.times);
                self.recent.lock().remember(subject, item.event, first, Instant::now());
                return Published::Done;
            }
            Err(None) => return Published::Retry,
            Err(Some(why)) => why,
        };
        let own_pod = self.own_pod.as_ref().filter(|_| item.event.tells_of_an_orphan());
        match own_pod.filter(|_| subject.kind == Kind::Verification) {
            None => Published::Refused(why),
            Some(pod) => match self.create(&on_own_pod(pod, subject, item, &self.instance)).await {
                Ok(()) => Published::Done,
                Err(None) => Published::Retry,
                Err(Some(why)) => Published::Refused(why),
            },
        }
    }

    /// Creates an event. The error is the reason of a refusal, or nothing if the outcome is unknown.
    async fn create(&self, note: &Note) -> Result<(), Option<ApiError>> {
        let api: Api<Note> = Api::namespaced(self.client.clone(), &note.namespace().unwrap_or_default());
        let response = timeout(DEADLINE, api.create(&post_params(), note)).await;
        match response {
            // No one else creates an object of that name.
            Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => Ok(()),
            Ok(response) => classify(response),
            Err(_) => Err(None),
        }
    }

    /// Adds an event to the series of one that was published before.
    async fn add_to_series(
        &self,
        subject: &Subject,
        suffix: u64,
        times: u32,
        item: &Item,
    ) -> Result<(), Option<ApiError>> {
        let api: Api<Note> = Api::namespaced(self.client.clone(), &subject.namespace);
        let (name, patch) = (event_name(&subject.name, suffix), Patch::Merge(series_patch(times, item)));
        let response = timeout(DEADLINE, api.patch(&name, &patch_params(), &patch)).await;
        response.map_or(Err(None), classify)
    }

    /// An event is lost: it is counted, and a warning is logged.
    fn drop_event(&self, subject: &Subject, item: &Item, why: &str) {
        self.metrics.events_dropped.inc();
        if item.event.warns() {
            let Subject { kind: _, namespace, name, uid } = subject;
            let (event, times) = (item.event.reason(), item.times);
            tracing::warn!(
                %namespace, %name, %uid, event, times, why,
                "a warning event could not be published: {}", item.event.note()
            );
        }
    }
}

fn item(event: Event) -> Item {
    Item { event, at: Timestamp::now(), times: 1, suffix: rand::random() }
}

/// Whether a response says that the event exists, that it is refused, or nothing about it.
fn classify<T>(response: kube::Result<T>) -> Result<(), Option<ApiError>> {
    match response {
        Ok(_) => Ok(()),
        Err(error) => {
            let why = ApiError::from(&error);
            let is_refused =
                why.code().is_some_and(|code| matches!(code, 400..=499) && !matches!(code, 401 | 408 | 429));
            Err(is_refused.then_some(why))
        }
    }
}

#[cfg(test)]
mod tests;
