//! What is told after a write: by events, in the log, and by counters. A write whose answer was lost is told when it is known
//! to be there, however that becomes known.

use std::{collections::VecDeque, time::Duration};

use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use super::{Reconciler, cache_entry::CacheEntry};
use crate::{
    api::{Destination, EVIDENCE_FINALIZER, Verification, VerificationStatus},
    backoff::Backoff,
    cluster::{Read, is_written},
    index::RecordId,
    lifecycle::Event,
};

/// Waits between two reads of a resource that is gone from the watch.
const READ_EVERY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Most resources gone from the watch that are read to find out.
const MOST: usize = 10_000;

/// What is to be told of a write once it is known to be there.
#[derive(Clone, Debug)]
pub(crate) struct Unreported {
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
    ReleaseWhen(Box<Verification>),
}

/// What is still to be told of resources that are gone from the watch.
#[derive(Debug, Default)]
pub struct DepartedReports {
    waiting: Mutex<VecDeque<Box<Unreported>>>,
    more: Notify,
}

impl Unreported {
    /// Whether a resource that was found says that the write is there.
    fn is_told_by(&self, read: &Read) -> bool {
        match (&self.write, read) {
            (Write::Status { before: _, after }, Read::Found(found)) => {
                found.uid().as_deref() == Some(&self.uid) && is_written(found, after)
            }
            (Write::ReleaseWhen(_), Read::Found(found)) => {
                found.uid().as_deref() != Some(&self.uid)
                    || !found.finalizers().iter().any(|finalizer| finalizer == EVIDENCE_FINALIZER)
            }
            (Write::ReleaseWhen(_), Read::Gone) => true,
            (Write::Status { before: _, after: _ }, Read::Gone) | (_, Read::Unknown) => false,
        }
    }
}

impl Reconciler {
    /// Tells what has happened to a verification.
    pub(crate) fn tell(&self, object: &Verification, event: Event) {
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
    pub(crate) fn tell_when_written(
        &self,
        record_id: RecordId,
        object: &Verification,
        after: &VerificationStatus,
        events: &[Event],
    ) {
        if events.is_empty() {
            return;
        }
        let before = Box::new(object.status.clone().unwrap_or_default());
        self.tell_later(
            record_id,
            object,
            Write::Status { before, after: Box::new(after.clone()) },
            events.to_vec(),
        );
    }

    /// Remembers what to tell of a resource that was perhaps let go.
    pub(crate) fn tell_when_let_go(&self, record_id: RecordId, object: &Verification, event: Event) {
        self.tell_later(record_id, object, Write::ReleaseWhen(Box::new(object.clone())), vec![event]);
    }

    fn tell_later(&self, record_id: RecordId, object: &Verification, write: Write, events: Vec<Event>) {
        let unreported = Box::new(Unreported {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            write,
            events,
        });
        match self.index().get_mut(record_id) {
            Some(kept) => drop(kept.replace_unreported(Some(unreported))),
            // The watch was faster.
            None => self.departed.push(unreported),
        }
    }

    /// Tells what was not told, if the resource as it was read says that it has happened. If it has not, what follows from
    /// it now is told instead.
    pub(crate) fn tell_if_written(&self, record_id: RecordId, entry: &mut CacheEntry, read: &Read) {
        if matches!(read, Read::Unknown) || entry.replace_unreported(None).is_none() {
            return;
        }
        // A turn that fails must not tell it again.
        let unreported = self.index().get_mut(record_id).and_then(|kept| kept.replace_unreported(None));
        if let Some(unreported) = unreported.filter(|unreported| unreported.is_told_by(read)) {
            self.tell_late(*unreported, read);
        }
    }

    fn tell_late(&self, unreported: Unreported, read: &Read) {
        let object = match (unreported.write, read) {
            (Write::ReleaseWhen(object), _) => object,
            (Write::Status { before, after: _ }, Read::Found(found)) => {
                let before = Verification { status: Some(*before), ..(**found).clone() };
                self.log_change(&before, found);
                Box::new(before)
            }
            (Write::Status { before: _, after: _ }, Read::Gone | Read::Unknown) => return,
        };
        for event in unreported.events {
            self.tell(&object, event);
        }
    }

    /// A verification is gone from the watch: what is not told of it is told once it is known.
    pub fn departed(&self, entry: &CacheEntry) {
        if let Some(unreported) = entry.unreported() {
            self.departed.push(Box::new(unreported.clone()));
        }
    }

    /// The process ends: what is not known to be written by now is not told.
    pub fn give_up_untold(&self) {
        let mut unreported: Vec<_> = std::iter::from_fn(|| self.departed.pop()).collect();
        unreported
            .extend(self.index().iter().filter_map(|(_, entry)| entry.unreported().cloned().map(Box::new)));
        for Unreported { namespace, name, uid, write: _, events } in
            unreported.into_iter().map(|unreported| *unreported)
        {
            for event in events {
                self.reporter.give_up((&namespace, &name, &uid), event);
            }
        }
    }

    /// Tells what was not told of resources that are gone from the watch, for as long as the process runs.
    pub async fn tell_of_departed(&self) {
        loop {
            let Some(unreported) = self.departed.pop() else {
                self.departed.more.notified().await;
                continue;
            };
            let mut failures = 0;
            let read = loop {
                let read = self.read(&unreported.namespace, &unreported.name).await;
                if !matches!(read, Read::Unknown) {
                    break read;
                }
                sleep(READ_EVERY.wait(failures)).await;
                failures = failures.saturating_add(1);
            };
            if unreported.is_told_by(&read) {
                self.tell_late(*unreported, &read);
            }
        }
    }
}

impl DepartedReports {
    fn push(&self, unreported: Box<Unreported>) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MOST {
            waiting.push_back(unreported);
            self.more.notify_one();
        }
    }

    fn pop(&self) -> Option<Box<Unreported>> {
        self.waiting.lock().pop_front()
    }
}

/// Where evidence is: as status says, or else as the spec asks.
fn place(object: &Verification) -> String {
    let status = object.status.as_ref().and_then(|status| status.evidence.as_ref());
    let asked = object.spec.evidence.as_ref().map(|spec| &spec.destination);
    match (status, asked) {
        (Some(evidence), _) => evidence.prefix.clone(),
        (None, Some(Destination { url: Some(url), .. })) => url.clone(),
        (None, Some(Destination { store: Some(store), .. })) => format!("the store {store}"),
        (None, Some(_) | None) => String::new(),
    }
}
