//! The resolved destination of a verification's evidence, and why it cannot be resolved. Types only. May depend on `limits`, and
//! on `store` and `lifecycle`.

use std::sync::Arc;

use super::limits::EndpointLimit;
use crate::{
    api::ImageKind,
    lifecycle::EvidenceError,
    store::{Folder, InvalidLocation, InvalidOptions, InvalidPath, NotForNamespace, Store},
};

/// Where the evidence of one verification is stored.
pub(crate) struct ResolvedDestination {
    pub(crate) store: Arc<Store>,
    pub(crate) folder: Folder,
    /// The folder as a url.
    pub(crate) prefix: String,
    /// The limits of its endpoint.
    pub(crate) endpoint_limit: Arc<EndpointLimit>,
}

impl ResolvedDestination {
    /// Identifies it within this process.
    pub(crate) fn name(&self) -> String {
        format!("{}\n{}", self.store.endpoint(), self.prefix)
    }
}

/// Why a destination cannot be resolved.
pub(crate) enum DestinationError {
    /// It is refused; only a person can change that.
    Refused(DestinationRefused),
    /// An error that may be temporary.
    Evidence(EvidenceError),
}

/// Why a destination is refused. Repeats no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DestinationRefused {
    #[error("the operator's administrator forbids {0:?} images")]
    Forbidden(ImageKind),
    #[error("destination.store: {0}")]
    Store(#[from] NotForNamespace),
    #[error("destination.url: {0}")]
    Location(#[from] InvalidLocation),
    #[error("the Secret with the credentials of the store: {0}")]
    Options(#[from] InvalidOptions),
    #[error("{0}")]
    Folder(#[from] InvalidPath),
    #[error("destination: write url and credentialsSecretRef, or store")]
    Nowhere,
}

impl DestinationRefused {
    /// The evidence's error: only the content of the Secret is not a matter of what is allowed.
    pub(crate) fn error(&self) -> EvidenceError {
        if let Self::Options(options) = self
            && !matches!(options, InvalidOptions::EndpointNotAllowed { key: _ })
        {
            return EvidenceError::StoreSecretInvalid;
        }
        EvidenceError::DestinationNotAllowed
    }
}

impl<T: Into<DestinationRefused>> From<T> for DestinationError {
    fn from(refusal: T) -> Self {
        Self::Refused(refusal.into())
    }
}
