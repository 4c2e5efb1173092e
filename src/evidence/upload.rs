//! One object of the evidence: from the portal into the store.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    batch::{JSON, NotNow, Source},
    destination::ResolvedDestination,
};
use crate::{
    api::{EvidenceKind, ImageKind, ObjectState, StoredObject},
    lifecycle::{EvidenceError, Missing, Wanted},
    portal::{
        Call, Failed, ImageCall, ImageSource, MAX_ANSWER_BYTES, PortalError,
        budget::{Admission, Closed, Pass},
    },
    priority::Priority,
    reconcile::{Reconciler, polls_of},
    store::{HeldBytes, MAX_BYTES, ObjectKey, Put, inspect},
};

/// Most images are smaller, in bytes: so much memory is held before one is asked for, so that the portal need not wait
/// for it.
const USUAL_BYTES: usize = 4 * 1024 * 1024;

/// Most details are smaller, in bytes.
const USUAL_RESULTS_BYTES: usize = 256 * 1024;

/// An image as the portal sent it, and the memory that it takes.
struct Image {
    bytes: Bytes,
    content_type: Option<String>,
    _held: [HeldBytes; 2],
}

/// Why there is no image.
enum NoImage {
    /// 404.
    Missing(Missing),
    /// It is larger than was allowed for.
    Larger,
    /// Not now.
    NotNow(NotNow),
}

/// What came of asking for an object.
pub(crate) enum Uploaded {
    /// It is stored.
    Stored(StoredObject),
    /// The answer was 404.
    Missing(Wanted, Missing),
}

impl Reconciler {
    /// Stores one object, or hears that there is none.
    pub(crate) async fn keep(
        &self,
        wanted: Wanted,
        source: &Source<'_>,
        place: &ResolvedDestination,
    ) -> Result<Uploaded, NotNow> {
        let (kind, asked_of) = match wanted.kind {
            EvidenceKind::Redacted => (ImageKind::Redacted, ImageSource::Redacted),
            EvidenceKind::Unredacted => (ImageKind::Unredacted, ImageSource::Unredacted),
            EvidenceKind::Front => (ImageKind::Front, ImageSource::Front),
            EvidenceKind::Back => (ImageKind::Back, ImageSource::Back),
            EvidenceKind::Results => {
                return self.keep_results(source, place).await.map(Uploaded::Stored);
            }
        };
        let call = ImageCall { source: asked_of, image_type: &wanted.image_type, attempt: wanted.attempt };
        let image = match self.image(source, place, call, USUAL_BYTES).await {
            Err(NoImage::Larger) => self.image(source, place, call, MAX_BYTES).await,
            usual => usual,
        };
        let image = match image {
            Ok(image) => image,
            Err(NoImage::Missing(who)) => return Ok(Uploaded::Missing(wanted, who)),
            Err(NoImage::Larger) => return Err(EvidenceError::ImageUnusable.into()),
            Err(NoImage::NotNow(not_now)) => return Err(not_now),
        };
        let format =
            inspect(&image.bytes, image.content_type.as_deref()).map_err(|_| EvidenceError::ImageUnusable)?;
        let key = ObjectKey::image(kind, &wanted.image_type, wanted.attempt, format)
            .map_err(|_| EvidenceError::DestinationRefused)?;
        let content_type = format.content_type();
        let put = self
            .put(place, source, &key, wanted.kind.as_lower_case(), (image.bytes.clone(), content_type))
            .await?;
        Ok(Uploaded::Stored(stored(wanted.kind, &key, put, content_type)))
    }

    /// Asks for an image of at most that many bytes, once there is memory for it.
    async fn image(
        &self,
        source: &Source<'_>,
        place: &ResolvedDestination,
        call: ImageCall<'_>,
        most: usize,
    ) -> Result<Image, NoImage> {
        // The endpoint's part first, always: who waits for the rest holds nothing of another endpoint's.
        let mut held = [place.endpoint_limit.bytes.hold(most).await, self.evidence.bytes.hold(most).await];
        let pass = admit(source).map_err(NoImage::NotNow)?;
        let answer = self.portal.image(source.portal, source.key, source.id, call).await;
        self.portal_failures.note(source.portal, polls_of(source.id), answer.as_ref().map(drop));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.metrics.call("image", &Err::<(), _>(error));
                pass.report(Instant::now(), Err(&error));
                return Err(
                    missing(&error).map_or_else(|| NoImage::NotNow(judge(&error).into()), NoImage::Missing)
                );
            }
        };
        let content_type = answer.content_type();
        let read = answer.read(most).await;
        self.metrics.call("image", &read);
        match read {
            Ok(bytes) => {
                pass.report(Instant::now(), Ok(()));
                for part in &mut held {
                    part.keep(bytes.len());
                }
                Ok(Image { bytes, content_type, _held: held })
            }
            // The portal does what it is asked to; the image is the trouble.
            Err(PortalError::Failed(Failed::TooLarge)) => {
                pass.report(Instant::now(), Ok(()));
                Err(NoImage::Larger)
            }
            Err(error) => {
                pass.report(Instant::now(), Err(&error));
                Err(NoImage::NotNow(judge(&error).into()))
            }
        }
    }

    /// Whether the portal answers for this session.
    pub(crate) async fn answers_for_session(&self, source: &Source<'_>) -> bool {
        let Ok(pass) = admit(source) else { return false };
        let answer = self.portal.look(source.portal, source.key, source.id).await;
        self.metrics.call("look", &answer);
        pass.report(Instant::now(), answer.as_ref().map(drop));
        answer.is_ok_and(|details| details.id.as_ref() == Some(source.id))
    }

    async fn keep_results(
        &self,
        source: &Source<'_>,
        place: &ResolvedDestination,
    ) -> Result<StoredObject, NotNow> {
        let (bytes, _held) = match self.results(source, place, USUAL_RESULTS_BYTES).await {
            Err(NoImage::Larger) => self.results(source, place, MAX_ANSWER_BYTES).await,
            usual => usual,
        }
        .map_err(|no_results| match no_results {
            NoImage::NotNow(not_now) => not_now,
            NoImage::Missing(_) | NoImage::Larger => EvidenceError::ImageUnusable.into(),
        })?;
        let key = ObjectKey::details();
        let put = self.put(place, source, &key, EvidenceKind::Results.as_lower_case(), (bytes, JSON)).await?;
        Ok(stored(EvidenceKind::Results, &key, put, JSON))
    }
}

impl Reconciler {
    /// Asks for the details whole, of at most that many bytes, once there is memory for them.
    async fn results(
        &self,
        source: &Source<'_>,
        place: &ResolvedDestination,
        most: usize,
    ) -> Result<(Bytes, [HeldBytes; 2]), NoImage> {
        let mut held = [place.endpoint_limit.bytes.hold(most).await, self.evidence.bytes.hold(most).await];
        let pass = admit(source).map_err(NoImage::NotNow)?;
        let answer = self.portal.results(source.portal, source.key, source.id, most).await;
        self.metrics.call("results", &answer);
        if most == MAX_ANSWER_BYTES || answer != Err(PortalError::Failed(Failed::TooLarge)) {
            self.portal_failures.note(source.portal, polls_of(source.id), answer.as_ref().map(drop));
        }
        match answer {
            Ok(bytes) => {
                pass.report(Instant::now(), Ok(()));
                for part in &mut held {
                    part.keep(bytes.len());
                }
                Ok((bytes, held))
            }
            // The portal does what it is asked to; its answer is the trouble.
            Err(PortalError::Failed(Failed::TooLarge)) => {
                pass.report(Instant::now(), Ok(()));
                Err(NoImage::Larger)
            }
            Err(error) => {
                pass.report(Instant::now(), Err(&error));
                Err(NoImage::NotNow(judge(&error).into()))
            }
        }
    }
}

/// A place with the portal, if there is one now: whoever waits for one holds nothing that others wait for.
fn admit(source: &Source<'_>) -> Result<Pass, NotNow> {
    match source.budget.admit(Instant::now(), Call::Poll, Priority::Idle) {
        Admission::Go(pass) => Ok(pass.about(source.id)),
        Admission::Wait { until, closed: Closed::Rate } => Err(NotNow::Later(until)),
        // That counts as trouble, which has an end; a place within the rate only has to be waited for.
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

pub(crate) fn absent(wanted: &Wanted) -> StoredObject {
    StoredObject {
        kind: wanted.kind,
        key: wanted.stem(),
        state: ObjectState::Absent,
        size: None,
        sha256: None,
        content_type: None,
    }
}

/// Who says that there is no such image, if that is what was said.
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

/// What a trouble with the portal means for evidence that is required.
const fn judge(error: &PortalError) -> EvidenceError {
    match error {
        PortalError::NotFound => EvidenceError::ImageNotAvailable,
        PortalError::Failed(Failed::TooLarge | Failed::Unusable | Failed::Encoded(_)) => {
            EvidenceError::ImageUnusable
        }
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
