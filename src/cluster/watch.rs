//! Lists and watches the live ones. May touch kube's client and tokio's clock.
//!
//! The protocol (list, watch, resume, list again after 410) is kube-runtime's [`watcher`]. Added
//! are: an object that cannot be decoded is a value; so is trouble, with a pause after it; a server
//! that has no streaming lists is asked for pages; nothing hangs (see `guarded`).

use std::{fmt::Debug, time::Duration};

use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource,
    core::DeserializeGuard,
    runtime::watcher::{self, Event, ListSemantic, watcher},
};
use serde::de::{DeserializeOwned, Error as _};
use tokio::time::{Instant, sleep};

use super::{decode_error::describe, error::ApiError, last_contact::LastContact, watch_client::guarded};
use crate::backoff::Backoff;

/// The first pause after an interruption and the longest one.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pauses before they are varied by a quarter and held between the shortest and the longest.
const BACKOFF: Backoff = Backoff::new(SHORTEST_PAUSE, Duration::from_secs(32));

/// What is watched, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// Which objects are watched, as a field selector. One that stops to match is reported as
    /// [`Change::Gone`].
    pub field_selector: String,
    /// Whether to ask for a streaming list first (Kubernetes 1.34 has it by default). A server that
    /// refuses it, or does not get to the end of one, is asked for pages from then on.
    pub streaming_list: bool,
    /// How many objects are in a page, at most: there are fewer in it where they are large.
    pub page_size: u32,
    /// For how long a watch is asked for, in whole seconds. A connection that has died is noticed
    /// five seconds after that at the latest.
    pub watch_timeout: Duration,
    /// Within what time the API server has to answer: a page in full, a watch with its beginning.
    pub deadline: Duration,
}

impl Default for StreamSettings {
    /// Everything that is not settled; a streaming list, or pages of 500; watches of a minute; 30 s to
    /// answer.
    fn default() -> Self {
        Self {
            field_selector: "status.settled!=true".to_owned(),
            streaming_list: true,
            page_size: 500,
            watch_timeout: Duration::from_mins(1),
            deadline: Duration::from_secs(30),
        }
    }
}

/// What the API server said.
#[derive(Debug)]
pub enum Change<K> {
    /// A new list begins. What is not [`Seen`](Self::Seen) or
    /// [`Undecodable`](Self::Undecodable) before [`Synced`](Self::Synced) is gone. A list that was
    /// interrupted begins again.
    Restarted,
    /// An object was listed, created or changed. Without `managedFields` and without the
    /// annotation that `kubectl apply` leaves.
    Seen(K),
    /// An object was listed, created or changed, and this version cannot read it.
    Undecodable {
        /// Which one.
        object: Identity,
        /// What was expected, without anything from the object in it.
        error: String,
    },
    /// The list is complete.
    Synced,
    /// An object was deleted, or does not match the selector any more.
    Gone(Identity),
    /// Something failed. The stream goes on by itself after the pause.
    Interrupted {
        /// What failed.
        error: Interrupted,
        /// Whether what is known may be out of date until the next [`Synced`](Self::Synced).
        list_is_owed: bool,
        /// How long nothing is tried.
        pause: Duration,
    },
}

/// Which object, and in which state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
}

/// Why the stream paused.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// The list was refused or broke off. 404 means that the CRD is not there.
    #[error("list objects")]
    List(#[source] kube::Error),
    /// The watch was refused or did not begin.
    #[error("begin to watch objects")]
    Begin(#[source] kube::Error),
    /// The watch broke off.
    #[error("watch objects")]
    Watch(#[source] kube::Error),
    /// The watch lags behind what the server remembers (410 Gone): a new list follows.
    #[error("resume the watch of objects where it was")]
    Expired,
    /// The answer carried no resourceVersion, and cannot have come from an API server.
    #[error("read the resourceVersion of the answer")]
    NoResourceVersion,
}

impl Interrupted {
    /// What was tried, for a log: the end of "tried to …".
    #[must_use]
    pub fn tried(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Begin(_) => "begin a watch",
            Self::Watch(_) => "watch",
            Self::Expired => "resume a watch",
            Self::NoResourceVersion => "read the resourceVersion of a list",
        }
    }

    /// Why it failed, for a log. Nothing for [`Expired`](Self::Expired): that is a part of the protocol.
    #[must_use]
    pub fn unanswered(&self) -> Option<ApiError> {
        match self {
            Self::List(error) | Self::Begin(error) | Self::Watch(error) => Some(error.into()),
            Self::Expired => None,
            Self::NoResourceVersion => Some(ApiError::UNUSABLE),
        }
    }
}

impl From<watcher::Error> for Interrupted {
    fn from(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error) => Self::List(without_content(error)),
            watcher::Error::WatchStartFailed(error) if is_status(&error, &[410]) => Self::Expired,
            watcher::Error::WatchStartFailed(error) => Self::Begin(without_content(error)),
            watcher::Error::WatchError(status) if status.code == 410 => Self::Expired,
            watcher::Error::WatchError(status) => Self::Watch(kube::Error::Api(status)),
            watcher::Error::WatchFailed(error) => Self::Watch(without_content(error)),
            watcher::Error::NoResourceVersion => Self::NoResourceVersion,
        }
    }
}

/// Lists and watches objects in one namespace, or in all of them. The stream does not end; dropping
/// it ends the watch. Nothing is sent before it is polled. `last_contact` is told of all that comes.
pub fn changes<K>(
    client: &Client,
    namespace: Option<&str>,
    settings: StreamSettings,
    last_contact: &LastContact,
) -> impl Stream<Item = Change<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let client = guarded(client, settings.deadline, last_contact);
    let api = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let watch = Watch {
        events: events(&api, &settings, settings.streaming_list),
        streaming: settings.streaming_list,
        api,
        settings,
        list: List::Owed,
        pause: Pause::default(),
    };
    stream::unfold(watch, |mut watch| async move {
        let change = watch.next().await;
        Some((change, watch))
    })
}

type Events<K> = BoxStream<'static, watcher::Result<Event<DeserializeGuard<K>>>>;

fn events<K>(api: &Api<DeserializeGuard<K>>, settings: &StreamSettings, streaming: bool) -> Events<K>
where
    K: Resource + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let seconds = settings.watch_timeout.as_secs().max(1);
    let config = watcher::Config::default()
        .fields(&settings.field_selector)
        .timeout(u32::try_from(seconds).unwrap_or(u32::MAX))
        .page_size(settings.page_size)
        .list_semantic(ListSemantic::MostRecent);
    let config = if streaming { config.streaming_lists() } else { config };
    watcher(api.clone(), config).boxed()
}

/// How far the list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Owed,
    Begun,
    Complete,
}

struct Watch<K> {
    api: Api<DeserializeGuard<K>>,
    settings: StreamSettings,
    events: Events<K>,
    streaming: bool,
    list: List,
    pause: Pause,
}

impl<K> Watch<K>
where
    K: Resource + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    async fn next(&mut self) -> Change<K> {
        loop {
            let pause = self.pause.take();
            // Even a sleep of nothing ends only with the clock's next millisecond: two minutes for a long list.
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let change = match self.events.next().await {
                Some(Ok(event)) => self.pass_on(event),
                Some(Err(error)) => self.interrupt(error),
                None => {
                    self.start_over(self.streaming);
                    None
                }
            };
            if let Some(change) = change {
                return change;
            }
        }
    }

    fn pass_on(&mut self, event: Event<DeserializeGuard<K>>) -> Option<Change<K>> {
        match event {
            Event::Init => {
                // The watch's own time-out ends a streaming list as well: one that takes longer
                // would begin again for ever. Pages have no such limit.
                if self.streaming && self.list == List::Begun {
                    self.start_over(false);
                    return None;
                }
                self.list = List::Begun;
                Some(Change::Restarted)
            }
            Event::InitDone => {
                self.pause.reset();
                self.list = List::Complete;
                Some(Change::Synced)
            }
            Event::InitApply(object) | Event::Apply(object) => {
                self.pause.reset();
                Some(seen(object))
            }
            Event::Delete(object) => {
                self.pause.reset();
                Some(Change::Gone(identity(object.meta())))
            }
        }
    }

    fn interrupt(&mut self, error: watcher::Error) -> Option<Change<K>> {
        // 400 and 422: the server does not know streaming lists, or has them switched off.
        if let watcher::Error::WatchStartFailed(error) = &error
            && self.streaming
            && self.list != List::Complete
            && is_status(error, &[400, 422])
        {
            self.start_over(false);
            return None;
        }
        let error = Interrupted::from(error);
        // The watcher lists again when it is told by an event that its watch has expired, and not when a watch is
        // refused with that status. That a refused watch works again shows only in a list, because a watch may be quiet;
        // but pages may be allowed where a watch is not, and would be asked for in vain.
        let begins_anew = match &error {
            Interrupted::Expired => true,
            Interrupted::Begin(error) => {
                let is_refused = is_status(error, &[404]) || (self.streaming && is_status(error, &[403]));
                self.list == List::Complete && is_refused
            }
            Interrupted::List(_) | Interrupted::Watch(_) | Interrupted::NoResourceVersion => false,
        };
        if begins_anew {
            self.start_over(self.streaming);
        }
        let pause = self.pause.grow(Instant::now(), rand::random_range(0.75..1.25));
        Some(Change::Interrupted { error, list_is_owed: self.list != List::Complete, pause })
    }

    fn start_over(&mut self, streaming: bool) {
        self.streaming = streaming;
        self.list = List::Owed;
        self.events = events(&self.api, &self.settings, streaming);
    }
}

/// An object whole: how large it is may matter to who takes it.
fn seen<K: Resource>(object: DeserializeGuard<K>) -> Change<K> {
    match object.0 {
        Ok(object) => Change::Seen(object),
        Err(invalid) => {
            Change::Undecodable { object: identity(&invalid.metadata), error: describe(&invalid.error) }
        }
    }
}

fn identity(meta: &ObjectMeta) -> Identity {
    Identity {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
    }
}

/// How long to wait after trouble: twice as long each time, until something works or has worked for
/// a while.
#[derive(Debug, Default)]
struct Pause {
    failures: u32,
    last_failure: Option<Instant>,
    due: Duration,
}

impl Pause {
    fn take(&mut self) -> Duration {
        std::mem::take(&mut self.due)
    }

    fn reset(&mut self) {
        self.failures = 0;
    }

    fn grow(&mut self, now: Instant, jitter: f64) -> Duration {
        // A quiet watch that lasted says nothing, and yet it worked.
        if let Some(last) = self.last_failure
            && now.duration_since(last) > 2 * LONGEST_PAUSE
        {
            self.reset();
        }
        let pause = BACKOFF.wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(now);
        self.due = pause.mul_f64(jitter).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.due
    }
}

/// serde quotes what it cannot read, and that may be a link or an id.
fn without_content(error: kube::Error) -> kube::Error {
    if let kube::Error::SerdeError(error) = &error {
        return kube::Error::SerdeError(serde_json::Error::custom(describe(&error.to_string())));
    }
    error
}

fn is_status(error: &kube::Error, codes: &[u16]) -> bool {
    matches!(error, kube::Error::Api(status) if codes.contains(&status.code))
}

#[cfg(test)]
mod tests;
