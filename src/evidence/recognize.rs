//! Puts objects, and recognizes the operator's own among those that exist. They count as stored whatever their bytes: no object
//! is ever changed, and status and manifest list the existing ones. May depend on `context`, `manifest` and `not_now`, and on
//! `lifecycle` and `store`.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{
    context::{Evidence, Upload},
    manifest::{Manifest, OPERATOR, PortalEnd},
    not_now::NotNow,
};
use crate::{
    lifecycle::{EvidenceError, UploadOutcome, nothing_to_store},
    store::{Digested, Found, Metadata, ObjectKey, PROOF, Put, StoreError, sha256_hex},
};

/// The content type of details and manifest.
pub(super) const JSON: &str = "application/json";
/// Most bytes that a manifest of ours has: sixteen objects of some three hundred bytes, and more.
const MANIFEST_BYTES: usize = 64 * 1024;

impl Evidence {
    /// Puts an object of those bytes and that content type, unless it is there.
    pub(super) async fn put(
        &self,
        upload: &Upload<'_>,
        key: &ObjectKey,
        kind: &'static str,
        (bytes, content_type): (Bytes, &'static str),
    ) -> Result<Put, NotNow> {
        let destination = &upload.destination;
        let digested = Digested::of(bytes).await?;
        let proof =
            upload.source.key.evidence_proof(destination.folder.uid(), key.as_str(), digested.sha256());
        let attributes = [("kind", kind), ("operator", OPERATOR), (PROOF, &proof)];
        // Before the request: its response may be lost, and the bytes may differ the next time.
        self.context.own.remember(&destination.name(), key.as_str(), digested.sha256());
        let metadata = Metadata { content_type, attributes: &attributes };
        let put = destination.store.put(&destination.folder, key, &digested, metadata).await;
        upload.may_arrive.fetch_or(digested.may_arrive(), Ordering::Relaxed);
        match put {
            Err(StoreError::Conflict) => self.recognize(upload, key).await,
            end => end.map_err(NotNow::from),
        }
    }

    /// The object that has this key already, if this process has put it, or if it proves that an earlier one has.
    async fn recognize(&self, upload: &Upload<'_>, key: &ObjectKey) -> Result<Put, NotNow> {
        let destination = &upload.destination;
        let conflict = || NotNow::Conflict(key.clone());
        let found = match destination.store.find(&destination.folder, key, 0).await {
            Ok(found) => found.ok_or_else(conflict)?,
            Err(StoreError::Conflict) => return Err(conflict()),
            Err(error) => return Err(error.into()),
        };
        let is_known = self.context.own.knows(&destination.name(), key.as_str(), &found.sha256);
        if is_known || proves(&found, upload, key) {
            Ok(Put { size: found.size, sha256: found.sha256, already_existed: true })
        } else {
            Err(conflict())
        }
    }

    /// Writes the manifest, unless there was nothing to store.
    pub(super) async fn put_manifest(
        &self,
        upload: &Upload<'_>,
        outcome: &mut UploadOutcome,
    ) -> Result<(), NotNow> {
        let status = upload.status_with(outcome);
        if nothing_to_store(&status) {
            return Ok(());
        }
        let objects = status.evidence.as_ref().map_or(&[][..], |evidence| &evidence.objects);
        let end = PortalEnd {
            status: status.portal_status.as_deref().unwrap_or_default(),
            updated_at: status.portal_updated_at,
            finished_at: status.finished_at,
        };
        let manifest = Manifest::new(&upload.destination.folder, end, objects);
        let bytes = manifest.bytes().map_err(|_| EvidenceError::StoreUnavailable)?;
        let (key, sha256) = (ObjectKey::manifest(), sha256_hex(&bytes));
        match self.put(upload, &key, "manifest", (Bytes::from(bytes), JSON)).await {
            Ok(put) if put.sha256 == sha256 => outcome.manifest_sha256 = Some(sha256),
            Ok(_) if take_over_manifest(upload, outcome).await? => {}
            Ok(_) => return Err(NotNow::Conflict(key)),
            Err(NotNow::Conflict(key)) => {
                // Another version of the operator may have written it before a crash.
                let destination = &upload.destination;
                let found = match destination.store.read(&destination.folder, &key, MANIFEST_BYTES).await {
                    Err(StoreError::Conflict) => None,
                    read => read?,
                };
                let found = found.filter(|found| manifest.is_written_as(found).unwrap_or(false));
                outcome.manifest_sha256 = Some(sha256_hex(&found.ok_or(NotNow::Conflict(key))?));
            }
            Err(not_now) => return Err(not_now),
        }
        Ok(())
    }

    /// Whether an earlier process has written the manifest: then the evidence is complete, and nothing is requested
    /// from the portal again. Searches once, and only if this process did not see the verdict arrive.
    pub(super) async fn finds_manifest(
        &self,
        upload: &Upload<'_>,
        outcome: &mut UploadOutcome,
    ) -> Result<bool, NotNow> {
        if upload.facts.local_state.manifest_checked || outcome.manifest_checked {
            return Ok(false);
        }
        let is_there =
            upload.destination.store.has_attributes() && take_over_manifest(upload, outcome).await?;
        outcome.manifest_checked = true;
        Ok(is_there)
    }
}

/// Adopts the objects that a manifest lists, if it proves that an operator with this key has written it.
async fn take_over_manifest(upload: &Upload<'_>, outcome: &mut UploadOutcome) -> Result<bool, NotNow> {
    let destination = &upload.destination;
    let key = ObjectKey::manifest();
    let found = match destination.store.find(&destination.folder, &key, MANIFEST_BYTES).await {
        Ok(found) => found,
        // Without permission to list, S3 denies what is not there.
        Err(StoreError::AccessDenied | StoreError::Conflict) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(found) = found.filter(|found| proves(found, upload, &key)) else { return Ok(false) };
    let manifest = found.bytes.as_deref().and_then(|bytes| Manifest::parse(bytes).ok());
    let Some(manifest) = manifest else { return Ok(false) };
    outcome.objects = manifest.objects().to_vec();
    outcome.manifest_sha256 = Some(found.sha256);
    Ok(true)
}

/// Whether an object proves that an operator with this key has put it there for this resource.
fn proves(found: &Found, upload: &Upload<'_>, key: &ObjectKey) -> bool {
    let uid = upload.destination.folder.uid();
    let proof = found.proof.as_deref();
    proof.is_some_and(|proof| upload.source.key.proves_evidence(uid, key.as_str(), &found.sha256, proof))
}
