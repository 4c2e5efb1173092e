//! The events that wait to be published: in order per resource, in bounded bytes, warnings in a queue of their own.
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
    /// The namespace of a verification that is gone.
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

/// One event that waits, or several equal ones in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) event: Event,
    /// When it happened, for the last time.
    pub(crate) at: Timestamp,
    /// How often it happened.
    pub(crate) times: u32,
    /// Makes the name of its object unique, and the same at each try.
    pub(crate) suffix: u64,
}

/// Whose bytes an event counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Normal,
    Warning,
    /// What happens once and is told nowhere else.
    Orphan,
}

impl Class {
    const fn of(event: Event) -> Self {
        if event.tells_of_an_orphan() {
            Self::Orphan
        } else if event.warns() {
            Self::Warning
        } else {
            Self::Normal
        }
    }

    /// Most bytes that may wait.
    const fn bound(self) -> usize {
        match self {
            Self::Normal | Self::Warning => 2 << 20,
            // Each turn that is under way can leave two at once, and there may be ten thousand.
            Self::Orphan => 16 << 20,
        }
    }
}

/// There is no room for one more event of that kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The events that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: HashMap<Arc<Subject>, Line>,
    normals: VecDeque<Arc<Subject>>,
    warnings: VecDeque<Arc<Subject>>,
    bytes: [usize; 3],
    was_warning: bool,
}

/// The events of one object.
#[derive(Debug, Default)]
struct Line {
    items: VecDeque<Item>,
    /// One of them is being published, and the others wait for it.
    is_busy: bool,
    listed: Option<List>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Normals,
    Warnings,
}

impl Queue {
    /// Adds an event. One that equals the last one about the same object, which still waits, is counted with it.
    pub(crate) fn push(&mut self, subject: Subject, item: Item) -> Result<(), Full> {
        if let Some(last) = self.lines.get_mut(&subject).and_then(|line| line.items.back_mut())
            && last.event == item.event
        {
            last.times = last.times.saturating_add(item.times);
            last.at = item.at;
            return Ok(());
        }
        let class = Class::of(item.event);
        if self.bytes[class as usize] + cost(&subject) > class.bound() {
            return Err(Full);
        }
        self.bytes[class as usize] += cost(&subject);
        let subject = Arc::new(subject);
        self.lines.entry(Arc::clone(&subject)).or_default().items.push_back(item);
        self.list(&subject);
        Ok(())
    }

    /// Takes what is to be published next. Nothing else about the same object comes until it is [`done`](Self::done).
    pub(crate) fn take(&mut self) -> Option<(Arc<Subject>, Item)> {
        let warning_first = !self.was_warning;
        let subject = if warning_first {
            self.pop(List::Warnings).or_else(|| self.pop(List::Normals))
        } else {
            self.pop(List::Normals).or_else(|| self.pop(List::Warnings))
        }?;
        let line = self.lines.get_mut(&subject)?;
        self.was_warning = line.listed.take() == Some(List::Warnings);
        let item = line.items.pop_front()?;
        line.is_busy = true;
        self.bytes[Class::of(item.event) as usize] -= cost(&subject);
        Some((subject, item))
    }

    /// What was taken is published or dropped, or comes back to be tried again, before whatever follows it.
    pub(crate) fn done(&mut self, subject: &Arc<Subject>, again: Option<Item>) {
        let Some(line) = self.lines.get_mut(subject) else { return };
        line.is_busy = false;
        if let Some(item) = again {
            self.bytes[Class::of(item.event) as usize] += cost(subject);
            line.items.push_front(item);
        }
        if line.items.is_empty() {
            self.lines.remove(subject);
        } else {
            self.list(subject);
        }
    }

    /// Whether something may be there to take.
    pub(crate) fn has_next(&self) -> bool {
        !(self.normals.is_empty() && self.warnings.is_empty())
    }

    /// Whether nothing waits and nothing is being published.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Puts the line of an object where it is found: among the warnings, if there is one in it.
    fn list(&mut self, subject: &Arc<Subject>) {
        let Some(line) = self.lines.get_mut(subject).filter(|line| !line.is_busy) else { return };
        let list =
            if line.items.iter().any(|item| item.event.warns()) { List::Warnings } else { List::Normals };
        if line.listed == Some(list) {
            return;
        }
        // Where it was before, it is passed by.
        line.listed = Some(list);
        match list {
            List::Normals => self.normals.push_back(Arc::clone(subject)),
            List::Warnings => self.warnings.push_back(Arc::clone(subject)),
        }
    }

    fn pop(&mut self, list: List) -> Option<Arc<Subject>> {
        let queue = match list {
            List::Normals => &mut self.normals,
            List::Warnings => &mut self.warnings,
        };
        while let Some(subject) = queue.pop_front() {
            let line = self.lines.get(&subject);
            if line.is_some_and(|line| !line.is_busy && line.listed == Some(list)) {
                return Some(subject);
            }
        }
        None
    }
}

/// Bytes that one event takes, about: itself, its object's name, and its places in the lists.
fn cost(subject: &Subject) -> usize {
    let Subject { kind: _, namespace, name, uid } = subject;
    size_of::<Item>()
        + size_of::<Line>()
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

    fn push(queue: &mut Queue, name: &str, event: Event) -> bool {
        queue.push(subject(name), item(event)).is_ok()
    }

    fn take(queue: &mut Queue) -> Option<(String, Event)> {
        let (subject, item) = queue.take()?;
        queue.done(&subject, None);
        Some((subject.name.to_string(), item.event))
    }

    fn told(mut queue: Queue) -> Vec<(String, Event)> {
        let all = std::iter::from_fn(|| take(&mut queue)).collect();
        assert!(queue.is_empty() && queue.bytes == [0; 3], "{queue:?}");
        all
    }

    #[test]
    fn events_about_one_object_are_told_in_their_order_and_one_at_a_time() {
        let mut queue = Queue::default();
        for event in [Event::SessionCreated, Event::KeyRejected, Event::Verified] {
            assert!(push(&mut queue, "alice", event));
        }
        let (alice, first) = queue.take().unwrap();
        assert_eq!(first.event, Event::SessionCreated);
        assert_eq!(queue.take(), None, "the others wait for it");
        queue.done(&alice, Some(first));
        let all: Vec<_> = told(queue).into_iter().map(|(_, event)| event).collect();
        assert_eq!(all, [Event::SessionCreated, Event::KeyRejected, Event::Verified]);
    }

    #[test]
    fn a_warning_does_not_wait_behind_the_events_of_all_others() {
        let mut queue = Queue::default();
        for number in 0..100 {
            assert!(push(&mut queue, &format!("person-{number}"), Event::SessionCreated));
        }
        assert!(push(&mut queue, "person-99", Event::KeyRejected));
        let first: Vec<_> = told(queue).into_iter().take(4).collect();
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
    fn each_kind_of_event_has_bounded_bytes_of_its_own() {
        let mut queue = Queue::default();
        let fill = |queue: &mut Queue, event| {
            (0_u32..100_000).take_while(|number| push(queue, &format!("{event:?}-{number}"), event)).count()
        };
        let normals = fill(&mut queue, Event::SessionCreated);
        let warnings = fill(&mut queue, Event::KeyRejected);
        let orphans = fill(&mut queue, Event::OrphanSession);
        assert!((4_000..20_000).contains(&normals), "two events for each of a burst of 2,000: {normals}");
        assert!((4_000..20_000).contains(&warnings), "{warnings}");
        assert!((20_000..100_000).contains(&orphans), "two for each turn that is under way: {orphans}");
        assert!(!push(&mut queue, "bob", Event::Verified));
        assert!(
            push(&mut queue, "KeyRejected-0", Event::KeyRejected),
            "it is counted with the one that waits"
        );
        assert_eq!(told(queue).len(), normals + warnings + orphans);
    }

    #[test]
    fn what_happens_again_before_it_is_told_is_told_once_with_its_number() {
        let mut queue = Queue::default();
        assert!((0..3).all(|_| push(&mut queue, "alice", Event::KeyRejected)));
        let (alice, item) = queue.take().unwrap();
        assert_eq!(item.times, 3);
        queue.done(&alice, None);
        assert!(queue.is_empty());
    }
}
