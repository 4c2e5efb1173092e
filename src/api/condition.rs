//! Conditions: their types, their reasons, and the bounded type that holds one.
//!
//! Kubernetes' own `Condition` has no bounds, which exceeds the API server's cost budget for CEL rules over a list
//! of them; this one has.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One observation about a Verification, by the Kubernetes API conventions ("Typical status properties").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as one CamelCase word.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// What it means and what to do, for people.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: Timestamp,
    /// The generation of the spec that this was observed for.
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
    /// Nobody can tell yet.
    Unknown,
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $word:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $word,)+ }

        impl $name {
            /// Every value, in the order of their definition.
            pub const ALL: &'static [Self] = &[$(Self::$word,)+];

            /// The word as it stands in status.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => stringify!($word),)+ }
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
        /// The one condition that every reader knows; `spec.readyWhen` says what it means.
        Ready,
        /// The operator is at work. Present only when True, and never together with Stalled (kstatus).
        Reconciling,
        /// Waiting alone will not help. Present only when True (kstatus).
        Stalled,
        /// The API key is there and the portal accepts it.
        CredentialsReady,
        /// The portal has a session for this resource.
        SessionCreated,
        /// True at every end; `kubectl wait` has no OR.
        Finished,
        /// The person is verified.
        Verified,
        /// What `spec.evidence` asks for is in the store. Present only where something is asked for.
        EvidenceStored,
    }
}

words! {
    /// The reasons of all conditions.
    Reason {
        /// Nothing was asked of the portal yet.
        Pending,
        /// A create is under way, or its answer was lost and it will be tried again.
        CreatingSession,
        /// The answer to a create was lost.
        CreateOutcomeUnknown,
        /// The link is published.
        AwaitingUser,
        /// The person is at it, or the portal is.
        InProgress,
        /// People at okID look at it.
        InReview,
        /// Requests to the portal are failing; they are tried again.
        ProgressingWithRetry,
        /// The portal asked for a pause.
        RateLimited,
        /// `spec.suspend` is true.
        Suspended,
        /// The link is published and `spec.readyWhen` is `SessionCreated`.
        SessionCreated,
        /// Over, with `spec.readyWhen: SessionCreated`.
        Finished,
        /// The person is verified.
        Verified,
        /// The person is rejected.
        Rejected,
        /// The session expired.
        Expired,
        /// Ended by the deadline.
        Failed,
        /// `spec.activeDeadline` passed.
        DeadlineExceeded,
        /// The portal does not know the session.
        SessionNotFound,
        /// The portal is not among the allowed ones.
        PortalNotAllowed,
        /// The portal answers, but not as an okID portal that is set up.
        PortalMisconfigured,
        /// The portal refuses to create a session: 400, 409, 422 or another 4xx of its own.
        PortalRejectedRequest,
        /// No answer of the portal can be had: its name, the connection, TLS, or something on the way to it.
        PortalUnreachable,
        /// `spec.evidence.destination` may not be used as it is.
        DestinationNotAllowed,
        /// The resource is too large: the record of a session might not fit into it.
        ResourceTooLarge,
        /// `status` contradicts itself.
        StatusUnreadable,
        /// The portal accepts the key.
        Accepted,
        /// No answer of the portal has shown yet whether it accepts the key.
        NotChecked,
        /// There is no such Secret.
        SecretNotFound,
        /// The Secret has no such key.
        KeyMissing,
        /// The value is empty.
        KeyEmpty,
        /// The value cannot be an API key.
        KeyMalformed,
        /// The operator may not read the Secret.
        SecretForbidden,
        /// The portal refuses the key (401).
        KeyRejected,
        /// The portal refuses access with this key (403). Of `EvidenceStored`: the store refuses the credentials, or
        /// the destination may not be used.
        AccessDenied,
        /// 403, and the key is another one than the session was created with.
        KeyRotated,
        /// The portal created the session.
        Created,
        /// The session existed and is followed.
        Adopted,
        /// No session was created yet.
        NotYet,
        /// The portal refused to create the session.
        Refused,
        /// Whether a session was created is not known.
        OutcomeUnknown,
        /// Not over yet.
        Running,
        /// Not over yet, so there is no verdict.
        NotFinished,
        /// The verdict is in, and the evidence is being stored.
        StoringEvidence,
        /// The evidence will never be complete unless a person does something.
        EvidenceFailed,
        /// There is nothing to store yet.
        NotStarted,
        /// The verdict is none of those after which evidence is kept.
        NotOwed,
        /// Evidence is being stored.
        Storing,
        /// The store does not answer, or says that it cannot now.
        StoreUnavailable,
        /// There is no such bucket, container or folder.
        BucketNotFound,
        /// The store does not take an option, or does not know conditional writes.
        StoreMisconfigured,
        /// The portal does not give the images, or cannot be asked for them.
        PortalUnavailable,
        /// A required image is not there at the portal.
        ImageNotAvailable,
        /// What the portal sent is no image that may be kept.
        ImageUnusable,
        /// Something else is in the store under the same key.
        Conflict,
        /// All of it is in the store.
        Stored,
        /// The portal has nothing of what was asked for.
        NothingToStore,
    }
}

impl Condition {
    /// The condition of that type in a list.
    #[must_use]
    pub fn find(list: &[Self], type_: ConditionType) -> Option<&Self> {
        list.iter().find(|condition| condition.type_ == type_.as_str())
    }
}
