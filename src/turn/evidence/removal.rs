//! Removing evidence with its resource: the finalizer, and what it waits for.

use std::time::Duration;

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    api::{DeletionPolicy, EVIDENCE_FINALIZER, ObjectState, Verification},
    evidence::{ObjectKey, Removal, StoreTrouble},
    lifecycle::{Event, EvidenceFacts, EvidenceStanding, EvidenceTrouble, FinalizerEnd, LetGo, Removed},
    turn::{Turns, complaints::ServerCall, status::DEADLINE},
    watch::Slot,
};

use super::place::{NoPlace, Place};

/// A store that removes nothing in this time is asked again later.
const LONGEST: Duration = Duration::from_secs(30);
/// Listings of a folder in one try; each has at most 64 keys.
const LISTINGS: usize = 8;

impl Turns {
    /// Holds the resource until its evidence is removed.
    pub(in crate::turn) async fn add_finalizer(&self, object: &Verification) -> FinalizerEnd {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(EVIDENCE_FINALIZER.to_owned());
        self.write_finalizers(object, &finalizers).await
    }

    /// Removes the evidence and lets go of the resource.
    pub(in crate::turn) async fn remove_evidence(
        &self,
        slot: Slot,
        object: &Verification,
        facts: &EvidenceFacts,
        let_go: LetGo,
    ) -> Removed {
        let removed = match (self.remove_what_is_stored(object, facts).await, let_go) {
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
                if removed == Removed::GaveUp {
                    self.tell_when_let_go(slot, object, Event::EvidenceOrphaned);
                }
                Removed::NotYet
            }
        }
    }

    /// Removes everything that was stored for a verification, unless it is to be retained by now.
    async fn remove_what_is_stored(&self, object: &Verification, facts: &EvidenceFacts) -> Removed {
        let is_stored = facts.is_stored;
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
        let Some(pass) = self.admit_to_store(&place) else { return Removed::NotTried };
        let removed = timeout(LONGEST, remove_all(&place, listed(object, &place))).await;
        match removed.unwrap_or(Err(StoreTrouble::Unavailable)) {
            Ok(removed) => {
                pass.answered();
                // The destination was another one when it was stored.
                let evidence = object.status.as_ref().and_then(|status| status.evidence.as_ref());
                let is_elsewhere =
                    is_stored && evidence.is_some_and(|evidence| evidence.prefix != place.prefix);
                if is_elsewhere { Removed::GaveUp } else { removed }
            }
            Err(StoreTrouble::Unavailable) => {
                pass.was_silent();
                Removed::NotYet
            }
            Err(
                StoreTrouble::AccessDenied
                | StoreTrouble::CredentialsRefused
                | StoreTrouble::BucketMissing
                | StoreTrouble::Conflict
                | StoreTrouble::Misconfigured(_)
                | StoreTrouble::Refused,
            ) => {
                pass.answered();
                Removed::NotYet
            }
        }
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

/// The keys that status lists for that place: a listing of the store may lack what is there.
fn listed(object: &Verification, place: &Place) -> Vec<ObjectKey> {
    let evidence = object.status.as_ref().and_then(|status| status.evidence.as_ref());
    let Some(evidence) = evidence.filter(|evidence| evidence.prefix == place.prefix) else {
        return Vec::new();
    };
    let manifest = evidence.manifest_sha256.as_ref().map(|_| ObjectKey::manifest());
    let stored = evidence.objects.iter().filter(|object| object.state == ObjectState::Stored);
    manifest.into_iter().chain(stored.filter_map(|object| ObjectKey::parse(&object.key).ok())).collect()
}

/// Removes those objects and everything that is listed, each time the manifest first: where it is, all is there.
async fn remove_all(place: &Place, known: Vec<ObjectKey>) -> Result<Removed, StoreTrouble> {
    let mut keys = known;
    for _ in 0..LISTINGS {
        let found = place.store.keys(&place.folder).await?;
        if found.is_empty() && keys.is_empty() {
            return Ok(Removed::All);
        }
        keys.extend(found);
        keys.sort();
        keys.dedup();
        let manifest = ObjectKey::manifest();
        keys.sort_by_key(|key| *key != manifest);
        let ends = place.store.delete(&place.folder, &keys).await?;
        if ends.iter().any(|(_, end)| *end == Removal::Kept) {
            return Ok(Removed::GaveUp);
        }
        keys.clear();
    }
    Ok(Removed::NotYet)
}
