//! Removing evidence with its resource: the finalizer, and what it waits for.

use std::time::Duration;

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;

use super::{
    batch::FRESH,
    destination::{DestinationError, ResolvedDestination},
};
use crate::{
    api::{DeletionPolicy, EVIDENCE_FINALIZER, EvidenceStatus, ObjectState, Verification},
    cluster::{DEADLINE, ServerCall},
    index::RecordId,
    lifecycle::{
        EvidenceError, EvidenceFacts, EvidenceState, FinalizerOutcome, ReleaseWhen, RemovalOutcome,
        UploadOutcome,
    },
    reconcile::Reconciler,
    store::{Cleared, ObjectKey, Rest, Scheme, StoreError, StorePass},
};

/// A store that removes nothing in this time is asked again later.
const LONGEST: Duration = Duration::from_secs(30);
/// A removal that gets no place in this time is decided anew.
const PLACE_AWAITED: Duration = Duration::from_secs(30);

impl Reconciler {
    /// Holds the resource until its evidence is removed.
    pub(crate) async fn add_finalizer(&self, object: &Verification) -> FinalizerOutcome {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(EVIDENCE_FINALIZER.to_owned());
        self.write_finalizers(object, &finalizers).await
    }

    /// Removes the evidence and lets go of the resource. `unwritten` is what was stored and stands in no status yet.
    pub(crate) async fn remove_evidence(
        &self,
        record_id: RecordId,
        object: &Verification,
        facts: &EvidenceFacts,
        unwritten: Option<&UploadOutcome>,
        release_when: ReleaseWhen,
    ) -> RemovalOutcome {
        let removed = match (self.remove_what_is_stored(object, facts, unwritten).await, release_when) {
            (RemovalOutcome::NotYet, ReleaseWhen::OnceTried | ReleaseWhen::Anyway)
            | (RemovalOutcome::NotTried, ReleaseWhen::Anyway) => RemovalOutcome::GaveUp,
            (removed, ReleaseWhen::OnceRemoved | ReleaseWhen::OnceTried | ReleaseWhen::Anyway) => removed,
        };
        if matches!(removed, RemovalOutcome::NotYet | RemovalOutcome::NotTried) {
            return removed;
        }
        let others = object.finalizers().iter().filter(|finalizer| *finalizer != EVIDENCE_FINALIZER);
        match self.write_finalizers(object, &others.cloned().collect::<Vec<_>>()).await {
            FinalizerOutcome::Added => removed,
            FinalizerOutcome::Refused => RemovalOutcome::NotYet,
            FinalizerOutcome::Unknown => {
                // It may be gone, and then no turn comes again.
                if let Some(event) = removed.leaves() {
                    self.tell_when_let_go(record_id, object, event);
                }
                RemovalOutcome::NotYet
            }
        }
    }

    /// Removes everything that was stored for a verification, unless it is to be retained by now.
    async fn remove_what_is_stored(
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
            // Nobody says any more where it is.
            return if is_stored { RemovalOutcome::GaveUp } else { RemovalOutcome::All };
        };
        if spec.deletion_policy == DeletionPolicy::Retain {
            return RemovalOutcome::All;
        }
        let place = match self.place(object, &spec.destination).await {
            Ok(place) => place,
            Err(DestinationError::Refused(_)) if is_stored => return RemovalOutcome::NotYet,
            // What was stored before a crash may be there, and nobody can look.
            Err(DestinationError::Refused(_)) => {
                let was_owed = matches!(facts.state, EvidenceState::Pending | EvidenceState::Failed);
                return if was_owed { RemovalOutcome::GaveUp } else { RemovalOutcome::All };
            }
            Err(DestinationError::Evidence(EvidenceError::StoreUnavailable)) => {
                return RemovalOutcome::NotTried;
            }
            Err(DestinationError::Evidence(_)) => return RemovalOutcome::NotYet,
        };
        // When to let go was decided before this wait.
        let entered = self.evidence.enter_within(&place, PLACE_AWAITED).await;
        let Some(entered) = entered else { return RemovalOutcome::NotTried };
        if entered.waited > FRESH && !self.still_asks(object).await {
            return RemovalOutcome::NotTried;
        }
        let is_here = known.prefix == place.prefix;
        let keys = if is_here { keys_of(&known) } else { Vec::new() };
        let cleared = self.clear(object, &place, &keys, entered.pass).await;
        // The destination was another one when it was stored.
        let is_elsewhere = is_stored && !is_here;
        match cleared {
            Ok(RemovalOutcome::All | RemovalOutcome::Versioned | RemovalOutcome::Unlisted)
                if is_elsewhere =>
            {
                RemovalOutcome::GaveUp
            }
            Ok(removed) => removed,
            // Where the store has no such bucket, nothing was ever put into it. A folder may only not be mounted.
            Err(StoreError::BucketMissing)
                if !is_stored && place.store.location().scheme() != Scheme::File =>
            {
                RemovalOutcome::All
            }
            // Somebody else has put something in the place of the folder: the store has nothing of ours there.
            Err(StoreError::Conflict) => RemovalOutcome::GaveUp,
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

    /// Removes what is in a folder, those keys first.
    pub(crate) async fn clear(
        &self,
        object: &Verification,
        place: &ResolvedDestination,
        keys: &[ObjectKey],
        pass: StorePass<'_>,
    ) -> Result<RemovalOutcome, StoreError> {
        let cleared = place.store.clear_within(&place.folder, keys, LONGEST).await;
        match &cleared {
            Err(error) if error.is_silence() => pass.was_silent(),
            Ok(_) | Err(_) => pass.answered(),
        }
        self.evidence.tell_removal(object, place, cleared.as_ref().err().copied());
        cleared.map(|cleared| removed(&cleared))
    }

    /// Writes the finalizers as they shall be.
    async fn write_finalizers(&self, object: &Verification, finalizers: &[String]) -> FinalizerOutcome {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api = self.api(&namespace);
        let metadata = json!({"resourceVersion": object.resource_version(), "finalizers": finalizers});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let params =
            PatchParams { field_manager: Some("okid-operator".to_owned()), ..PatchParams::default() };
        let written = timeout(DEADLINE, api.patch(&name, &params, &patch)).await;
        self.failures.note(ServerCall::PatchVerification, (&namespace, &name), &written);
        match written {
            Ok(Ok(_)) => FinalizerOutcome::Added,
            Ok(Err(kube::Error::Api(answer))) if !matches!(answer.code, 404 | 409) => {
                FinalizerOutcome::Refused
            }
            Ok(Err(_)) | Err(_) => FinalizerOutcome::Unknown,
        }
    }
}

/// The keys of what is stored, as far as is known: a listing of the store may lack it.
pub(crate) fn keys_of(evidence: &EvidenceStatus) -> Vec<ObjectKey> {
    let manifest = evidence.manifest_sha256.as_ref().map(|_| ObjectKey::manifest());
    let stored = evidence.objects.iter().filter(|object| object.state == ObjectState::Stored);
    manifest.into_iter().chain(stored.filter_map(|object| ObjectKey::parse(&object.key).ok())).collect()
}

/// What the rest of a folder means for its removal: what certainly is left first.
fn removed(cleared: &Cleared) -> RemovalOutcome {
    match cleared.rest {
        _ if !cleared.kept.is_empty() => RemovalOutcome::GaveUp,
        Rest::Listed => RemovalOutcome::NotYet,
        Rest::Nothing | Rest::Unlisted if !cleared.versioned.is_empty() => RemovalOutcome::Versioned,
        Rest::Unlisted => RemovalOutcome::Unlisted,
        Rest::Nothing => RemovalOutcome::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_certainly_is_left_is_told_before_what_may_be() {
        let [nothing, front] = [vec![], vec![ObjectKey::details()]];
        for (kept, versioned, rest, expected) in [
            (&nothing, &nothing, Rest::Nothing, RemovalOutcome::All),
            (&nothing, &nothing, Rest::Unlisted, RemovalOutcome::Unlisted),
            (&nothing, &nothing, Rest::Listed, RemovalOutcome::NotYet),
            (&nothing, &front, Rest::Nothing, RemovalOutcome::Versioned),
            (&nothing, &front, Rest::Unlisted, RemovalOutcome::Versioned),
            (&nothing, &front, Rest::Listed, RemovalOutcome::NotYet),
            (&front, &nothing, Rest::Nothing, RemovalOutcome::GaveUp),
            (&front, &front, Rest::Listed, RemovalOutcome::GaveUp),
        ] {
            let cleared = Cleared { kept: kept.clone(), versioned: versioned.clone(), rest };
            assert_eq!(removed(&cleared), expected, "{cleared:?}");
        }
    }
}
