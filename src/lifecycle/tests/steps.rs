//! The kinds of steps, and what can come of each.

use std::sync::LazyLock;

use crate::{
    api::EvidenceKind,
    lifecycle::{
        CreateEnd, EvidenceTrouble, FinalizerEnd, Happened, KeyFault, Removed, Step, Stored, sample,
        step::{Shown as ShownStep, Wait},
    },
    portal::wire::Details,
};

use super::world::TROUBLES;

/// What can come of a step.
pub(super) fn outcomes(step: &Step) -> &'static [Happened] {
    static NOTHING: [Happened; 1] = [Happened::Nothing];
    static CREATES: LazyLock<Vec<Happened>> = LazyLock::new(|| {
        let answered = |answer| Happened::Create(CreateEnd::Answered(answer));
        let mut all = vec![
            Happened::Create(CreateEnd::ClaimLost),
            Happened::Create(CreateEnd::ClaimNotWritten),
            Happened::Create(CreateEnd::NotSent),
            answered(Ok(sample::created().unwrap())),
        ];
        all.extend(TROUBLES.map(|trouble| answered(Err(trouble))));
        all
    });
    static LOOKS: LazyLock<Vec<Happened>> = LazyLock::new(|| {
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
        let said = |details: Details| Happened::Look(Ok(details));
        let mut all: Vec<_> = words.map(|word| said(sample::details(word, &[]))).into();
        let other = crate::portal::verification_id::VerificationId::parse("ver_other").ok();
        all.extend([
            said(sample::details("in_progress", &["document"])),
            said(sample::details("in_progress", &["document", "liveness"])),
            said(Details { current: None, ..sample::details("", &["document"]) }),
            said(Details { id: None, ..sample::details("verified", &[]) }),
            said(Details { id: other.clone(), ..sample::details("verified", &[]) }),
            said(Details { id: other, ..sample::details("expired", &[]) }),
            Happened::Nothing,
        ]);
        all.extend(TROUBLES.map(|trouble| Happened::Look(Err(trouble))));
        all
    });
    static STORES: LazyLock<Vec<Happened>> = LazyLock::new(stores);
    static FINALIZER: [Happened; 3] = [
        Happened::AddFinalizer(FinalizerEnd::Added),
        Happened::AddFinalizer(FinalizerEnd::Refused),
        Happened::AddFinalizer(FinalizerEnd::Unknown),
    ];
    static REMOVALS: [Happened; 7] = [
        Happened::Remove(Removed::All),
        Happened::Remove(Removed::Versioned),
        Happened::Remove(Removed::Unlisted),
        Happened::Remove(Removed::GaveUp),
        Happened::Remove(Removed::NotYet),
        Happened::Remove(Removed::NotTried),
        Happened::Nothing,
    ];
    if matches!(step, Step::Create { .. }) {
        &CREATES
    } else if matches!(step, Step::Look(_) | Step::Adopt(_)) {
        &LOOKS
    } else if *step == Step::Store {
        &STORES
    } else if *step == Step::AddFinalizer {
        &FINALIZER
    } else if matches!(step, Step::RemoveEvidence { let_go: _ }) {
        &REMOVALS
    } else {
        &NOTHING
    }
}

/// Storing: nothing, a part or all of it, here or elsewhere; with each trouble, and with a wait.
fn stores() -> Vec<Happened> {
    let manifest = Stored { objects: Vec::new(), ..sample::all_stored() };
    let absent = [EvidenceKind::Front, EvidenceKind::Back].map(sample::absent).to_vec();
    let brought = [
        Stored::default(),
        sample::stored(vec![sample::front()]),
        sample::stored(vec![sample::front(), sample::absent(EvidenceKind::Back)]),
        sample::stored(absent),
        sample::all_stored(),
        manifest,
        Stored { prefix: "s3://elsewhere/team-a/customer-42".to_owned(), ..sample::all_stored() },
    ];
    let mut all = vec![Happened::Nothing];
    for stored in brought {
        let again_at = Some(sample::after(2 * 3600));
        all.push(Happened::Store(Stored { again_at, ..stored.clone() }));
        let troubles =
            EvidenceTrouble::ALL.map(|trouble| Stored { trouble: Some(trouble), ..stored.clone() });
        all.extend(troubles.map(Happened::Store));
        all.push(Happened::Store(stored));
    }
    all
}

/// How many kinds of steps there are.
pub(super) const KINDS: usize = 33;

/// A number for each kind of step.
pub(super) fn kind(step: &Step) -> usize {
    match step {
        Step::Forget => 0,
        Step::Rest => 1,
        Step::Settle => 2,
        Step::Show(ShownStep::StatusUnreadable) => 3,
        Step::Show(ShownStep::Suspended) => 4,
        Step::Show(ShownStep::PortalNotAllowed) => 5,
        Step::Show(ShownStep::CreateOutcomeUnknown) => 6,
        Step::Grant(_) => 7,
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
        Step::Wait(Wait::Quiet(_)) => 14,
        Step::End => 15,
        Step::GiveUpRefused => 16,
        Step::GiveUpLost => 17,
        Step::Create { attempt: _ } => 18,
        Step::Adopt(_) => 19,
        Step::Look(_) => 20,
        Step::Show(ShownStep::DestinationRefused) => 25,
        Step::Show(ShownStep::Over) => 26,
        Step::AddFinalizer => 27,
        Step::Store => 28,
        Step::GiveUpEvidence => 29,
        Step::RemoveEvidence { let_go: _ } => 30,
        Step::Show(ShownStep::ResourceTooLarge) => 31,
        Step::Restore(_) => 32,
    }
}
