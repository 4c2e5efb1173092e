//! Conditions: their types, their reasons, and the bounded type that holds one.
//!
//! Kubernetes' own `Condition` has no bounds, which exceeds the API server's cost budget for CEL rules over a list
//! of them; this one has.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One aspect of the state of a Verification, by the Kubernetes API conventions ("Typical status properties").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The aspect.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: Cow<'static, str>,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as one CamelCase word.
    #[schemars(length(min = 1, max = 64))]
    pub reason: Cow<'static, str>,
    /// What it means and what to do, for humans.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub message: Cow<'static, str>,
    /// When the status last changed.
    pub last_transition_time: Timestamp,
    /// The generation of the spec that the condition was set for.
    #[serde(default)]
    pub observed_generation: i64,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known yet.
    Unknown,
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $word:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $doc])+ $word,)+ }

        impl $name {
            /// Every value, in the order of their definition.
            pub const ALL: &'static [Self] = &[$(Self::$word,)+];

            /// The value as it is written in status.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => stringify!($word),)+ }
            }

            /// What the value means, for the reference page.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self { $(Self::$word => concat!($($doc),+).trim(),)+ }
            }

            /// The value of that name, if there is one.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $(stringify!($word) => Some(Self::$word),)+ _ => None }
            }
        }
    };
}

words! {
    /// The condition types of a Verification.
    ConditionType {
        /// The condition that every reader knows; `spec.readyWhen` says what it means.
        Ready,
        /// The operator is working on the resource. Present only when True, and never together with Stalled (kstatus).
        Reconciling,
        /// Waiting alone will not help. Present only when True (kstatus).
        Stalled,
        /// The API key exists and the portal accepts it.
        CredentialsReady,
        /// The portal has a session for this resource.
        SessionCreated,
        /// True for every outcome, because `kubectl wait` has no OR.
        Finished,
        /// The person is verified.
        Verified,
        /// The evidence is in the store. Present only with `spec.evidence`.
        EvidenceStored,
        /// The operator deletes the resource once `spec.ttlAfterFinished` has passed. Present only with that field.
        CleanupReady,
    }
}

words! {
    /// The reasons of all conditions.
    Reason {
        /// No create request was started yet.
        Pending,
        /// A session is being created.
        CreatingSession,
        /// The response to a create request was lost.
        CreateOutcomeUnknown,
        /// The link is published.
        AwaitingUser,
        /// The check is in progress.
        InProgress,
        /// okID is reviewing the check manually.
        InReview,
        /// Requests to the portal are failing; the operator is retrying.
        ProgressingWithRetry,
        /// The portal asked for a pause.
        RateLimited,
        /// `spec.suspend` is true.
        Suspended,
        /// The link is published and `spec.readyWhen` is `SessionCreated`.
        SessionCreated,
        /// The check has finished, and `spec.readyWhen` is `SessionCreated`.
        Finished,
        /// The person is verified.
        Verified,
        /// The person was rejected.
        Rejected,
        /// The session expired.
        Expired,
        /// The check ended without a verdict.
        Failed,
        /// `spec.activeDeadline` passed.
        DeadlineExceeded,
        /// The portal does not know the session.
        SessionNotFound,
        /// The portal is not among the allowed ones.
        PortalNotAllowed,
        /// The portal does not respond as an okID portal does.
        PortalMisconfigured,
        /// The portal refuses to create a session: 400, 409, 422 or another 4xx of its own.
        PortalRejectedRequest,
        /// The portal gives no usable response; the message says why.
        PortalUnreachable,
        /// The administrator does not allow what `spec.evidence` requests, or its destination cannot be used.
        DestinationNotAllowed,
        /// The resource is too large to record a session in its status.
        ResourceTooLarge,
        /// `status` contradicts itself.
        StatusUnreadable,
        /// The portal accepts the key.
        Accepted,
        /// The portal has not shown yet whether it accepts the key.
        NotChecked,
        /// The Secret does not exist.
        SecretNotFound,
        /// The Secret does not have the key.
        KeyMissing,
        /// The value is empty.
        KeyEmpty,
        /// The value cannot be an API key.
        KeyMalformed,
        /// The operator may not read the Secret.
        SecretForbidden,
        /// The portal rejects the key (401).
        KeyRejected,
        /// The portal denies access with this key (403).
        AccessDenied,
        /// The portal denies access, and the session was created with an earlier key.
        KeyRotated,
        /// The portal created the session.
        Created,
        /// An existing session was adopted.
        Adopted,
        /// No session has been created yet.
        NotYet,
        /// The portal refused to create the session.
        Refused,
        /// It is unknown whether a session was created.
        OutcomeUnknown,
        /// The check has not finished.
        Running,
        /// There is no verdict yet.
        NotFinished,
        /// The check has finished, and the evidence is being stored.
        StoringEvidence,
        /// The evidence could not be stored, and a person must act.
        EvidenceFailed,
        /// The check has not finished, so nothing is stored yet.
        NotStarted,
        /// `spec.evidence.outcomes` does not list the outcome of the check.
        NotApplicable,
        /// Evidence is being stored.
        Storing,
        /// The store cannot be used at the moment; the message says why.
        StoreUnavailable,
        /// The store denies access with the credentials.
        StoreAccessDenied,
        /// The bucket, container or folder does not exist.
        BucketNotFound,
        /// The store's options do not fit the store; the message says which.
        StoreMisconfigured,
        /// The Secret with the store's credentials does not exist.
        StoreSecretNotFound,
        /// The operator may not read the Secret with the store's credentials.
        StoreSecretForbidden,
        /// The content of the Secret with the store's credentials cannot be used.
        StoreSecretInvalid,
        /// The API server denies the finalizer that `deletionPolicy: Delete` needs.
        FinalizerDenied,
        /// The portal does not return the images.
        PortalUnavailable,
        /// The portal does not have a required image.
        ImageNotAvailable,
        /// The portal returned data that cannot be stored as evidence.
        ImageUnusable,
        /// A different object exists in the store under the same key.
        Conflict,
        /// All evidence is in the store.
        Stored,
        /// The portal has none of the images that were requested.
        NothingToStore,
        /// The resource is deleted once `spec.ttlAfterFinished` has passed.
        Scheduled,
        /// Flux, Argo CD or Helm manages the resource and would bring it back, so it is not deleted.
        ManagedByGitOps,
        /// The API server does not let the operator delete the resource.
        DeletionForbidden,
    }
}

impl Condition {
    /// The condition of that type in a list.
    #[must_use]
    pub fn find(list: &[Self], type_: ConditionType) -> Option<&Self> {
        let word = type_.as_str();
        list.iter().find(|condition| condition.type_ == word)
    }
}
