//! Evidence: what is pending once there is a verdict, and how far it is stored. Pure.

use jiff::Timestamp;

use super::{event::Event, evidence_error::EvidenceError};
use crate::api::{
    Condition, ConditionStatus, ConditionType, DeletionPolicy, EvidenceKind, EvidenceSpec, EvidenceStatus,
    ObjectState, Reason, StoredObject, VerificationStatus,
};

/// Most objects that status has room for.
pub(super) const MOST_OBJECTS: usize = 16;

/// What a decision may know of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceFacts {
    /// `spec.evidence`.
    pub spec: Option<EvidenceSpec>,
    /// How far it is stored.
    pub state: EvidenceState,
    /// Whether the destination may be used.
    pub destination: DestinationFact,
    /// Whether anything of it is stored, as far as status says.
    pub is_stored: bool,
    /// When the verdict was seen.
    pub verdict_at: Option<Timestamp>,
    /// Since when it is pending: since the verdict, or since a person requested a retry.
    pub pending_since: Option<Timestamp>,
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
            state: EvidenceState::NotAsked,
            destination: DestinationFact::Allowed,
            is_stored: false,
            verdict_at: None,
            pending_since: None,
            has_finalizer: false,
            deleted_at: None,
        }
    }
}

impl EvidenceFacts {
    /// What a spec and a status say of evidence: where it may be stored, the finalizer and the deletion they do not know.
    #[must_use]
    pub fn of(spec: Option<EvidenceSpec>, status: &VerificationStatus) -> Self {
        Self { spec, ..Self::default() }.after(status)
    }

    /// The same once the status is that.
    #[must_use]
    pub fn after(&self, status: &VerificationStatus) -> Self {
        Self {
            state: evidence_state(self.spec.as_ref(), status),
            is_stored: objects(status).iter().any(|object| object.state == ObjectState::Stored),
            verdict_at: status.finished_at,
            pending_since: pending_since(status),
            ..self.clone()
        }
    }

    /// Whether something is still pending, or may be requested again, after the end: then the resource stays in the watch.
    /// A resource with our finalizer stays too, because only the operator takes it off.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, EvidenceState::Pending | EvidenceState::Failed)
            || self.has_finalizer
            || self.lacks_finalizer()
    }

    /// Whether the resource is still to be held until what is stored of it, or is about to be, is removed.
    pub(super) fn lacks_finalizer(&self) -> bool {
        let is_kept = self.is_stored || self.state == EvidenceState::Pending;
        self.is_removed_with_resource() && is_kept && !self.has_finalizer
    }

    /// Whether the resource has our finalizer, and nothing asks for it any more.
    pub(super) fn holds_needless_finalizer(&self) -> bool {
        self.has_finalizer && !self.is_removed_with_resource()
    }

    /// Whether the evidence is removed with the resource.
    fn is_removed_with_resource(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Delete)
    }
}

/// Whether the destination of evidence may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationFact {
    /// As far as is known.
    Allowed,
    /// The operator's administrator does not allow it, or its credentials name something that they may not: why, without
    /// values and text of others.
    Refused(String),
}

/// How far evidence is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvidenceState {
    /// No evidence is requested.
    NotAsked,
    /// There is no verdict yet.
    NotStarted,
    /// The outcome is not among those after which evidence is stored.
    NotApplicable,
    /// Something is still to be stored.
    Pending,
    /// It will never be complete, unless a person does something.
    Failed,
    /// All of it is stored, or is not there at the portal.
    Complete,
}

/// One requested object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is.
    pub kind: EvidenceKind,
    /// The portal's `image_type`; empty for the results.
    pub image_type: String,
    /// The portal's `attempt_index`, where one was named.
    pub attempt: Option<i32>,
    /// Whether the evidence is incomplete without it.
    pub required: bool,
}

impl Wanted {
    /// Its key without the ending, such as `redacted-original-0`.
    #[must_use]
    pub fn stem(&self) -> String {
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

/// What is requested and is neither stored nor, where it is not required, known to be absent.
#[must_use]
pub fn outstanding(spec: &EvidenceSpec, status: &VerificationStatus) -> Vec<Wanted> {
    let is_there = |wanted: &Wanted| {
        let is_enough = |object: &StoredObject| object.state == ObjectState::Stored || !wanted.required;
        objects(status).iter().any(|object| stem(object) == wanted.stem() && is_enough(object))
    };
    wanted(spec).into_iter().filter(|wanted| !is_there(wanted)).collect()
}

/// What a status says of objects.
fn objects(status: &VerificationStatus) -> &[StoredObject] {
    status.evidence.as_ref().map_or(&[], |evidence| &evidence.objects)
}

/// The key of an object without its ending, by which [`Wanted::stem`] finds it.
pub(super) fn stem(object: &StoredObject) -> &str {
    object.key.split('.').next().unwrap_or(&object.key)
}

/// Since when evidence is pending, by what status says: since the verdict, or since a person requested a retry of what failed.
/// A retry ends Stalled: then Reconciling comes, or Ready becomes True where the spec asks for no more than a link.
fn pending_since(status: &VerificationStatus) -> Option<Timestamp> {
    let finished_at = status.finished_at?;
    let again = [ConditionType::Reconciling, ConditionType::Ready].into_iter().filter_map(|type_| {
        let shown = Condition::find(&status.conditions, type_)?;
        (shown.status == ConditionStatus::True).then_some(shown.last_transition_time)
    });
    again.chain([finished_at]).max()
}

/// How far evidence is stored, by what status says.
#[must_use]
pub fn evidence_state(spec: Option<&EvidenceSpec>, status: &VerificationStatus) -> EvidenceState {
    let Some(spec) = spec else { return EvidenceState::NotAsked };
    let Some(outcome) = status.outcome else { return EvidenceState::NotStarted };
    if !spec.outcomes.iter().any(|listed| listed.is(outcome)) || status.verification_id.is_none() {
        return EvidenceState::NotApplicable;
    }
    // The manifest is final: it is never changed, whatever is requested later or appears at the portal.
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

/// Whether the portal has nothing of what is requested.
#[must_use]
pub fn nothing_to_store(status: &VerificationStatus) -> bool {
    objects(status).iter().all(|object| object.state == ObjectState::Absent)
}

/// What came of storing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOutcome {
    /// Where the objects are, as a url.
    pub prefix: String,
    /// What was stored, or found absent, in this reconcile.
    pub objects: Vec<StoredObject>,
    /// SHA-256 of the manifest, in hex, if it was written.
    pub manifest_sha256: Option<String>,
    /// The error that prevented the rest from being stored.
    pub error: Option<EvidenceError>,
    /// Why the destination is refused, where that is the error, without values and remote text.
    pub refusal: Option<String>,
    /// When the portal may be called for the rest, or is to be called once more, if not now.
    pub again_at: Option<Timestamp>,
    /// Whether it is known whether an earlier process wrote the manifest.
    pub manifest_sought: bool,
    /// Images for which perhaps not the portal answered 404, by [`Wanted::stem`], each once.
    pub unclear: Vec<String>,
    /// Whether the portal answered for the session, with 200, after that.
    pub details_answered: bool,
}

impl UploadOutcome {
    /// What is known of the evidence with this. Objects elsewhere are no part of it.
    #[must_use]
    pub fn added_to(&self, before: Option<&EvidenceStatus>) -> EvidenceStatus {
        let before = before.filter(|before| before.prefix == self.prefix);
        let mut evidence = before.cloned().unwrap_or_default();
        evidence.prefix.clone_from(&self.prefix);
        evidence.objects.retain(|known| !self.objects.iter().any(|new| stem(known) == stem(new)));
        evidence.objects.extend(self.objects.iter().cloned());
        evidence.manifest_sha256 = self.manifest_sha256.clone().or(evidence.manifest_sha256.take());
        evidence
    }
}

/// What came of adding the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinalizerOutcome {
    /// It is on.
    Added,
    /// The API server refuses it.
    Refused,
    /// Another writer was first, or the outcome is unknown.
    Unknown,
}

/// What came of removing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemovalOutcome {
    /// Nothing is left, and the finalizer is off.
    All,
    /// Nothing is left by its name, but the store keeps noncurrent versions, or what it deletes later; the finalizer is off.
    Versioned,
    /// What is known to be stored is removed, and the credentials do not permit listing; the finalizer is off.
    Unlisted,
    /// Something is left in the store; the finalizer is off regardless.
    Abandoned,
    /// Not yet: the store was called, or its credentials are missing.
    NotYet,
    /// Not yet, and no store was called: its breaker is open, or the API server does not answer.
    NotTried,
}

impl RemovalOutcome {
    /// The event about what is left, once nothing more is removed.
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
