//! The events that wait to be published: in order per object, in bounded bytes, with warnings in a list of their own.
//! Pure.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;

use crate::lifecycle::Event;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A verification.
    Verification,
    /// The namespace of a verification that no longer exists.
    Namespace,
}

/// The object that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    /// Empty for a namespace.
    pub(crate) uid: Box<str>,
}

/// One event, or several equal ones in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) event: Event,
    /// When it happened last.
    pub(crate) at: Timestamp,
    /// How often it happened.
    pub(crate) times: u32,
    /// Makes the name of its object unique, and the same at each attempt.
    pub(crate) suffix: u64,
}

/// The class of events whose bytes an event counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventClass {
    Normal,
    Warning,
    /// What happens once and is reported nowhere else.
    Orphan,
}

impl EventClass {
    const fn of(event: Event) -> Self {
        if event.tells_of_an_orphan() {
            Self::Orphan
        } else if event.warns() {
            Self::Warning
        } else {
            Self::Normal
        }
    }

    /// The most bytes that may wait.
    const fn bound(self) -> usize {
        match self {
            Self::Normal | Self::Warning => 2 << 20,
            // Each running reconcile can leave two at once, and there may be ten thousand.
            Self::Orphan => 16 << 20,
        }
    }
}

/// There is no room for one more event of that class.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The events that wait.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    subjects: HashMap<Arc<Subject>, Pending>,
    normals: VecDeque<Arc<Subject>>,
    warnings: VecDeque<Arc<Subject>>,
    bytes: [usize; 3],
    was_warning: bool,
}

/// The events of one object.
#[derive(Debug, Default)]
struct Pending {
    items: VecDeque<Item>,
    /// Whether one of them is being published, and the others wait for it.
    is_busy: bool,
    listed: Option<List>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Normals,
    Warnings,
}

impl EventQueue {
    /// Adds an event. If the last waiting one about the same object is equal, only its count grows.
    pub(crate) fn push(&mut self, subject: Subject, item: Item) -> Result<(), Full> {
        if let Some(last) = self.subjects.get_mut(&subject).and_then(|pending| pending.items.back_mut())
            && last.event == item.event
        {
            last.times = last.times.saturating_add(item.times);
            last.at = item.at;
            return Ok(());
        }
        let class = EventClass::of(item.event);
        if self.bytes[class as usize] + cost(&subject) > class.bound() {
            return Err(Full);
        }
        self.bytes[class as usize] += cost(&subject);
        let subject = Arc::new(subject);
        self.subjects.entry(Arc::clone(&subject)).or_default().items.push_back(item);
        self.list(&subject);
        Ok(())
    }

    /// Pops the next event. No other about the same object follows until it is [`done`](Self::done).
    pub(crate) fn pop(&mut self) -> Option<(Arc<Subject>, Item)> {
        let warning_first = !self.was_warning;
        let subject = if warning_first {
            self.pop_from(List::Warnings).or_else(|| self.pop_from(List::Normals))
        } else {
            self.pop_from(List::Normals).or_else(|| self.pop_from(List::Warnings))
        }?;
        let pending = self.subjects.get_mut(&subject)?;
        self.was_warning = pending.listed.take() == Some(List::Warnings);
        let item = pending.items.pop_front()?;
        pending.is_busy = true;
        self.bytes[EventClass::of(item.event) as usize] -= cost(&subject);
        Some((subject, item))
    }

    /// The event that was popped is published or dropped, or comes back to be retried before those that follow it.
    pub(crate) fn done(&mut self, subject: &Arc<Subject>, retry: Option<Item>) {
        let Some(pending) = self.subjects.get_mut(subject) else { return };
        pending.is_busy = false;
        if let Some(item) = retry {
            self.bytes[EventClass::of(item.event) as usize] += cost(subject);
            pending.items.push_front(item);
        }
        if pending.items.is_empty() {
            self.subjects.remove(subject);
        } else {
            self.list(subject);
        }
    }

    /// Whether there may be an event to pop.
    pub(crate) fn has_next(&self) -> bool {
        !(self.normals.is_empty() && self.warnings.is_empty())
    }

    /// Whether no event waits or is being published.
    pub(crate) fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// Lists an object: among the warnings if one of its events is a warning.
    fn list(&mut self, subject: &Arc<Subject>) {
        let Some(pending) = self.subjects.get_mut(subject).filter(|pending| !pending.is_busy) else { return };
        let list =
            if pending.items.iter().any(|item| item.event.warns()) { List::Warnings } else { List::Normals };
        if pending.listed == Some(list) {
            return;
        }
        // Its entry in the other list is skipped.
        pending.listed = Some(list);
        match list {
            List::Normals => self.normals.push_back(Arc::clone(subject)),
            List::Warnings => self.warnings.push_back(Arc::clone(subject)),
        }
    }

    fn pop_from(&mut self, list: List) -> Option<Arc<Subject>> {
        let queue = match list {
            List::Normals => &mut self.normals,
            List::Warnings => &mut self.warnings,
        };
        while let Some(subject) = queue.pop_front() {
            let pending = self.subjects.get(&subject);
            if pending.is_some_and(|pending| !pending.is_busy && pending.listed == Some(list)) {
                return Some(subject);
            }
        }
        None
    }
}

/// The approximate bytes of one event: itself, the name of its object, and its entries in the lists.
fn cost(subject: &Subject) -> usize {
    let Subject { kind: _, namespace, name, uid } = subject;
    size_of::<Item>()
        + size_of::<Pending>()
        + 2 * size_of::<Subject>()
        + namespace.len()
        + name.len()
        + uid.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> Subject {
        Subject { kind: Kind::Verification, namespace: "kyc".into(), name: name.into(), uid: name.into() }
    }

    fn item(event: Event) -> Item {
        Item { event, at: Timestamp::UNIX_EPOCH, times: 1, suffix: 0 }
    }

    fn push(queue: &mut EventQueue, name: &str, event: Event) -> bool {
        queue.push(subject(name), item(event)).is_ok()
    }

    fn pop(queue: &mut EventQueue) -> Option<(String, Event)> {
        let (subject, item) = queue.pop()?;
        queue.done(&subject, None);
        Some((subject.name.to_string(), item.event))
    }

    fn drain(mut queue: EventQueue) -> Vec<(String, Event)> {
        let all = std::iter::from_fn(|| pop(&mut queue)).collect();
        assert!(queue.is_empty() && queue.bytes == [0; 3], "{queue:?}");
        all
    }

    #[test]
    fn events_about_one_object_are_published_in_order_and_one_at_a_time() {
        let mut queue = EventQueue::default();
        for event in [Event::SessionCreated, Event::KeyRejected, Event::Verified] {
            assert!(push(&mut queue, "alice", event));
        }
        let (alice, first) = queue.pop().unwrap();
        assert_eq!(first.event, Event::SessionCreated);
        assert_eq!(queue.pop(), None, "the others wait for it");
        assert!(push(&mut queue, "alice", Event::Expired));
        assert_eq!(queue.pop(), None, "and so does what is reported meanwhile");
        queue.done(&alice, Some(first));
        let all: Vec<_> = drain(queue).into_iter().map(|(_, event)| event).collect();
        assert_eq!(all, [Event::SessionCreated, Event::KeyRejected, Event::Verified, Event::Expired]);
    }

    #[test]
    fn a_warning_does_not_wait_for_the_events_of_all_other_objects() {
        let mut queue = EventQueue::default();
        for number in 0..100 {
            assert!(push(&mut queue, &format!("person-{number}"), Event::SessionCreated));
        }
        assert!(push(&mut queue, "person-99", Event::KeyRejected));
        let first: Vec<_> = drain(queue).into_iter().take(4).collect();
        let of = |number: u8, event| (format!("person-{number}"), event);
        assert_eq!(
            first,
            [
                of(99, Event::SessionCreated),
                of(0, Event::SessionCreated),
                of(99, Event::KeyRejected),
                of(1, Event::SessionCreated)
            ]
        );
    }

    #[test]
    fn each_class_of_events_has_bounded_bytes_of_its_own() {
        let mut queue = EventQueue::default();
        let fill = |queue: &mut EventQueue, event| {
            (0_u32..100_000).take_while(|number| push(queue, &format!("{event:?}-{number}"), event)).count()
        };
        let normals = fill(&mut queue, Event::SessionCreated);
        let warnings = fill(&mut queue, Event::KeyRejected);
        let orphans = fill(&mut queue, Event::OrphanSession);
        assert!((4_000..20_000).contains(&normals), "two events for each of a burst of 2,000: {normals}");
        assert!((4_000..20_000).contains(&warnings), "{warnings}");
        assert!((20_000..100_000).contains(&orphans), "two for each running reconcile: {orphans}");
        assert!(!push(&mut queue, "bob", Event::Verified));
        assert!(
            push(&mut queue, "KeyRejected-0", Event::KeyRejected),
            "only the count of the waiting one grows"
        );
        assert_eq!(drain(queue).len(), normals + warnings + orphans);
    }

    #[test]
    fn a_repetition_before_publication_only_increases_the_count() {
        let mut queue = EventQueue::default();
        assert!((0..3).all(|_| push(&mut queue, "alice", Event::KeyRejected)));
        let (alice, item) = queue.pop().unwrap();
        assert_eq!(item.times, 3);
        queue.done(&alice, None);
        assert!(queue.is_empty());
    }
}
