//! Removes evidence with its resource: the finalizer, and what it waits for. May depend on `access`, `context` and
//! `destination`, and on `cluster`, `lifecycle` and `store`.

use std::time::Duration;

use kube::ResourceExt;

use super::{
    access::FRESH,
    context::{Evidence, RemovalReport},
    destination::{DestinationError, ResolvedDestination},
};
use crate::{
    api::{DeletionPolicy, EVIDENCE_FINALIZER, EvidenceStatus, ObjectState, Verification},
    cluster::Written,
    lifecycle::{
        EvidenceError, EvidenceFacts, EvidenceState, FinalizerOutcome, ReleaseWhen, RemovalOutcome,
        UploadOutcome,
    },
    store::{Cleared, ObjectKey, Remainder, Scheme, StoreError, StorePass},
};

/// Deadline of one removal; the rest is removed later.
const LONGEST: Duration = Duration::from_secs(30);
/// A removal that gets no permit in this time is decided again.
const PERMIT_AWAITED: Duration = Duration::from_secs(30);

impl Evidence {
    /// Adds the finalizer that holds the resource until its evidence is removed.
    pub(crate) async fn add_finalizer(&self, object: &Verification) -> FinalizerOutcome {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(EVIDENCE_FINALIZER.to_owned());
        self.write_finalizers(object, &finalizers).await
    }

    /// Removes the evidence and releases the resource. `unwritten` is what was stored and is in no status yet.
    pub(crate) async fn remove(
        &self,
        object: &Verification,
        facts: &EvidenceFacts,
        unwritten: Option<&UploadOutcome>,
        release_when: ReleaseWhen,
    ) -> RemovalReport {
        let removed = match (self.remove_stored(object, facts, unwritten).await, release_when) {
            (RemovalOutcome::NotYet, ReleaseWhen::OnceTried | ReleaseWhen::Anyway)
            | (RemovalOutcome::NotTried, ReleaseWhen::Anyway) => RemovalOutcome::Abandoned,
            (removed, ReleaseWhen::OnceRemoved | ReleaseWhen::OnceTried | ReleaseWhen::Anyway) => removed,
        };
        let report = |outcome| RemovalReport { outcome, event_if_released: None };
        if matches!(removed, RemovalOutcome::NotYet | RemovalOutcome::NotTried) {
            return report(removed);
        }
        let others = object.finalizers().iter().filter(|finalizer| *finalizer != EVIDENCE_FINALIZER);
        match self.write_finalizers(object, &others.cloned().collect::<Vec<_>>()).await {
            FinalizerOutcome::Added => report(removed),
            FinalizerOutcome::Refused => report(RemovalOutcome::NotYet),
            // It may be released, and then there is no other reconcile.
            FinalizerOutcome::Unknown => {
                RemovalReport { outcome: RemovalOutcome::NotYet, event_if_released: removed.leaves() }
            }
        }
    }

    /// Whether the store responds from which evidence is removed once the resource is deleted. Other errors are left to the
    /// removal, which reports them.
    pub(crate) async fn store_responds(&self, object: &Verification) -> bool {
        let Some(spec) = &object.spec.evidence else { return true };
        let destination = match self.resolve(object, &spec.destination).await {
            Ok(destination) => destination,
            Err(DestinationError::Evidence(EvidenceError::StoreSecretUnread)) => return false,
            Err(DestinationError::Evidence(_) | DestinationError::Refused(_)) => return true,
        };
        let access = self.context.enter_within(&destination, PERMIT_AWAITED).await;
        let Some(access) = access else { return false };
        let error = destination.store.keys(&destination.folder).await.err();
        if error.is_some_and(StoreError::is_unresponsive) {
            access.pass.did_not_respond();
        } else {
            access.pass.responded();
        }
        self.context.failures.note_removal(object, &destination, error);
        match error {
            // The volume may not be mounted.
            Some(StoreError::BucketMissing) => destination.store.location().scheme() != Scheme::File,
            Some(StoreError::Unavailable) => false,
            Some(error) => !error.is_unresponsive(),
            None => true,
        }
    }

    /// Removes everything that was stored for a verification, unless it must be retained now.
    async fn remove_stored(
        &self,
        object: &Verification,
        facts: &EvidenceFacts,
        unwritten: Option<&UploadOutcome>,
    ) -> RemovalOutcome {
        let written = object.status.as_ref().and_then(|status| status.evidence.as_ref());
        let known = unwritten
            .map_or_else(|| written.cloned().unwrap_or_default(), |unwritten| unwritten.added_to(written));
        let is_stored = facts.is_stored || !keys_of(&known).is_empty();
        let Some(spec) = &facts.spec else {
            // The spec no longer says where it is.
            return if is_stored { RemovalOutcome::Abandoned } else { RemovalOutcome::All };
        };
        if spec.deletion_policy == DeletionPolicy::Retain {
            return RemovalOutcome::All;
        }
        let destination = match self.resolve(object, &spec.destination).await {
            Ok(destination) => destination,
            Err(DestinationError::Refused(_)) if is_stored => return RemovalOutcome::NotYet,
            // Objects of an upload before a crash may be there, and cannot be listed.
            Err(DestinationError::Refused(_)) => {
                let was_pending = matches!(facts.state, EvidenceState::Pending | EvidenceState::Failed);
                return if was_pending { RemovalOutcome::Abandoned } else { RemovalOutcome::All };
            }
            Err(DestinationError::Evidence(EvidenceError::StoreSecretUnread)) => {
                return RemovalOutcome::NotTried;
            }
            Err(DestinationError::Evidence(_)) => return RemovalOutcome::NotYet,
        };
        // When to release it was decided before this wait.
        let access = self.context.enter_within(&destination, PERMIT_AWAITED).await;
        let Some(access) = access else { return RemovalOutcome::NotTried };
        if access.waited > FRESH && !self.is_unchanged(object).await {
            return RemovalOutcome::NotTried;
        }
        let is_here = known.prefix == destination.prefix;
        let keys = if is_here { keys_of(&known) } else { Vec::new() };
        let cleared = self.clear(object, &destination, &keys, access.pass).await;
        // The destination was changed after the upload.
        let is_elsewhere = is_stored && !is_here;
        match cleared {
            Ok(RemovalOutcome::All | RemovalOutcome::Versioned | RemovalOutcome::Unlisted)
                if is_elsewhere =>
            {
                RemovalOutcome::Abandoned
            }
            Ok(removed) => removed,
            // Nothing was ever put into a bucket that does not exist. A folder may merely not be mounted.
            Err(StoreError::BucketMissing)
                if !is_stored && destination.store.location().scheme() != Scheme::File =>
            {
                RemovalOutcome::All
            }
            // Another object has the folder's name, so the store has nothing of ours there.
            Err(StoreError::Conflict) => RemovalOutcome::Abandoned,
            Err(
                StoreError::NoResponse(_)
                | StoreError::Unavailable
                | StoreError::AccessDenied
                | StoreError::CredentialsRefused
                | StoreError::BucketMissing
                | StoreError::Misconfigured(_)
                | StoreError::NoConditionalWrites
                | StoreError::Unsupported
                | StoreError::Refused,
            ) => RemovalOutcome::NotYet,
        }
    }

    /// Removes a folder, those keys first.
    pub(super) async fn clear(
        &self,
        object: &Verification,
        destination: &ResolvedDestination,
        keys: &[ObjectKey],
        pass: StorePass<'_>,
    ) -> Result<RemovalOutcome, StoreError> {
        let cleared = destination.store.clear_within(&destination.folder, keys, LONGEST).await;
        match &cleared {
            Err(error) if error.is_unresponsive() => pass.did_not_respond(),
            Ok(_) | Err(_) => pass.responded(),
        }
        self.context.failures.note_removal(object, destination, cleared.as_ref().err().copied());
        cleared.map(|cleared| removed(&cleared))
    }

    async fn write_finalizers(&self, object: &Verification, finalizers: &[String]) -> FinalizerOutcome {
        match self.cluster.write_finalizers(object, finalizers).await {
            Written::Done(_) | Written::Same => FinalizerOutcome::Added,
            Written::Refused | Written::TooLarge | Written::Failed => FinalizerOutcome::Refused,
            Written::Conflict | Written::Gone | Written::Unknown => FinalizerOutcome::Unknown,
        }
    }
}

/// The keys of what is known to be stored. A listing of the store may be incomplete.
pub(super) fn keys_of(evidence: &EvidenceStatus) -> Vec<ObjectKey> {
    let manifest = evidence.manifest_sha256.as_ref().map(|_| ObjectKey::manifest());
    let stored = evidence.objects.iter().filter(|object| object.state == ObjectState::Stored);
    manifest.into_iter().chain(stored.filter_map(|object| ObjectKey::parse(&object.key).ok())).collect()
}

/// The outcome of a removal that left a remainder: what certainly is left comes before what may be.
fn removed(cleared: &Cleared) -> RemovalOutcome {
    match cleared.remainder {
        _ if !cleared.retained.is_empty() => RemovalOutcome::Abandoned,
        Remainder::Listed => RemovalOutcome::NotYet,
        Remainder::Nothing | Remainder::Unlisted if !cleared.versioned.is_empty() => {
            RemovalOutcome::Versioned
        }
        Remainder::Unlisted => RemovalOutcome::Unlisted,
        Remainder::Nothing => RemovalOutcome::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_that_is_certainly_left_is_reported_before_evidence_that_may_be() {
        let [nothing, front] = [vec![], vec![ObjectKey::details()]];
        for (retained, versioned, rest, expected) in [
            (&nothing, &nothing, Remainder::Nothing, RemovalOutcome::All),
            (&nothing, &nothing, Remainder::Unlisted, RemovalOutcome::Unlisted),
            (&nothing, &nothing, Remainder::Listed, RemovalOutcome::NotYet),
            (&nothing, &front, Remainder::Nothing, RemovalOutcome::Versioned),
            (&nothing, &front, Remainder::Unlisted, RemovalOutcome::Versioned),
            (&nothing, &front, Remainder::Listed, RemovalOutcome::NotYet),
            (&front, &nothing, Remainder::Nothing, RemovalOutcome::Abandoned),
            (&front, &front, Remainder::Listed, RemovalOutcome::Abandoned),
        ] {
            let cleared =
                Cleared { retained: retained.clone(), versioned: versioned.clone(), remainder: rest };
            assert_eq!(removed(&cleared), expected, "{cleared:?}");
        }
    }
}
