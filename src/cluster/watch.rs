//! Lists and watches the live verifications. May depend on kube's client, tokio's clock, `request` and `watch_client`.
//!
//! The protocol (list, watch, resume, list again after 410) is kube-runtime's [`watcher`]. This adds four things: an
//! object that cannot be decoded is a value; so is an interruption, with a pause after it; a server without streaming
//! lists is asked for pages; no request hangs (see `with_timeout`).

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

use super::{
    decode_error::describe, error::ApiError, last_contact::LastContact, request::in_scope,
    watch_client::with_timeout,
};
use crate::backoff::Backoff;

/// The first pause after an interruption and the longest one.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pauses before they are varied by a quarter and held between the shortest and the longest.
const BACKOFF: Backoff = Backoff::new(SHORTEST_PAUSE, Duration::from_secs(32));

/// What is watched and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchSettings {
    /// The field selector of the objects. One that no longer matches is reported as [`Change::Deleted`].
    pub field_selector: String,
    /// The label selector, if there is one. What is said of the field selector holds for it too.
    pub label_selector: Option<String>,
    /// Whether to request a streaming list first (Kubernetes 1.34 has it by default). A server that refuses it, or does
    /// not complete one, is asked for pages from then on.
    pub streaming_list: bool,
    /// The most objects in a page; it has fewer if they are large.
    pub page_size: u32,
    /// The duration of a watch request, in whole seconds. A dead connection is noticed at most five seconds after that.
    pub watch_timeout: Duration,
    /// The deadline for a response: for a page the whole, for a watch its start.
    pub deadline: Duration,
}

impl Default for WatchSettings {
    /// Everything that is not settled; a streaming list, or pages of 500; watches of a minute; a deadline of 30 s.
    fn default() -> Self {
        Self {
            field_selector: "status.settled!=true".to_owned(),
            label_selector: None,
            streaming_list: true,
            page_size: 500,
            watch_timeout: Duration::from_mins(1),
            deadline: Duration::from_secs(30),
        }
    }
}

/// A change that the API server reported.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// A list begins. What is not [`Applied`](Self::Applied) or [`Undecodable`](Self::Undecodable) before
    /// [`InitDone`](Self::InitDone) is deleted. A list that was interrupted begins again.
    Init,
    /// An object was listed, created or changed.
    Applied(K),
    /// An object was listed, created or changed, and cannot be decoded.
    Undecodable {
        /// Which one.
        object: Identity,
        /// What was expected, without anything of the object.
        error: String,
    },
    /// The list is complete.
    InitDone,
    /// An object was deleted, or no longer matches the selector.
    Deleted(Identity),
    /// A request failed. The stream continues automatically after the pause.
    Interrupted {
        /// What failed.
        error: Interrupted,
        /// Whether what is known may be outdated until the next [`InitDone`](Self::InitDone).
        needs_list: bool,
        /// How long no request is made.
        pause: Duration,
    },
}

/// An object in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
}

/// Why the watch was interrupted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    /// The list was refused or broke off. 404 means that the CRD is missing.
    #[error("list objects")]
    List(#[source] kube::Error),
    /// The watch was refused or did not start.
    #[error("start watching objects")]
    Start(#[source] kube::Error),
    /// The watch broke off.
    #[error("watch objects")]
    Watch(#[source] kube::Error),
    /// The server no longer has the events after the last one (410 Gone): a new list follows.
    #[error("resume the watch of objects")]
    Expired,
    /// The response had no resourceVersion, and cannot have come from an API server.
    #[error("read the resourceVersion of the response")]
    NoResourceVersion,
}

impl Interrupted {
    /// The action that failed, for the log.
    #[must_use]
    pub(crate) fn action(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Start(_) => "start a watch",
            Self::Watch(_) => "watch",
            Self::Expired => "resume a watch",
            Self::NoResourceVersion => "read the resourceVersion of a list",
        }
    }

    /// The reason of the failure, for the log. Nothing for [`Expired`](Self::Expired), which is part of the protocol.
    #[must_use]
    pub(crate) fn api_error(&self) -> Option<ApiError> {
        match self {
            Self::List(error) | Self::Start(error) | Self::Watch(error) => Some(error.into()),
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
            watcher::Error::WatchStartFailed(error) => Self::Start(without_content(error)),
            watcher::Error::WatchError(status) if status.code == 410 => Self::Expired,
            watcher::Error::WatchError(status) => Self::Watch(kube::Error::Api(status)),
            watcher::Error::WatchFailed(error) => Self::Watch(without_content(error)),
            watcher::Error::NoResourceVersion => Self::NoResourceVersion,
        }
    }
}

/// Lists and watches objects in one namespace or in all. The stream does not end; dropping it ends the watch. Nothing
/// is sent before it is polled. `last_contact` notes everything that is received.
pub(crate) fn changes<K>(
    client: &Client,
    namespace: Option<&str>,
    settings: WatchSettings,
    last_contact: &LastContact,
) -> impl Stream<Item = Change<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let client = with_timeout(client, settings.deadline, last_contact);
    let api = in_scope(client, namespace);
    let watch = Watch {
        events: events(&api, &settings, settings.streaming_list),
        streaming: settings.streaming_list,
        api,
        settings,
        list: ListState::Needed,
        pause: Pause::default(),
    };
    stream::unfold(watch, |mut watch| async move {
        let change = watch.next().await;
        Some((change, watch))
    })
}

type Events<K> = BoxStream<'static, watcher::Result<Event<DeserializeGuard<K>>>>;

fn events<K>(api: &Api<DeserializeGuard<K>>, settings: &WatchSettings, streaming: bool) -> Events<K>
where
    K: Resource + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let seconds = settings.watch_timeout.as_secs().max(1);
    let config = watcher::Config::default()
        .fields(&settings.field_selector)
        .timeout(u32::try_from(seconds).unwrap_or(u32::MAX))
        .page_size(settings.page_size)
        .list_semantic(ListSemantic::MostRecent);
    let config = match &settings.label_selector {
        Some(selector) => config.labels(selector),
        None => config,
    };
    let config = if streaming { config.streaming_lists() } else { config };
    watcher(api.clone(), config).boxed()
}

/// The progress of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListState {
    Needed,
    Begun,
    Complete,
}

struct Watch<K> {
    api: Api<DeserializeGuard<K>>,
    settings: WatchSettings,
    events: Events<K>,
    streaming: bool,
    list: ListState,
    pause: Pause,
}

impl<K> Watch<K>
where
    K: Resource + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    async fn next(&mut self) -> Change<K> {
        loop {
            let pause = self.pause.take();
            // Even a sleep of zero ends only with the clock's next millisecond: two minutes for a long list.
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let change = match self.events.next().await {
                Some(Ok(event)) => self.on_event(event),
                Some(Err(error)) => self.on_error(error),
                None => {
                    self.restart(self.streaming);
                    None
                }
            };
            if let Some(change) = change {
                return change;
            }
        }
    }

    fn on_event(&mut self, event: Event<DeserializeGuard<K>>) -> Option<Change<K>> {
        match event {
            Event::Init => {
                // The timeout of the watch ends a streaming list as well: one that takes longer would restart forever.
                // Pages have no such limit.
                if self.streaming && self.list == ListState::Begun {
                    self.restart(false);
                    return None;
                }
                self.list = ListState::Begun;
                Some(Change::Init)
            }
            Event::InitDone => {
                self.pause.reset();
                self.list = ListState::Complete;
                Some(Change::InitDone)
            }
            Event::InitApply(object) | Event::Apply(object) => {
                self.pause.reset();
                Some(applied(object))
            }
            Event::Delete(object) => {
                self.pause.reset();
                Some(Change::Deleted(identity(object.meta())))
            }
        }
    }

    fn on_error(&mut self, error: watcher::Error) -> Option<Change<K>> {
        // 400 and 422: the server does not know streaming lists, or has disabled them.
        if let watcher::Error::WatchStartFailed(error) = &error
            && self.streaming
            && self.list != ListState::Complete
            && is_status(error, &[400, 422])
        {
            self.restart(false);
            return None;
        }
        let error = Interrupted::from(error);
        // The watcher lists again when an event says that its watch has expired, but not when a watch is refused with
        // that status. Only a list shows that a refused watch works again, because a watch may be silent; but pages may
        // be allowed where a watch is not, and would be requested in vain.
        let needs_restart = match &error {
            Interrupted::Expired => true,
            Interrupted::Start(error) => {
                let is_refused = is_status(error, &[404]) || (self.streaming && is_status(error, &[403]));
                self.list == ListState::Complete && is_refused
            }
            Interrupted::List(_) | Interrupted::Watch(_) | Interrupted::NoResourceVersion => false,
        };
        if needs_restart {
            self.restart(self.streaming);
        }
        let pause = self.pause.grow(Instant::now(), rand::random_range(0.75..1.25));
        Some(Change::Interrupted { error, needs_list: self.list != ListState::Complete, pause })
    }

    fn restart(&mut self, streaming: bool) {
        self.streaming = streaming;
        self.list = ListState::Needed;
        self.events = events(&self.api, &self.settings, streaming);
    }
}

/// The object as it was received: its size may matter to the caller.
fn applied<K: Resource>(object: DeserializeGuard<K>) -> Change<K> {
    match object.0 {
        Ok(object) => Change::Applied(object),
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

/// The pause after an interruption. It doubles each time until a request succeeds, or a watch has lasted for a while.
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
        // A silent watch that lasted reports nothing, but it worked.
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

/// serde quotes what it cannot decode, and that may be a link or an id.
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
