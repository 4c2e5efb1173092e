//! What is told after a write: by events, in the log, and by counters. A write whose answer was lost is told when it is known
//! to be there, however that becomes known.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt;
use tokio::{sync::Notify, time::sleep};

use crate::{
    api::{Destination, EVIDENCE_FINALIZER, Verification, VerificationStatus},
    lifecycle::Event,
    watch::Slot,
};

use super::{
    Turns,
    memory::Memory,
    status::{Read, is_written},
};

/// Waits between two reads of a resource that is gone from the watch.
const READ_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Most resources gone from the watch that are read to find out.
const MOST: usize = 10_000;

/// What is to be told of a write once it is known to be there.
#[derive(Clone, Debug)]
pub(super) struct Untold {
    namespace: String,
    name: String,
    uid: String,
    write: Write,
    events: Vec<Event>,
}

/// A write whose answer was lost.
#[derive(Clone, Debug)]
enum Write {
    /// Of status: as it was, and as it is then.
    Status { before: Box<VerificationStatus>, after: Box<VerificationStatus> },
    /// Of the finalizer, which let this resource go.
    LetGo(Box<Verification>),
}

/// What is still to be told of resources that are gone from the watch.
#[derive(Debug, Default)]
pub struct Departed {
    waiting: Mutex<VecDeque<Box<Untold>>>,
    more: Notify,
}

impl Untold {
    /// Whether a resource that was found says that the write is there.
    fn is_told_by(&self, read: &Read) -> bool {
        match (&self.write, read) {
            (Write::Status { before: _, after }, Read::Found(found)) => {
                found.uid().as_deref() == Some(&self.uid) && is_written(found, after)
            }
            (Write::LetGo(_), Read::Found(found)) => {
                found.uid().as_deref() != Some(&self.uid)
                    || !found.finalizers().iter().any(|finalizer| finalizer == EVIDENCE_FINALIZER)
            }
            (Write::LetGo(_), Read::Gone) => true,
            (Write::Status { before: _, after: _ }, Read::Gone) | (_, Read::Unknown) => false,
        }
    }
}

impl Turns {
    /// Tells what has happened to a verification.
    pub(super) fn tell(&self, object: &Verification, event: Event) {
        if event.leaves_evidence() {
            self.metrics.evidence_orphaned.inc();
            tracing::warn!(
                namespace = object.namespace().unwrap_or_default(),
                name = object.name_any(),
                uid = object.uid().unwrap_or_default(),
                place = place(object),
                "{}",
                event.note()
            );
        }
        self.reporter.tell(object, event);
    }

    /// Remembers what to tell of a write of status whose answer was lost.
    pub(super) fn tell_when_written(
        &self,
        slot: Slot,
        object: &Verification,
        after: &VerificationStatus,
        events: &[Event],
    ) {
        if events.is_empty() {
            return;
        }
        let before = Box::new(object.status.clone().unwrap_or_default());
        self.tell_later(
            slot,
            object,
            Write::Status { before, after: Box::new(after.clone()) },
            events.to_vec(),
        );
    }

    /// Remembers what to tell of a resource that was perhaps let go.
    pub(super) fn tell_when_let_go(&self, slot: Slot, object: &Verification, event: Event) {
        self.tell_later(slot, object, Write::LetGo(Box::new(object.clone())), vec![event]);
    }

    fn tell_later(&self, slot: Slot, object: &Verification, write: Write, events: Vec<Event>) {
        let untold = Box::new(Untold {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            write,
            events,
        });
        match self.table().get_mut(slot) {
            Some(kept) => kept.untold = Some(untold),
            // The watch was faster.
            None => self.departed.push(untold),
        }
    }

    /// Tells what was not told, if the resource as it was read says that it has happened. If it has not, what follows from
    /// it now is told instead.
    pub(super) fn tell_if_written(&self, slot: Slot, memory: &mut Memory, read: &Read) {
        if matches!(read, Read::Unknown) || memory.untold.take().is_none() {
            return;
        }
        // A turn that fails must not tell it again.
        let untold = self.table().get_mut(slot).and_then(|kept| kept.untold.take());
        if let Some(untold) = untold.filter(|untold| untold.is_told_by(read)) {
            self.tell_late(*untold, read);
        }
    }

    fn tell_late(&self, untold: Untold, read: &Read) {
        let object = match (untold.write, read) {
            (Write::LetGo(object), _) => object,
            (Write::Status { before, after: _ }, Read::Found(found)) => {
                let before = Verification { status: Some(*before), ..(**found).clone() };
                self.log_change(&before, found);
                Box::new(before)
            }
            (Write::Status { before: _, after: _ }, Read::Gone | Read::Unknown) => return,
        };
        for event in untold.events {
            self.tell(&object, event);
        }
    }

    /// A verification is gone from the watch: what is not told of it is told once it is known.
    pub fn departed(&self, memory: &Memory) {
        if let Some(untold) = &memory.untold {
            self.departed.push(untold.clone());
        }
    }

    /// The process ends: what is not known to be written by now is not told.
    pub fn give_up_untold(&self) {
        let mut untold: Vec<_> = std::iter::from_fn(|| self.departed.pop()).collect();
        untold.extend(self.table().iter().filter_map(|(_, memory)| memory.untold.clone()));
        for Untold { namespace, name, uid, write: _, events } in untold.into_iter().map(|untold| *untold) {
            for event in events {
                self.reporter.give_up((&namespace, &name, &uid), event);
            }
        }
    }

    /// Tells what was not told of resources that are gone from the watch, for as long as the process runs.
    pub async fn tell_of_departed(&self) {
        loop {
            let Some(untold) = self.departed.pop() else {
                self.departed.more.notified().await;
                continue;
            };
            let (mut pause, longest) = READ_EVERY;
            let read = loop {
                let read = self.read(&untold.namespace, &untold.name).await;
                if !matches!(read, Read::Unknown) {
                    break read;
                }
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            };
            if untold.is_told_by(&read) {
                self.tell_late(*untold, &read);
            }
        }
    }
}

impl Departed {
    fn push(&self, untold: Box<Untold>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST {
            waiting.push_back(untold);
            self.more.notify_one();
        }
    }

    fn pop(&self) -> Option<Box<Untold>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Where evidence is: as status says, or else as the spec asks.
fn place(object: &Verification) -> String {
    let status = object.status.as_ref().and_then(|status| status.evidence.as_ref());
    let asked = object.spec.images.as_ref().map(|images| &images.destination);
    match (status, asked) {
        (Some(evidence), _) => evidence.prefix.clone(),
        (None, Some(Destination { url: Some(url), .. })) => url.clone(),
        (None, Some(Destination { store: Some(store), .. })) => format!("the store {store}"),
        (None, Some(_) | None) => String::new(),
    }
}
