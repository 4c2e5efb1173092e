//! Evidence: what is pending once there is a verdict, and how much of it is stored. Pure.

use jiff::Timestamp;

use super::{event::Event, evidence_error::EvidenceError};
use crate::api::{
    Condition, ConditionStatus, ConditionType, DeletionPolicy, EvidenceKind, EvidenceSpec, EvidenceStatus,
    ObjectState, Reason, StoredObject, VerificationStatus,
};

/// The most objects that status can hold.
pub(super) const MOST_OBJECTS: usize = 16;

/// What a decision may know about evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceFacts {
    /// `spec.evidence`.
    pub spec: Option<EvidenceSpec>,
    /// How much of it is stored.
    pub state: EvidenceState,
    /// Whether the destination may be used.
    pub destination: DestinationFact,
    /// Whether status lists a stored object.
    pub is_stored: bool,
    /// When the verdict was recorded.
    pub verdict_at: Option<Timestamp>,
    /// Since when it is pending: since the verdict, or since a person requested a retry.
    pub pending_since: Option<Timestamp>,
    /// When all of it was stored.
    pub stored_at: Option<Timestamp>,
    /// Whether the resource has our finalizer.
    pub has_finalizer: bool,
    /// When the resource was deleted.
    pub deleted_at: Option<Timestamp>,
}

impl Default for EvidenceFacts {
    /// No evidence is requested.
    fn default() -> Self {
        Self {
            spec: None,
            state: EvidenceState::NotRequested,
            destination: DestinationFact::Allowed,
            is_stored: false,
            verdict_at: None,
            pending_since: None,
            stored_at: None,
            has_finalizer: false,
            deleted_at: None,
        }
    }
}

impl EvidenceFacts {
    /// What a spec and a status say about evidence. The finalizer and the deletion are not in them.
    #[must_use]
    pub fn of(spec: Option<EvidenceSpec>, status: &VerificationStatus) -> Self {
        Self { spec, ..Self::default() }.after(status)
    }

    /// The same facts with another status.
    #[must_use]
    pub fn after(&self, status: &VerificationStatus) -> Self {
        Self {
            state: evidence_state(self.spec.as_ref(), status),
            is_stored: objects(status).iter().any(|object| object.state == ObjectState::Stored),
            verdict_at: status.finished_at,
            pending_since: pending_since(status),
            stored_at: stored_at(status),
            ..self.clone()
        }
    }

    /// Whether the evidence keeps a finished resource in the watch: something is pending, a retry is possible, or the
    /// resource has our finalizer, which only the operator removes.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, EvidenceState::Pending | EvidenceState::Failed)
            || self.has_finalizer
            || self.lacks_finalizer()
    }

    /// Whether something is left to do, by the operator or by a person, before `spec.ttlAfterFinished` counts.
    pub(super) fn is_unfinished(&self) -> bool {
        matches!(self.state, EvidenceState::Pending | EvidenceState::Failed)
            || self.lacks_finalizer()
            || self.holds_needless_finalizer()
    }

    /// Whether the resource still needs the finalizer, because evidence is stored, or about to be, that is removed with
    /// it.
    pub(super) fn lacks_finalizer(&self) -> bool {
        let is_kept = self.is_stored || self.state == EvidenceState::Pending;
        self.is_removed_with_resource() && is_kept && !self.has_finalizer
    }

    /// Whether the resource has our finalizer although nothing requires it any more.
    pub(super) fn holds_needless_finalizer(&self) -> bool {
        self.has_finalizer && !self.is_removed_with_resource()
    }

    /// Whether the evidence is removed with the resource.
    fn is_removed_with_resource(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Delete)
    }
}

/// Whether the destination of the evidence may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationFact {
    /// It may, as far as is known.
    Allowed,
    /// The operator's administrator does not allow it, or its credentials contain an option that is not allowed. The
    /// text says why, without values or remote text.
    Refused(String),
}

/// How much of the evidence is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvidenceState {
    /// No evidence is requested.
    NotRequested,
    /// There is no verdict yet.
    NotStarted,
    /// The outcome is not one after which evidence is stored.
    NotApplicable,
    /// Something is still to be stored.
    Pending,
    /// It stays incomplete unless a person acts.
    Failed,
    /// All of it is stored, or known to be absent at the portal.
    Complete,
}

/// One requested object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is.
    pub kind: EvidenceKind,
    /// The portal's `image_type`; empty for the results.
    pub image_type: String,
    /// The portal's `attempt_index`, if the spec names one.
    pub attempt: Option<i32>,
    /// Whether the evidence is incomplete without it.
    pub required: bool,
}

impl Wanted {
    /// Its key without the extension, such as `redacted-original-0`.
    #[must_use]
    pub(crate) fn stem(&self) -> String {
        self.kind.stem(&self.image_type, self.attempt)
    }
}

/// Everything that is requested, in the order of the spec, the results last.
#[must_use]
pub fn wanted(spec: &EvidenceSpec) -> Vec<Wanted> {
    let images = spec.images.iter().map(|image| Wanted {
        kind: image.kind.into(),
        image_type: image.image_type.clone(),
        attempt: image.attempt_index,
        required: image.required,
    });
    let results = spec.results.then(|| Wanted {
        kind: EvidenceKind::Results,
        image_type: String::new(),
        attempt: None,
        required: true,
    });
    images.chain(results).collect()
}

/// Requested objects that are not stored yet. An absent object counts as stored if it is not required.
#[must_use]
pub(crate) fn outstanding(spec: &EvidenceSpec, status: &VerificationStatus) -> Vec<Wanted> {
    let is_there = |wanted: &Wanted| {
        let is_enough = |object: &StoredObject| object.state == ObjectState::Stored || !wanted.required;
        objects(status).iter().any(|object| stem(object) == wanted.stem() && is_enough(object))
    };
    wanted(spec).into_iter().filter(|wanted| !is_there(wanted)).collect()
}

/// The objects that a status lists.
fn objects(status: &VerificationStatus) -> &[StoredObject] {
    status.evidence.as_ref().map_or(&[], |evidence| &evidence.objects)
}

/// The key of an object without its extension, as [`Wanted::stem`] gives it.
pub(super) fn stem(object: &StoredObject) -> &str {
    object.key.split('.').next().unwrap_or(&object.key)
}

/// Since when evidence is pending, according to status: since the verdict, or since a person requested a retry of
/// failed evidence. A retry ends Stalled, so Reconciling appears, or Ready becomes True if the spec requires only a
/// link.
fn pending_since(status: &VerificationStatus) -> Option<Timestamp> {
    let finished_at = status.finished_at?;
    let again = [ConditionType::Reconciling, ConditionType::Ready].into_iter().filter_map(|type_| {
        let shown = Condition::find(&status.conditions, type_)?;
        (shown.status == ConditionStatus::True).then_some(shown.last_transition_time)
    });
    again.chain([finished_at]).max()
}

/// When all evidence was stored, according to status.
fn stored_at(status: &VerificationStatus) -> Option<Timestamp> {
    let shown = Condition::find(&status.conditions, ConditionType::EvidenceStored)?;
    (shown.status == ConditionStatus::True).then_some(shown.last_transition_time)
}

/// How much of the evidence is stored, according to status.
#[must_use]
pub(crate) fn evidence_state(spec: Option<&EvidenceSpec>, status: &VerificationStatus) -> EvidenceState {
    let Some(spec) = spec else { return EvidenceState::NotRequested };
    let Some(outcome) = status.outcome else { return EvidenceState::NotStarted };
    if !spec.outcomes.iter().any(|listed| listed.is(outcome)) || status.verification_id.is_none() {
        return EvidenceState::NotApplicable;
    }
    // The manifest is final: it never changes, whatever is requested later or appears at the portal.
    if status.evidence.as_ref().is_some_and(|evidence| evidence.manifest_sha256.is_some()) {
        return EvidenceState::Complete;
    }
    let stalled = Condition::find(&status.conditions, ConditionType::Stalled);
    if stalled.is_some_and(|stalled| stalled.reason == Reason::EvidenceFailed.as_str()) {
        return EvidenceState::Failed;
    }
    if outstanding(spec, status).is_empty() && nothing_to_store(status) {
        EvidenceState::Complete
    } else {
        EvidenceState::Pending
    }
}

/// Whether the portal has none of the requested evidence.
#[must_use]
pub(crate) fn nothing_to_store(status: &VerificationStatus) -> bool {
    objects(status).iter().all(|object| object.state == ObjectState::Absent)
}

/// The result of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOutcome {
    /// Where the objects are, as a URL.
    pub prefix: String,
    /// What this reconcile stored or found absent.
    pub objects: Vec<StoredObject>,
    /// SHA-256 of the manifest, in hex, if it was written.
    pub manifest_sha256: Option<String>,
    /// The error that prevented the upload of the other objects.
    pub error: Option<EvidenceError>,
    /// Why the destination is refused, if that is the error; without values or remote text.
    pub refusal: Option<String>,
    /// When to continue, or to request an image once more, if not now.
    pub again_at: Option<Timestamp>,
    /// Whether the operator knows if an earlier process wrote the manifest.
    pub manifest_checked: bool,
    /// Images with a 404 that may not be the portal's, by [`Wanted::stem`], each once.
    pub unclear: Vec<String>,
    /// Whether the portal then answered for the session with 200.
    pub details_answered: bool,
}

impl UploadOutcome {
    /// The evidence known with this result added. Objects at another destination are dropped.
    #[must_use]
    pub(crate) fn added_to(&self, before: Option<&EvidenceStatus>) -> EvidenceStatus {
        let before = before.filter(|before| before.prefix == self.prefix);
        let mut evidence = before.cloned().unwrap_or_default();
        evidence.prefix.clone_from(&self.prefix);
        evidence.objects.retain(|known| !self.objects.iter().any(|new| stem(known) == stem(new)));
        evidence.objects.extend(self.objects.iter().cloned());
        evidence.manifest_sha256 = self.manifest_sha256.clone().or(evidence.manifest_sha256.take());
        evidence
    }
}

/// The result of adding the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinalizerOutcome {
    /// It was added.
    Added,
    /// The API server refused it.
    Refused,
    /// Another writer was first, or the outcome is unknown.
    Unknown,
}

/// The result of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemovalOutcome {
    /// Nothing is left, and the finalizer is removed.
    All,
    /// The objects are removed, but the store keeps noncurrent versions or soft-deleted objects. The finalizer is
    /// removed.
    Versioned,
    /// The objects in status are removed, but the credentials do not permit listing. The finalizer is removed.
    Unlisted,
    /// Something is left in the store; the finalizer is removed regardless.
    Abandoned,
    /// Not done yet: the store was called, or its credentials are missing.
    NotYet,
    /// Not done yet, and no store was called: its breaker is open, or the API server does not respond.
    NotTried,
}

impl RemovalOutcome {
    /// The event that reports what is left once nothing more is removed.
    #[must_use]
    pub const fn leaves(self) -> Option<Event> {
        match self {
            Self::All | Self::NotYet | Self::NotTried => None,
            Self::Versioned => Some(Event::EvidenceVersionsLeft),
            Self::Unlisted => Some(Event::EvidenceNotListed),
            Self::Abandoned => Some(Event::EvidenceOrphaned),
        }
    }
}
