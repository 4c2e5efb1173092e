//! The kinds of steps, and the outcomes of each.

use std::{borrow::Cow, sync::LazyLock};

use jiff::Timestamp;

use super::world::ERRORS;
use crate::{
    api::EvidenceKind,
    lifecycle::{
        blocker::Blocker,
        cleanup::DeletionOutcome,
        evidence::{FinalizerOutcome, RemovalOutcome, UploadOutcome},
        evidence_error::EvidenceError,
        fixtures,
        key_fact::KeyFault,
        step::{
            CreateOutcome, NotAdmitted, Refusal, Shown as ShownStep, Step, StepOutcome, Transition, Wait,
        },
    },
    portal::{error::PortalError, wire::Details},
};

/// The outcomes of a step, except the refusal of its call.
pub(super) fn outcomes(step: &Step) -> Cow<'static, [StepOutcome]> {
    static CREATES: LazyLock<Vec<StepOutcome>> = LazyLock::new(|| {
        let answered = |answer| StepOutcome::Create(CreateOutcome::Answered(answer));
        let mut all = vec![
            StepOutcome::Create(CreateOutcome::ClaimLost),
            StepOutcome::Create(CreateOutcome::ClaimNotWritten),
            StepOutcome::Create(CreateOutcome::NotSent),
            answered(Ok(fixtures::created().unwrap())),
        ];
        all.extend(ERRORS.map(|error| answered(Err(error))));
        all
    });
    static POLLS: LazyLock<Vec<StepOutcome>> =
        LazyLock::new(|| polled(|answer| StepOutcome::Poll { id: fixtures::id().unwrap(), answer }));
    static ADOPTIONS: LazyLock<Vec<StepOutcome>> =
        LazyLock::new(|| polled(|answer| StepOutcome::Adopt { id: fixtures::id().unwrap(), answer }));
    static STORES: LazyLock<Vec<StepOutcome>> = LazyLock::new(stores);
    static FINALIZER: [StepOutcome; 3] = [
        StepOutcome::AddFinalizer(FinalizerOutcome::Added),
        StepOutcome::AddFinalizer(FinalizerOutcome::Refused),
        StepOutcome::AddFinalizer(FinalizerOutcome::Unknown),
    ];
    static REMOVALS: [StepOutcome; 7] = [
        StepOutcome::RemoveEvidence(RemovalOutcome::All),
        StepOutcome::RemoveEvidence(RemovalOutcome::Versioned),
        StepOutcome::RemoveEvidence(RemovalOutcome::Unlisted),
        StepOutcome::RemoveEvidence(RemovalOutcome::Abandoned),
        StepOutcome::RemoveEvidence(RemovalOutcome::NotYet),
        StepOutcome::RemoveEvidence(RemovalOutcome::NotTried),
        StepOutcome::NotPerformed,
    ];
    static DELETIONS: [StepOutcome; 4] = [
        StepOutcome::Delete(DeletionOutcome::Deleted),
        StepOutcome::Delete(DeletionOutcome::Refused),
        StepOutcome::Delete(DeletionOutcome::StoreUnresponsive),
        StepOutcome::Delete(DeletionOutcome::Unknown),
    ];
    Cow::Borrowed(match step {
        Step::Create { attempt: _ } => &CREATES,
        Step::Poll(id) => {
            assert_eq!(Some(id), fixtures::id().as_ref());
            &POLLS
        }
        Step::Adopt(id) => {
            assert_eq!(Some(id), fixtures::id().as_ref());
            &ADOPTIONS
        }
        Step::Store => &STORES,
        Step::AddFinalizer => &FINALIZER,
        Step::RemoveEvidence { release_when: _ } => &REMOVALS,
        Step::Delete { awaits_store: _ } => &DELETIONS,
        Step::Transition(transition) => {
            return Cow::Owned(vec![StepOutcome::Transition(transition.clone())]);
        }
    })
}

/// Every refusal of the call that a step makes, until this time.
pub(super) fn refusals(step: &Step, until: Timestamp) -> Vec<StepOutcome> {
    let Some(step) = step.portal_step() else { return Vec::new() };
    [
        (Refusal::Paused(until), None),
        (Refusal::Rate(until), None),
        (Refusal::Breaker(until), None),
        (Refusal::Breaker(until), Some(Blocker::NotConfigured)),
        (Refusal::KeyRejected(until), None),
        (Refusal::KeyRejected(until), Some(Blocker::AccessDenied)),
    ]
    .map(|(refusal, cause)| StepOutcome::NotAdmitted(NotAdmitted { step, refusal, cause }))
    .into()
}

/// Every answer to a poll, and a poll that was not made.
fn polled(outcome: impl Fn(Result<Details, PortalError>) -> StepOutcome) -> Vec<StepOutcome> {
    let words = [
        "generated",
        "initiated",
        "in_progress",
        "validating",
        "needs_manual_review",
        "needs_template",
        "verified",
        "rejected",
        "expired",
        "VERIFIED",
        "verified ",
        "junk",
        "\u{1F600}",
    ];
    let mut all: Vec<_> = words.map(|word| outcome(Ok(fixtures::details(word, &[])))).into();
    let other = crate::portal::verification_id::VerificationId::parse("ver_other").ok();
    let others = [
        fixtures::details("in_progress", &["document"]),
        fixtures::details("in_progress", &["document", "liveness"]),
        Details { current: None, ..fixtures::details("", &["document"]) },
        Details { id: None, ..fixtures::details("verified", &[]) },
        Details { id: other.clone(), ..fixtures::details("verified", &[]) },
        Details { id: other, ..fixtures::details("expired", &[]) },
    ];
    all.extend(others.map(|details| outcome(Ok(details))));
    all.push(StepOutcome::NotPerformed);
    all.extend(ERRORS.map(|error| outcome(Err(error))));
    all
}

/// Uploads of nothing, a part or everything, at this destination or another; with each error, and with a wait.
fn stores() -> Vec<StepOutcome> {
    let manifest = UploadOutcome { objects: Vec::new(), ..fixtures::all_stored() };
    let absent = [EvidenceKind::Front, EvidenceKind::Back].map(fixtures::absent).to_vec();
    let brought = [
        UploadOutcome::default(),
        fixtures::stored(vec![fixtures::front()]),
        fixtures::stored(vec![fixtures::front(), fixtures::absent(EvidenceKind::Back)]),
        fixtures::stored(absent),
        fixtures::all_stored(),
        manifest,
        UploadOutcome { prefix: "s3://elsewhere/team-a/customer-42".to_owned(), ..fixtures::all_stored() },
    ];
    let mut all = vec![StepOutcome::NotPerformed];
    for stored in brought {
        let again_at = Some(fixtures::after(2 * 3600));
        all.push(StepOutcome::Store(UploadOutcome { again_at, ..stored.clone() }));
        let errors = EvidenceError::ALL.map(|error| UploadOutcome { error: Some(error), ..stored.clone() });
        all.extend(errors.map(StepOutcome::Store));
        all.push(StepOutcome::Store(stored));
    }
    all
}

/// How many kinds of steps there are.
pub(super) const KINDS: usize = 32;

/// A number for each kind of step.
pub(super) fn kind(step: &Step) -> usize {
    match step {
        Step::Transition(transition) => kind_of_transition(transition),
        Step::Create { attempt: _ } => 23,
        Step::Adopt(_) => 24,
        Step::Poll(_) => 25,
        Step::AddFinalizer => 26,
        Step::Store => 27,
        Step::RemoveEvidence { release_when: _ } => 28,
        Step::Delete { awaits_store: false } => 29,
        Step::Delete { awaits_store: true } => 31,
    }
}

fn kind_of_transition(transition: &Transition) -> usize {
    match transition {
        Transition::Release => 0,
        Transition::NoOp => 1,
        Transition::Settle => 2,
        Transition::Show(ShownStep::StatusUnreadable) => 3,
        Transition::Show(ShownStep::Suspended) => 4,
        Transition::Show(ShownStep::PortalNotAllowed) => 5,
        Transition::Show(ShownStep::CreateOutcomeUnknown) => 6,
        Transition::Show(ShownStep::DestinationRefused) => 7,
        Transition::Show(ShownStep::ResourceTooLarge) => 8,
        Transition::Show(ShownStep::Finished) => 9,
        Transition::Retry(_) => 10,
        Transition::Wait(Wait::Key(KeyFault::SecretNotFound)) => 11,
        Transition::Wait(Wait::Key(KeyFault::KeyMissing)) => 12,
        Transition::Wait(Wait::Key(KeyFault::KeyEmpty)) => 13,
        Transition::Wait(Wait::Key(KeyFault::KeyMalformed)) => 14,
        Transition::Wait(Wait::Key(KeyFault::SecretForbidden)) => 15,
        Transition::Wait(Wait::Due(_)) => 16,
        Transition::Wait(Wait::InFlight(_)) => 17,
        Transition::Wait(Wait::Ttl(_)) => 30,
        Transition::Wait(Wait::Admission(_)) => panic!("a refusal is an outcome, not a fact"),
        Transition::Fail => 18,
        Transition::AbandonUnsent => 19,
        Transition::AbandonUnknown => 20,
        Transition::AbandonEvidence => 21,
        Transition::Restore(_) => 22,
    }
}
