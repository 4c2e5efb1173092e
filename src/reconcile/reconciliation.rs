//! One reconcile of one verification: the resource that was read, and what is known about it. State only.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{cache_entry::CacheEntry, observe::Observed, sessions::ReservedSession};
use crate::{
    api::{Verification, VerificationStatus},
    clock::Clock,
    index::RecordId,
    lifecycle::{EvidenceState, ParsedStatus, State, UploadOutcome, attempts, claim},
    portal::{ApiKey, PortalUrl},
};

/// A resource as it was received, from the watch or by a read.
pub(super) struct Received {
    pub(super) object: Box<Verification>,
    pub(super) at: Instant,
    /// Whether the record of a session might not fit into it.
    pub(super) too_large: bool,
}

/// One reconcile of one verification.
pub(super) struct Reconciliation {
    pub(super) record_id: RecordId,
    /// The version that is reconciled. Changed with all facts that come from it, by [`replace`](Self::replace).
    pub(super) object: Box<Verification>,
    /// Its status. The next conclusion starts from it.
    pub(super) status: VerificationStatus,
    /// When it was received.
    pub(super) received_at: Instant,
    pub(super) entry: CacheEntry,
    pub(super) observed: Observed,
    /// The claim that this reconcile has written.
    pub(super) claim: Option<WrittenClaim>,
    /// The session that its request created. Forgotten with the reconciliation unless it is kept.
    pub(super) new_session: Option<ReservedSession>,
    /// When the notification arrived that had requested its poll, if one had.
    pub(super) notified_at: Option<Instant>,
    /// Writes of the outcome that failed or met a conflict.
    pub(super) failed_writes: u32,
}

/// A written claim whose outcome must be recorded.
pub(super) struct WrittenClaim {
    pub(super) attempt: u32,
    /// When it was written, before its request was sent.
    pub(super) claimed_at: Option<Timestamp>,
    /// The resource before the claim: the claim itself is not logged as a change.
    pub(super) before: Box<Verification>,
}

impl Reconciliation {
    /// Starts with a resource and the facts that were observed.
    pub(super) fn new(
        record_id: RecordId,
        received: Received,
        entry: CacheEntry,
        observed: Observed,
    ) -> Self {
        let Received { object, at: received_at, too_large: _ } = received;
        let status = object.status.clone().unwrap_or_default();
        Self {
            record_id,
            object,
            status,
            received_at,
            entry,
            observed,
            claim: None,
            new_session: None,
            notified_at: None,
            failed_writes: 0,
        }
    }

    /// The status and what follows from it.
    pub(super) fn parsed(&self) -> ParsedStatus<'_> {
        ParsedStatus::of(&self.observed.facts.uid, &self.status)
    }

    /// Namespace and name.
    pub(super) fn name(&self) -> (String, String) {
        (self.object.namespace().unwrap_or_default(), self.object.name_any())
    }

    /// The portal and the key to call it with.
    pub(super) fn account(&self) -> Option<(PortalUrl, Arc<ApiKey>)> {
        let portal = self.observed.account.as_ref()?.portal.clone();
        Some((portal, Arc::clone(self.observed.key.as_ref()?)))
    }

    /// An upload whose outcome could not be written into status yet, if it is still pending.
    pub(super) fn take_unwritten(&mut self) -> Option<UploadOutcome> {
        let facts = &self.observed.facts;
        let is_pending = matches!(self.parsed().state(), State::Finished(_))
            && !facts.deleting
            && facts.evidence.state == EvidenceState::Pending;
        let unwritten = self.entry.unwritten().filter(|_| is_pending).cloned()?;
        self.entry.set_unwritten(None);
        Some(unwritten)
    }

    /// Continues with another version of the resource, and replaces all facts that come from it. Returns the previous
    /// version.
    ///
    /// A version that lost the claim, because etcd was restored from a backup, is claimed again with the record, as of
    /// the original time: the session was created after that, and the wait after an unknown outcome counts from it.
    pub(super) fn replace(&mut self, object: Box<Verification>, clock: &Clock) -> Box<Verification> {
        self.status = object.status.clone().unwrap_or_default();
        self.observed.refresh(&object, &self.status, clock);
        if let Some(WrittenClaim { attempt, claimed_at, before: _ }) = self.claim
            && attempts(&self.status).attempt < attempt
        {
            self.status = claim(&self.status, attempt, &self.observed.facts);
            self.status.session.get_or_insert_default().claimed_at = claimed_at;
        }
        self.received_at = Instant::now();
        std::mem::replace(&mut self.object, object)
    }

    /// Continues with another version of the resource, whose facts were observed again.
    pub(super) fn restart(&mut self, object: Box<Verification>, observed: Observed) {
        self.status = object.status.clone().unwrap_or_default();
        self.received_at = Instant::now();
        self.object = object;
        self.observed = observed;
    }
}

/// Reconciliations for tests.
#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use crate::{lifecycle::fixtures, reconcile::keys::FoundKeys};

    /// A resource with this status.
    pub(crate) fn object(status: &VerificationStatus) -> Box<Verification> {
        Box::new(Verification { status: Some(status.clone()), ..fixtures::verification("alice") })
    }

    /// The reconcile of a resource with this status.
    pub(crate) fn reconciliation(status: &VerificationStatus) -> Reconciliation {
        let object = object(status);
        let entry = CacheEntry::first(&object, &Clock::start()).0;
        let (facts, found) = (fixtures::facts(), FoundKeys::default());
        let observed = Observed { facts, account: None, key: None, found, budget: None };
        let received = Received { object, at: Instant::now(), too_large: false };
        Reconciliation::new(RecordId { index: 0, tag: 0 }, received, entry, observed)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        samples::{object, reconciliation},
        *,
    };
    use crate::{api::SessionState, lifecycle::fixtures};

    #[test]
    fn a_claim_that_a_rollback_lost_is_claimed_again_as_of_when_it_was_claimed() {
        let claimed = fixtures::attempted(SessionState::Claimed, 2, 0);
        let claimed_at = claimed.session.as_ref().and_then(|session| session.claimed_at);
        let mut reconciliation = reconciliation(&claimed);
        reconciliation.claim =
            Some(WrittenClaim { attempt: 2, claimed_at, before: object(&fixtures::fresh()) });
        reconciliation.replace(object(&fixtures::fresh()), &Clock::start());
        let session = reconciliation.status.session.unwrap();
        assert_eq!((session.attempt, session.state), (2, Some(SessionState::Claimed)));
        assert_eq!(session.claimed_at, Some(fixtures::now()));
        assert!(reconciliation.observed.facts.now > fixtures::now(), "not as of the current time");
    }
}
