//! The API key as a fact: whether there is one to call the portal with. Pure.

use crate::api::{Reason, VerificationSpec};

/// The API key for calls to the portal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyFact {
    /// There is a usable key.
    Usable {
        /// Keyed hash that tells this key from another.
        fingerprint: String,
    },
    /// There is no usable key.
    Missing(KeyFault),
}

/// One of the two keys that a resource may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyVersion {
    /// The one that sessions are created with.
    #[default]
    Current,
    /// The one from before a rotation.
    Previous,
}

impl KeyVersion {
    /// The one that a session counts as needing while its keys are not read: the one from before a rotation, if the spec
    /// names it.
    #[must_use]
    pub const fn assumed(spec: &VerificationSpec) -> Self {
        if spec.api_key_secret_ref.previous_key.is_some() { Self::Previous } else { Self::Current }
    }

    /// Whether it is the one from before a rotation.
    #[must_use]
    pub const fn is_previous(self) -> bool {
        matches!(self, Self::Previous)
    }
}

/// Why there is no usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyFault {
    /// No such Secret.
    SecretNotFound,
    /// No such key in the Secret.
    KeyMissing,
    /// An empty value.
    KeyEmpty,
    /// A value that cannot be an API key.
    KeyMalformed,
    /// The operator may not read the Secret.
    SecretForbidden,
}

impl KeyFault {
    /// All faults.
    pub const ALL: [Self; 5] =
        [Self::SecretNotFound, Self::KeyMissing, Self::KeyEmpty, Self::KeyMalformed, Self::SecretForbidden];

    /// The reason that the condition `CredentialsReady` shows.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::SecretNotFound => Reason::SecretNotFound,
            Self::KeyMissing => Reason::KeyMissing,
            Self::KeyEmpty => Reason::KeyEmpty,
            Self::KeyMalformed => Reason::KeyMalformed,
            Self::SecretForbidden => Reason::SecretForbidden,
        }
    }
}
