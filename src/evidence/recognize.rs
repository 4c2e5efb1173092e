//! What is in the store already, and whose it is. What is this operator's own counts as stored, whatever its bytes: it is
//! never changed, so status and manifest say what is there.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{
    batch::{JSON, NotNow, Source},
    destination::ResolvedDestination,
    manifest::{Manifest, OPERATOR, PortalEnd, sha256_hex},
};
use crate::{
    api::VerificationStatus,
    lifecycle::{EvidenceError, UploadOutcome, nothing_to_store},
    reconcile::Reconciler,
    store::{Digested, Found, ObjectKey, Put, StoreError, client::PROOF},
};

/// Most bytes that a manifest of ours has: sixteen objects of some three hundred bytes, and more.
const MANIFEST_BYTES: usize = 64 * 1024;

impl Reconciler {
    /// Puts an object, bytes and content type, where it belongs, unless it is there.
    pub(crate) async fn put(
        &self,
        place: &ResolvedDestination,
        source: &Source<'_>,
        key: &ObjectKey,
        kind: &'static str,
        (bytes, content_type): (Bytes, &'static str),
    ) -> Result<Put, NotNow> {
        let digested = Digested::of(bytes).await?;
        let proof = source.key.evidence_proof(place.folder.uid(), key.as_str(), digested.sha256());
        let attributes = [("kind", kind), ("operator", OPERATOR), (PROOF, &proof)];
        // Before the request: its answer may be lost, and the next bytes may be others.
        self.evidence.own.remember(&place.name(), key.as_str(), digested.sha256());
        let put = place.store.put_digested(&place.folder, key, &digested, content_type, &attributes).await;
        source.may_arrive.fetch_or(digested.may_arrive(), Ordering::Relaxed);
        match put {
            Err(StoreError::Conflict) => self.recognise(place, source, key).await,
            end => end.map_err(NotNow::from),
        }
    }

    /// What is there in place of an object, if this process has put it, or it proves that an earlier one has.
    async fn recognise(
        &self,
        place: &ResolvedDestination,
        source: &Source<'_>,
        key: &ObjectKey,
    ) -> Result<Put, NotNow> {
        let conflict = || NotNow::Conflict(key.clone());
        let found = match place.store.find(&place.folder, key, 0).await {
            Ok(found) => found.ok_or_else(conflict)?,
            Err(StoreError::Conflict) => return Err(conflict()),
            Err(error) => return Err(error.into()),
        };
        let is_known = self.evidence.own.knows(&place.name(), key.as_str(), &found.sha256);
        if is_known || proves(&found, place, source, key) {
            Ok(Put { size: found.size, sha256: found.sha256, was_there: true })
        } else {
            Err(conflict())
        }
    }

    /// Writes the manifest, unless nothing was there to be stored.
    pub(crate) async fn put_manifest(
        &self,
        status: &VerificationStatus,
        source: &Source<'_>,
        place: &ResolvedDestination,
        stored: &mut UploadOutcome,
    ) -> Result<(), NotNow> {
        if nothing_to_store(status) {
            return Ok(());
        }
        let objects = status.evidence.as_ref().map_or(&[][..], |evidence| &evidence.objects);
        let end = PortalEnd {
            status: status.portal_status.as_deref().unwrap_or_default(),
            updated_at: status.portal_updated_at,
            finished_at: status.finished_at,
        };
        let manifest = Manifest::new(&place.folder, end, objects);
        let bytes = manifest.bytes().map_err(|_| EvidenceError::StoreUnavailable)?;
        let (key, sha256) = (ObjectKey::manifest(), sha256_hex(&bytes));
        match self.put(place, source, &key, "manifest", (Bytes::from(bytes), JSON)).await {
            Ok(put) if put.sha256 == sha256 => stored.manifest_sha256 = Some(sha256),
            Ok(_) if take_over_manifest(source, place, stored).await? => {}
            Ok(_) => return Err(NotNow::Conflict(key)),
            Err(NotNow::Conflict(key)) => {
                // Another version of the operator may have written it before a crash.
                let found = match place.store.read(&place.folder, &key, MANIFEST_BYTES).await {
                    Err(StoreError::Conflict) => None,
                    read => read?,
                };
                let found = found.filter(|found| manifest.is_written_as(found).unwrap_or(false));
                stored.manifest_sha256 = Some(sha256_hex(&found.ok_or(NotNow::Conflict(key))?));
            }
            Err(not_now) => return Err(not_now),
        }
        Ok(())
    }

    /// Whether an earlier process has written the manifest: then the evidence is complete, and the portal is not asked for
    /// anything again. Looks once, and only if this process has not seen the verdict come.
    pub(crate) async fn finds_manifest(
        &self,
        source: &Source<'_>,
        place: &ResolvedDestination,
        stored: &mut UploadOutcome,
    ) -> Result<bool, NotNow> {
        if source.facts.local_state.manifest_sought || stored.manifest_sought {
            return Ok(false);
        }
        let is_there = place.store.keeps_attributes() && take_over_manifest(source, place, stored).await?;
        stored.manifest_sought = true;
        Ok(is_there)
    }
}

/// Takes what a manifest lists for what is stored, if it proves that an operator with this key has written it.
async fn take_over_manifest(
    source: &Source<'_>,
    place: &ResolvedDestination,
    stored: &mut UploadOutcome,
) -> Result<bool, NotNow> {
    let key = ObjectKey::manifest();
    let found = match place.store.find(&place.folder, &key, MANIFEST_BYTES).await {
        Ok(found) => found,
        // Without permission to list, S3 denies what is not there.
        Err(StoreError::AccessDenied | StoreError::Conflict) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(found) = found.filter(|found| proves(found, place, source, &key)) else { return Ok(false) };
    let manifest = found.bytes.as_deref().and_then(|bytes| Manifest::parse(bytes).ok());
    let Some(manifest) = manifest else { return Ok(false) };
    stored.objects = manifest.objects().to_vec();
    stored.manifest_sha256 = Some(found.sha256);
    Ok(true)
}

/// Whether an object proves that an operator with this key has put it there for this resource.
fn proves(found: &Found, place: &ResolvedDestination, source: &Source<'_>, key: &ObjectKey) -> bool {
    let uid = place.folder.uid();
    let proof = found.proof.as_deref();
    proof.is_some_and(|proof| source.key.proves_evidence(uid, key.as_str(), &found.sha256, proof))
}
