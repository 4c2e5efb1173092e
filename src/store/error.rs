//! Why a call to a store brought nothing. Closed, and without any text of the store. Pure but for the error types.

use super::no_response::NoResponse;

/// Why a call to a store brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreError {
    /// No answer of the store's came.
    #[error("{0}")]
    NoResponse(NoResponse),
    /// It says in its own words that it cannot now.
    #[error("the store says that it cannot now")]
    Unavailable,
    /// It knows the credentials, and they may not do this.
    #[error("the store denies this to the credentials")]
    AccessDenied,
    /// It does not take the credentials: expired, replaced, or wrong, or signed by a clock that is wrong. Worth reading
    /// the Secret again, once.
    #[error("the store does not take the credentials, or this machine's clock is wrong")]
    CredentialsRefused,
    /// The bucket, container or folder does not exist.
    #[error("the bucket, container or folder does not exist")]
    BucketMissing,
    /// Other bytes are there under the same key. They are not touched.
    #[error("other bytes are there under the same key")]
    Conflict,
    /// This option is wrong, as far as the store's answer tells.
    #[error("the store's option {0} is wrong")]
    Misconfigured(&'static str),
    /// It does not refuse to overwrite what is there: evidence could be replaced.
    #[error("the store does not know conditional writes (If-None-Match), which evidence needs")]
    NoConditionalWrites,
    /// It lacks something that an option asks for.
    #[error("the store does not know something that an option asks for")]
    Unsupported,
    /// The store calls the request wrong, and does not say which option is to blame.
    #[error("the store refuses the request")]
    Refused,
}

impl StoreError {
    /// Whether nobody answered, so that others may well wait for the same in vain. A refusal, or an answer that is no use, is
    /// about the request that it answers.
    #[must_use]
    pub const fn is_silence(self) -> bool {
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

    /// One word for it, as a log line has it.
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
