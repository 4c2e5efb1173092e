//! Fixtures: resources, statuses and facts that the generated tables, the benchmark and the tests vary. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    evidence::{EvidenceFacts, UploadOutcome},
    facts::{Deadline, Due, Facts, InFlight, PortalFact},
    key_fact::{KeyFact, KeyVersion},
    known_session::KnownSession,
    local_state::LocalState,
    schedule::{Announced, Bounds},
    since::later,
};
use crate::{
    api::{
        ApiKeySecretRef, DeletionPolicy, Destination, EvidenceKind, EvidenceOutcome, EvidenceSpec, ImageKind,
        ImageRequest, Mode, ObjectState, OnUnknownOutcome, Outcome, Phase, ReadyWhen, Session, SessionState,
        StoredObject, Verification, VerificationSpec, VerificationStatus,
    },
    portal::{
        allowed::{AllowedPortals, PortalUrl},
        verification_id::VerificationId,
        wire::{Created, Details},
    },
};

/// The resource's uid.
pub const UID: &str = "3f1c2f6e-7f0e-4d8a-9a53-0d7c7a1f5b11";
/// The id of the session.
pub const ID: &str = "ver_sample";
const PORTAL: &str = "https://verify.test.okid.io";

/// When the resource and its session are created.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap_or_default()
}

/// This many seconds after [`now`].
#[must_use]
pub fn after(seconds: u64) -> Timestamp {
    later(now(), Duration::from_secs(seconds))
}

/// The id of the session.
#[must_use]
pub fn id() -> Option<VerificationId> {
    VerificationId::parse(ID).ok()
}

/// The session as a process remembers it.
#[must_use]
pub fn known() -> Option<KnownSession> {
    KnownSession::of(UID, &open(Phase::AwaitingUser))
}

fn portal() -> Option<PortalUrl> {
    AllowedPortals::new([PORTAL], false).ok()?.permit(PORTAL).ok()
}

/// Facts that prevent no call.
#[must_use]
pub fn facts() -> Facts {
    Facts {
        now: now(),
        portal_now: Some(now()),
        uid: UID.to_owned(),
        jitter_seed: 7,
        created_at: now(),
        generation: 1,
        deleting: false,
        suspend: false,
        mode: Mode::Direct,
        ready_when: ReadyWhen::Verified,
        on_unknown: OnUnknownOutcome::Retry,
        bounds: Bounds::default(),
        adopt: None,
        deadline: Deadline::Ahead(after(168 * 3600)),
        portal: portal().map_or(PortalFact::NotAllowed, PortalFact::Allowed),
        link_path: "/".to_owned(),
        key: KeyFact::Usable { fingerprint: "0011223344556677".to_owned() },
        key_version: KeyVersion::Current,
        in_flight: InFlight::None,
        due: Due::Now,
        retry: None,
        reconcile_requested: None,
        holder: "sample/0".to_owned(),
        stretch: 1.0,
        announced: Announced::Nothing,
        polled_at: None,
        too_large: false,
        known: None,
        evidence: EvidenceFacts::default(),
        cleanup: None,
        local_state: LocalState::default(),
    }
}

/// A spec that sets only the API key.
#[must_use]
pub fn spec() -> VerificationSpec {
    VerificationSpec {
        api_key_secret_ref: ApiKeySecretRef {
            name: "okid".to_owned(),
            key: "apiKey".to_owned(),
            previous_key: None,
        },
        portal: None,
        mode: Mode::Direct,
        ready_when: ReadyWhen::Verified,
        on_unknown_outcome: OnUnknownOutcome::Retry,
        polling: None,
        active_deadline: crate::api::Duration::from_secs(604_800),
        suspend: false,
        adopt: None,
        evidence: None,
        ttl_after_finished: None,
    }
}

/// A resource of this name in the namespace `kyc`, with the uid [`UID`] and without a status.
#[must_use]
pub fn verification(name: &str) -> Verification {
    let mut object = Verification::new(name, spec());
    object.metadata.namespace = Some("kyc".to_owned());
    object.metadata.uid = Some(UID.to_owned());
    object.metadata.resource_version = Some("1".to_owned());
    object
}

/// The status of a new resource.
#[must_use]
pub fn fresh() -> VerificationStatus {
    VerificationStatus { observed_generation: Some(-1), ..VerificationStatus::default() }
}

/// The status after `attempt` creates, of which `orphans` have an unknown outcome.
#[must_use]
pub fn attempted(state: SessionState, attempt: i32, orphans: i32) -> VerificationStatus {
    VerificationStatus {
        session: Some(Session {
            attempt,
            state: Some(state),
            uid: Some(UID.to_owned()),
            holder: Some("earlier/0".to_owned()),
            portal: Some(PORTAL.to_owned()),
            claimed_at: Some(now()),
            orphans,
            ..Session::default()
        }),
        ..fresh()
    }
}

/// The status of an open session in this phase, created at [`now`].
#[must_use]
pub fn open(phase: Phase) -> VerificationStatus {
    let mut status = attempted(SessionState::Created, 1, 0);
    status.verification_id = Some(ID.to_owned());
    status.phase = Some(phase);
    status.expires_at = Some(after(3600));
    status.flow = ["terms", "document", "liveness"].map(str::to_owned).to_vec();
    if let Some(session) = status.session.as_mut() {
        session.created_at = Some(now());
        session.key_fingerprint = Some("0011223344556677".to_owned());
    }
    status
}

/// The status of a finished verification.
#[must_use]
pub fn finished(outcome: Outcome) -> VerificationStatus {
    VerificationStatus { outcome: Some(outcome), finished_at: Some(now()), ..open(Phase::InProgress) }
}

/// A request for evidence: the front, which is required, and the back, after two of the outcomes.
#[must_use]
pub fn evidence_spec(deletion_policy: DeletionPolicy) -> EvidenceSpec {
    let image = |kind, required| ImageRequest {
        kind,
        image_type: "original".to_owned(),
        attempt_index: None,
        required,
    };
    EvidenceSpec {
        images: vec![image(ImageKind::Front, true), image(ImageKind::Back, false)],
        results: false,
        outcomes: vec![EvidenceOutcome::Verified, EvidenceOutcome::Expired],
        destination: Destination {
            url: None,
            credentials_secret_ref: None,
            store: Some("archive".to_owned()),
        },
        deletion_policy,
    }
}

/// The front, stored.
#[must_use]
pub fn front() -> StoredObject {
    StoredObject {
        kind: EvidenceKind::Front,
        key: "front-original.jpg".to_owned(),
        state: ObjectState::Stored,
        size: Some(1_500_000),
        sha256: Some("5a".repeat(32)),
        content_type: Some("image/jpeg".to_owned()),
    }
}

/// An image that the portal does not have.
#[must_use]
pub fn absent(kind: EvidenceKind) -> StoredObject {
    StoredObject {
        kind,
        key: kind.stem("original", None),
        state: ObjectState::Absent,
        size: None,
        sha256: None,
        content_type: None,
    }
}

/// An upload result with these objects.
#[must_use]
pub fn stored(objects: Vec<StoredObject>) -> UploadOutcome {
    UploadOutcome {
        prefix: "s3://archive/team-a/customer-42".to_owned(),
        objects,
        ..UploadOutcome::default()
    }
}

/// An upload result with all objects and the manifest.
#[must_use]
pub fn all_stored() -> UploadOutcome {
    UploadOutcome {
        manifest_sha256: Some("c3".repeat(32)),
        ..stored(vec![front(), absent(EvidenceKind::Back)])
    }
}

/// Every state by name, with a status that it is read from.
#[must_use]
pub fn states() -> Vec<(&'static str, VerificationStatus)> {
    let mut inconsistent = open(Phase::AwaitingUser);
    inconsistent.session = None;
    let mut settled = finished(Outcome::Verified);
    settled.settled = true;
    vec![
        ("Fresh", fresh()),
        ("Claimed", attempted(SessionState::Claimed, 1, 0)),
        ("Refused", attempted(SessionState::NotCreated, 1, 0)),
        ("OutcomeUnknown", attempted(SessionState::Unknown, 1, 1)),
        ("OutcomeUnknown, retries spent", attempted(SessionState::Unknown, 3, 3)),
        ("Open", open(Phase::AwaitingUser)),
        ("Finished", finished(Outcome::Verified)),
        ("Settled", settled),
        ("Inconsistent", inconsistent),
    ]
}

/// The answer to a create.
#[must_use]
pub fn created() -> Option<Created> {
    Some(Created {
        id: id()?,
        expires_at: Some(after(3600)),
        flow: ["terms", "document", "liveness"].map(str::to_owned).to_vec(),
        modules: vec!["document".to_owned(), "liveness".to_owned()],
        date: None,
    })
}

/// The answer to a poll: this status, and these modules completed.
#[must_use]
pub fn details(word: &str, completed: &[&str]) -> Details {
    let progress: BTreeMap<String, String> =
        completed.iter().map(|module| ((*module).to_owned(), "completed".to_owned())).collect();
    Details { id: id(), current: Some(word.to_owned()), updated_at: Some(now()), progress, date: None }
}
