//! Conclusions of storing evidence, and of removing it.

use std::time::Duration;

use crate::{
    api::{DeletionPolicy, ObjectState, Reason, StoredObject},
    lifecycle::{
        absence::Misses,
        event::Event,
        evidence::{
            EvidenceStanding, EvidenceTrouble, MOST_OBJECTS, REMOVED_WITHIN, Removed, Stored, stem,
            storing_is_over, wanted,
        },
        schedule::backoff,
        streaks::{Since, later},
    },
};

use super::{Conclusion, Draft, Next};

/// Trouble with a store is kept from status for this long: it must not write every status.
const TROUBLE_SHOWN_AFTER: Duration = Duration::from_mins(1);
/// Waits between two tries to store.
const STORE_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// Waits between two tries to remove.
const REMOVE_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));

impl Draft<'_> {
    /// Settles what is over and owes nothing; comes again at `next` where something is to be done.
    pub(super) fn settle_unless_owed(mut self, next: Next) -> Conclusion {
        let evidence = self.facts.evidence.after(&self.status);
        self.picture.evidence = evidence.standing;
        self.streaks.manifest_sought &= evidence.standing == EvidenceStanding::Owed;
        if !evidence.keeps_it_live() {
            self.status.settled = true;
            return self.finish(Next::Leave);
        }
        let rests = evidence.standing != EvidenceStanding::Owed
            && !evidence.lacks_finalizer()
            && !evidence.is_held_for_nothing();
        self.finish(if rests { Next::Watch } else { next })
    }

    pub(super) fn store(mut self, stored: &Stored) -> Conclusion {
        self.picture.credentials = if stored.objects.is_empty() {
            self.credentials_unless_missing()
        } else {
            Some(Reason::Accepted)
        };
        self.refusal.clone_from(&stored.refusal);
        self.streaks.misses.add(stored, self.facts.now);
        self.streaks.manifest_sought |= stored.manifest_sought;
        let has_come = !stored.objects.is_empty() || stored.manifest_sha256.is_some();
        if has_come {
            self.take_over_objects(stored);
        }
        let is_owed = self.facts.evidence.after(&self.status).standing == EvidenceStanding::Owed;
        match (stored.trouble.filter(|_| is_owed), stored.again_at) {
            (Some(trouble), _) => self.store_later(trouble),
            (None, again_at) if has_come => self.store_on(again_at),
            // There was no place for it: nothing is known that was not known before.
            (None, Some(at)) => {
                let next = self.due_at(at);
                self.finish(next)
            }
            (None, None) => self.later_unwritten(),
        }
    }

    /// Something was stored: the rest at once, or when there is a place for it.
    fn store_on(mut self, again_at: Option<jiff::Timestamp>) -> Conclusion {
        self.streaks.storing = None;
        self.picture.evidence_trouble = Some(Reason::Storing);
        let evidence = self.facts.evidence.after(&self.status);
        if evidence.standing == EvidenceStanding::Complete && evidence.is_stored {
            self.events.push(Event::EvidenceStored);
        }
        if evidence.standing != EvidenceStanding::Owed {
            self.streaks.storing_since = None;
            self.streaks.misses = Misses::default();
        }
        self.streaks.next = Some(self.facts.now);
        let next = again_at.map_or(Next::Now, |at| self.due_at(at));
        self.settle_unless_owed(next)
    }

    fn take_over_objects(&mut self, stored: &Stored) {
        let images = self.facts.evidence.images.as_ref();
        let before = self.status.evidence.take();
        let mut evidence = stored.added_to(before.as_ref());
        // What is elsewhere is not removed with it.
        let left = before.filter(|before| before.prefix != stored.prefix);
        let is_removed = images.is_some_and(|images| images.deletion_policy == DeletionPolicy::Delete);
        let is_stored = |object: &StoredObject| object.state == ObjectState::Stored;
        if is_removed && left.is_some_and(|left| left.objects.iter().any(is_stored)) {
            self.events.push(Event::EvidenceOrphaned);
        }
        // What a spec asked for earlier must not keep the status from being written.
        if let Some(images) = images.filter(|_| evidence.objects.len() > MOST_OBJECTS) {
            let wanted = wanted(images);
            evidence.objects.retain(|object| wanted.iter().any(|wanted| wanted.stem() == stem(object)));
        }
        self.status.evidence = Some(evidence);
    }

    /// Nothing is stored that is to be removed one day and is not held; what is stored already is held later.
    pub(super) fn finalizer_refused(mut self) -> Conclusion {
        if self.picture.evidence != EvidenceStanding::Owed {
            return self.later_unwritten();
        }
        self.picture.credentials = self.credentials_unless_missing();
        self.store_later(EvidenceTrouble::FinalizerRefused)
    }

    fn store_later(mut self, trouble: EvidenceTrouble) -> Conclusion {
        let before = self.streaks.storing;
        let (trouble, is_same) = trouble.after(before.map(|before| before.what));
        let before = before.filter(|_| is_same).map(|before| Since { what: trouble, ..before });
        let streak = Since::one_more(before, trouble, self.facts.now);
        self.streaks.storing = Some(streak);
        if streak.lasted(self.facts.now, trouble.patience()) || storing_is_over(self.facts) {
            return self.give_up_evidence();
        }
        if streak.lasted(self.facts.now, TROUBLE_SHOWN_AFTER) {
            self.tell_trouble(trouble, trouble.reason());
        }
        let (least, most) = STORE_AGAIN;
        let next = self.due(backoff(least, most, streak.count.saturating_sub(1), self.facts.seed));
        self.finish(next)
    }

    /// The evidence will not be complete, unless a person asks for it again.
    pub(super) fn give_up_evidence(mut self) -> Conclusion {
        // Without trouble there was nobody to ask, or no key to ask with.
        let trouble = self.streaks.storing.map_or(EvidenceTrouble::PortalUnavailable, |streak| streak.what);
        self.streaks.storing = None;
        self.streaks.storing_since = None;
        self.streaks.misses = Misses::default();
        self.streaks.manifest_sought = false;
        self.picture.evidence = EvidenceStanding::Failed;
        self.tell_trouble(trouble, trouble.reason());
        self.picture.credentials = self.picture.credentials.or_else(|| self.credentials_unless_missing());
        self.events.push(Event::EvidenceFailed);
        self.finish(Next::Watch)
    }

    fn tell_trouble(&mut self, trouble: EvidenceTrouble, reason: Reason) {
        self.picture.evidence_trouble = Some(reason);
        self.refusal = self.refusal.take().or_else(|| trouble.refusal().map(str::to_owned));
        self.cause = trouble.cause();
    }

    /// The change of the resource's metadata wakes what is let go of.
    pub(super) fn remove(mut self, removed: Removed) -> Conclusion {
        match removed {
            Removed::All | Removed::Versioned | Removed::Unlisted | Removed::GaveUp => {
                self.events.extend(removed.leaves());
                self.unwritten(Next::Watch)
            }
            Removed::NotYet | Removed::NotTried => {
                let before =
                    self.streaks.removing.unwrap_or(Since { what: (), since: self.facts.now, count: 0 });
                let is_try = removed == Removed::NotYet;
                let count = before.count.saturating_add(u32::from(is_try));
                self.streaks.removing = Some(Since { count, ..before });
                let (least, most) = REMOVE_AGAIN;
                let again = later(self.facts.now, backoff(least, most, before.count, self.facts.seed));
                let end = self.facts.evidence.deleted_at.map(|deleted_at| later(deleted_at, REMOVED_WITHIN));
                let at = end.filter(|end| *end > self.facts.now).map_or(again, |end| again.min(end));
                let next = self.due_at(at);
                self.unwritten(next)
            }
        }
    }
}
