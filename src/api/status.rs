//! The observed state: `Verification.status`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{condition::Condition, evidence::EvidenceStatus, outcome::Outcome};

/// The observed state of an identity check. Only the operator writes it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VerificationStatus {
    /// The generation of the spec that this status was written for; -1 until the operator has seen the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The current stage of the check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The id of the session at okID. Written once. Anyone who knows it can open the link: treat it as a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._~-]+$"))]
    pub verification_id: Option<String>,
    /// The link for the person. Anyone who has it can use it: treat it as a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub portal_url: Option<String>,
    /// When the link stops working, as reported by the portal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The steps that the person goes through, as reported by the portal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub flow: Vec<String>,
    /// The modules that the API key is configured with, as reported by the portal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub modules: Vec<String>,
    /// The state of each module, as reported by the portal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub progress: BTreeMap<String, String>,
    /// How many modules are completed, such as `2/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub progress_summary: Option<String>,
    /// The status of the session as the portal reports it, printable ASCII only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub portal_status: Option<String>,
    /// The portal's `updated_at`, written together with `progress` and `portalStatus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal_updated_at: Option<Timestamp>,
    /// How the session was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// How the check ended. Written once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When the check ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// What is stored in object storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceStatus>,
    /// The last value of the annotation okid.io/reconcile-requested-at that was handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_reconcile_at: Option<String>,
    /// The last value of the annotation okid.io/retry that was handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_retry: Option<String>,
    /// True once the check has finished and nothing is pending, neither evidence nor a deletion by spec.ttlAfterFinished: the
    /// operator no longer watches the resource.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// Conditions by type. docs/reference/conditions.md lists them.
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

/// The current stage of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// There is no session yet, and no create is under way.
    Pending,
    /// A session is being created.
    Creating,
    /// The link is published; the person has not started.
    AwaitingUser,
    /// The person has started the check.
    InProgress,
    /// The portal is evaluating what the person submitted.
    Processing,
    /// okID is reviewing the check manually.
    InReview,
    /// The check has finished; evidence is being stored.
    Storing,
    /// The person is verified.
    Verified,
    /// The person is rejected.
    Rejected,
    /// The session expired.
    Expired,
    /// `spec.activeDeadline` passed.
    Failed,
}

impl Phase {
    /// Every phase, in the order of a check.
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Creating,
        Self::AwaitingUser,
        Self::InProgress,
        Self::Processing,
        Self::InReview,
        Self::Storing,
        Self::Verified,
        Self::Rejected,
        Self::Expired,
        Self::Failed,
    ];

    /// The value as it is written in status.
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

/// How the session was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Session {
    /// The number of create requests that were started. Never decreases.
    #[schemars(range(min = 0))]
    pub attempt: i32,
    /// The state of the last create request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SessionState>,
    /// The uid of the resource that this was written for. It reveals a status that was restored into another resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// The reconcile that started the last create request: its process, a slash, and its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub holder: Option<String>,
    /// Base URL of the portal that the session belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub portal: Option<String>,
    /// When the last create request was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_at: Option<Timestamp>,
    /// When the session was created or adopted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The number of create requests whose outcome is unknown: each may have left an unused session at okID. Never
    /// decreases.
    #[schemars(range(min = 0))]
    pub orphans: i32,
    /// How many of the orphans the annotation okid.io/retry has acknowledged. Never decreases.
    #[schemars(range(min = 0))]
    pub acknowledged: i32,
    /// A short keyed hash that shows whether the API key has changed since the session was created. The key cannot be
    /// computed from it, but a guess of the key can be checked against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub key_fingerprint: Option<String>,
}

/// The state of the last create request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SessionState {
    /// Started; the request may be in flight.
    Claimed,
    /// The portal created a session.
    Created,
    /// An existing session was adopted.
    Adopted,
    /// The portal did not create a session.
    NotCreated,
    /// It is unknown whether the portal created a session.
    Unknown,
}
