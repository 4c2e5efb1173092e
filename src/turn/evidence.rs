//! Storing evidence, and removing it. Nothing is chosen here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    api::{
        Destination, EVIDENCE_FINALIZER, EvidenceKind, ImageKind, Images, ObjectState, StoredObject,
        Verification, VerificationStatus,
    },
    evidence::{
        ByteBudget, Content, Endpoints, Folder, Location, MAX_BYTES, Manifest, ObjectKey, Options, Patience,
        Put, Removal, Store, StoreHttp, StoreTrouble, Stores, inspect,
        manifest::{PortalEnd, sha256_hex},
    },
    lifecycle::{EvidenceTrouble, Removed, Stored, Wanted, outstanding},
    portal::{
        ApiKey, Call, Failed, ImageCall, ImageSource, PortalUrl, Trouble, VerificationId,
        budget::{Admission, Budget, Pass},
    },
    priority::Priority,
};

use super::{
    Turns,
    crash::{self, Point},
    observe::Observed,
    status::DEADLINE,
};

/// What was stored is written into status after this, though more is owed.
const BATCH: Duration = Duration::from_secs(10);
/// Images of one verification that are under way at once.
const AT_ONCE: usize = 4;
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
    /// Images that may not be kept.
    pub forbidden: Vec<ImageKind>,
}

/// Where the evidence of one verification is kept.
struct Place {
    store: Arc<Store>,
    folder: Folder,
    prefix: String,
}

/// Whom to ask for images, as whom.
struct Source<'a> {
    portal: &'a PortalUrl,
    key: &'a ApiKey,
    id: &'a VerificationId,
    budget: Arc<Budget>,
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
    /// Whether the operator's administrator allows that to be kept there.
    pub(super) fn may_keep(&self, images: &Images, namespace: &str) -> bool {
        let is_known = |name: &String| self.stores.find(name, namespace).is_ok();
        let is_forbidden = images.items.iter().any(|item| self.forbidden.contains(&item.kind));
        !is_forbidden && images.destination.store.as_ref().is_none_or(is_known)
    }
}

impl Turns {
    /// Stores what is owed, as far as it comes in one batch.
    pub(super) async fn store(&self, object: &Verification, observed: &Observed) -> Stored {
        let status = object.status.clone().unwrap_or_default();
        let refused = |trouble| Stored { trouble: Some(trouble), ..Stored::default() };
        let Some(images) = observed.facts.evidence.images.as_ref() else { return Stored::default() };
        if !self.archive.may_keep(images, &object.namespace().unwrap_or_default()) {
            return refused(EvidenceTrouble::DestinationRefused);
        }
        let id = status.verification_id.as_deref().map(VerificationId::parse);
        let (Some((portal, key)), Some(Ok(id))) = (observed.caller(), id) else {
            return refused(EvidenceTrouble::PortalUnavailable);
        };
        let budget = self.budgets.budget(portal, key.identity());
        let source = Source { portal, key, id: &id, budget };
        let mut stored = Stored::default();
        // Credentials that the store does not take may have been replaced: they are read again, once.
        for is_last in [false, true] {
            let place = match self.place(object, &images.destination).await {
                Ok(place) => place,
                Err(trouble) => return Stored { trouble: Some(trouble), ..stored },
            };
            stored.prefix.clone_from(&place.prefix);
            match self.store_batch(&status, images, &source, &place, &mut stored).await {
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
        let mut ends = stream::iter(outstanding(images, &with(status, stored)))
            .take_while(|_| std::future::ready(begun.elapsed() < BATCH))
            .map(|wanted| self.keep(wanted, source, place))
            .buffer_unordered(AT_ONCE);
        let mut worst = None;
        while let Some(end) = ends.next().await {
            match end {
                Ok(object) => stored.objects.push(object),
                Err(not_now) => worst = Some(worse(worst, not_now)),
            }
        }
        drop(ends);
        if let Some(not_now) = worst {
            return Err(not_now);
        }
        let after = with(status, stored);
        if outstanding(images, &after).is_empty() {
            crash::reach(Point::BeforeManifest).await;
            stored.manifest_sha256 = self.list(&after, place).await?;
        }
        Ok(())
    }

    /// Stores one object, or finds that there is none.
    async fn keep(&self, wanted: Wanted, source: &Source<'_>, place: &Place) -> Result<StoredObject, NotNow> {
        let Wanted { kind, image_type, attempt, required } = &wanted;
        let pass = match source.budget.admit(Instant::now(), Call::Look, Priority::Idle) {
            Admission::Go(pass) => pass,
            Admission::Wait { until, closed: _ } => return Err(NotNow::Later(until)),
        };
        let image = match kind {
            EvidenceKind::Redacted => ImageSource::Redacted,
            EvidenceKind::Unredacted => ImageSource::Unredacted,
            EvidenceKind::Front => ImageSource::Front,
            EvidenceKind::Back => ImageSource::Back,
            EvidenceKind::Results => return self.keep_results(source, pass, place).await,
        };
        let call = ImageCall { source: image, image_type, attempt: *attempt };
        let answer = self.portal.image(source.portal, source.key, source.id, call).await;
        self.metrics.call("image", &answer);
        let answer = match answer {
            Ok(answer) => answer,
            Err(trouble) => {
                pass.report(Instant::now(), Err(&trouble));
                let is_absent = trouble == Trouble::NotFound && !required;
                return if is_absent { Ok(absent(&wanted)) } else { Err(judge(&trouble).into()) };
            }
        };
        let size = answer.size_hint().map_err(|trouble| judge(&trouble))?;
        let mut held = self.archive.bytes.hold(size).await;
        let content_type = answer.content_type();
        let read = answer.read().await;
        pass.report(Instant::now(), read.as_ref().map(drop));
        let bytes = read.map_err(|trouble| judge(&trouble))?;
        held.keep(bytes.len());
        let format = inspect(&bytes, content_type.as_deref()).map_err(|_| EvidenceTrouble::ImageUnusable)?;
        let kind = image_kind(*kind).ok_or(EvidenceTrouble::ImageUnusable)?;
        let key = ObjectKey::image(kind, image_type, *attempt, format)
            .map_err(|_| EvidenceTrouble::DestinationRefused)?;
        let put = put(place, &key, bytes, format.content_type()).await?;
        Ok(object(wanted.kind, &key, put, format.content_type()))
    }

    async fn keep_results(
        &self,
        source: &Source<'_>,
        pass: Pass,
        place: &Place,
    ) -> Result<StoredObject, NotNow> {
        let answer = self.portal.results(source.portal, source.key, source.id).await;
        self.metrics.call("results", &answer);
        pass.report(Instant::now(), answer.as_ref().map(drop));
        let bytes = answer.map_err(|trouble| judge(&trouble))?;
        let key = ObjectKey::details();
        let put = put(place, &key, bytes, JSON).await?;
        Ok(object(EvidenceKind::Results, &key, put, JSON))
    }

    /// Writes the manifest, unless nothing was there to be stored; returns its SHA-256.
    async fn list(&self, status: &VerificationStatus, place: &Place) -> Result<Option<String>, NotNow> {
        let objects = status.evidence.as_ref().map_or(&[][..], |evidence| &evidence.objects);
        if objects.iter().all(|object| object.state == ObjectState::Absent) {
            return Ok(None);
        }
        let end = PortalEnd {
            status: status.portal_status.as_deref().unwrap_or_default(),
            updated_at: status.portal_updated_at,
            finished_at: status.finished_at,
        };
        let manifest = Manifest::new(&place.folder, end, objects);
        let bytes = manifest.bytes().map_err(|_| EvidenceTrouble::StoreUnavailable)?;
        let key = ObjectKey::manifest();
        match put(place, &key, Bytes::from(bytes), JSON).await {
            Ok(put) => Ok(Some(put.sha256)),
            Err(StoreTrouble::Conflict) => {
                // Another version of the operator may have written it before a crash.
                let found = place.store.read(&place.folder, &key, MAX_BYTES).await?;
                let found = found.filter(|found| {
                    Manifest::parse(found).is_ok_and(|there| there.says_the_same_as(&manifest))
                });
                found.map(|found| Some(sha256_hex(&found))).ok_or(EvidenceTrouble::Conflict.into())
            }
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Removes everything that was stored for a verification.
    async fn remove_evidence(&self, object: &Verification, observed: &Observed) -> Removed {
        let Some(images) = observed.facts.evidence.images.as_ref() else { return Removed::All };
        let Ok(place) = self.place(object, &images.destination).await else { return Removed::NotYet };
        let Ok(keys) = place.store.keys(&place.folder).await else { return Removed::NotYet };
        match place.store.delete(&place.folder, &keys).await {
            Ok(ends) if ends.iter().any(|(_, end)| *end == Removal::Kept) => Removed::GaveUp,
            Ok(_) => Removed::All,
            Err(_) => Removed::NotYet,
        }
    }

    /// Holds the resource until its evidence is removed.
    pub(super) async fn hold(&self, object: &Verification) {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(EVIDENCE_FINALIZER.to_owned());
        self.set_finalizers(object, &finalizers).await;
    }

    /// Removes the evidence and lets go of the resource; the last time, whatever comes of it.
    pub(super) async fn let_go(&self, object: &Verification, observed: &Observed, is_last: bool) -> Removed {
        let removed = match self.remove_evidence(object, observed).await {
            Removed::NotYet if is_last => Removed::GaveUp,
            removed @ (Removed::All | Removed::GaveUp | Removed::NotYet) => removed,
        };
        let others = object.finalizers().iter().filter(|finalizer| *finalizer != EVIDENCE_FINALIZER);
        let is_held = removed == Removed::NotYet
            || !self.set_finalizers(object, &others.cloned().collect::<Vec<_>>()).await;
        if is_held { Removed::NotYet } else { removed }
    }

    /// Whether they are written.
    async fn set_finalizers(&self, object: &Verification, finalizers: &[String]) -> bool {
        let api = self.api(&object.namespace().unwrap_or_default());
        let metadata = json!({"resourceVersion": object.resource_version(), "finalizers": finalizers});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let params =
            PatchParams { field_manager: Some("okid-operator".to_owned()), ..PatchParams::default() };
        let written = timeout(DEADLINE, api.patch(&object.name_any(), &params, &patch)).await;
        matches!(written, Ok(Ok(_)))
    }

    async fn place(
        &self,
        object: &Verification,
        destination: &Destination,
    ) -> Result<Place, EvidenceTrouble> {
        let namespace = object.namespace().unwrap_or_default();
        let folder = Folder::new(&namespace, &object.name_any(), &object.uid().unwrap_or_default())
            .map_err(|_| EvidenceTrouble::DestinationRefused)?;
        let store = match destination {
            Destination { store: Some(name), .. } => {
                self.archive.stores.find(name, &namespace).map_err(|_| EvidenceTrouble::DestinationRefused)?
            }
            Destination { url: Some(url), credentials_secret_ref: Some(secret), store: None } => {
                let location = Location::parse(url).map_err(|_| EvidenceTrouble::DestinationRefused)?;
                let entries = self.credentials(&namespace, &secret.name).await?;
                let entries = entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
                let options = Options::of_secret(location.scheme(), entries, &self.archive.endpoints)
                    .map_err(|_| EvidenceTrouble::DestinationRefused)?;
                let store = Store::new(location, &options, &self.archive.http, Patience::default())
                    .map_err(|_| EvidenceTrouble::DestinationRefused)?;
                Arc::new(store)
            }
            Destination { .. } => return Err(EvidenceTrouble::DestinationRefused),
        };
        let prefix = folder.url(store.location());
        Ok(Place { store, folder, prefix })
    }

    async fn credentials(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, Vec<u8>>, EvidenceTrouble> {
        match self.secrets.data(namespace, name).await {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(_)) => Err(EvidenceTrouble::AccessDenied),
            Err(_) => Err(EvidenceTrouble::StoreUnavailable),
        }
    }
}

async fn put(
    place: &Place,
    key: &ObjectKey,
    bytes: Bytes,
    content_type: &'static str,
) -> Result<Put, StoreTrouble> {
    place.store.put(&place.folder, key, Content { bytes, content_type, attributes: &[] }).await
}

/// A status with what was stored since.
fn with(status: &VerificationStatus, stored: &Stored) -> VerificationStatus {
    let mut status = status.clone();
    let evidence = status.evidence.get_or_insert_default();
    if evidence.prefix != stored.prefix {
        evidence.objects.clear();
    }
    evidence.objects.extend(stored.objects.iter().cloned());
    status
}

fn object(kind: EvidenceKind, key: &ObjectKey, put: Put, content_type: &str) -> StoredObject {
    StoredObject {
        kind,
        key: key.as_str().to_owned(),
        state: ObjectState::Stored,
        size: i64::try_from(put.size).ok(),
        sha256: Some(put.sha256),
        content_type: Some(content_type.to_owned()),
    }
}

fn absent(wanted: &Wanted) -> StoredObject {
    StoredObject {
        kind: wanted.kind,
        key: wanted.stem(),
        state: ObjectState::Absent,
        size: None,
        sha256: None,
        content_type: None,
    }
}

const fn image_kind(kind: EvidenceKind) -> Option<ImageKind> {
    match kind {
        EvidenceKind::Redacted => Some(ImageKind::Redacted),
        EvidenceKind::Unredacted => Some(ImageKind::Unredacted),
        EvidenceKind::Front => Some(ImageKind::Front),
        EvidenceKind::Back => Some(ImageKind::Back),
        EvidenceKind::Results => None,
    }
}

/// What a trouble with the portal means for evidence that is required.
const fn judge(trouble: &Trouble) -> EvidenceTrouble {
    match trouble {
        Trouble::NotFound => EvidenceTrouble::ImageNotAvailable,
        Trouble::Failed(Failed::TooLarge | Failed::Unusable) => EvidenceTrouble::ImageUnusable,
        Trouble::NotSent(_)
        | Trouble::KeyRejected
        | Trouble::AccessDenied
        | Trouble::Invalid
        | Trouble::Conflict
        | Trouble::Redirected
        | Trouble::Unconfigured
        | Trouble::Limited { .. }
        | Trouble::Failed(_) => EvidenceTrouble::PortalUnavailable,
    }
}

/// Of two reasons the one that lasts longer without a person.
fn worse(one: Option<NotNow>, other: NotNow) -> NotNow {
    let rank = |not_now: &NotNow| match not_now {
        NotNow::Later(_) => 0,
        NotNow::Trouble(EvidenceTrouble::PortalUnavailable) => 1,
        NotNow::Trouble(EvidenceTrouble::StoreUnavailable | EvidenceTrouble::AccessDenied) => 2,
        NotNow::Trouble(EvidenceTrouble::ImageNotAvailable | EvidenceTrouble::ImageUnusable) => 3,
        NotNow::Credentials => 4,
        NotNow::Trouble(EvidenceTrouble::Conflict | EvidenceTrouble::DestinationRefused) => 5,
    };
    match one {
        Some(one) if rank(&one) >= rank(&other) => one,
        Some(_) | None => other,
    }
}
