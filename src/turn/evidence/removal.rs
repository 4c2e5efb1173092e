//! Removing evidence with its resource: the finalizer, and what it waits for.

use std::time::Duration;

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    api::{DeletionPolicy, EVIDENCE_FINALIZER, Evidence, ObjectState, Verification},
    evidence::{Cleared, ObjectKey, Rest, Scheme, StorePass, StoreTrouble},
    lifecycle::{EvidenceFacts, EvidenceStanding, EvidenceTrouble, FinalizerEnd, LetGo, Removed, Stored},
    turn::{Turns, complaints::ServerCall, status::DEADLINE},
    watch::Slot,
};

use super::{
    FRESH,
    place::{NoPlace, Place},
};

/// A store that removes nothing in this time is asked again later.
const LONGEST: Duration = Duration::from_secs(30);
/// A removal that gets no place in this time is decided anew.
const PLACE_AWAITED: Duration = Duration::from_secs(30);

impl Turns {
    /// Holds the resource until its evidence is removed.
    pub(in crate::turn) async fn add_finalizer(&self, object: &Verification) -> FinalizerEnd {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(EVIDENCE_FINALIZER.to_owned());
        self.write_finalizers(object, &finalizers).await
    }

    /// Removes the evidence and lets go of the resource. `unwritten` is what was stored and stands in no status yet.
    pub(in crate::turn) async fn remove_evidence(
        &self,
        slot: Slot,
        object: &Verification,
        facts: &EvidenceFacts,
        unwritten: Option<&Stored>,
        let_go: LetGo,
    ) -> Removed {
        let removed = match (self.remove_what_is_stored(object, facts, unwritten).await, let_go) {
            (Removed::NotYet, LetGo::OnceTried | LetGo::Anyway) | (Removed::NotTried, LetGo::Anyway) => {
                Removed::GaveUp
            }
            (removed, LetGo::OnceRemoved | LetGo::OnceTried | LetGo::Anyway) => removed,
        };
        if matches!(removed, Removed::NotYet | Removed::NotTried) {
            return removed;
        }
        let others = object.finalizers().iter().filter(|finalizer| *finalizer != EVIDENCE_FINALIZER);
        match self.write_finalizers(object, &others.cloned().collect::<Vec<_>>()).await {
            FinalizerEnd::Added => removed,
            FinalizerEnd::Refused => Removed::NotYet,
            FinalizerEnd::Unknown => {
                // It may be gone, and then no turn comes again.
                if let Some(event) = removed.leaves() {
                    self.tell_when_let_go(slot, object, event);
                }
                Removed::NotYet
            }
        }
    }

    /// Removes everything that was stored for a verification, unless it is to be retained by now.
    async fn remove_what_is_stored(
        &self,
        object: &Verification,
        facts: &EvidenceFacts,
        unwritten: Option<&Stored>,
    ) -> Removed {
        let written = object.status.as_ref().and_then(|status| status.evidence.as_ref());
        let known = unwritten
            .map_or_else(|| written.cloned().unwrap_or_default(), |unwritten| unwritten.added_to(written));
        let is_stored = facts.is_stored || !keys_of(&known).is_empty();
        let Some(images) = &facts.images else {
            // Nobody says any more where it is.
            return if is_stored { Removed::GaveUp } else { Removed::All };
        };
        if images.deletion_policy == DeletionPolicy::Retain {
            return Removed::All;
        }
        let place = match self.place(object, &images.destination).await {
            Ok(place) => place,
            Err(NoPlace::Refused(_)) if is_stored => return Removed::NotYet,
            // What was stored before a crash may be there, and nobody can look.
            Err(NoPlace::Refused(_)) => {
                let was_owed = matches!(facts.standing, EvidenceStanding::Owed | EvidenceStanding::Failed);
                return if was_owed { Removed::GaveUp } else { Removed::All };
            }
            Err(NoPlace::Trouble(EvidenceTrouble::StoreUnavailable)) => return Removed::NotTried,
            Err(NoPlace::Trouble(_)) => return Removed::NotYet,
        };
        // When to let go was decided before this wait.
        let entered = self.archive.enter_within(&place, PLACE_AWAITED).await;
        let Some(entered) = entered else { return Removed::NotTried };
        if entered.waited > FRESH && !self.still_asks(object).await {
            return Removed::NotTried;
        }
        let is_here = known.prefix == place.prefix;
        let keys = if is_here { keys_of(&known) } else { Vec::new() };
        let cleared = self.clear(object, &place, &keys, entered.pass).await;
        // The destination was another one when it was stored.
        let is_elsewhere = is_stored && !is_here;
        match cleared {
            Ok(Removed::All | Removed::Versioned | Removed::Unlisted) if is_elsewhere => Removed::GaveUp,
            Ok(removed) => removed,
            // Where the store has no such bucket, nothing was ever put into it. A folder may only not be mounted.
            Err(StoreTrouble::BucketMissing)
                if !is_stored && place.store.location().scheme() != Scheme::File =>
            {
                Removed::All
            }
            // Somebody else has put something in the place of the folder: the store has nothing of ours there.
            Err(StoreTrouble::Conflict) => Removed::GaveUp,
            Err(
                StoreTrouble::NoAnswer(_)
                | StoreTrouble::Unavailable
                | StoreTrouble::AccessDenied
                | StoreTrouble::CredentialsRefused
                | StoreTrouble::BucketMissing
                | StoreTrouble::Misconfigured(_)
                | StoreTrouble::NoConditionalWrites
                | StoreTrouble::Unsupported
                | StoreTrouble::Refused,
            ) => Removed::NotYet,
        }
    }

    /// Removes what is in a folder, those keys first.
    pub(super) async fn clear(
        &self,
        object: &Verification,
        place: &Place,
        keys: &[ObjectKey],
        pass: StorePass<'_>,
    ) -> Result<Removed, StoreTrouble> {
        let cleared = place.store.clear_within(&place.folder, keys, LONGEST).await;
        match &cleared {
            Err(trouble) if trouble.is_silence() => pass.was_silent(),
            Ok(_) | Err(_) => pass.answered(),
        }
        self.archive.tell_removal(object, place, cleared.as_ref().err().copied());
        cleared.map(|cleared| removed(&cleared))
    }

    /// Writes the finalizers as they shall be.
    async fn write_finalizers(&self, object: &Verification, finalizers: &[String]) -> FinalizerEnd {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api = self.api(&namespace);
        let metadata = json!({"resourceVersion": object.resource_version(), "finalizers": finalizers});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let params =
            PatchParams { field_manager: Some("okid-operator".to_owned()), ..PatchParams::default() };
        let written = timeout(DEADLINE, api.patch(&name, &params, &patch)).await;
        self.complaints.note(ServerCall::PatchVerification, (&namespace, &name), &written);
        match written {
            Ok(Ok(_)) => FinalizerEnd::Added,
            Ok(Err(kube::Error::Api(answer))) if !matches!(answer.code, 404 | 409) => FinalizerEnd::Refused,
            Ok(Err(_)) | Err(_) => FinalizerEnd::Unknown,
        }
    }
}

/// The keys of what is stored, as far as is known: a listing of the store may lack it.
pub(super) fn keys_of(evidence: &Evidence) -> Vec<ObjectKey> {
    let manifest = evidence.manifest_sha256.as_ref().map(|_| ObjectKey::manifest());
    let stored = evidence.objects.iter().filter(|object| object.state == ObjectState::Stored);
    manifest.into_iter().chain(stored.filter_map(|object| ObjectKey::parse(&object.key).ok())).collect()
}

/// What the rest of a folder means for its removal: what certainly is left first.
fn removed(cleared: &Cleared) -> Removed {
    match cleared.rest {
        _ if !cleared.kept.is_empty() => Removed::GaveUp,
        Rest::Listed => Removed::NotYet,
        Rest::Nothing | Rest::Unlisted if !cleared.versioned.is_empty() => Removed::Versioned,
        Rest::Unlisted => Removed::Unlisted,
        Rest::Nothing => Removed::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_certainly_is_left_is_told_before_what_may_be() {
        let [nothing, front] = [vec![], vec![ObjectKey::details()]];
        for (kept, versioned, rest, expected) in [
            (&nothing, &nothing, Rest::Nothing, Removed::All),
            (&nothing, &nothing, Rest::Unlisted, Removed::Unlisted),
            (&nothing, &nothing, Rest::Listed, Removed::NotYet),
            (&nothing, &front, Rest::Nothing, Removed::Versioned),
            (&nothing, &front, Rest::Unlisted, Removed::Versioned),
            (&nothing, &front, Rest::Listed, Removed::NotYet),
            (&front, &nothing, Rest::Nothing, Removed::GaveUp),
            (&front, &front, Rest::Listed, Removed::GaveUp),
        ] {
            let cleared = Cleared { kept: kept.clone(), versioned: versioned.clone(), rest };
            assert_eq!(removed(&cleared), expected, "{cleared:?}");
        }
    }
}
