//! Uploads one object: from the portal into the store. May depend on `context`, `not_now` and `recognize`, and on `portal` and
//! `store`.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    context::{Evidence, Upload},
    not_now::NotNow,
    recognize::JSON,
};
use crate::{
    api::{EvidenceKind, ImageKind, ObjectState, StoredObject},
    lifecycle::{EvidenceError, Missing, Wanted},
    portal::{
        Call, Caller, Failed, ImageBody, ImageQuery, ImageSource, MAX_RESPONSE_BYTES, PortalError,
        budget::{Admission, Closed},
    },
    priority::Priority,
    store::{HeldBytes, MAX_BYTES, ObjectKey, Put, inspect},
};

/// Most images are smaller, in bytes. This much memory is reserved before one is requested, so that the portal need not
/// wait for it.
const USUAL_BYTES: usize = 4 * 1024 * 1024;

/// Most details are smaller, in bytes.
const USUAL_RESULTS_BYTES: usize = 256 * 1024;

/// An image as the portal sent it, and the memory that is reserved for it.
struct Image {
    body: ImageBody,
    _held: [HeldBytes; 2],
}

/// Why there is no image.
enum NoImage {
    /// 404.
    Missing(Missing),
    /// It is larger than the memory that is reserved.
    Larger,
    /// Not now.
    NotNow(NotNow),
}

/// The result of one object.
pub(super) enum Uploaded {
    /// It is stored.
    Stored(StoredObject),
    /// The portal answered 404.
    Missing(Wanted, Missing),
}

impl Evidence {
    /// Stores one object, or finds out that there is none.
    pub(super) async fn upload(&self, upload: &Upload<'_>, wanted: Wanted) -> Result<Uploaded, NotNow> {
        let (kind, source) = match wanted.kind {
            EvidenceKind::Redacted => (ImageKind::Redacted, ImageSource::Redacted),
            EvidenceKind::Unredacted => (ImageKind::Unredacted, ImageSource::Unredacted),
            EvidenceKind::Front => (ImageKind::Front, ImageSource::Front),
            EvidenceKind::Back => (ImageKind::Back, ImageSource::Back),
            EvidenceKind::Results => return self.upload_details(upload).await.map(Uploaded::Stored),
        };
        let call = ImageQuery { source, image_type: &wanted.image_type, attempt: wanted.attempt };
        let image = match self.image(upload, call, USUAL_BYTES).await {
            Err(NoImage::Larger) => self.image(upload, call, MAX_BYTES).await,
            usual => usual,
        };
        let image = match image {
            Ok(image) => image,
            Err(NoImage::Missing(who)) => return Ok(Uploaded::Missing(wanted, who)),
            Err(NoImage::Larger) => return Err(EvidenceError::ImageTooLarge.into()),
            Err(NoImage::NotNow(not_now)) => return Err(not_now),
        };
        let ImageBody { bytes, content_type } = &image.body;
        let format = inspect(bytes, content_type.as_deref()).map_err(|_| EvidenceError::ImageUnusable)?;
        let key = ObjectKey::image(kind, &wanted.image_type, wanted.attempt, format)
            .map_err(|_| EvidenceError::DestinationNotAllowed)?;
        let content_type = format.content_type();
        let content = (bytes.clone(), content_type);
        let put = self.put(upload, &key, wanted.kind.as_lower_case(), content).await?;
        Ok(Uploaded::Stored(stored(wanted.kind, &key, put, content_type)))
    }

    /// Gets an image of at most that many bytes, once there is memory for it.
    async fn image(&self, upload: &Upload<'_>, call: ImageQuery<'_>, most: usize) -> Result<Image, NoImage> {
        let mut held = self.hold(upload, most).await;
        let caller = admit(upload).map_err(NoImage::NotNow)?;
        match self.portal.image(caller, &upload.id, call, most).await {
            Ok(body) => {
                for part in &mut held {
                    part.shrink(body.bytes.len());
                }
                Ok(Image { body, _held: held })
            }
            Err(PortalError::Failed(Failed::TooLarge)) => Err(NoImage::Larger),
            Err(error) => Err(missing(&error)
                .map_or_else(|| NoImage::NotNow(evidence_error(&error).into()), NoImage::Missing)),
        }
    }

    /// Reserves memory. The endpoint's part comes first, always: waiting for the rest then holds nothing of another
    /// endpoint's.
    async fn hold(&self, upload: &Upload<'_>, most: usize) -> [HeldBytes; 2] {
        [upload.destination.endpoint_limit.bytes.hold(most).await, self.context.bytes.hold(most).await]
    }

    /// Whether the portal answers for this session. A poll like any other: that the portal finds a session with this key
    /// also counts for the others, of which one may be gone.
    pub(super) async fn answers_for_session(&self, upload: &Upload<'_>) -> bool {
        let Ok(caller) = admit(upload) else { return false };
        let answer = self.portal.poll(caller, &upload.id).await;
        answer.is_ok_and(|details| details.id.as_ref() == Some(&upload.id))
    }

    async fn upload_details(&self, upload: &Upload<'_>) -> Result<StoredObject, NotNow> {
        let (bytes, _held) = match self.details(upload, USUAL_RESULTS_BYTES).await {
            Err(NoImage::Larger) => self.details(upload, MAX_RESPONSE_BYTES).await,
            usual => usual,
        }
        .map_err(|no_details| match no_details {
            NoImage::NotNow(not_now) => not_now,
            NoImage::Missing(_) => EvidenceError::ImageUnusable.into(),
            NoImage::Larger => EvidenceError::ImageTooLarge.into(),
        })?;
        let key = ObjectKey::details();
        let put = self.put(upload, &key, EvidenceKind::Results.as_lower_case(), (bytes, JSON)).await?;
        Ok(stored(EvidenceKind::Results, &key, put, JSON))
    }

    /// Gets the details unchanged, of at most that many bytes, once there is memory for them.
    async fn details(&self, upload: &Upload<'_>, most: usize) -> Result<(Bytes, [HeldBytes; 2]), NoImage> {
        let mut held = self.hold(upload, most).await;
        let caller = admit(upload).map_err(NoImage::NotNow)?;
        match self.portal.results(caller, &upload.id, most).await {
            Ok(bytes) => {
                for part in &mut held {
                    part.shrink(bytes.len());
                }
                Ok((bytes, held))
            }
            Err(PortalError::Failed(Failed::TooLarge)) => Err(NoImage::Larger),
            Err(error) => Err(NoImage::NotNow(evidence_error(&error).into())),
        }
    }
}

/// The budget's permission for one call, if it gives it now. Whoever waits for it holds nothing that others wait for.
fn admit<'a>(upload: &'a Upload<'_>) -> Result<Caller<'a>, NotNow> {
    let source = &upload.source;
    match source.budget.admit(Instant::now(), Call::Poll, Priority::Idle) {
        Admission::Go(permit) => Ok(Caller { portal: source.portal, key: source.key, permit }),
        Admission::Wait { until, closed: Closed::Rate } => Err(NotNow::Later(until)),
        // These count as an error, which ends; within the rate it is only a matter of time.
        Admission::Wait { until: _, closed: Closed::Paused | Closed::Breaker | Closed::KeyRejected } => {
            Err(EvidenceError::PortalUnavailable.into())
        }
    }
}

fn stored(kind: EvidenceKind, key: &ObjectKey, put: Put, content_type: &str) -> StoredObject {
    StoredObject {
        kind,
        key: key.as_str().to_owned(),
        state: ObjectState::Stored,
        size: i64::try_from(put.size).ok(),
        sha256: Some(put.sha256),
        content_type: Some(content_type.to_owned()),
    }
}

pub(super) fn absent(wanted: &Wanted) -> StoredObject {
    StoredObject {
        kind: wanted.kind,
        key: wanted.stem(),
        state: ObjectState::Absent,
        size: None,
        sha256: None,
        content_type: None,
    }
}

/// Who answered that there is no such image, if that was the answer.
const fn missing(error: &PortalError) -> Option<Missing> {
    match error {
        PortalError::NotFound => Some(Missing::ByThePortal),
        PortalError::Unclear { status: 404 } => Some(Missing::Unclear),
        PortalError::NotSent(_)
        | PortalError::KeyRejected
        | PortalError::AccessDenied
        | PortalError::Invalid
        | PortalError::Conflict
        | PortalError::Redirected
        | PortalError::Unconfigured
        | PortalError::Unclear { .. }
        | PortalError::Limited { .. }
        | PortalError::Failed(_) => None,
    }
}

/// The evidence's error for one of the portal.
const fn evidence_error(error: &PortalError) -> EvidenceError {
    match error {
        PortalError::NotFound => EvidenceError::ImageNotAvailable,
        PortalError::Failed(Failed::TooLarge) => EvidenceError::ImageTooLarge,
        PortalError::Failed(Failed::Unusable | Failed::Encoded(_)) => EvidenceError::ImageUnusable,
        PortalError::NotSent(_)
        | PortalError::KeyRejected
        | PortalError::AccessDenied
        | PortalError::Invalid
        | PortalError::Conflict
        | PortalError::Redirected
        | PortalError::Unconfigured
        | PortalError::Unclear { .. }
        | PortalError::Limited { .. }
        | PortalError::Failed(_) => EvidenceError::PortalUnavailable,
    }
}
