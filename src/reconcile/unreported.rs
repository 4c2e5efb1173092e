//! Reports of writes whose response was lost. They are sent once the write is confirmed. State only; `report` uses it.

use std::collections::VecDeque;

use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    api::{EVIDENCE_FINALIZER, Verification, VerificationStatus},
    cluster::{Read, is_written},
    lifecycle::Event,
};

/// Maximum number of verifications that left the watch and are still to be read.
const MOST: usize = 10_000;

/// The report of a write, sent once the write is confirmed.
#[derive(Clone, Debug)]
pub(crate) struct Unreported {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) write: Write,
    pub(super) events: Vec<Event>,
}

/// A write whose response was lost.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// To the status: before and after.
    Status { before: Box<VerificationStatus>, after: Box<VerificationStatus> },
    /// To the finalizers, which releases this resource.
    Release(Box<Verification>),
}

/// Reports about verifications that left the watch.
#[derive(Debug, Default)]
pub(crate) struct DepartedReports {
    waiting: Mutex<VecDeque<Box<Unreported>>>,
    more: Notify,
}

impl Unreported {
    /// Whether the resource that was read confirms the write.
    pub(super) fn is_confirmed_by(&self, read: &Read) -> bool {
        match (&self.write, read) {
            (Write::Status { before: _, after }, Read::Found(found)) => {
                found.uid().as_deref() == Some(&self.uid) && is_written(found, after)
            }
            (Write::Release(_), Read::Found(found)) => {
                found.uid().as_deref() != Some(&self.uid)
                    || !found.finalizers().iter().any(|finalizer| finalizer == EVIDENCE_FINALIZER)
            }
            (Write::Release(_), Read::Gone) => true,
            (Write::Status { before: _, after: _ }, Read::Gone) | (_, Read::Unknown) => false,
        }
    }
}

impl DepartedReports {
    /// Waits until a report is pushed.
    pub(super) async fn pushed(&self) {
        self.more.notified().await;
    }

    pub(super) fn push(&self, unreported: Box<Unreported>) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MOST {
            waiting.push_back(unreported);
            self.more.notify_one();
        }
    }

    pub(super) fn pop(&self) -> Option<Box<Unreported>> {
        self.waiting.lock().pop_front()
    }
}
