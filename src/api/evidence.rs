//! Evidence: what a person asks to be kept (`spec.images`), and what is kept (`status.evidence`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::Outcome;

/// What to keep in object storage once the verdict is in. Personal data of the most sensitive kind: see
/// docs/evidence.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// The images, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15))]
    pub items: Vec<ImageItem>,

    /// Whether to keep the portal's answer with the results too, as `details.json`.
    #[serde(default)]
    pub results: bool,

    /// The verdicts after which it is kept; that the session expired counts as one.
    #[serde(default = "default_on")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub on: Vec<Verdict>,

    /// Where it is kept.
    pub destination: Destination,

    /// What becomes of it when the resource is deleted. `Retain` keeps it. `Delete` removes the objects first, and
    /// holds the resource with a finalizer for as long as that takes. A running operator gives up
    /// ten to twenty minutes after the deletion.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn default_on() -> Vec<Verdict> {
    vec![Verdict::Verified]
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageItem {
    /// Which call brings it.
    pub kind: ImageKind,

    /// The portal's `image_type`, such as `original` or `cropped`.
    #[serde(default = "default_image_type")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z0-9]([a-z0-9_]*[a-z0-9])?$"))]
    pub image_type: String,

    /// The portal's `attempt_index`: which of the person's tries, from 0; without it the first. Only for `Redacted` and
    /// `Unredacted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99))]
    pub attempt_index: Option<i32>,

    /// Whether the evidence is incomplete without it. Otherwise an image that the portal does not have, such as the
    /// back of a passport, counts as absent.
    #[serde(default)]
    pub required: bool,
}

fn default_image_type() -> String {
    "original".to_owned()
}

/// Which call brings an image (guide, "Get Verification Image").
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

/// How a session ended at the portal; evidence is kept after those that are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The person is verified.
    Verified,
    /// The person is rejected.
    Rejected,
    /// The session expired.
    Expired,
}

impl Verdict {
    /// Whether this is how it ended.
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

/// Where evidence is kept: a url with credentials of this namespace, or a store that the operator's administrator
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

    /// The Secret with the credentials for `url`; its keys are named as the store's options are, such as
    /// `aws_access_key_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,

    /// A store of the operator's configuration.
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

/// What becomes of the evidence when the resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is removed.
    Delete,
}

/// What is kept in object storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// Where the objects are, as a url.
    #[schemars(length(max = 1024))]
    pub prefix: String,
    /// SHA-256 of the manifest, in hex. The manifest is written last: while this is missing, the evidence is incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub manifest_sha256: Option<String>,
    /// What was stored, or is not there at the portal.
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
    /// The portal's answer with the results.
    Results,
}

impl EvidenceKind {
    /// How such an object is named, without the extension: `<kind>-<imageType>[-<attempt>]`, or `details`.
    #[must_use]
    pub fn stem(self, image_type: &str, attempt: Option<i32>) -> String {
        if self == Self::Results {
            return "details".to_owned();
        }
        let attempt = attempt.map_or_else(String::new, |attempt| format!("-{attempt}"));
        format!("{}-{image_type}{attempt}", self.as_lower_case())
    }

    /// Its name in keys and attributes of objects, such as `front`.
    #[must_use]
    pub const fn as_lower_case(self) -> &'static str {
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
