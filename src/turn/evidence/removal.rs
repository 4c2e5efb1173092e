//! Removing evidence with its resource: the finalizer, and what it waits for.

use std::time::Duration;

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    api::{DeletionPolicy, EVIDENCE_FINALIZER, Verification},
    evidence::Removal,
    lifecycle::{EvidenceFacts, Removed},
    turn::{Turns, complaints::ServerCall, status::DEADLINE},
};

use super::place::NoPlace;

/// A store that removes nothing in this time is asked again later.
const LONGEST: Duration = Duration::from_secs(30);

impl Turns {
    /// Holds the resource until its evidence is removed.
    pub(in crate::turn) async fn hold(&self, object: &Verification) {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(EVIDENCE_FINALIZER.to_owned());
        self.set_finalizers(object, &finalizers).await;
    }

    /// Removes the evidence and lets go of the resource; the last time, whatever comes of it.
    pub(in crate::turn) async fn let_go(
        &self,
        object: &Verification,
        facts: &EvidenceFacts,
        is_last: bool,
    ) -> Removed {
        let removed = timeout(LONGEST, self.remove_evidence(object, facts)).await;
        let removed = match removed.unwrap_or(Removed::NotYet) {
            Removed::NotYet if is_last => Removed::GaveUp,
            removed @ (Removed::All | Removed::GaveUp | Removed::NotYet) => removed,
        };
        let others = object.finalizers().iter().filter(|finalizer| *finalizer != EVIDENCE_FINALIZER);
        let is_held = removed == Removed::NotYet
            || !self.set_finalizers(object, &others.cloned().collect::<Vec<_>>()).await;
        if is_held { Removed::NotYet } else { removed }
    }

    /// Removes everything that was stored for a verification, unless it is to be retained by now.
    async fn remove_evidence(&self, object: &Verification, facts: &EvidenceFacts) -> Removed {
        let is_stored = facts.is_stored;
        let Some(images) = &facts.images else {
            // Nobody says any more where it is.
            return if is_stored { Removed::GaveUp } else { Removed::All };
        };
        if images.deletion_policy == DeletionPolicy::Retain {
            return Removed::All;
        }
        let namespace = object.namespace().unwrap_or_default();
        let Ok(pass) = self.admit_to_store(&namespace, &images.destination) else {
            return Removed::NotYet;
        };
        let place = match self.place(object, &images.destination).await {
            Ok(place) => place,
            Err(NoPlace::Refused(_)) if !is_stored => return Removed::All,
            Err(_) => return Removed::NotYet,
        };
        let removed = async {
            let keys = place.store.keys(&place.folder).await?;
            place.store.delete(&place.folder, &keys).await
        };
        match removed.await {
            Ok(ends) => {
                pass.answered();
                let is_kept = ends.iter().any(|(_, end)| *end == Removal::Kept);
                // The destination was another one when it was stored.
                let evidence = object.status.as_ref().and_then(|status| status.evidence.as_ref());
                let is_elsewhere =
                    is_stored && evidence.is_some_and(|evidence| evidence.prefix != place.prefix);
                if is_kept || is_elsewhere { Removed::GaveUp } else { Removed::All }
            }
            Err(_) => Removed::NotYet,
        }
    }

    /// Whether they are written.
    async fn set_finalizers(&self, object: &Verification, finalizers: &[String]) -> bool {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api = self.api(&namespace);
        let metadata = json!({"resourceVersion": object.resource_version(), "finalizers": finalizers});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let params =
            PatchParams { field_manager: Some("okid-operator".to_owned()), ..PatchParams::default() };
        let written = timeout(DEADLINE, api.patch(&name, &params, &patch)).await;
        self.complaints.note(ServerCall::PatchVerification, (&namespace, &name), &written);
        matches!(written, Ok(Ok(_)))
    }
}
