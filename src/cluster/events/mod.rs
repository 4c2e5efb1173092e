//! Events (`events.k8s.io`), after the write, in the background: a refusing event API delays nothing.
//!
//! They wait in a [queue](queue) of bounded bytes, in order per resource, and [give way](pace) to calls about status. What
//! is lost is counted, and if it is a warning, it is a line in the log.

pub(crate) mod note;
mod pace;
mod queue;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event as Note;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::error::ApiError;
use crate::{api::Verification, lifecycle::Event, metrics::Metrics};
use note::OwnPod;
use note::{Lately, about, event_name, on_own_pod, one_more};
use pace::{May, Pace};
use queue::{Item, Kind, Queue, Subject};

/// Longest time one event may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest time that the end of the process waits for what is still to be told.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Tells the cluster what has happened.
#[derive(Clone)]
pub struct Reporter(Arc<Inner>);

struct Inner {
    client: Client,
    instance: String,
    own_pod: Option<OwnPod>,
    metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
    lately: Mutex<Lately>,
    /// Calls about status under way.
    calls: AtomicUsize,
    changed: Notify,
    /// Nothing is left to tell.
    told: Notify,
}

struct Waiting {
    queue: Queue,
    pace: Pace,
}

/// A call about status that is under way: events give way to it until this is dropped.
pub(crate) struct Way<'a>(&'a Inner);

impl Drop for Way<'_> {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_one();
        }
    }
}

/// What came of publishing an event.
enum Published {
    Yes,
    /// There was no answer, or none that says anything about the event.
    Again,
    Refused(ApiError),
}

impl Reporter {
    /// Reports as the operator's instance of that name, which runs in that Pod, if it does. Must be called within a runtime.
    #[must_use]
    pub fn new(client: Client, instance: &str, own_pod: Option<OwnPod>, metrics: Arc<Metrics>) -> Self {
        let pace = Pace::new(Instant::now());
        let inner = Arc::new(Inner {
            client,
            instance: instance.to_owned(),
            own_pod,
            metrics,
            waiting: Mutex::new(Waiting { queue: Queue::default(), pace }),
            lately: Mutex::default(),
            calls: AtomicUsize::new(0),
            changed: Notify::new(),
            told: Notify::new(),
        });
        tokio::spawn(Arc::clone(&inner).publish_all());
        Self(inner)
    }

    /// Events give way until what this returns is dropped.
    pub(crate) fn give_way(&self) -> Way<'_> {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        Way(&self.0)
    }

    /// Waits until everything is told that there was to tell, for ten seconds at most; what is left is dropped.
    pub async fn told(&self) {
        let told = self.0.told.notified();
        let is_empty = {
            let mut waiting = self.0.waiting.lock();
            waiting.pace.ending();
            waiting.queue.is_empty()
        };
        self.0.changed.notify_one();
        if !is_empty && timeout(LAST_WORDS, told).await.is_err() {
            loop {
                let taken = self.0.waiting.lock().queue.take();
                let Some((subject, item)) = taken else { return };
                self.0.drop_event(&subject, &item, "the process ends");
                self.0.waiting.lock().queue.done(&subject, None);
            }
        }
    }

    /// Tells what happened to a verification.
    pub(crate) fn tell(&self, object: &Verification, event: Event) {
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

    /// What has happened to a verification is not told, because nobody knows whether it has.
    pub(crate) fn give_up(&self, (namespace, name, uid): (&str, &str, &str), event: Event) {
        let kind = Kind::Verification;
        let subject = Subject { kind, namespace: namespace.into(), name: name.into(), uid: uid.into() };
        self.0.drop_event(&subject, &item(event), "the process ends before it is known to be written");
    }

    /// Tells what happened to a verification that is gone, on its namespace.
    pub(crate) fn tell_namespace(&self, namespace: &str, event: Event) {
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
            Err(queue::Full) => self.0.drop_event(subject, &item, "too many events wait"),
        }
    }
}

impl Inner {
    /// Publishes what waits, for as long as the process runs.
    async fn publish_all(self: Arc<Self>) {
        loop {
            let next = {
                let mut waiting = self.waiting.lock();
                let Waiting { queue, pace } = &mut *waiting;
                if queue.has_next() {
                    match pace.may_go(Instant::now(), self.calls.load(Ordering::Acquire)) {
                        May::Go => Ok(queue.take()),
                        May::At(at) => Err(Some(at)),
                        May::Later => Err(None),
                    }
                } else {
                    Err(None)
                }
            };
            match next {
                Ok(Some((subject, item))) => {
                    tokio::spawn(Arc::clone(&self).publish_one(subject, item));
                }
                Ok(None) => self.waiting.lock().pace.ended(Instant::now(), true),
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
        let was_answered = !matches!(published, Published::Again);
        let again = match published {
            Published::Yes => {
                self.metrics.event(item.event.reason());
                None
            }
            Published::Again => Some(item),
            Published::Refused(why) => {
                self.drop_event(&subject, &item, &why.to_string());
                None
            }
        };
        let is_empty = {
            let mut waiting = self.waiting.lock();
            waiting.pace.ended(Instant::now(), was_answered);
            waiting.queue.done(&subject, again);
            waiting.queue.is_empty()
        };
        if is_empty {
            self.told.notify_waiters();
        }
        self.changed.notify_one();
    }

    /// Publishes an event, or counts it with the same one of before. Where an orphan's namespace takes none, it goes to
    /// the operator's own Pod.
    async fn publish(&self, subject: &Subject, item: &Item) -> Published {
        let before = self.lately.lock().before(subject, item.event, Instant::now());
        if let Some(before) = before {
            let times = before.times.saturating_add(item.times);
            match self.count_with(subject, before.suffix, times, item).await {
                Ok(()) => {
                    self.lately.lock().remember(subject, item.event, (before.suffix, times), Instant::now());
                    return Published::Yes;
                }
                // The API server keeps events for an hour, or as long as it is told to.
                Err(Some(why)) if why.code() == Some(404) => self.lately.lock().forget(subject, item.event),
                Err(Some(why)) => return Published::Refused(why),
                Err(None) => return Published::Again,
            }
        }
        let why = match self.create(&about(subject, item, &self.instance)).await {
            Ok(()) => {
                let told = (item.suffix, item.times);
                self.lately.lock().remember(subject, item.event, told, Instant::now());
                return Published::Yes;
            }
            Err(None) => return Published::Again,
            Err(Some(why)) => why,
        };
        let own_pod = self.own_pod.as_ref().filter(|_| item.event.tells_of_an_orphan());
        match own_pod.filter(|_| subject.kind == Kind::Verification) {
            None => Published::Refused(why),
            Some(pod) => match self.create(&on_own_pod(pod, subject, item, &self.instance)).await {
                Ok(()) => Published::Yes,
                Err(None) => Published::Again,
                Err(Some(why)) => Published::Refused(why),
            },
        }
    }

    /// Makes an event; the error is why it is refused, or nothing, where nobody knows.
    async fn create(&self, note: &Note) -> Result<(), Option<ApiError>> {
        let api: Api<Note> = Api::namespaced(self.client.clone(), &note.namespace().unwrap_or_default());
        let answer = timeout(DEADLINE, api.create(&PostParams::default(), note)).await;
        match answer {
            // Nobody else makes an object of that name.
            Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => Ok(()),
            Ok(answer) => judge(answer),
            Err(_) => Err(None),
        }
    }

    /// Counts an event with one that was told before.
    async fn count_with(
        &self,
        subject: &Subject,
        suffix: u64,
        times: u32,
        item: &Item,
    ) -> Result<(), Option<ApiError>> {
        let api: Api<Note> = Api::namespaced(self.client.clone(), &subject.namespace);
        let (name, patch) = (event_name(&subject.name, suffix), Patch::Merge(one_more(times, item)));
        let answer = timeout(DEADLINE, api.patch(&name, &PatchParams::default(), &patch)).await;
        answer.map_or(Err(None), judge)
    }

    /// An event is lost: it is counted, and a warning is told in the log.
    fn drop_event(&self, subject: &Subject, item: &Item, why: &str) {
        self.metrics.events_dropped.inc();
        if item.event.warns() {
            let Subject { kind: _, namespace, name, uid } = subject;
            let (event, times) = (item.event.reason(), item.times);
            tracing::warn!(
                %namespace, %name, %uid, event, times, why,
                "a warning could not be told by an event: {}", item.event.note()
            );
        }
    }
}

fn item(event: Event) -> Item {
    Item { event, at: Timestamp::now(), times: 1, suffix: rand::random() }
}

/// Whether an answer says that the event is there, that it is refused, or nothing about it.
fn judge<T>(answer: kube::Result<T>) -> Result<(), Option<ApiError>> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) => {
            let why = ApiError::from(&error);
            let says =
                why.code().is_some_and(|code| matches!(code, 400..=499) && !matches!(code, 401 | 408 | 429));
            Err(says.then_some(why))
        }
    }
}

#[cfg(test)]
mod tests;
