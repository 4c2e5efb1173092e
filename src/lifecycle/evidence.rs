//! Evidence: what is owed once the verdict is in, and how far it is stored. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::{event::Event, facts::Facts, local_state::elapsed, step::ReleaseWhen};
use crate::{
    api::{
        Condition, ConditionStatus, ConditionType, DeletionPolicy, EvidenceKind, EvidenceSpec,
        EvidenceStatus, ObjectState, Reason, StoredObject, VerificationStatus,
    },
    store::no_response::NoResponse,
};

/// Evidence that could not be stored in this time will not be, unless a person asks for it.
pub(super) const STORED_WITHIN: Duration = Duration::from_hours(24);
/// A resource is held for the removal of its evidence for this long at most.
pub(super) const REMOVED_WITHIN: Duration = Duration::from_mins(10);
/// A resource is held for no longer than this where the store could not be asked.
const REMOVAL_AWAITED: Duration = Duration::from_mins(20);
/// Each process tries to remove what is to be removed that often before a try is the last.
const REMOVALS_BY_EACH_PROCESS: u32 = 3;
/// A required image that the portal does not have, or that cannot be used, is asked for again for this long.
pub(super) const IMAGE_AWAITED: Duration = Duration::from_mins(10);
/// Each process tries for this long, also where the time was over before it began.
pub(super) const TRIED_BY_EACH_PROCESS: Duration = Duration::from_mins(10);
/// Most objects that status has room for.
pub(super) const MOST_OBJECTS: usize = 16;

/// What a decision may know of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceFacts {
    /// `spec.evidence`.
    pub spec: Option<EvidenceSpec>,
    /// How far it is stored.
    pub state: EvidenceState,
    /// Whether it may be stored where it was asked to be.
    pub destination: DestinationFact,
    /// Whether anything of it is stored, as far as status says.
    pub is_stored: bool,
    /// When the verdict was seen.
    pub verdict_at: Option<Timestamp>,
    /// Since when it is owed: since the verdict, or since a person asked for it again.
    pub pending_since: Option<Timestamp>,
    /// Whether the resource has our finalizer.
    pub has_finalizer: bool,
    /// When the resource was deleted.
    pub deleted_at: Option<Timestamp>,
}

impl Default for EvidenceFacts {
    /// Nothing was asked for.
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
    pub(super) fn after(&self, status: &VerificationStatus) -> Self {
        Self {
            state: evidence_state(self.spec.as_ref(), status),
            is_stored: objects(status).iter().any(|object| object.state == ObjectState::Stored),
            verdict_at: status.finished_at,
            pending_since: pending_since(status),
            ..self.clone()
        }
    }

    /// Whether somebody may still owe something or ask for something after the end: then the resource stays in the watch.
    /// What has our finalizer stays too, because nobody else takes it off.
    pub(super) fn keeps_it_live(&self) -> bool {
        matches!(self.state, EvidenceState::Pending | EvidenceState::Failed)
            || self.has_finalizer
            || self.lacks_finalizer()
    }

    /// Whether the resource is still to be held until what is stored of it, or is about to be, is removed.
    pub(super) fn lacks_finalizer(&self) -> bool {
        let is_kept = self.is_stored || self.state == EvidenceState::Pending;
        self.is_removed_with_it() && is_kept && !self.has_finalizer
    }

    /// Whether the resource has our finalizer, and nothing asks for it any more.
    pub(super) fn is_held_for_nothing(&self) -> bool {
        self.has_finalizer && !self.is_removed_with_it()
    }

    /// Whether the evidence is removed with the resource.
    fn is_removed_with_it(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Delete)
    }
}

/// Whether what is owed was not stored in time. A process that was not there in time tries for ten minutes all the same.
pub(super) fn storing_is_over(facts: &Facts) -> bool {
    let lasted =
        |since: Option<Timestamp>, long| since.is_some_and(|since| elapsed(since, facts.now) >= long);
    lasted(facts.evidence.pending_since, STORED_WITHIN)
        && lasted(facts.local_state.storing_since, TRIED_BY_EACH_PROCESS)
}

/// When a resource that is deleted is let go of. A process that was not there in time tries a few times all the same, and
/// a store that rests is not asked, so that is no try.
pub(super) fn release_when(facts: &Facts) -> ReleaseWhen {
    let is_over =
        facts.evidence.deleted_at.is_none_or(|deleted_at| elapsed(deleted_at, facts.now) >= REMOVED_WITHIN);
    let Some(removing) = facts.local_state.removing.filter(|_| is_over) else {
        return ReleaseWhen::OnceRemoved;
    };
    if removing.lasted(facts.now, REMOVAL_AWAITED) {
        ReleaseWhen::Anyway
    } else if removing.count >= REMOVALS_BY_EACH_PROCESS - 1 {
        ReleaseWhen::OnceTried
    } else {
        ReleaseWhen::OnceRemoved
    }
}

/// Whether evidence may be stored where it was asked to be.
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
    /// None was asked for.
    NotAsked,
    /// There is no verdict yet.
    NotStarted,
    /// The verdict is none of those after which evidence is kept.
    NotApplicable,
    /// Something is still to be stored.
    Pending,
    /// It will never be complete, unless a person does something.
    Failed,
    /// All of it is stored, or is not there at the portal.
    Complete,
}

/// One object that was asked for.
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

/// Everything that was asked for, in the order of the spec, the results last.
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

/// What was asked for and is neither stored nor, where it is not required, known to be absent.
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

/// Since when evidence is owed, by what status says: since the verdict, or since a person asked again for what failed.
/// Asking again ends Stalled: then Reconciling comes, or Ready becomes True where the spec asks for no more than a link.
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
    // The manifest is the last word: whatever is asked for later, or comes to be there, it is never changed.
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

/// Whether the portal has nothing of what was asked for.
#[must_use]
pub fn nothing_to_store(status: &VerificationStatus) -> bool {
    objects(status).iter().all(|object| object.state == ObjectState::Absent)
}

/// Why evidence is not stored. Closed: no text of a store or portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvidenceError {
    /// The store reports that it is temporarily unavailable.
    StoreUnavailable,
    /// The store did not respond.
    StoreSilent(NoResponse),
    /// The store did not respond, and is not called for a moment.
    StoreRests,
    /// The API server did not return the Secret with the store's credentials.
    StoreSecretUnread,
    /// The bucket, container or folder does not exist.
    BucketNotFound,
    /// The store rejects the request without naming the option that is wrong.
    StoreMisconfigured,
    /// The store is in another region.
    StoreRegionWrong,
    /// The store does not accept the encryption key.
    StoreEncryptionKeyWrong,
    /// The store lacks a feature that an option requires.
    StoreFeatureMissing,
    /// The store ignores or rejects conditional writes, so it would overwrite objects.
    NoConditionalWrites,
    /// The store knows the credentials and denies access.
    StoreAccessDenied,
    /// The store does not accept the credentials.
    StoreCredentialsRejected,
    /// The Secret with the store's credentials does not exist.
    StoreSecretNotFound,
    /// The operator may not read the Secret with the store's credentials.
    StoreSecretForbidden,
    /// The content of the Secret with the store's credentials cannot be used.
    StoreSecretInvalid,
    /// The store, its endpoint or the kind of image is not allowed.
    DestinationNotAllowed,
    /// A different object exists under the same key.
    Conflict,
    /// The portal does not have a required image.
    ImageNotAvailable,
    /// The portal returned data in an unsupported format.
    ImageUnusable,
    /// The portal returned more data than one object may have.
    ImageTooLarge,
    /// The portal does not return the images.
    PortalUnavailable,
    /// The portal cannot be called, because there is no usable API key.
    PortalKeyUnusable,
    /// The portal cannot be called, because it is not allowed.
    PortalNotAllowed,
    /// The API server denies the finalizer, without which nothing is stored that must be removed later.
    FinalizerDenied,
}

impl EvidenceError {
    /// One error for each reason and each time limit.
    pub const ALL: [Self; 16] = [
        Self::StoreUnavailable,
        Self::StoreSilent(NoResponse::TimedOut),
        Self::StoreRests,
        Self::BucketNotFound,
        Self::StoreMisconfigured,
        Self::NoConditionalWrites,
        Self::StoreAccessDenied,
        Self::StoreSecretNotFound,
        Self::StoreSecretForbidden,
        Self::StoreSecretInvalid,
        Self::DestinationNotAllowed,
        Self::Conflict,
        Self::ImageNotAvailable,
        Self::ImageUnusable,
        Self::PortalUnavailable,
        Self::FinalizerDenied,
    ];

    /// The errors that share reason and time limit with one of [`Self::ALL`], and differ in the message.
    #[cfg(test)]
    pub(super) const OTHER_CAUSES: [Self; 8] = [
        Self::StoreSecretUnread,
        Self::StoreRegionWrong,
        Self::StoreEncryptionKeyWrong,
        Self::StoreFeatureMissing,
        Self::StoreCredentialsRejected,
        Self::ImageTooLarge,
        Self::PortalKeyUnusable,
        Self::PortalNotAllowed,
    ];

    /// The reason that the condition `EvidenceStored` shows.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::StoreUnavailable | Self::StoreSilent(_) | Self::StoreRests | Self::StoreSecretUnread => {
                Reason::StoreUnavailable
            }
            Self::BucketNotFound => Reason::BucketNotFound,
            Self::StoreMisconfigured
            | Self::StoreRegionWrong
            | Self::StoreEncryptionKeyWrong
            | Self::StoreFeatureMissing
            | Self::NoConditionalWrites => Reason::StoreMisconfigured,
            Self::StoreAccessDenied | Self::StoreCredentialsRejected => Reason::StoreAccessDenied,
            Self::StoreSecretNotFound => Reason::StoreSecretNotFound,
            Self::StoreSecretForbidden => Reason::StoreSecretForbidden,
            Self::StoreSecretInvalid => Reason::StoreSecretInvalid,
            Self::DestinationNotAllowed => Reason::DestinationNotAllowed,
            Self::FinalizerDenied => Reason::FinalizerDenied,
            Self::Conflict => Reason::Conflict,
            Self::ImageNotAvailable => Reason::ImageNotAvailable,
            Self::ImageUnusable | Self::ImageTooLarge => Reason::ImageUnusable,
            Self::PortalUnavailable | Self::PortalKeyUnusable | Self::PortalNotAllowed => {
                Reason::PortalUnavailable
            }
        }
    }

    /// How long it may last before only a person can help.
    pub(super) const fn patience(self) -> Duration {
        match self {
            Self::Conflict
            | Self::DestinationNotAllowed
            | Self::StoreSecretInvalid
            | Self::NoConditionalWrites => Duration::ZERO,
            Self::ImageNotAvailable | Self::ImageUnusable | Self::ImageTooLarge => IMAGE_AWAITED,
            Self::StoreUnavailable
            | Self::StoreSilent(_)
            | Self::StoreRests
            | Self::StoreSecretUnread
            | Self::BucketNotFound
            | Self::StoreMisconfigured
            | Self::StoreRegionWrong
            | Self::StoreEncryptionKeyWrong
            | Self::StoreFeatureMissing
            | Self::StoreAccessDenied
            | Self::StoreCredentialsRejected
            | Self::StoreSecretNotFound
            | Self::StoreSecretForbidden
            | Self::PortalUnavailable
            | Self::PortalKeyUnusable
            | Self::PortalNotAllowed
            | Self::FinalizerDenied => STORED_WITHIN,
        }
    }

    /// The message that says which cause of its reason this is; none where the reason's own message does. At most 256
    /// characters.
    pub(super) const fn cause(self) -> Option<&'static str> {
        match self {
            Self::StoreSilent(why) => Some(no_response(why)),
            Self::StoreRests => Some(
                "The store did not respond, so the operator is not calling it for a moment. The operator is retrying.",
            ),
            Self::StoreSecretUnread => Some(
                "The Kubernetes API server did not return the Secret with the store's credentials. The operator is retrying.",
            ),
            Self::StoreRegionWrong => Some(
                "The store is in another region. Correct the region in the store's options; the operator is retrying.",
            ),
            Self::StoreEncryptionKeyWrong => Some(
                "The store does not accept the encryption key. Correct aws_sse_kms_key_id in the store's options; the operator is retrying.",
            ),
            Self::StoreFeatureMissing => Some(
                "The store lacks a feature that one of its options requires. Correct the store's options; the operator is retrying.",
            ),
            Self::NoConditionalWrites => Some(
                "The store does not support conditional writes (If-None-Match), so evidence could be overwritten. Use another store or upgrade it, then set the annotation okid.io/retry to a new value.",
            ),
            Self::StoreCredentialsRejected => Some(
                "The store does not accept the credentials. Update them; if they are right, check the clock of the operator's node. The operator is retrying.",
            ),
            Self::ImageTooLarge => {
                Some("The portal returned more data than one object may have; it was not stored.")
            }
            Self::PortalKeyUnusable => Some(
                "The portal could not be asked for the evidence, because there is no usable API key; see CredentialsReady.",
            ),
            Self::PortalNotAllowed => Some(
                "The portal could not be asked for the evidence, because the operator is not allowed to call it. Its administrator can allow it (--allowed-portal).",
            ),
            Self::StoreUnavailable
            | Self::BucketNotFound
            | Self::StoreMisconfigured
            | Self::StoreAccessDenied
            | Self::StoreSecretNotFound
            | Self::StoreSecretForbidden
            | Self::StoreSecretInvalid
            | Self::DestinationNotAllowed
            | Self::Conflict
            | Self::ImageNotAvailable
            | Self::ImageUnusable
            | Self::PortalUnavailable
            | Self::FinalizerDenied => None,
        }
    }

    /// What to remember of this error after an earlier one, and whether both count as one: errors of the same reason do,
    /// and a store that is not called is so for the earlier cause.
    pub(super) fn after(self, before: Option<Self>) -> (Self, bool) {
        match before {
            Some(before) if before.reason() == self.reason() => {
                (if self == Self::StoreRests { before } else { self }, true)
            }
            Some(_) | None => (self, false),
        }
    }
}

/// The message for a store that did not respond.
const fn no_response(why: NoResponse) -> &'static str {
    match why {
        NoResponse::Resolve => {
            "The store's host name cannot be resolved. Check the endpoint, region or account in the store's options, and the cluster's DNS. The operator is retrying."
        }
        NoResponse::Refused => {
            "No connection to the store can be made. Check the endpoint in the store's options, and the network between the operator and the store. The operator is retrying."
        }
        NoResponse::Tls => {
            "No trusted TLS connection to the store can be made. Check the store's certificate and the operator's CA bundle (--store-ca-file). The operator is retrying."
        }
        NoResponse::TimedOut => {
            "The store did not respond in time. Check the store, and the network between the operator and the store. The operator is retrying."
        }
        NoResponse::Cut => {
            "The connection to the store was closed before it had responded. The operator is retrying."
        }
        NoResponse::OutOfOrder => {
            "The store, or a gateway in front of it, responded with a server error. The operator is retrying."
        }
        NoResponse::TooLarge => {
            "The store's response is larger than any that the operator expects. Check that the endpoint in the store's options is that of the store. The operator is retrying."
        }
        NoResponse::Unusable => {
            "The store's response cannot be understood. Check that the endpoint in the store's options is that of a store. The operator is retrying."
        }
    }
}

/// What came of storing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOutcome {
    /// Where the objects are, as a url.
    pub prefix: String,
    /// What was stored, or found absent, in this turn.
    pub objects: Vec<StoredObject>,
    /// SHA-256 of the manifest, in hex, if it was written.
    pub manifest_sha256: Option<String>,
    /// What kept the rest from being stored.
    pub error: Option<EvidenceError>,
    /// Why the destination is refused, where that is the trouble, without values and text of others.
    pub refusal: Option<String>,
    /// When the portal may be asked for the rest, or is to be asked once more, if not now.
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
    /// Somebody else wrote first, or nobody knows.
    Unknown,
}

/// What came of removing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemovalOutcome {
    /// Nothing is left, and the finalizer is off.
    All,
    /// Nothing is left by its name, but the store keeps noncurrent versions, or what it deletes later; the finalizer is off.
    Versioned,
    /// What is known to be stored is removed, and the credentials may not look for more; the finalizer is off.
    Unlisted,
    /// Something is left in the store; the finalizer is off all the same.
    GaveUp,
    /// Not yet: the store was asked, or its credentials are not there.
    NotYet,
    /// Not yet, and nobody was asked: the store rests, or the API server does not answer.
    NotTried,
}

impl RemovalOutcome {
    /// What is to be told of what is left, once nothing more is removed.
    #[must_use]
    pub const fn leaves(self) -> Option<Event> {
        match self {
            Self::All | Self::NotYet | Self::NotTried => None,
            Self::Versioned => Some(Event::EvidenceVersionsLeft),
            Self::Unlisted => Some(Event::EvidenceNotListed),
            Self::GaveUp => Some(Event::EvidenceOrphaned),
        }
    }
}

/// The status and reason of `EvidenceStored`; nothing where nothing was asked for.
pub(super) fn shown(
    state: EvidenceState,
    status: &VerificationStatus,
    error: Option<Reason>,
) -> Option<(ConditionStatus, Reason)> {
    let before = || {
        let before = Condition::find(&status.conditions, ConditionType::EvidenceStored)
            .filter(|before| before.status == ConditionStatus::False);
        before.and_then(|before| Reason::from_word(&before.reason)).unwrap_or(Reason::Storing)
    };
    Some(match state {
        EvidenceState::NotAsked => return None,
        EvidenceState::NotStarted => (ConditionStatus::Unknown, Reason::NotStarted),
        EvidenceState::NotApplicable => (ConditionStatus::Unknown, Reason::NotApplicable),
        EvidenceState::Pending | EvidenceState::Failed => {
            (ConditionStatus::False, error.unwrap_or_else(before))
        }
        EvidenceState::Complete if nothing_to_store(status) => {
            (ConditionStatus::True, Reason::NothingToStore)
        }
        EvidenceState::Complete => (ConditionStatus::True, Reason::Stored),
    })
}
