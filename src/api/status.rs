//! What the operator found: `Verification.status`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{condition::Condition, evidence::Evidence};

/// What is known of an identity check. Written by the operator alone.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VerificationStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the check stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The session at okID. Published once, never changed. Whoever knows it can open the link: treat it as a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._~-]+$"))]
    pub verification_id: Option<String>,
    /// The link for the person. Works as a bearer secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub portal_url: Option<String>,
    /// When the link stops working, as the portal said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The steps the person goes through, as the portal said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub flow: Vec<String>,
    /// Names of the modules that the API key is configured with, as the portal said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub modules: Vec<String>,
    /// What the portal says of each module.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub progress: BTreeMap<String, String>,
    /// Completed modules of all modules, such as `2/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub progress_summary: Option<String>,
    /// The portal's own word for the session, printable ASCII only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub portal_status: Option<String>,
    /// The portal's own time of its last change, as of the last change shown here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal_updated_at: Option<Timestamp>,
    /// The record of how the session was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// What is kept in object storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// The last value of the annotation okid.io/reconcile-requested-at that was handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_reconcile_at: Option<String>,
    /// The last value of the annotation okid.io/retry that was handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_retry: Option<String>,
    /// True when it is over and nothing is owed: the operator no longer watches the resource.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// Observations by type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl std::fmt::Debug for VerificationStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationStatus")
            .field("phase", &self.phase)
            .field("outcome", &self.outcome)
            .field("settled", &self.settled)
            .finish_non_exhaustive()
    }
}

/// Where a check stands, as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// There is no session yet, and no create is under way.
    Pending,
    /// A session is being created.
    Creating,
    /// The link is published; nobody has begun.
    AwaitingUser,
    /// The person is at it.
    InProgress,
    /// The portal evaluates what the person gave.
    Processing,
    /// People at okID look at it.
    InReview,
    /// The verdict is in; evidence is being stored.
    Storing,
    /// The person is verified.
    Verified,
    /// The person is rejected.
    Rejected,
    /// The session expired.
    Expired,
    /// Ended by the deadline.
    Failed,
}

impl Phase {
    /// The word as it stands in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Creating => "Creating",
            Self::AwaitingUser => "AwaitingUser",
            Self::InProgress => "InProgress",
            Self::Processing => "Processing",
            Self::InReview => "InReview",
            Self::Storing => "Storing",
            Self::Verified => "Verified",
            Self::Rejected => "Rejected",
            Self::Expired => "Expired",
            Self::Failed => "Failed",
        }
    }
}

/// How the check ended. Written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// The person is verified.
    Verified,
    /// The person is rejected.
    Rejected,
    /// The session expired.
    Expired,
    /// Ended by the deadline.
    Failed,
}

/// How the session was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Session {
    /// How many creates were begun. Never falls.
    #[schemars(range(min = 0))]
    pub attempt: i32,
    /// What became of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SessionState>,
    /// The uid of the resource this was written for: a status that was restored into another resource shows itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// The process that began the last create.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub holder: Option<String>,
    /// Base URL of the portal the session lives at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub portal: Option<String>,
    /// When the last create was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_at: Option<Timestamp>,
    /// When the session was created or adopted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Creates whose answer was lost: each may have left a session at okID that nobody knows. Never falls.
    #[schemars(range(min = 0))]
    pub orphans: i32,
    /// How many of them the annotation okid.io/retry has forgiven. Never falls.
    #[schemars(range(min = 0))]
    pub forgiven: i32,
    /// A short keyed hash that tells whether the API key is still the one the session was created with. The key
    /// cannot be computed from it, but a guess of the key can be checked against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub key_fingerprint: Option<String>,
}

/// What became of the last create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SessionState {
    /// Begun; its request may be in flight.
    Claimed,
    /// The portal answered with an id.
    Created,
    /// Not created here: the session existed.
    Adopted,
    /// The portal made no session.
    NotCreated,
    /// Nobody knows whether the portal made one.
    Unknown,
}
