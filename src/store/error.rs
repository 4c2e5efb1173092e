//! Why a call to a store failed: a closed set, without text from the store. Pure.

use super::no_response::NoResponse;

/// Why a call to a store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreError {
    /// The store did not respond.
    #[error("{0}")]
    NoResponse(NoResponse),
    /// The store reports that it is temporarily unavailable.
    #[error("the store reports that it is temporarily unavailable")]
    Unavailable,
    /// The credentials are valid but lack the permission.
    #[error("the store denies access with these credentials")]
    AccessDenied,
    /// The credentials are expired, replaced or wrong, or the clock that signed the request is. Worth reading the Secret
    /// once more.
    #[error(
        "the store rejects the credentials; they are invalid or expired, or this machine's clock is wrong"
    )]
    CredentialsRefused,
    /// The bucket, container or folder does not exist.
    #[error("the bucket, container or folder does not exist")]
    BucketMissing,
    /// A different object exists under the same key. It is not touched.
    #[error("a different object exists under the same key")]
    Conflict,
    /// This option is wrong, according to the store's response.
    #[error("the store's option {0} is wrong")]
    Misconfigured(&'static str),
    /// The store does not refuse to overwrite an object, so evidence could be replaced.
    #[error("the store does not support conditional writes (If-None-Match), which evidence requires")]
    NoConditionalWrites,
    /// An option requires a feature that the store does not support.
    #[error("an option requires a feature that the store does not support")]
    Unsupported,
    /// The store rejects the request without naming an option.
    #[error("the store rejects the request")]
    Refused,
}

impl StoreError {
    /// Whether the store did not respond at all, so that other requests are likely to wait in vain too. An error response says
    /// something about its own request only.
    #[must_use]
    pub(crate) const fn is_unresponsive(self) -> bool {
        match self {
            Self::NoResponse(
                NoResponse::Resolve
                | NoResponse::Refused
                | NoResponse::Tls
                | NoResponse::TimedOut
                | NoResponse::Cut
                | NoResponse::OutOfOrder,
            ) => true,
            Self::NoResponse(NoResponse::TooLarge | NoResponse::Unusable)
            | Self::Unavailable
            | Self::AccessDenied
            | Self::CredentialsRefused
            | Self::BucketMissing
            | Self::Conflict
            | Self::Misconfigured(_)
            | Self::NoConditionalWrites
            | Self::Unsupported
            | Self::Refused => false,
        }
    }

    /// The value of a log field.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoResponse(why) => why.label(),
            Self::Unavailable => "unavailable",
            Self::AccessDenied => "access_denied",
            Self::CredentialsRefused => "credentials_refused",
            Self::BucketMissing => "bucket_missing",
            Self::Conflict => "conflict",
            Self::Misconfigured(_) => "misconfigured",
            Self::NoConditionalWrites => "no_conditional_writes",
            Self::Unsupported => "unsupported",
            Self::Refused => "request_refused",
        }
    }
}

impl From<NoResponse> for StoreError {
    fn from(why: NoResponse) -> Self {
        Self::NoResponse(why)
    }
}
