//! Reports a write with events, log lines and counters. A write whose response was lost is reported once it is
//! confirmed. May depend on `reconciler`, `reconciliation`, `cache_entry` and `unreported`, and on `cluster` and
//! `lifecycle`.

use std::time::Duration;

use kube::ResourceExt;
use tokio::time::sleep;

use super::{
    cache_entry::CacheEntry,
    reconciler::Reconciler,
    reconciliation::Reconciliation,
    unreported::{Unreported, Write},
};
use crate::{
    api::{Condition, ConditionType, Destination, Verification, VerificationStatus},
    backoff::Backoff,
    cluster::Read,
    index::RecordId,
    lifecycle::{Attempts, Event, attempts},
};

/// Waits between two reads of a resource that left the watch.
const READ_EVERY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

impl Reconciler {
    /// Reports an event of a verification.
    pub(super) fn report(&self, object: &Verification, event: Event) {
        if event.leaves_evidence() {
            self.metrics.evidence_orphaned.inc();
            tracing::warn!(
                namespace = object.namespace().unwrap_or_default(),
                name = object.name_any(),
                uid = object.uid().unwrap_or_default(),
                destination = destination(object),
                "{}",
                event.note()
            );
        }
        self.cluster.reporter().report(object, event);
    }

    /// Reports events once a status write is confirmed whose response was lost.
    pub(super) fn report_when_written(
        &self,
        reconciliation: &Reconciliation,
        after: &VerificationStatus,
        events: &[Event],
    ) {
        if events.is_empty() {
            return;
        }
        let before = Box::new(reconciliation.status.clone());
        let write = Write::Status { before, after: Box::new(after.clone()) };
        self.report_later(reconciliation.record_id, &reconciliation.object, write, events.to_vec());
    }

    /// Reports an event once the release of the resource is confirmed.
    pub(super) fn report_when_released(&self, record_id: RecordId, object: &Verification, event: Event) {
        self.report_later(record_id, object, Write::Release(Box::new(object.clone())), vec![event]);
    }

    fn report_later(&self, record_id: RecordId, object: &Verification, write: Write, events: Vec<Event>) {
        let unreported = Box::new(Unreported {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            write,
            events,
        });
        match self.index().get_mut(record_id) {
            Some(entry) => drop(entry.replace_unreported(Some(unreported))),
            // The watch event arrived first.
            None => self.departed.push(unreported),
        }
    }

    /// Reports a write whose response was lost, if the resource that was read confirms it. Otherwise this reconcile
    /// reports what it does instead.
    pub(super) fn report_if_written(&self, record_id: RecordId, entry: &mut CacheEntry, read: &Read) {
        if matches!(read, Read::Unknown) || entry.replace_unreported(None).is_none() {
            return;
        }
        // A reconcile that fails must not report it again.
        let unreported = self.index().get_mut(record_id).and_then(|entry| entry.replace_unreported(None));
        if let Some(unreported) = unreported.filter(|unreported| unreported.is_confirmed_by(read)) {
            self.report_late(*unreported, read);
        }
    }

    fn report_late(&self, unreported: Unreported, read: &Read) {
        let object = match (unreported.write, read) {
            (Write::Release(object), _) => object,
            (Write::Status { before, after: _ }, Read::Found(found)) => {
                let before = Verification { status: Some(*before), ..(**found).clone() };
                self.log_change(&before, found);
                Box::new(before)
            }
            (Write::Status { before: _, after: _ }, Read::Gone | Read::Unknown) => return,
        };
        for event in unreported.events {
            self.report(&object, event);
        }
    }

    /// A verification left the watch: its report follows once the resource was read.
    pub(super) fn departed(&self, entry: &CacheEntry) {
        if let Some(unreported) = entry.unreported() {
            self.departed.push(Box::new(unreported.clone()));
        }
    }

    /// Drops the reports of unconfirmed writes, and waits for the others. Called when the process shuts down.
    pub(crate) async fn end_reports(&self) {
        let reporter = self.cluster.reporter();
        let mut unreported: Vec<_> = std::iter::from_fn(|| self.departed.pop()).collect();
        unreported
            .extend(self.index().iter().filter_map(|(_, entry)| entry.unreported().cloned().map(Box::new)));
        for Unreported { namespace, name, uid, write: _, events } in
            unreported.into_iter().map(|unreported| *unreported)
        {
            for event in events {
                reporter.abandon((&namespace, &name, &uid), event);
            }
        }
        reporter.flush().await;
    }

    /// Sends the reports of verifications that left the watch, for as long as the process runs.
    pub(crate) async fn report_departed(&self) {
        loop {
            let Some(unreported) = self.departed.pop() else {
                self.departed.pushed().await;
                continue;
            };
            let mut failures = 0;
            let read = loop {
                let read = self.cluster.get(&unreported.namespace, &unreported.name).await;
                if !matches!(read, Read::Unknown) {
                    break read;
                }
                sleep(READ_EVERY.wait(failures)).await;
                failures = failures.saturating_add(1);
            };
            if unreported.is_confirmed_by(&read) {
                self.report_late(*unreported, &read);
            }
        }
    }

    /// Logs one line for each change of state: of the phase, or of the reason of Ready, Reconciling or Stalled.
    pub(super) fn log_change(&self, before: &Verification, after: &Verification) {
        let reason = |object: &Verification, condition| {
            let status = object.status.as_ref()?;
            Condition::find(&status.conditions, condition).map(|condition| condition.reason.to_string())
        };
        let shown = |object: &Verification| {
            [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled]
                .map(|condition| reason(object, condition))
        };
        let phase = |object: &Verification| object.status.as_ref().and_then(|status| status.phase);
        let attempts_of = |object: &Verification| attempts(&object.status.clone().unwrap_or_default());
        let unknown = new_orphans(attempts_of(before), attempts_of(after));
        if unknown > 0 {
            self.metrics.create_unknown_outcome.inc_by(u64::from(unknown));
        }
        if phase(before) != phase(after) || shown(before) != shown(after) {
            let [ready, reconciling, stalled] = shown(after);
            tracing::info!(
                namespace = after.namespace().unwrap_or_default(),
                name = after.name_any(),
                phase = phase(after).map_or("", crate::api::Phase::as_str),
                reason = ready.unwrap_or_default(),
                reconciling,
                stalled,
                "the verification changed"
            );
        }
    }
}

/// How many creates with an unknown outcome were added.
const fn new_orphans(before: Attempts, after: Attempts) -> u32 {
    after.orphans.saturating_sub(before.orphans)
}

/// The destination of the evidence, from status or otherwise from the spec.
fn destination(object: &Verification) -> String {
    let status = object.status.as_ref().and_then(|status| status.evidence.as_ref());
    let requested = object.spec.evidence.as_ref().map(|spec| &spec.destination);
    match (status, requested) {
        (Some(evidence), _) => evidence.prefix.clone(),
        (None, Some(Destination { url: Some(url), .. })) => url.clone(),
        (None, Some(Destination { store: Some(store), .. })) => format!("the store {store}"),
        (None, Some(_) | None) => String::new(),
    }
}
