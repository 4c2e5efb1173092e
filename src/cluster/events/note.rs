//! Events as the API server takes them: their names, and what was told lately, so that a repetition is counted with it.
//! Pure.

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

/// Who tells.
const CONTROLLER: &str = "okid-operator";
/// Longest name of an object.
const NAME_BYTES: usize = 253;
/// Longest name of a reporting instance.
const INSTANCE_BYTES: usize = 128;
/// A repetition within this time is counted with the event before.
const LATELY: Duration = Duration::from_mins(10);
/// Most events that are remembered as told lately.
const REMEMBERED: usize = 4096;

/// The operator's own Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, if that is known.
    pub uid: Option<String>,
}

impl Subject {
    /// How the object is named to the API server.
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

/// The same on the operator's own Pod, in its own namespace.
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
        reporting_instance: Some(cut(instance, INSTANCE_BYTES).to_owned()),
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

/// The name of an event: that of its object, cut, so that with the suffix it is a name.
pub(crate) fn event_name(name: &str, suffix: u64) -> String {
    let suffix = format!("{suffix:016x}");
    let name = cut(name, NAME_BYTES - 1 - suffix.len());
    // A part of a name ends with a letter or a digit.
    let name = name.trim_end_matches(|end: char| !end.is_ascii_alphanumeric());
    format!("{name}.{suffix}")
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn count(times: u32) -> i32 {
    i32::try_from(times).unwrap_or(i32::MAX)
}

/// The change that counts an event with one that was told before.
pub(crate) fn one_more(times: u32, item: &Item) -> Value {
    let series = EventSeries { count: count(times), last_observed_time: MicroTime(item.at) };
    json!({"series": series})
}

/// What was told lately of warnings, which are what repeats.
#[derive(Debug, Default)]
pub(crate) struct Lately {
    told: HashMap<(u64, Event), Told>,
    /// In the order in which they are looked at again.
    order: VecDeque<(u64, Event)>,
}

/// An event that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The end of its name.
    pub(crate) suffix: u64,
    /// How often it happened.
    pub(crate) times: u32,
    last: Instant,
}

impl Lately {
    /// The event that a repetition is counted with.
    pub(crate) fn before(&self, subject: &Subject, event: Event, now: Instant) -> Option<Told> {
        let told = self.told.get(&(hash(subject), event))?;
        (now.saturating_duration_since(told.last) < LATELY).then_some(*told)
    }

    /// An event was told.
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
        if self.told.insert(key, Told { suffix, times, last: now }).is_none() {
            self.order.push_back(key);
        }
        // Each time a little more is looked at than was added, so that no time is ever spent on all.
        for _ in 0..2 {
            let Some(oldest) = self.order.front().copied() else { return };
            let is_kept =
                self.told.get(&oldest).is_some_and(|told| now.saturating_duration_since(told.last) < LATELY);
            if is_kept && self.told.len() <= REMEMBERED {
                return;
            }
            self.order.pop_front();
            self.told.remove(&oldest);
        }
    }

    /// An event that was told is not there any more.
    pub(crate) fn forget(&mut self, subject: &Subject, event: Event) {
        self.told.remove(&(hash(subject), event));
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
    fn the_name_of_an_event_is_a_name_however_long_that_of_its_object_is() {
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
    fn what_happened_more_than_once_says_how_often() {
        let series = |times| about(&subject("alice"), &item(times), "i").series.map(|series| series.count);
        assert_eq!((series(1), series(3)), (None, Some(3)));
        assert_eq!(one_more(5, &item(1))["series"]["count"], 5);
    }

    #[test]
    fn on_the_operators_pod_an_event_names_the_verification_that_it_is_about() {
        let pod = OwnPod { namespace: "okid".into(), name: "okid-operator-0".into(), uid: None };
        let told = on_own_pod(&pod, &subject("alice"), &item(1), "i");
        assert_eq!(told.metadata.namespace.as_deref(), Some("okid"));
        assert_eq!(told.regarding.unwrap().kind.as_deref(), Some("Pod"));
        let related = told.related.unwrap();
        assert_eq!((related.kind.as_deref(), related.name.as_deref()), (Some("Verification"), Some("alice")));
        assert!(told.note.unwrap().starts_with("kyc/alice: Evidence is left in the store"));
    }

    #[test]
    fn a_repetition_within_ten_minutes_is_counted_with_the_event_before() {
        let (mut lately, now) = (Lately::default(), Instant::now());
        let alice = subject("alice");
        lately.remember(&alice, Event::KeyRejected, (1, 1), now);
        let later = now + LATELY / 2;
        let told = lately.before(&alice, Event::KeyRejected, later).unwrap();
        assert_eq!((told.suffix, told.times), (1, 1));
        assert_eq!(lately.before(&alice, Event::IdMismatch, later), None);
        assert_eq!(lately.before(&subject("bob"), Event::KeyRejected, later), None);
        lately.remember(&alice, Event::KeyRejected, (1, 2), later);
        assert!(lately.before(&alice, Event::KeyRejected, now + LATELY).is_some());
        assert_eq!(lately.before(&alice, Event::KeyRejected, later + LATELY), None);
        lately.forget(&alice, Event::KeyRejected);
        assert_eq!(lately.before(&alice, Event::KeyRejected, later), None);
    }

    #[test]
    fn what_was_told_lately_is_bounded_in_number_and_time() {
        let (mut lately, now) = (Lately::default(), Instant::now());
        for number in 0..3 * REMEMBERED {
            lately.remember(&subject(&number.to_string()), Event::KeyRejected, (0, 1), now);
            lately.remember(&subject("alice"), Event::SessionCreated, (0, 1), now);
        }
        assert_eq!((lately.told.len(), lately.order.len()), (REMEMBERED, REMEMBERED));
        for number in 0..REMEMBERED {
            lately.remember(&subject(&format!("later-{number}")), Event::KeyRejected, (0, 1), now + LATELY);
        }
        assert!(lately.before(&subject("0"), Event::KeyRejected, now + LATELY).is_none());
        assert_eq!(lately.told.len(), REMEMBERED);
    }
}
