//! Why an object was not stored, and what follows: the error to show, the most severe of several, what metrics and the store's
//! circuit breaker record. Pure. May depend on `destination`, and on the types of `lifecycle` and `store`.

use jiff::Timestamp;
use tokio::time::Instant;

use super::destination::{DestinationError, DestinationRefused};
use crate::{
    api::{ObjectState, StoredObject},
    lifecycle::EvidenceError,
    store::{ObjectKey, StoreError},
};

/// Why an object was not stored.
pub(super) enum NotNow {
    /// The portal's budget admits no call before then.
    Later(Instant),
    /// An image that the portal does not have is requested once more then.
    AskAgainAt(Timestamp),
    /// The resource changed while the upload waited for a permit.
    Changed,
    /// The store refuses, or does not respond.
    Store(StoreError),
    /// Another object has this key.
    Conflict(ObjectKey),
    /// The destination is refused.
    Destination(DestinationRefused),
    /// Another error.
    Other(EvidenceError),
}

impl NotNow {
    /// The store's error, if it is one.
    pub(super) const fn store_error(&self) -> Option<StoreError> {
        match self {
            Self::Store(error) => Some(*error),
            Self::Conflict(_) => Some(StoreError::Conflict),
            Self::Later(_) | Self::AskAgainAt(_) | Self::Changed | Self::Destination(_) | Self::Other(_) => {
                None
            }
        }
    }

    /// Whether other images would fail in the same way.
    pub(super) fn is_for_all(&self) -> bool {
        match self {
            Self::Later(_) | Self::Changed | Self::Destination(_) => true,
            Self::AskAgainAt(_) | Self::Conflict(_) => false,
            Self::Store(error) => is_about_the_store(evidence_error(*error)),
            Self::Other(error) => is_about_the_store(*error),
        }
    }
}

/// The evidence's error for one of the store.
pub(super) fn evidence_error(error: StoreError) -> EvidenceError {
    match error {
        StoreError::CredentialsRefused => EvidenceError::StoreCredentialsRejected,
        StoreError::AccessDenied => EvidenceError::StoreAccessDenied,
        StoreError::Conflict => EvidenceError::Conflict,
        StoreError::NoResponse(why) => EvidenceError::StoreUnresponsive(why),
        StoreError::Unavailable => EvidenceError::StoreUnavailable,
        StoreError::BucketMissing => EvidenceError::BucketNotFound,
        StoreError::Misconfigured("aws_sse_kms_key_id") => EvidenceError::StoreEncryptionKeyWrong,
        StoreError::Misconfigured(_) => EvidenceError::StoreRegionWrong,
        StoreError::Unsupported => EvidenceError::StoreFeatureMissing,
        StoreError::Refused => EvidenceError::StoreMisconfigured,
        StoreError::NoConditionalWrites => EvidenceError::NoConditionalWrites,
    }
}

pub(super) const fn is_about_the_store(error: EvidenceError) -> bool {
    match error {
        EvidenceError::StoreUnavailable
        | EvidenceError::StoreUnresponsive(_)
        | EvidenceError::StoreCircuitOpen
        | EvidenceError::StoreSecretUnread
        | EvidenceError::BucketNotFound
        | EvidenceError::StoreMisconfigured
        | EvidenceError::StoreRegionWrong
        | EvidenceError::StoreEncryptionKeyWrong
        | EvidenceError::StoreFeatureMissing
        | EvidenceError::NoConditionalWrites
        | EvidenceError::StoreAccessDenied
        | EvidenceError::StoreCredentialsRejected
        | EvidenceError::StoreSecretNotFound
        | EvidenceError::StoreSecretForbidden => true,
        EvidenceError::StoreSecretInvalid
        | EvidenceError::DestinationNotAllowed
        | EvidenceError::Conflict
        | EvidenceError::ImageNotAvailable
        | EvidenceError::ImageUnusable
        | EvidenceError::ImageTooLarge
        | EvidenceError::PortalUnavailable
        | EvidenceError::PortalKeyUnusable
        | EvidenceError::PortalNotAllowed
        | EvidenceError::FinalizerDenied => false,
    }
}

impl From<EvidenceError> for NotNow {
    fn from(error: EvidenceError) -> Self {
        Self::Other(error)
    }
}

impl From<StoreError> for NotNow {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DestinationError> for NotNow {
    fn from(error: DestinationError) -> Self {
        match error {
            DestinationError::Refused(refusal) => Self::Destination(refusal),
            DestinationError::Evidence(error) => Self::Other(error),
        }
    }
}

/// The message of a conflict.
pub(super) fn conflict_at(key: &ObjectKey) -> String {
    format!(
        "a different object exists at {} and was not overwritten; find out who wrote it and move it, then set the annotation \
         okid.io/retry to a new value",
        key.as_str()
    )
}

/// The result of one object, as the metrics name it.
pub(super) fn result_of(end: &Result<StoredObject, NotNow>) -> &'static str {
    let error = match end {
        Ok(StoredObject { state: ObjectState::Stored, .. }) => return "stored",
        Ok(StoredObject { state: ObjectState::Absent, .. }) => return "absent",
        Err(NotNow::Later(_) | NotNow::AskAgainAt(_) | NotNow::Changed) => return "later",
        Err(NotNow::Store(error)) => evidence_error(*error),
        Err(NotNow::Conflict(_)) => EvidenceError::Conflict,
        Err(NotNow::Destination(refusal)) => refusal.error(),
        Err(NotNow::Other(error)) => *error,
    };
    match error {
        EvidenceError::StoreUnavailable
        | EvidenceError::StoreUnresponsive(_)
        | EvidenceError::StoreCircuitOpen
        | EvidenceError::StoreSecretUnread => "store_unavailable",
        EvidenceError::StoreAccessDenied | EvidenceError::StoreCredentialsRejected => "store_access_denied",
        EvidenceError::BucketNotFound => "bucket_not_found",
        EvidenceError::StoreMisconfigured
        | EvidenceError::StoreRegionWrong
        | EvidenceError::StoreEncryptionKeyWrong
        | EvidenceError::StoreFeatureMissing
        | EvidenceError::NoConditionalWrites => "store_misconfigured",
        EvidenceError::StoreSecretNotFound => "store_secret_not_found",
        EvidenceError::StoreSecretForbidden => "store_secret_forbidden",
        EvidenceError::StoreSecretInvalid => "store_secret_invalid",
        EvidenceError::DestinationNotAllowed => "destination_not_allowed",
        EvidenceError::Conflict => "conflict",
        EvidenceError::ImageNotAvailable => "image_not_available",
        EvidenceError::ImageUnusable | EvidenceError::ImageTooLarge => "image_unusable",
        EvidenceError::PortalUnavailable
        | EvidenceError::PortalKeyUnusable
        | EvidenceError::PortalNotAllowed => "portal_unavailable",
        EvidenceError::FinalizerDenied => "finalizer_denied",
    }
}

/// Whether the store responded; none where no request was sent. What it stored counts more than a later request without
/// a response.
pub(super) fn has_responded(end: &Result<(), NotNow>, stored: &[StoredObject]) -> Option<bool> {
    let has_taken = stored.iter().any(|object| object.state == ObjectState::Stored);
    match end {
        _ if has_taken => Some(true),
        Err(NotNow::Store(error)) => Some(!error.is_unresponsive()),
        Ok(()) | Err(NotNow::Conflict(_)) => Some(true),
        Err(
            NotNow::Later(_)
            | NotNow::AskAgainAt(_)
            | NotNow::Changed
            | NotNow::Destination(_)
            | NotNow::Other(_),
        ) => None,
    }
}

/// Of two reasons, the one that lasts longer if nobody acts.
pub(super) fn most_severe(one: Option<NotNow>, other: NotNow) -> NotNow {
    let rank = |not_now: &NotNow| match not_now {
        NotNow::AskAgainAt(_) => 0,
        NotNow::Later(_) | NotNow::Changed => 1,
        NotNow::Other(
            EvidenceError::PortalUnavailable
            | EvidenceError::PortalKeyUnusable
            | EvidenceError::PortalNotAllowed,
        ) => 2,
        NotNow::Other(
            EvidenceError::ImageNotAvailable | EvidenceError::ImageUnusable | EvidenceError::ImageTooLarge,
        ) => 4,
        NotNow::Store(StoreError::CredentialsRefused) => 5,
        NotNow::Store(StoreError::Conflict | StoreError::NoConditionalWrites)
        | NotNow::Conflict(_)
        | NotNow::Destination(_)
        | NotNow::Other(
            EvidenceError::Conflict
            | EvidenceError::DestinationNotAllowed
            | EvidenceError::StoreSecretInvalid
            | EvidenceError::NoConditionalWrites,
        ) => 6,
        NotNow::Store(_)
        | NotNow::Other(
            EvidenceError::StoreUnavailable
            | EvidenceError::StoreUnresponsive(_)
            | EvidenceError::StoreCircuitOpen
            | EvidenceError::StoreSecretUnread
            | EvidenceError::BucketNotFound
            | EvidenceError::StoreMisconfigured
            | EvidenceError::StoreRegionWrong
            | EvidenceError::StoreEncryptionKeyWrong
            | EvidenceError::StoreFeatureMissing
            | EvidenceError::StoreAccessDenied
            | EvidenceError::StoreCredentialsRejected
            | EvidenceError::StoreSecretNotFound
            | EvidenceError::StoreSecretForbidden
            | EvidenceError::FinalizerDenied,
        ) => 3,
    };
    match one {
        Some(one) if rank(&one) >= rank(&other) => one,
        Some(_) | None => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::store::NoResponse;

    use super::*;

    #[test]
    fn a_store_that_stored_something_has_responded() {
        let object = |state| StoredObject {
            kind: crate::api::EvidenceKind::Front,
            key: "front-original.jpg".to_owned(),
            state,
            size: None,
            sha256: None,
            content_type: None,
        };
        let silence = || Err(NotNow::Store(NoResponse::TimedOut.into()));
        assert_eq!(has_responded(&silence(), &[]), Some(false));
        assert_eq!(has_responded(&silence(), &[object(ObjectState::Stored)]), Some(true));
        assert_eq!(
            has_responded(&silence(), &[object(ObjectState::Absent)]),
            Some(false),
            "the portal said that"
        );
        let portal = || Err(NotNow::Other(EvidenceError::PortalUnavailable));
        assert_eq!(has_responded(&portal(), &[object(ObjectState::Absent)]), None);
        assert_eq!(has_responded(&portal(), &[object(ObjectState::Stored)]), Some(true));
        assert_eq!(has_responded(&Err(NotNow::Store(StoreError::Unavailable)), &[]), Some(true));
    }
}
