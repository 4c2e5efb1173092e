//! The `Verification` resource: its types, its validation rules, and the condition types and reasons of its status.
//!
//! Pure: no client, clock or log. `kubectl explain` prints the doc comments of the types.

mod condition;
mod definition;
mod duration;
mod evidence;
mod git_ops;
mod outcome;
mod rules;
mod spec;
mod status;

pub use condition::{Condition, ConditionStatus, ConditionType, Reason};
pub(crate) use definition::version_in_title;
pub use definition::{OPERATOR_VERSION, definition, definition_yaml, schema_title};
pub use duration::Duration;
pub use evidence::{
    DeletionPolicy, Destination, EvidenceKind, EvidenceOutcome, EvidenceSpec, EvidenceStatus, ImageKind,
    ImageRequest, ObjectState, SecretRef, StoredObject,
};
pub use git_ops::{TTL_IN_GITOPS, is_git_ops_annotation, is_git_ops_label, is_kept_by_git_ops};
pub use outcome::Outcome;
pub use spec::{
    Adopt, ApiKeySecretRef, Mode, OnUnknownOutcome, Polling, ReadyWhen, SecretKeyRef, Verification,
    VerificationSpec,
};
pub use status::{Phase, Session, SessionState, VerificationStatus};

/// The API group of the resource.
pub const GROUP: &str = "okid.io";

/// Each new value of this annotation requests one poll now; it is echoed as `status.lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_AT: &str = "okid.io/reconcile-requested-at";

/// Each new value of this annotation acknowledges the orphaned sessions so far and retries what waits for a person; it
/// is echoed as `status.lastHandledRetry`.
pub const RETRY: &str = "okid.io/retry";

/// The finalizer of a resource with `spec.evidence.deletionPolicy: Delete`.
pub const EVIDENCE_FINALIZER: &str = "okid.io/evidence";

/// The field selector of the watch: everything that is not settled.
pub const LIVE: &str = "status.settled!=true";
