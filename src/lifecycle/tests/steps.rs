//! The kinds of steps, and what can come of each.

use std::sync::LazyLock;

use super::world::TROUBLES;
use crate::{
    api::EvidenceKind,
    lifecycle::{
        evidence::{EvidenceError, FinalizerOutcome, RemovalOutcome, UploadOutcome},
        facts::KeyFault,
        fixtures,
        step::{CreateOutcome, Shown as ShownStep, Step, StepOutcome, Wait},
    },
    portal::wire::Details,
};

/// What can come of a step.
pub(super) fn outcomes(step: &Step) -> &'static [StepOutcome] {
    static NOTHING: [StepOutcome; 1] = [StepOutcome::Nothing];
    static CREATES: LazyLock<Vec<StepOutcome>> = LazyLock::new(|| {
        let answered = |answer| StepOutcome::Create(CreateOutcome::Answered(answer));
        let mut all = vec![
            StepOutcome::Create(CreateOutcome::ClaimLost),
            StepOutcome::Create(CreateOutcome::ClaimNotWritten),
            StepOutcome::Create(CreateOutcome::NotSent),
            answered(Ok(fixtures::created().unwrap())),
        ];
        all.extend(TROUBLES.map(|error| answered(Err(error))));
        all
    });
    static LOOKS: LazyLock<Vec<StepOutcome>> = LazyLock::new(|| {
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
        let said = |details: Details| StepOutcome::Poll(Ok(details));
        let mut all: Vec<_> = words.map(|word| said(fixtures::details(word, &[]))).into();
        let other = crate::portal::verification_id::VerificationId::parse("ver_other").ok();
        all.extend([
            said(fixtures::details("in_progress", &["document"])),
            said(fixtures::details("in_progress", &["document", "liveness"])),
            said(Details { current: None, ..fixtures::details("", &["document"]) }),
            said(Details { id: None, ..fixtures::details("verified", &[]) }),
            said(Details { id: other.clone(), ..fixtures::details("verified", &[]) }),
            said(Details { id: other, ..fixtures::details("expired", &[]) }),
            StepOutcome::Nothing,
        ]);
        all.extend(TROUBLES.map(|error| StepOutcome::Poll(Err(error))));
        all
    });
    static STORES: LazyLock<Vec<StepOutcome>> = LazyLock::new(stores);
    static FINALIZER: [StepOutcome; 3] = [
        StepOutcome::AddFinalizer(FinalizerOutcome::Added),
        StepOutcome::AddFinalizer(FinalizerOutcome::Refused),
        StepOutcome::AddFinalizer(FinalizerOutcome::Unknown),
    ];
    static REMOVALS: [StepOutcome; 7] = [
        StepOutcome::Remove(RemovalOutcome::All),
        StepOutcome::Remove(RemovalOutcome::Versioned),
        StepOutcome::Remove(RemovalOutcome::Unlisted),
        StepOutcome::Remove(RemovalOutcome::GaveUp),
        StepOutcome::Remove(RemovalOutcome::NotYet),
        StepOutcome::Remove(RemovalOutcome::NotTried),
        StepOutcome::Nothing,
    ];
    if matches!(step, Step::Create { .. }) {
        &CREATES
    } else if matches!(step, Step::Poll(_) | Step::Adopt(_)) {
        &LOOKS
    } else if *step == Step::Store {
        &STORES
    } else if *step == Step::AddFinalizer {
        &FINALIZER
    } else if matches!(step, Step::RemoveEvidence { release_when: _ }) {
        &REMOVALS
    } else {
        &NOTHING
    }
}

/// Storing: nothing, a part or all of it, here or elsewhere; with each error, and with a wait.
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
    let mut all = vec![StepOutcome::Nothing];
    for stored in brought {
        let again_at = Some(fixtures::after(2 * 3600));
        all.push(StepOutcome::Store(UploadOutcome { again_at, ..stored.clone() }));
        let troubles = EvidenceError::ALL.map(|error| UploadOutcome { error: Some(error), ..stored.clone() });
        all.extend(troubles.map(StepOutcome::Store));
        all.push(StepOutcome::Store(stored));
    }
    all
}

/// How many kinds of steps there are.
pub(super) const KINDS: usize = 33;

/// A number for each kind of step.
pub(super) fn kind(step: &Step) -> usize {
    match step {
        Step::Release => 0,
        Step::NoOp => 1,
        Step::Settle => 2,
        Step::Show(ShownStep::StatusUnreadable) => 3,
        Step::Show(ShownStep::Suspended) => 4,
        Step::Show(ShownStep::PortalNotAllowed) => 5,
        Step::Show(ShownStep::CreateOutcomeUnknown) => 6,
        Step::Retry(_) => 7,
        Step::Wait(Wait::Key(KeyFault::SecretNotFound)) => 8,
        Step::Wait(Wait::Key(KeyFault::KeyMissing)) => 21,
        Step::Wait(Wait::Key(KeyFault::KeyEmpty)) => 22,
        Step::Wait(Wait::Key(KeyFault::KeyMalformed)) => 23,
        Step::Wait(Wait::Key(KeyFault::SecretForbidden)) => 24,
        Step::Wait(Wait::KeyRejected(_)) => 9,
        Step::Wait(Wait::Paused(_)) => 10,
        Step::Wait(Wait::Breaker(_)) => 11,
        Step::Wait(Wait::Rate(_)) => 12,
        Step::Wait(Wait::Due(_)) => 13,
        Step::Wait(Wait::InFlight(_)) => 14,
        Step::Fail => 15,
        Step::GiveUpRefused => 16,
        Step::GiveUpLost => 17,
        Step::Create { attempt: _ } => 18,
        Step::Adopt(_) => 19,
        Step::Poll(_) => 20,
        Step::Show(ShownStep::DestinationRefused) => 25,
        Step::Show(ShownStep::Over) => 26,
        Step::AddFinalizer => 27,
        Step::Store => 28,
        Step::GiveUpEvidence => 29,
        Step::RemoveEvidence { release_when: _ } => 30,
        Step::Show(ShownStep::ResourceTooLarge) => 31,
        Step::Restore(_) => 32,
    }
}
