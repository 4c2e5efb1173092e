//! Conclusions of storing evidence, and of removing it.

use std::time::Duration;

use crate::{
    api::{Evidence, Reason, StoredObject},
    lifecycle::{
        event::Event,
        evidence::{EvidenceStanding, EvidenceTrouble, Removed, Stored, evidence_standing, keeps_it_live},
        schedule::backoff,
        streaks::Since,
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
    /// Settles what is over and owes nothing; comes again at `next` where something is owed.
    pub(super) fn settle_unless_owed(mut self, next: Next) -> Conclusion {
        let images = self.facts.evidence.images.as_ref();
        self.picture.evidence = evidence_standing(images, &self.status);
        if !keeps_it_live(self.picture.evidence, images) {
            self.status.settled = true;
            return self.finish(Next::Leave);
        }
        let next = if self.picture.evidence == EvidenceStanding::Owed { next } else { Next::Watch };
        self.finish(next)
    }

    pub(super) fn store(mut self, stored: &Stored) -> Conclusion {
        self.take_over_objects(stored);
        if let Some(trouble) = stored.trouble {
            return self.store_later(trouble);
        }
        self.picture.credentials = Some(Reason::Accepted);
        self.streaks.storing = None;
        self.streaks.next = Some(self.facts.now);
        let images = self.facts.evidence.images.as_ref();
        if evidence_standing(images, &self.status) == EvidenceStanding::Complete {
            self.streaks.storing_since = None;
            self.events.push(Event::EvidenceStored);
        }
        self.picture.evidence_trouble = Some(Reason::Storing);
        let next = match stored.again_at {
            Some(at) => self.due_at(at),
            None => Next::Now,
        };
        self.settle_unless_owed(next)
    }

    fn take_over_objects(&mut self, stored: &Stored) {
        if stored.objects.is_empty() && stored.manifest_sha256.is_none() {
            return;
        }
        let evidence = self.status.evidence.get_or_insert_default();
        // Objects elsewhere are no part of this evidence.
        if evidence.prefix != stored.prefix {
            *evidence = Evidence { prefix: stored.prefix.clone(), ..Evidence::default() };
        }
        evidence.objects.retain(|known| !stored.objects.iter().any(|new| same(known, new)));
        evidence.objects.extend(stored.objects.iter().cloned());
        evidence.manifest_sha256 = stored.manifest_sha256.clone().or(evidence.manifest_sha256.take());
    }

    fn store_later(mut self, trouble: EvidenceTrouble) -> Conclusion {
        let streak = Since::one_more(self.streaks.storing, trouble, self.facts.now);
        self.streaks.storing = Some(streak);
        if streak.lasted(self.facts.now, trouble.patience()) {
            return self.give_up_evidence(Some(trouble));
        }
        if streak.lasted(self.facts.now, TROUBLE_SHOWN_AFTER) {
            self.picture.evidence_trouble = Some(trouble.reason());
        }
        let (least, most) = STORE_AGAIN;
        let next = self.due(backoff(least, most, streak.count.saturating_sub(1), self.facts.seed));
        self.finish(next)
    }

    /// The evidence will not be complete, unless a person asks for it again.
    pub(super) fn give_up_evidence(mut self, trouble: Option<EvidenceTrouble>) -> Conclusion {
        let trouble = trouble.or(self.streaks.storing.map(|streak| streak.what));
        self.picture.evidence = EvidenceStanding::Failed;
        self.picture.evidence_trouble =
            Some(trouble.map_or(Reason::StoreUnavailable, EvidenceTrouble::reason));
        self.events.push(Event::EvidenceFailed);
        self.finish(Next::Watch)
    }

    pub(super) fn remove(mut self, removed: Removed) -> Conclusion {
        match removed {
            Removed::All => self.leave_unwritten(),
            Removed::GaveUp => {
                self.events.push(Event::EvidenceOrphaned);
                self.leave_unwritten()
            }
            Removed::NotYet => {
                let failures = self.one_more_failure();
                let (least, most) = REMOVE_AGAIN;
                let next = self.due(backoff(least, most, failures, self.facts.seed));
                self.unwritten(next)
            }
        }
    }
}

/// Whether both are of the same thing.
fn same(one: &StoredObject, other: &StoredObject) -> bool {
    one.key.split('.').next() == other.key.split('.').next()
}
