//! Evidence: what to store (`spec.evidence`), and what is stored (`status.evidence`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// What to store in object storage once the check has finished. This is highly sensitive personal data: see
/// docs/evidence/verify.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceSpec {
    /// The images to store. Each combination of kind, imageType and attemptIndex may appear once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15))]
    pub images: Vec<ImageRequest>,

    /// Whether to store the portal's response with the results too, as `details.json`.
    #[serde(default)]
    pub results: bool,

    /// The outcomes after which evidence is stored.
    #[serde(default = "default_outcomes")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub outcomes: Vec<EvidenceOutcome>,

    /// Where evidence is stored.
    pub destination: Destination,

    /// What happens to the evidence when the resource is deleted. `Retain` leaves it in the store. `Delete` removes the
    /// objects first; a finalizer holds the resource until they are gone. A running operator gives up ten to twenty
    /// minutes after the deletion.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn default_outcomes() -> Vec<EvidenceOutcome> {
    vec![EvidenceOutcome::Verified]
}

/// An image to store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageRequest {
    /// Which image of the portal it is.
    pub kind: ImageKind,

    /// The portal's `image_type`, such as `original` or `cropped`.
    #[serde(default = "default_image_type")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z0-9]([a-z0-9_]*[a-z0-9])?$"))]
    pub image_type: String,

    /// The portal's `attempt_index`: which of the person's attempts, counted from 0. Defaults to the first. Only for
    /// `Redacted` and `Unredacted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99))]
    pub attempt_index: Option<i32>,

    /// Whether the evidence is incomplete without this image. If false, an image that the portal does not have, such
    /// as the back of a passport, is recorded as absent.
    #[serde(default)]
    pub required: bool,
}

fn default_image_type() -> String {
    "original".to_owned()
}

/// Which image of the portal to store (guide, "Get Verification Image").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ImageKind {
    /// Redacted by the settings of the API key.
    Redacted,
    /// The original, with a watermark.
    Unredacted,
    /// The accepted front of the document.
    Front,
    /// The accepted back of the document, where it has one.
    Back,
}

/// An outcome after which evidence can be stored. `Failed` is not one: there is no verdict to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EvidenceOutcome {
    /// The person is verified.
    Verified,
    /// The person is rejected.
    Rejected,
    /// The session expired.
    Expired,
}

impl EvidenceOutcome {
    /// Whether the check ended with this outcome.
    #[must_use]
    pub const fn is(self, outcome: Outcome) -> bool {
        matches!(
            (self, outcome),
            (Self::Verified, Outcome::Verified)
                | (Self::Rejected, Outcome::Rejected)
                | (Self::Expired, Outcome::Expired)
        )
    }
}

/// Where evidence is stored: a URL with credentials of this namespace, or a store that the operator's administrator
/// configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 256),
        regex(pattern = r"^(s3|gs|az)://[a-z0-9][-a-z0-9._]{1,220}[a-z0-9](/[A-Za-z0-9_.-]+)*$")
    )]
    pub url: Option<String>,

    /// The Secret with the credentials for `url`. Its keys are the names of the store's options, such as
    /// `aws_access_key_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,

    /// The name of a store in the operator's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub store: Option<String>,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// What happens to the evidence when the resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays in the store.
    #[default]
    Retain,
    /// It is removed.
    Delete,
}

/// What is stored in object storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EvidenceStatus {
    /// Where the objects are, as a URL.
    #[schemars(length(max = 1024))]
    pub prefix: String,
    /// SHA-256 of the manifest, in hex. The manifest is written last: without this field the evidence is incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub manifest_sha256: Option<String>,
    /// The objects that were stored, and the images that the portal does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub objects: Vec<StoredObject>,
}

/// One object of the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredObject {
    /// What it is.
    pub kind: EvidenceKind,
    /// Its key, relative to the prefix.
    #[schemars(length(max = 160))]
    pub key: String,
    /// Whether it was stored.
    pub state: ObjectState,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub size: Option<i64>,
    /// Its SHA-256, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,
    /// Its content type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub content_type: Option<String>,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum EvidenceKind {
    /// An image, redacted.
    Redacted,
    /// An image, not redacted.
    Unredacted,
    /// The front of the document.
    Front,
    /// The back of the document.
    Back,
    /// The portal's response with the results.
    Results,
}

impl EvidenceKind {
    /// The object's name without its extension: `<kind>-<imageType>[-<attempt>]`, or `details`.
    #[must_use]
    pub(crate) fn stem(self, image_type: &str, attempt: Option<i32>) -> String {
        if self == Self::Results {
            return "details".to_owned();
        }
        let attempt = attempt.map_or_else(String::new, |attempt| format!("-{attempt}"));
        format!("{}-{image_type}{attempt}", self.as_lower_case())
    }

    /// The kind as it appears in keys and attributes of objects, such as `front`.
    #[must_use]
    pub(crate) const fn as_lower_case(self) -> &'static str {
        match self {
            Self::Redacted => "redacted",
            Self::Unredacted => "unredacted",
            Self::Front => "front",
            Self::Back => "back",
            Self::Results => "results",
        }
    }
}

impl From<ImageKind> for EvidenceKind {
    fn from(kind: ImageKind) -> Self {
        match kind {
            ImageKind::Redacted => Self::Redacted,
            ImageKind::Unredacted => Self::Unredacted,
            ImageKind::Front => Self::Front,
            ImageKind::Back => Self::Back,
        }
    }
}

/// Whether an object was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ObjectState {
    /// It is in the store.
    Stored,
    /// The portal does not have it.
    Absent,
}
