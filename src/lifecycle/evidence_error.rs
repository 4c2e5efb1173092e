//! Why evidence is not stored, and how long each error may last. Pure.

use std::time::Duration;

use crate::{api::Reason, store::no_response::NoResponse};

/// Evidence that is not stored within this time fails, unless a person requests a retry.
pub(super) const STORED_WITHIN: Duration = Duration::from_hours(24);
/// A required image that the portal does not have, or that is unusable, is requested again for this long.
pub(super) const IMAGE_AWAITED: Duration = Duration::from_mins(10);

/// Why evidence is not stored. A closed set: it holds no text of a store or portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvidenceError {
    /// The store reports that it is temporarily unavailable.
    StoreUnavailable,
    /// The store did not respond.
    StoreUnresponsive(NoResponse),
    /// The store did not respond, and is not called for a moment.
    StoreCircuitOpen,
    /// The API server did not return the Secret with the store's credentials.
    StoreSecretUnread,
    /// The bucket, container or folder does not exist.
    BucketNotFound,
    /// The store rejects the request without naming the wrong option.
    StoreMisconfigured,
    /// The store is in another region.
    StoreRegionWrong,
    /// The store does not accept the encryption key.
    StoreEncryptionKeyWrong,
    /// The store lacks a feature that an option requires.
    StoreFeatureMissing,
    /// The store ignores or rejects conditional writes, so it would overwrite objects.
    NoConditionalWrites,
    /// The store knows the credentials and denies access.
    StoreAccessDenied,
    /// The store does not accept the credentials.
    StoreCredentialsRejected,
    /// The Secret with the store's credentials does not exist.
    StoreSecretNotFound,
    /// The operator may not read the Secret with the store's credentials.
    StoreSecretForbidden,
    /// The content of the Secret with the store's credentials cannot be used.
    StoreSecretInvalid,
    /// The store, its endpoint or the kind of image is not allowed.
    DestinationNotAllowed,
    /// A different object exists under the same key.
    Conflict,
    /// The portal does not have a required image.
    ImageNotAvailable,
    /// The portal returned data in an unsupported format.
    ImageUnusable,
    /// The portal returned more data than one object may have.
    ImageTooLarge,
    /// The portal does not return the images.
    PortalUnavailable,
    /// The portal cannot be called, because there is no usable API key.
    PortalKeyUnusable,
    /// The portal cannot be called, because it is not allowed.
    PortalNotAllowed,
    /// The API server denies the finalizer, without which nothing is stored that must be removed later.
    FinalizerDenied,
}

impl EvidenceError {
    /// One error per reason and time limit.
    pub const ALL: [Self; 16] = [
        Self::StoreUnavailable,
        Self::StoreUnresponsive(NoResponse::TimedOut),
        Self::StoreCircuitOpen,
        Self::BucketNotFound,
        Self::StoreMisconfigured,
        Self::NoConditionalWrites,
        Self::StoreAccessDenied,
        Self::StoreSecretNotFound,
        Self::StoreSecretForbidden,
        Self::StoreSecretInvalid,
        Self::DestinationNotAllowed,
        Self::Conflict,
        Self::ImageNotAvailable,
        Self::ImageUnusable,
        Self::PortalUnavailable,
        Self::FinalizerDenied,
    ];

    /// Errors that share reason and time limit with one of [`Self::ALL`], but have another message.
    #[cfg(test)]
    pub(super) const OTHER_CAUSES: [Self; 8] = [
        Self::StoreSecretUnread,
        Self::StoreRegionWrong,
        Self::StoreEncryptionKeyWrong,
        Self::StoreFeatureMissing,
        Self::StoreCredentialsRejected,
        Self::ImageTooLarge,
        Self::PortalKeyUnusable,
        Self::PortalNotAllowed,
    ];

    /// The reason that the condition `EvidenceStored` shows.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::StoreUnavailable
            | Self::StoreUnresponsive(_)
            | Self::StoreCircuitOpen
            | Self::StoreSecretUnread => Reason::StoreUnavailable,
            Self::BucketNotFound => Reason::BucketNotFound,
            Self::StoreMisconfigured
            | Self::StoreRegionWrong
            | Self::StoreEncryptionKeyWrong
            | Self::StoreFeatureMissing
            | Self::NoConditionalWrites => Reason::StoreMisconfigured,
            Self::StoreAccessDenied | Self::StoreCredentialsRejected => Reason::StoreAccessDenied,
            Self::StoreSecretNotFound => Reason::StoreSecretNotFound,
            Self::StoreSecretForbidden => Reason::StoreSecretForbidden,
            Self::StoreSecretInvalid => Reason::StoreSecretInvalid,
            Self::DestinationNotAllowed => Reason::DestinationNotAllowed,
            Self::FinalizerDenied => Reason::FinalizerDenied,
            Self::Conflict => Reason::Conflict,
            Self::ImageNotAvailable => Reason::ImageNotAvailable,
            Self::ImageUnusable | Self::ImageTooLarge => Reason::ImageUnusable,
            Self::PortalUnavailable | Self::PortalKeyUnusable | Self::PortalNotAllowed => {
                Reason::PortalUnavailable
            }
        }
    }

    /// How long the error may last before only a person can resolve it.
    pub(super) const fn time_limit(self) -> Duration {
        match self {
            Self::Conflict
            | Self::DestinationNotAllowed
            | Self::StoreSecretInvalid
            | Self::NoConditionalWrites => Duration::ZERO,
            Self::ImageNotAvailable | Self::ImageUnusable | Self::ImageTooLarge => IMAGE_AWAITED,
            Self::StoreUnavailable
            | Self::StoreUnresponsive(_)
            | Self::StoreCircuitOpen
            | Self::StoreSecretUnread
            | Self::BucketNotFound
            | Self::StoreMisconfigured
            | Self::StoreRegionWrong
            | Self::StoreEncryptionKeyWrong
            | Self::StoreFeatureMissing
            | Self::StoreAccessDenied
            | Self::StoreCredentialsRejected
            | Self::StoreSecretNotFound
            | Self::StoreSecretForbidden
            | Self::PortalUnavailable
            | Self::PortalKeyUnusable
            | Self::PortalNotAllowed
            | Self::FinalizerDenied => STORED_WITHIN,
        }
    }

    /// The message for this cause, if its reason stands for several; at most 256 characters.
    pub(super) const fn cause(self) -> Option<&'static str> {
        match self {
            Self::StoreUnresponsive(why) => Some(no_response(why)),
            Self::StoreCircuitOpen => Some(
                "The store did not respond, so the operator is not calling it for a moment. The operator is retrying.",
            ),
            Self::StoreSecretUnread => Some(
                "The Kubernetes API server did not return the Secret with the store's credentials. The operator is retrying.",
            ),
            Self::StoreRegionWrong => Some(
                "The store is in another region. Correct the region in the store's options; the operator is retrying.",
            ),
            Self::StoreEncryptionKeyWrong => Some(
                "The store does not accept the encryption key. Correct aws_sse_kms_key_id in the store's options; the operator is retrying.",
            ),
            Self::StoreFeatureMissing => Some(
                "The store lacks a feature that one of its options requires. Correct the store's options; the operator is retrying.",
            ),
            Self::NoConditionalWrites => Some(
                "The store does not support conditional writes (If-None-Match), so evidence could be overwritten. Use another store or upgrade it, then set the annotation okid.io/retry to a new value.",
            ),
            Self::StoreCredentialsRejected => Some(
                "The store does not accept the credentials. Update them; if they are right, check the clock of the operator's node. The operator is retrying.",
            ),
            Self::ImageTooLarge => {
                Some("The portal returned more data than one object may have; it was not stored.")
            }
            Self::PortalKeyUnusable => Some(
                "The portal could not be asked for the evidence, because there is no usable API key; see CredentialsReady.",
            ),
            Self::PortalNotAllowed => Some(
                "The portal could not be asked for the evidence, because the operator is not allowed to call it. Its administrator can allow it (--allowed-portal).",
            ),
            Self::StoreUnavailable
            | Self::BucketNotFound
            | Self::StoreMisconfigured
            | Self::StoreAccessDenied
            | Self::StoreSecretNotFound
            | Self::StoreSecretForbidden
            | Self::StoreSecretInvalid
            | Self::DestinationNotAllowed
            | Self::Conflict
            | Self::ImageNotAvailable
            | Self::ImageUnusable
            | Self::PortalUnavailable
            | Self::FinalizerDenied => None,
        }
    }

    /// What to remember after an earlier error, and whether both count as one. Errors with the same reason do; a store
    /// that is not called keeps its earlier cause.
    pub(super) fn after(self, before: Option<Self>) -> (Self, bool) {
        match before {
            Some(before) if before.reason() == self.reason() => {
                (if self == Self::StoreCircuitOpen { before } else { self }, true)
            }
            Some(_) | None => (self, false),
        }
    }
}

/// The message for a store that did not respond.
const fn no_response(why: NoResponse) -> &'static str {
    match why {
        NoResponse::Resolve => {
            "The store's host name cannot be resolved. Check the endpoint, region or account in the store's options, and the cluster's DNS. The operator is retrying."
        }
        NoResponse::Refused => {
            "No connection to the store can be made. Check the endpoint in the store's options, and the network between the operator and the store. The operator is retrying."
        }
        NoResponse::Tls => {
            "No trusted TLS connection to the store can be made. Check the store's certificate and the operator's CA bundle (--store-ca-file). The operator is retrying."
        }
        NoResponse::TimedOut => {
            "The store did not respond in time. Check the store, and the network between the operator and the store. The operator is retrying."
        }
        NoResponse::Cut => {
            "The connection to the store was closed before it had responded. The operator is retrying."
        }
        NoResponse::OutOfOrder => {
            "The store, or a gateway in front of it, responded with a server error. The operator is retrying."
        }
        NoResponse::TooLarge => {
            "The store's response is larger than any that the operator expects. Check that the endpoint in the store's options is that of the store. The operator is retrying."
        }
        NoResponse::Unusable => {
            "The store's response cannot be understood. Check that the endpoint in the store's options is that of a store. The operator is retrying."
        }
    }
}
