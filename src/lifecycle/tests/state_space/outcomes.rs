//! What a step can lead to. Pure.

use std::time::Duration;

use crate::{
    api::EvidenceKind,
    lifecycle::{
        cleanup::DeletionOutcome,
        evidence::{FinalizerOutcome, RemovalOutcome, UploadOutcome},
        evidence_error::EvidenceError,
        fixtures,
        step::{CreateOutcome, Step, StepOutcome},
    },
    portal::{
        error::{Failed, NotSent, PortalError},
        wire::Details,
    },
};

/// The outcomes of a step, except the refusal of its call.
pub(super) fn outcomes(step: &Step) -> Vec<StepOutcome> {
    let answered = |answer| StepOutcome::Create(CreateOutcome::Answered(answer));
    if matches!(step, Step::Create { .. }) {
        let mut all =
            vec![answered(Ok(fixtures::created().unwrap())), StepOutcome::Create(CreateOutcome::NotSent)];
        all.extend(ERRORS.map(|error| answered(Err(error))));
        return all;
    }
    if *step == Step::Store {
        return stores();
    }
    if matches!(step, Step::RemoveEvidence { .. }) {
        let ends = [
            RemovalOutcome::All,
            RemovalOutcome::Versioned,
            RemovalOutcome::Unlisted,
            RemovalOutcome::Abandoned,
            RemovalOutcome::NotYet,
            RemovalOutcome::NotTried,
        ];
        return ends.map(StepOutcome::RemoveEvidence).into();
    }
    if matches!(step, Step::Delete { .. }) {
        let ends = [
            DeletionOutcome::Deleted,
            DeletionOutcome::Refused,
            DeletionOutcome::StoreUnresponsive,
            DeletionOutcome::Unknown,
        ];
        return ends.map(StepOutcome::Delete).into();
    }
    if *step == Step::AddFinalizer {
        return [FinalizerOutcome::Added, FinalizerOutcome::Refused].map(StepOutcome::AddFinalizer).into();
    }
    let outcome = |answer: Result<Details, PortalError>| match step {
        Step::Adopt(id) => StepOutcome::Adopt { id: id.clone(), answer },
        Step::Poll(id) => StepOutcome::Poll { id: id.clone(), answer },
        Step::Transition(transition) => StepOutcome::Transition(transition.clone()),
        Step::Create { attempt: _ }
        | Step::AddFinalizer
        | Step::Store
        | Step::RemoveEvidence { release_when: _ }
        | Step::Delete { awaits_store: _ } => panic!("{step:?} has outcomes of its own"),
    };
    if let Step::Transition(transition) = step {
        return vec![StepOutcome::Transition(transition.clone())];
    }
    let answered_with = |word, completed: &[&str]| outcome(Ok(fixtures::details(word, completed)));
    let mut all = vec![
        answered_with("generated", &[]),
        answered_with("in_progress", &["document"]),
        answered_with("validating", &["document", "liveness"]),
        answered_with("verified", &["document", "liveness"]),
        answered_with("rejected", &[]),
        answered_with("expired", &[]),
        answered_with("junk", &[]),
        outcome(Ok(Details { id: None, ..fixtures::details("verified", &[]) })),
    ];
    all.extend(ERRORS.map(|error| outcome(Err(error))));
    all
}

fn stores() -> Vec<StepOutcome> {
    let front = || fixtures::stored(vec![fixtures::front()]);
    let errors = [EvidenceError::StoreUnavailable, EvidenceError::ImageNotAvailable, EvidenceError::Conflict];
    let elsewhere = UploadOutcome { prefix: "gs://elsewhere".to_owned(), ..front() };
    let back = fixtures::stored(vec![fixtures::absent(EvidenceKind::Back)]);
    let mut all = vec![fixtures::all_stored(), front(), back, elsewhere, UploadOutcome::default()];
    all.extend(errors.map(|error| UploadOutcome { error: Some(error), ..UploadOutcome::default() }));
    all.push(UploadOutcome { error: Some(EvidenceError::StoreAccessDenied), ..front() });
    all.into_iter().map(StepOutcome::Store).collect()
}

const ERRORS: [PortalError; 8] = [
    PortalError::NotSent(NotSent::Connect),
    PortalError::KeyRejected,
    PortalError::Invalid,
    PortalError::NotFound,
    PortalError::Unconfigured,
    PortalError::Unclear { status: 404 },
    PortalError::Limited { retry_after: Some(Duration::from_mins(2)) },
    PortalError::Failed(Failed::Cut),
];
