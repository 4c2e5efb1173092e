//! The `Verification` resource: its types, the rules the API server enforces, and the words of its status.
//!
//! Touches nothing: no client, clock or log. The doc comments of the types are what `kubectl explain` prints.

mod condition;
mod definition;
mod duration;
mod evidence;
mod rules;
mod spec;
mod status;

pub use condition::{Condition, ConditionStatus, ConditionType, Reason};
pub use definition::{definition, definition_yaml};
pub use duration::Duration;
pub use evidence::{
    DeletionPolicy, Destination, Evidence, EvidenceKind, ImageItem, ImageKind, Images, ObjectState,
    SecretRef, StoredObject, Verdict,
};
pub use spec::{
    Adopt, Mode, OnUnknownOutcome, Polling, ReadyWhen, SecretKeyRef, Verification, VerificationSpec,
};
pub use status::{Outcome, Phase, Session, SessionState, VerificationStatus};

/// The API group of the resource.
pub const GROUP: &str = "okid.io";

/// An opaque value in this annotation asks for one look now; it is echoed as `status.lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_AT: &str = "okid.io/reconcile-requested-at";

/// Each new value of this annotation forgives the lost creates so far and clears what waits for a person; it is
/// echoed as `status.lastHandledRetry`.
pub const RETRY: &str = "okid.io/retry";

/// The finalizer of a resource whose evidence is removed with it (`spec.images.deletionPolicy: Delete`).
pub const EVIDENCE_FINALIZER: &str = "okid.io/evidence";

/// The field selector that leaves out what is over and owes nothing.
pub const LIVE: &str = "status.settled!=true";
