//! Storing evidence, and removing it. That it is done is decided elsewhere; chosen here is in which order, how much at once,
//! and which of several troubles is told.

mod keep;
mod place;
mod removal;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use kube::ResourceExt;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    api::{ImageKind, Images, ObjectState, StoredObject, Verification, VerificationStatus},
    evidence::{
        ByteBudget, Endpoints, Manifest, ObjectKey, StoreBreaker, StoreHttp, StoreTrouble, Stores,
        manifest::{PortalEnd, sha256_hex},
    },
    lifecycle::{EvidenceTrouble, Stored, nothing_to_store, outstanding},
    portal::{ApiKey, PortalUrl, VerificationId, budget::Budget},
};

use super::{
    Turns,
    crash::{self, Point},
    observe::Observed,
    status::Read,
};
use keep::put;
use place::{NoPlace, Place, RefuseDestination};

/// What was stored is written into status after this, though more is owed.
const BATCH: Duration = Duration::from_secs(10);
/// Images of one verification that are under way at once.
const AT_ONCE: usize = 4;
/// Most verifications whose evidence is stored at the same time.
pub const STORING_AT_ONCE: usize = 16;
/// Who waited longer than this for a place looks at the resource again before anything is stored.
const FRESH: Duration = Duration::from_secs(1);
/// Most bytes that a manifest of ours has: sixteen objects of some three hundred bytes, and more.
const MANIFEST_BYTES: usize = 64 * 1024;
const JSON: &str = "application/json";

/// What evidence is stored with.
pub struct Archive {
    /// The administrator's stores.
    pub stores: Stores,
    /// Hosts that credentials of a namespace may name.
    pub endpoints: Endpoints,
    /// The client for all stores.
    pub http: StoreHttp,
    /// Bytes of images in flight.
    pub bytes: ByteBudget,
    /// Places for verifications whose evidence is stored: [`STORING_AT_ONCE`].
    pub places: Semaphore,
    /// Stores that do not answer.
    pub breaker: StoreBreaker,
    /// Images that may not be kept.
    pub forbidden: Vec<ImageKind>,
}

/// Whom to ask for images, as whom.
struct Source<'a> {
    portal: &'a PortalUrl,
    key: &'a ApiKey,
    id: &'a VerificationId,
    budget: Arc<Budget>,
    /// How many images are asked for at the same time.
    at_once: usize,
}

/// Why an object was not stored now.
enum NotNow {
    /// The portal's budget has no place before then.
    Later(Instant),
    /// The store does not take the credentials; their Secret may have changed.
    Credentials,
    /// Trouble.
    Trouble(EvidenceTrouble),
}

impl NotNow {
    /// Whether other images would meet the same in the store.
    const fn is_about_the_store(&self) -> bool {
        match self {
            Self::Credentials
            | Self::Trouble(EvidenceTrouble::StoreUnavailable | EvidenceTrouble::AccessDenied) => true,
            Self::Later(_)
            | Self::Trouble(
                EvidenceTrouble::DestinationRefused
                | EvidenceTrouble::Conflict
                | EvidenceTrouble::ImageNotAvailable
                | EvidenceTrouble::ImageUnusable
                | EvidenceTrouble::PortalUnavailable
                | EvidenceTrouble::FinalizerRefused,
            ) => false,
        }
    }
}

impl From<EvidenceTrouble> for NotNow {
    fn from(trouble: EvidenceTrouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<StoreTrouble> for NotNow {
    fn from(trouble: StoreTrouble) -> Self {
        match trouble {
            StoreTrouble::CredentialsRefused => Self::Credentials,
            StoreTrouble::AccessDenied => Self::Trouble(EvidenceTrouble::AccessDenied),
            StoreTrouble::Conflict => Self::Trouble(EvidenceTrouble::Conflict),
            StoreTrouble::Unavailable
            | StoreTrouble::BucketMissing
            | StoreTrouble::Misconfigured(_)
            | StoreTrouble::Refused => Self::Trouble(EvidenceTrouble::StoreUnavailable),
        }
    }
}

impl Archive {
    /// Whether the operator's administrator allows all of that to be kept.
    fn permit(&self, images: &Images) -> Result<(), RefuseDestination> {
        let forbidden = images.items.iter().map(|item| item.kind).find(|kind| self.forbidden.contains(kind));
        forbidden.map_or(Ok(()), |kind| Err(RefuseDestination::Forbidden(kind)))
    }
}

impl Turns {
    /// Stores what is owed, as far as it comes in one batch.
    pub(super) async fn store(&self, object: &Verification, observed: &Observed) -> Stored {
        let status = object.status.clone().unwrap_or_default();
        let nothing_for = |trouble| Stored { trouble: Some(trouble), ..Stored::default() };
        let Some(images) = observed.facts.evidence.images.as_ref() else { return Stored::default() };
        if let Err(refusal) = self.archive.permit(images) {
            return NoPlace::Refused(refusal).stored(Stored::default());
        }
        let id = status.verification_id.as_deref().map(VerificationId::parse);
        let (Some((portal, key)), Some(Ok(id))) = (observed.caller(), id) else {
            return nothing_for(EvidenceTrouble::PortalUnavailable);
        };
        let budget = self.budgets.budget(portal, key.identity());
        let before = observed.facts.streaks.storing.map(|streak| NotNow::Trouble(streak.what));
        // While the store takes nothing, one image finds out whether it does by now.
        let at_once = if before.is_some_and(|before| before.is_about_the_store()) { 1 } else { AT_ONCE };
        let source = Source { portal, key, id: &id, budget, at_once };
        let begun = Instant::now();
        let _place = self.archive.places.acquire().await;
        if begun.elapsed() > FRESH && !self.still_asks(object).await {
            return Stored { again_at: Some(self.clock.now()), ..Stored::default() };
        }
        let namespace = object.namespace().unwrap_or_default();
        let pass = match self.admit_to_store(&namespace, &images.destination) {
            Ok(pass) => pass,
            Err(trouble) => return nothing_for(trouble),
        };
        let stored = Box::pin(self.store_with_credentials(object, &status, images, &source)).await;
        if stored.trouble == Some(EvidenceTrouble::StoreUnavailable) {
            pass.was_silent();
        } else if stored.trouble.is_none() || !stored.objects.is_empty() {
            pass.answered();
        }
        stored
    }

    /// Whether the resource still asks for the same.
    async fn still_asks(&self, object: &Verification) -> bool {
        let namespace = object.namespace().unwrap_or_default();
        match self.read(&namespace, &object.name_any()).await {
            Read::Found(now) => now.resource_version() == object.resource_version(),
            Read::Gone | Read::Unknown => false,
        }
    }

    /// Credentials that the store does not take may have been replaced: they are read again, once.
    async fn store_with_credentials(
        &self,
        object: &Verification,
        status: &VerificationStatus,
        images: &Images,
        source: &Source<'_>,
    ) -> Stored {
        let mut stored = Stored::default();
        for is_last in [false, true] {
            let place = match self.place(object, &images.destination).await {
                Ok(place) => place,
                Err(no_place) => return no_place.stored(stored),
            };
            stored.prefix.clone_from(&place.prefix);
            match self.store_batch(status, images, source, &place, &mut stored).await {
                Err(NotNow::Credentials) if is_last => stored.trouble = Some(EvidenceTrouble::AccessDenied),
                Err(NotNow::Credentials) => continue,
                Err(NotNow::Later(until)) => stored.again_at = Some(self.clock.time(until)),
                Err(NotNow::Trouble(trouble)) => stored.trouble = Some(trouble),
                Ok(()) => {}
            }
            break;
        }
        crash::reach(Point::AfterUpload).await;
        stored
    }

    /// Stores what is outstanding, several at once; the manifest when nothing is.
    async fn store_batch(
        &self,
        status: &VerificationStatus,
        images: &Images,
        source: &Source<'_>,
        place: &Place,
        stored: &mut Stored,
    ) -> Result<(), NotNow> {
        let begun = Instant::now();
        let is_in_vain = AtomicBool::new(false);
        let goes_on = || begun.elapsed() < BATCH && !is_in_vain.load(Ordering::Relaxed);
        let mut ends = stream::iter(outstanding(images, &with(status, stored)))
            .take_while(|_| std::future::ready(goes_on()))
            .map(|wanted| self.keep(wanted, source, place))
            .buffer_unordered(source.at_once);
        let mut worst = None;
        while let Some(end) = ends.next().await {
            self.metrics.evidence(result_of(&end));
            match end {
                Ok(object) => stored.objects.push(object),
                Err(not_now) => {
                    is_in_vain.fetch_or(not_now.is_about_the_store(), Ordering::Relaxed);
                    worst = Some(worse(worst, not_now));
                }
            }
        }
        drop(ends);
        if let Some(not_now) = worst {
            return Err(not_now);
        }
        let after = with(status, stored);
        if outstanding(images, &after).is_empty() {
            crash::reach(Point::BeforeManifest).await;
            stored.manifest_sha256 = put_manifest(&after, place).await?;
        }
        Ok(())
    }
}

/// Writes the manifest, unless nothing was there to be stored; returns its SHA-256.
async fn put_manifest(status: &VerificationStatus, place: &Place) -> Result<Option<String>, NotNow> {
    if nothing_to_store(status) {
        return Ok(None);
    }
    let objects = status.evidence.as_ref().map_or(&[][..], |evidence| &evidence.objects);
    let end = PortalEnd {
        status: status.portal_status.as_deref().unwrap_or_default(),
        updated_at: status.portal_updated_at,
        finished_at: status.finished_at,
    };
    let manifest = Manifest::new(&place.folder, end, objects);
    let bytes = manifest.bytes().map_err(|_| EvidenceTrouble::StoreUnavailable)?;
    let key = ObjectKey::manifest();
    match put(place, &key, "manifest", Bytes::from(bytes), JSON).await {
        Ok(put) => Ok(Some(put.sha256)),
        Err(StoreTrouble::Conflict) => {
            // Another version of the operator may have written it before a crash.
            let found = place.store.read(&place.folder, &key, MANIFEST_BYTES).await?;
            let found = found
                .filter(|found| Manifest::parse(found).is_ok_and(|there| there.says_the_same_as(&manifest)));
            found.map(|found| Some(sha256_hex(&found))).ok_or(EvidenceTrouble::Conflict.into())
        }
        Err(trouble) => Err(trouble.into()),
    }
}

/// A status with what was stored since.
fn with(status: &VerificationStatus, stored: &Stored) -> VerificationStatus {
    let evidence = Some(stored.added_to(status.evidence.as_ref()));
    VerificationStatus { evidence, ..status.clone() }
}

/// What came of an object, as metrics name it.
const fn result_of(end: &Result<StoredObject, NotNow>) -> &'static str {
    match end {
        Ok(StoredObject { state: ObjectState::Stored, .. }) => "stored",
        Ok(StoredObject { state: ObjectState::Absent, .. }) => "absent",
        Err(NotNow::Later(_)) => "later",
        Err(NotNow::Credentials | NotNow::Trouble(EvidenceTrouble::AccessDenied)) => "access_denied",
        Err(NotNow::Trouble(EvidenceTrouble::StoreUnavailable)) => "store_unavailable",
        Err(NotNow::Trouble(EvidenceTrouble::DestinationRefused)) => "destination_refused",
        Err(NotNow::Trouble(EvidenceTrouble::Conflict)) => "conflict",
        Err(NotNow::Trouble(EvidenceTrouble::ImageNotAvailable)) => "image_not_available",
        Err(NotNow::Trouble(EvidenceTrouble::ImageUnusable)) => "image_unusable",
        Err(NotNow::Trouble(EvidenceTrouble::PortalUnavailable)) => "portal_unavailable",
        Err(NotNow::Trouble(EvidenceTrouble::FinalizerRefused)) => "finalizer_refused",
    }
}

/// Of two reasons the one that lasts longer without a person.
fn worse(one: Option<NotNow>, other: NotNow) -> NotNow {
    let rank = |not_now: &NotNow| match not_now {
        NotNow::Later(_) => 0,
        NotNow::Trouble(EvidenceTrouble::PortalUnavailable) => 1,
        NotNow::Trouble(
            EvidenceTrouble::StoreUnavailable
            | EvidenceTrouble::AccessDenied
            | EvidenceTrouble::FinalizerRefused,
        ) => 2,
        NotNow::Trouble(EvidenceTrouble::ImageNotAvailable | EvidenceTrouble::ImageUnusable) => 3,
        NotNow::Credentials => 4,
        NotNow::Trouble(EvidenceTrouble::Conflict | EvidenceTrouble::DestinationRefused) => 5,
    };
    match one {
        Some(one) if rank(&one) >= rank(&other) => one,
        Some(_) | None => other,
    }
}
