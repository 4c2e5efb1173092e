//! Events as objects of the API server: their names, their series, and the recent ones that a repetition is counted
//! with. Pure. Depends on `queue`.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event as Note, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::Resource;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::queue::{Item, Kind, Subject};
use crate::{api::Verification, lifecycle::Event};

/// The reporting controller.
const CONTROLLER: &str = "okid-operator";
/// The longest name of an object.
const NAME_BYTES: usize = 253;
/// The longest name of a reporting instance.
const INSTANCE_BYTES: usize = 128;
/// A repetition within this time belongs to the series of the previous event.
const SERIES_WITHIN: Duration = Duration::from_mins(10);
/// The most recent events that are remembered.
const REMEMBERED: usize = 4096;

/// The operator's own Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, if it is known.
    pub uid: Option<String>,
}

impl Subject {
    /// The reference to the object.
    pub(crate) fn reference(&self) -> ObjectReference {
        let Self { kind, namespace, name, uid } = self;
        let (api_version, kind) = match kind {
            Kind::Verification => (Verification::api_version(&()), Verification::kind(&())),
            Kind::Namespace => ("v1".into(), "Namespace".into()),
        };
        ObjectReference {
            api_version: Some(api_version.into_owned()),
            kind: Some(kind.into_owned()),
            namespace: Some(namespace.to_string()),
            name: Some(name.to_string()),
            uid: (!uid.is_empty()).then(|| uid.to_string()),
            ..ObjectReference::default()
        }
    }
}

/// An event about an object, in that object's namespace.
pub(crate) fn about(subject: &Subject, item: &Item, instance: &str) -> Note {
    Note {
        metadata: metadata(&subject.namespace, &subject.name, item.suffix),
        regarding: Some(subject.reference()),
        ..note(item, item.event.note().to_owned(), instance)
    }
}

/// The same event on the operator's own Pod, in the Pod's namespace.
pub(crate) fn on_own_pod(pod: &OwnPod, subject: &Subject, item: &Item, instance: &str) -> Note {
    let regarding = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: pod.uid.clone(),
        ..ObjectReference::default()
    };
    let text = format!("{}/{}: {}", subject.namespace, subject.name, item.event.note());
    Note {
        metadata: metadata(&pod.namespace, &pod.name, item.suffix),
        regarding: Some(regarding),
        related: Some(subject.reference()),
        ..note(item, text, instance)
    }
}

fn note(item: &Item, text: String, instance: &str) -> Note {
    let kind = if item.event.warns() { "Warning" } else { "Normal" };
    Note {
        action: Some("Verify".to_owned()),
        event_time: Some(MicroTime(item.at)),
        note: Some(text),
        reason: Some(item.event.reason().to_owned()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(truncate(instance, INSTANCE_BYTES).to_owned()),
        series: (item.times > 1)
            .then(|| EventSeries { count: count(item.times), last_observed_time: MicroTime(item.at) }),
        type_: Some(kind.to_owned()),
        ..Note::default()
    }
}

fn metadata(namespace: &str, name: &str, suffix: u64) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(event_name(name, suffix)),
        ..ObjectMeta::default()
    }
}

/// The name of an event: the name of its object, truncated to leave room for the suffix.
pub(crate) fn event_name(name: &str, suffix: u64) -> String {
    let suffix = format!("{suffix:016x}");
    let name = truncate(name, NAME_BYTES - 1 - suffix.len());
    // A label of a name ends with a letter or a digit.
    let name = name.trim_end_matches(|end: char| !end.is_ascii_alphanumeric());
    format!("{name}.{suffix}")
}

fn truncate(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn count(times: u32) -> i32 {
    i32::try_from(times).unwrap_or(i32::MAX)
}

/// The patch that adds an event to the series of one that was published before.
pub(crate) fn series_patch(times: u32, item: &Item) -> Value {
    let series = EventSeries { count: count(times), last_observed_time: MicroTime(item.at) };
    json!({"series": series})
}

/// The recent warnings. Only warnings repeat.
#[derive(Debug, Default)]
pub(crate) struct RecentEvents {
    events: HashMap<(u64, Event), RecentEvent>,
    /// In the order in which they expire.
    order: VecDeque<(u64, Event)>,
}

/// An event that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecentEvent {
    /// The suffix of its name.
    pub(crate) suffix: u64,
    /// How often it happened.
    pub(crate) times: u32,
    last: Instant,
}

impl RecentEvents {
    /// The event whose series a repetition belongs to.
    pub(crate) fn find(&self, subject: &Subject, event: Event, now: Instant) -> Option<RecentEvent> {
        let recent = self.events.get(&(hash(subject), event))?;
        (now.saturating_duration_since(recent.last) < SERIES_WITHIN).then_some(*recent)
    }

    /// An event was published.
    pub(crate) fn remember(
        &mut self,
        subject: &Subject,
        event: Event,
        (suffix, times): (u64, u32),
        now: Instant,
    ) {
        if !event.warns() {
            return;
        }
        let key = (hash(subject), event);
        if self.events.insert(key, RecentEvent { suffix, times, last: now }).is_none() {
            self.order.push_back(key);
        }
        // Each call checks two for the one that it adds, so that no call ever checks all.
        for _ in 0..2 {
            let Some(oldest) = self.order.front().copied() else { return };
            let is_recent = self
                .events
                .get(&oldest)
                .is_some_and(|recent| now.saturating_duration_since(recent.last) < SERIES_WITHIN);
            if is_recent && self.events.len() <= REMEMBERED {
                return;
            }
            self.order.pop_front();
            self.events.remove(&oldest);
        }
    }

    /// A published event no longer exists.
    pub(crate) fn forget(&mut self, subject: &Subject, event: Event) {
        self.events.remove(&(hash(subject), event));
    }
}

fn hash(subject: &Subject) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn subject(name: &str) -> Subject {
        Subject { kind: Kind::Verification, namespace: "kyc".into(), name: name.into(), uid: "u".into() }
    }

    #[test]
    fn the_name_of_an_event_is_valid_however_long_the_name_of_its_object_is() {
        assert_eq!(event_name("alice", 255), "alice.00000000000000ff");
        let longest = "a".repeat(253);
        assert_eq!(event_name(&longest, 0).len(), 253);
        for end in ["-", ".", "-.-"] {
            let name = event_name(&format!("{}{end}{}", "a".repeat(236 - end.len()), "b".repeat(9)), 0);
            assert_eq!(name, format!("{}.{}", "a".repeat(236 - end.len()), "0".repeat(16)));
        }
        let about = about(&subject(&longest), &item(1), &"i".repeat(200));
        assert_eq!(about.reporting_instance.unwrap().len(), 128);
    }

    fn item(times: u32) -> Item {
        Item { event: Event::EvidenceOrphaned, at: Timestamp::UNIX_EPOCH, times, suffix: 7 }
    }

    #[test]
    fn an_event_that_happened_more_than_once_has_a_series_with_the_count() {
        let series = |times| about(&subject("alice"), &item(times), "i").series.map(|series| series.count);
        assert_eq!((series(1), series(3)), (None, Some(3)));
        assert_eq!(series_patch(5, &item(1))["series"]["count"], 5);
    }

    #[test]
    fn on_the_operators_pod_an_event_names_the_verification() {
        let pod = OwnPod { namespace: "okid".into(), name: "okid-operator-0".into(), uid: None };
        let event = on_own_pod(&pod, &subject("alice"), &item(1), "i");
        assert_eq!(event.metadata.namespace.as_deref(), Some("okid"));
        assert_eq!(event.regarding.unwrap().kind.as_deref(), Some("Pod"));
        let related = event.related.unwrap();
        assert_eq!((related.kind.as_deref(), related.name.as_deref()), (Some("Verification"), Some("alice")));
        assert!(event.note.unwrap().starts_with("kyc/alice: Evidence remains"));
    }

    #[test]
    fn a_repetition_within_ten_minutes_belongs_to_the_previous_event() {
        let (mut recent, now) = (RecentEvents::default(), Instant::now());
        let alice = subject("alice");
        recent.remember(&alice, Event::KeyRejected, (1, 1), now);
        let later = now + SERIES_WITHIN / 2;
        let found = recent.find(&alice, Event::KeyRejected, later).unwrap();
        assert_eq!((found.suffix, found.times), (1, 1));
        assert_eq!(recent.find(&alice, Event::IdMismatch, later), None);
        assert_eq!(recent.find(&subject("bob"), Event::KeyRejected, later), None);
        recent.remember(&alice, Event::KeyRejected, (1, 2), later);
        assert!(recent.find(&alice, Event::KeyRejected, now + SERIES_WITHIN).is_some());
        assert_eq!(recent.find(&alice, Event::KeyRejected, later + SERIES_WITHIN), None);
        recent.forget(&alice, Event::KeyRejected);
        assert_eq!(recent.find(&alice, Event::KeyRejected, later), None);
    }

    #[test]
    fn recent_events_are_bounded_in_number_and_time() {
        let (mut recent, now) = (RecentEvents::default(), Instant::now());
        for number in 0..3 * REMEMBERED {
            recent.remember(&subject(&number.to_string()), Event::KeyRejected, (0, 1), now);
            recent.remember(&subject("alice"), Event::SessionCreated, (0, 1), now);
        }
        assert_eq!((recent.events.len(), recent.order.len()), (REMEMBERED, REMEMBERED));
        for number in 0..REMEMBERED {
            recent.remember(
                &subject(&format!("later-{number}")),
                Event::KeyRejected,
                (0, 1),
                now + SERIES_WITHIN,
            );
        }
        assert!(recent.find(&subject("0"), Event::KeyRejected, now + SERIES_WITHIN).is_none());
        assert_eq!(recent.events.len(), REMEMBERED);
    }
}
