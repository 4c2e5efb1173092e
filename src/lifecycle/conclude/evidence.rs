//! Conclusions of storing evidence, and of removing it.

use std::time::Duration;

use super::{Conclusion, Draft, Requeue};
use crate::{
    api::{DeletionPolicy, ObjectState, Reason, StoredObject},
    lifecycle::{
        absence::Misses,
        decide::{REMOVED_WITHIN, storing_is_over},
        event::Event,
        evidence::{EvidenceState, MOST_OBJECTS, RemovalOutcome, UploadOutcome, stem, wanted},
        evidence_error::EvidenceError,
        facts::PortalFact,
        key_fact::KeyFact,
        schedule::backoff,
        since::{Since, later},
    },
};

/// An error of a store stays out of status for this long: an outage must not write every status.
const ERROR_SHOWN_AFTER: Duration = Duration::from_mins(1);
/// The shortest and longest wait between two attempts to store.
const STORE_BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// The shortest and longest wait between two attempts to remove.
const REMOVE_BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));

impl Draft<'_> {
    /// Settles a finished resource with nothing pending, not even its `spec.ttlAfterFinished`; otherwise requeues at `next`.
    pub(super) fn settle_unless_pending(mut self, next: Requeue) -> Conclusion {
        let evidence = self.facts.evidence.after(&self.status);
        self.inputs.evidence = evidence.state;
        self.local_state.manifest_checked &= evidence.state == EvidenceState::Pending;
        if let Some(cleanup) = self.facts.cleanup.filter(|_| !evidence.is_unfinished()) {
            return self.schedule_cleanup(cleanup);
        }
        if !evidence.is_live() {
            self.status.settled = true;
            return self.finish(Requeue::Done);
        }
        let is_waiting = evidence.state != EvidenceState::Pending
            && !evidence.lacks_finalizer()
            && !evidence.holds_needless_finalizer();
        self.finish(if is_waiting { Requeue::AwaitChange } else { next })
    }

    pub(super) fn store(mut self, stored: &UploadOutcome) -> Conclusion {
        self.inputs.credentials = if stored.objects.is_empty() {
            self.credentials_unless_missing()
        } else {
            Some(Reason::Accepted)
        };
        self.refusal.clone_from(&stored.refusal);
        self.local_state.misses.add(stored, self.facts.now);
        self.local_state.manifest_checked |= stored.manifest_checked;
        let has_progress = !stored.objects.is_empty() || stored.manifest_sha256.is_some();
        if has_progress {
            self.take_over_objects(stored);
        }
        let is_pending = self.facts.evidence.after(&self.status).state == EvidenceState::Pending;
        match (stored.error.filter(|_| is_pending), stored.again_at) {
            (Some(error), _) => self.store_later(error),
            (None, again_at) if has_progress => self.store_on(again_at),
            // The upload limits left no room, so nothing new is known.
            (None, Some(at)) => {
                let next = self.due_at(at);
                self.finish(next)
            }
            (None, None) => self.retry_unwritten(),
        }
    }

    /// Something was stored; the rest follows at once, or when the upload limits leave room.
    fn store_on(mut self, again_at: Option<jiff::Timestamp>) -> Conclusion {
        self.local_state.storing = None;
        self.inputs.evidence_reason = Some(Reason::Storing);
        let evidence = self.facts.evidence.after(&self.status);
        if evidence.state == EvidenceState::Complete && evidence.is_stored {
            self.events.push(Event::EvidenceStored);
        }
        if evidence.state != EvidenceState::Pending {
            self.local_state.storing_since = None;
            self.local_state.misses = Misses::default();
        }
        self.local_state.next = Some(self.facts.now);
        let next = again_at.map_or(Requeue::Now, |at| self.due_at(at));
        self.settle_unless_pending(next)
    }

    fn take_over_objects(&mut self, stored: &UploadOutcome) {
        let spec = self.facts.evidence.spec.as_ref();
        let before = self.status.evidence.take();
        let mut evidence = stored.added_to(before.as_ref());
        // Objects at another destination are not removed with the resource.
        let left = before.filter(|before| before.prefix != stored.prefix);
        let is_removed = spec.is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Delete);
        let is_stored = |object: &StoredObject| object.state == ObjectState::Stored;
        if is_removed && left.is_some_and(|left| left.objects.iter().any(is_stored)) {
            self.events.push(Event::EvidenceOrphaned);
        }
        // Objects that an earlier spec requested must not prevent the status write.
        if let Some(spec) = spec.filter(|_| evidence.objects.len() > MOST_OBJECTS) {
            let wanted = wanted(spec);
            evidence.objects.retain(|object| wanted.iter().any(|wanted| wanted.stem() == stem(object)));
        }
        self.status.evidence = Some(evidence);
    }

    /// The finalizer was refused, so nothing more is stored that would have to be removed with the resource. Objects
    /// that are already stored do not fail for it: adding the finalizer is retried.
    pub(super) fn finalizer_refused(mut self) -> Conclusion {
        if self.inputs.evidence != EvidenceState::Pending {
            return self.retry_unwritten();
        }
        self.inputs.credentials = self.credentials_unless_missing();
        self.store_later(EvidenceError::FinalizerDenied)
    }

    fn store_later(mut self, error: EvidenceError) -> Conclusion {
        let before = self.local_state.storing;
        let (error, is_same) = error.after(before.map(|before| before.what));
        let before = before.filter(|_| is_same).map(|before| Since { what: error, ..before });
        let failures = Since::one_more(before, error, self.facts.now);
        self.local_state.storing = Some(failures);
        if failures.lasted(self.facts.now, error.time_limit()) || storing_is_over(self.facts) {
            return self.abandon_evidence();
        }
        if failures.lasted(self.facts.now, ERROR_SHOWN_AFTER) {
            self.show_error(error, error.reason());
        }
        let (least, most) = STORE_BACKOFF;
        let next = self.due(backoff(least, most, failures.count.saturating_sub(1), self.facts.jitter_seed));
        self.finish(next)
    }

    /// The evidence stays incomplete unless a person requests a retry.
    pub(super) fn abandon_evidence(mut self) -> Conclusion {
        let error = self.local_state.storing.map_or_else(|| self.why_not_asked(), |failures| failures.what);
        self.local_state.storing = None;
        self.local_state.storing_since = None;
        self.local_state.misses = Misses::default();
        self.local_state.manifest_checked = false;
        self.inputs.evidence = EvidenceState::Failed;
        self.show_error(error, error.reason());
        self.inputs.credentials = self.inputs.credentials.or_else(|| self.credentials_unless_missing());
        self.events.push(Event::EvidenceFailed);
        self.finish(Requeue::AwaitChange)
    }

    /// Why the portal was never asked for the evidence.
    fn why_not_asked(&self) -> EvidenceError {
        match (&self.facts.portal, &self.facts.key) {
            (PortalFact::NotAllowed, _) => EvidenceError::PortalNotAllowed,
            (PortalFact::Allowed(_), KeyFact::Missing(_)) => EvidenceError::PortalKeyUnusable,
            (PortalFact::Allowed(_), KeyFact::Usable { fingerprint: _ }) => EvidenceError::PortalUnavailable,
        }
    }

    fn show_error(&mut self, error: EvidenceError, reason: Reason) {
        self.inputs.evidence_reason = Some(reason);
        self.cause = error.cause();
    }

    /// The metadata change wakes the resource once the finalizer is off.
    pub(super) fn remove(mut self, removed: RemovalOutcome) -> Conclusion {
        match removed {
            RemovalOutcome::All
            | RemovalOutcome::Versioned
            | RemovalOutcome::Unlisted
            | RemovalOutcome::Abandoned => {
                self.events.extend(removed.leaves());
                self.unwritten(Requeue::AwaitChange)
            }
            RemovalOutcome::NotYet | RemovalOutcome::NotTried => {
                let before =
                    self.local_state.removing.unwrap_or(Since { what: (), since: self.facts.now, count: 0 });
                let is_try = removed == RemovalOutcome::NotYet;
                let count = before.count.saturating_add(u32::from(is_try));
                self.local_state.removing = Some(Since { count, ..before });
                let (least, most) = REMOVE_BACKOFF;
                let again = later(self.facts.now, backoff(least, most, before.count, self.facts.jitter_seed));
                let end = self.facts.evidence.deleted_at.map(|deleted_at| later(deleted_at, REMOVED_WITHIN));
                let at = end.filter(|end| *end > self.facts.now).map_or(again, |end| again.min(end));
                let next = self.due_at(at);
                self.unwritten(next)
            }
        }
    }
}
