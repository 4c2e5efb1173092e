//! The desired state: `Verification.spec`.
#![allow(clippy::duplicated_attributes, reason = "each printer column names its own type and priority")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration::Duration, evidence::EvidenceSpec, status::VerificationStatus};

/// One identity check at okID.
///
/// The operator asks the portal for a session with the API key of a Secret, publishes the link for the person in
/// `status.portalUrl`, and follows the session to `Verified`, `Rejected` or `Expired`. Deleting the resource erases
/// nothing at okID: the portal has no call for it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "okid.io",
    version = "v1alpha1",
    kind = "Verification",
    plural = "verifications",
    shortname = "vrf",
    category = "okid",
    namespaced,
    status = "VerificationStatus",
    derive = "PartialEq",
    doc = "One identity check at okID. The operator asks the portal for a session with the API key of a Secret, publishes the link for the person in status.portalUrl, and follows the session to Verified, Rejected or Expired. Deleting the resource erases nothing at okID: the portal has no call for it.",
    selectable = ".status.settled",
    selectable = ".status.phase",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "The current stage of the check."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Status of the condition Ready."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Reason of the condition Ready."
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progressSummary",
        description = "How many modules are completed."
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "When the link stops working."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Portal Status",
        type_ = "string",
        json_path = ".status.portalStatus",
        description = "The status as the portal reports it.",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "Message of the condition Ready.",
        priority = 1
    ),
    printcolumn(
        name = "Attempt",
        type_ = "integer",
        json_path = ".status.session.attempt",
        description = "The number of create requests.",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSpec {
    /// The Secret, in the same namespace, that holds the okID API key.
    pub api_key_secret_ref: ApiKeySecretRef,

    /// Base URL of the okID portal, for example `https://verify.test.okid.io`. The operator's administrator must have
    /// allowed it. Defaults to the operator's default portal. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub portal: Option<String>,

    /// Which link is published. `Direct` goes straight to the check; `Select` lets the person choose between a QR
    /// code for another device and this device.
    #[serde(default)]
    pub mode: Mode,

    /// What the condition Ready means. `Verified` (the safe choice): Ready only when the person is verified.
    /// `SessionCreated`: Ready as soon as the link is published.
    #[serde(default)]
    pub ready_when: ReadyWhen,

    /// What to do when the response to a create request was lost, so that an unknown session may exist. `Retry` tries
    /// again, up to three lost responses. `Hold` waits for a person.
    #[serde(default)]
    pub on_unknown_outcome: OnUnknownOutcome,

    /// Bounds on how often the portal is polled. Unset by default: the operator adapts its schedule to the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polling: Option<Polling>,

    /// How long after its creation, by the API server's clock, the check fails if it has not finished. The portal is
    /// polled once more first, and a verdict that it reports then counts. If the portal cannot be reached, the check
    /// fails a day later. A suspended check does not fail. From 1s to 8760h.
    #[serde(default = "default_active_deadline")]
    pub active_deadline: Duration,

    /// While true, polling and deadlines are paused. Requests that are in flight are still recorded.
    #[serde(default)]
    pub suspend: bool,

    /// Follow an existing session instead of creating one. May be added while no verificationId is published and no
    /// create request is in flight. Cannot be changed once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,

    /// What to store in object storage once the check has finished. Nothing is stored without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceSpec>,

    /// The operator deletes this resource this long after the check has finished and nothing is pending any more: from 0s
    /// to 8760h. By default it is kept. evidence.deletionPolicy says whether the evidence is kept. A resource that Flux,
    /// Argo CD or Helm would bring back is not deleted unless it has the annotation okid.io/ttl-in-gitops: allow. Use at
    /// least 1m where somebody waits for the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<Duration>,
}

fn default_active_deadline() -> Duration {
    Duration::from_secs(168 * 3600)
}

/// Where a Secret in the same namespace holds the API key, and the one from before a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,

    /// Key within the Secret. One newline at the end of its value is ignored.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,

    /// Key within the Secret that holds the API key from before a rotation. Sessions that it created are followed with it to
    /// their end; new sessions are created with `key`. The Secret need not contain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub previous_key: Option<String>,
}

/// One entry of a Secret in the namespace of the resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: String,
    /// Key within the Secret.
    pub key: String,
}

impl ApiKeySecretRef {
    /// The entry with the key that sessions are created with.
    #[must_use]
    pub fn current(&self) -> SecretKeyRef {
        SecretKeyRef { name: self.name.clone(), key: self.key.clone() }
    }

    /// The entry with the key from before a rotation, if the spec names one.
    #[must_use]
    pub fn previous(&self) -> Option<SecretKeyRef> {
        let key = self.previous_key.clone()?;
        Some(SecretKeyRef { name: self.name.clone(), key })
    }
}

fn default_key() -> String {
    "apiKey".to_owned()
}

/// Which link is published (guide, "Verification Modes").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// `/?verification_id=…`: straight to the check.
    #[default]
    Direct,
    /// `/?verification_id=…&mode=select`: the person chooses the device.
    Select,
}

/// What the condition Ready means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReadyWhen {
    /// Ready when the person is verified.
    #[default]
    Verified,
    /// Ready when the link is published.
    SessionCreated,
}

/// What to do when the response to a create request was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnUnknownOutcome {
    /// Try again, up to three lost responses.
    #[default]
    Retry,
    /// Wait for a person.
    Hold,
}

/// Bounds on the time between two polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Polling {
    /// Never poll more often than this, even if a poll is requested. From 1s to 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_interval: Option<Duration>,

    /// Never wait longer than this between two polls. Polls can still be delayed by a pause that the portal requested, an
    /// open circuit breaker, a missing or rejected key, a portal that is not allowed, or an exhausted request budget.
    /// From 1s to 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_interval: Option<Duration>,
}

/// An existing session to follow.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adopt {
    /// The verification id. Anyone who knows it can open the person's link: treat it as a secret.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._~-]+$"))]
    pub verification_id: String,
}

impl std::fmt::Debug for Adopt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Adopt(..)")
    }
}
