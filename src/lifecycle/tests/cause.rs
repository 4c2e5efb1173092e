//! The messages about a refused evidence destination.

use serde_json::json;

use crate::{
    api::{Condition, ConditionType, Outcome, VerificationStatus},
    lifecycle::{
        conclude::{Conclusion, conclude},
        decide::decide,
        evidence::{DestinationFact, EvidenceFacts, UploadOutcome},
        evidence_error::EvidenceError,
        facts::Facts,
        fixtures::{self, UID},
        state::ParsedStatus,
        step::{Shown, Step, StepOutcome, Transition},
    },
};

/// What is wrong with the destination.
pub(crate) const REFUSAL: &str =
    "the Secret with the credentials of the store: aws_regoin is not an option of s3 stores";
const SAID: &str = "spec.evidence cannot be stored as requested: the Secret with the credentials of the store: aws_regoin is \
                    not an option of s3 stores.";

/// A refused destination.
pub(crate) fn refused_destination() -> DestinationFact {
    DestinationFact::Refused(REFUSAL.to_owned())
}

fn facts(status: &VerificationStatus, refusal: Option<&str>) -> Facts {
    let spec = json!({
        "images": [{"kind": "Front"}],
        "destination": {"url": "s3://evidence", "credentialsSecretRef": {"name": "store"}},
    });
    let evidence = EvidenceFacts::of(Some(serde_json::from_value(spec).unwrap()), status);
    let destination =
        refusal.map_or(DestinationFact::Allowed, |why| DestinationFact::Refused(why.to_owned()));
    let evidence = EvidenceFacts { destination, ..evidence };
    Facts { evidence, ..fixtures::facts() }
}

fn concluded(status: &VerificationStatus, facts: &Facts, outcome: &StepOutcome) -> VerificationStatus {
    let Conclusion { status, .. } = conclude(&ParsedStatus::of(UID, status), outcome, facts);
    status.unwrap()
}

fn shown_as(status: &VerificationStatus, facts: &Facts, shown: Shown) -> VerificationStatus {
    concluded(status, facts, &StepOutcome::Transition(Transition::Show(shown)))
}

fn said(status: &VerificationStatus, type_: ConditionType) -> Option<&str> {
    Condition::find(&status.conditions, type_).map(|condition| &*condition.message)
}

#[test]
fn before_a_session_is_created_the_message_names_the_fault_of_the_destination() {
    let status = fixtures::fresh();
    let facts = facts(&status, Some(REFUSAL));
    let step = decide(&ParsedStatus::of(UID, &status), &facts);
    assert_eq!(step, Step::Transition(Transition::Show(Shown::DestinationRefused)));
    let shown = shown_as(&status, &facts, Shown::DestinationRefused);
    assert_eq!(said(&shown, ConditionType::Stalled), Some(SAID));
    assert_eq!(said(&shown, ConditionType::Ready), Some(SAID));
    assert!(
        shown.conditions.iter().filter(|condition| condition.message.contains("aws_regoin")).count() == 2
    );
}

#[test]
fn the_message_names_the_fault_for_as_long_as_the_destination_is_refused() {
    let over = fixtures::finished(Outcome::Verified);
    let stored = UploadOutcome {
        error: Some(EvidenceError::StoreSecretInvalid),
        refusal: Some(REFUSAL.to_owned()),
        ..UploadOutcome::default()
    };
    let failed = concluded(&over, &facts(&over, None), &StepOutcome::Store(stored));
    assert_eq!(said(&failed, ConditionType::EvidenceStored), Some(SAID));
    let later = shown_as(&failed, &facts(&failed, None), Shown::Finished);
    assert_eq!(said(&later, ConditionType::EvidenceStored), Some(SAID));
    let retry = StepOutcome::Transition(Transition::Retry("go".to_owned()));
    let retried = concluded(&failed, &facts(&failed, None), &retry);
    assert_ne!(said(&retried, ConditionType::EvidenceStored), Some(SAID));
}

#[test]
fn a_store_without_conditional_writes_has_a_message_of_its_own() {
    let over = fixtures::finished(Outcome::Verified);
    let stored =
        UploadOutcome { error: Some(EvidenceError::NoConditionalWrites), ..UploadOutcome::default() };
    let failed = concluded(&over, &facts(&over, None), &StepOutcome::Store(stored));
    let message = said(&failed, ConditionType::EvidenceStored).unwrap();
    assert!(
        message.starts_with("The store does not support conditional writes (If-None-Match)"),
        "{message}"
    );
}

#[test]
fn a_refusal_that_is_long_or_has_odd_characters_fits_the_condition() {
    let status = fixtures::fresh();
    let odd = format!("{}\u{1b}[31mé", "x".repeat(400));
    let facts = facts(&status, Some(&odd));
    let shown = shown_as(&status, &facts, Shown::DestinationRefused);
    let message = said(&shown, ConditionType::Stalled).unwrap();
    assert!(message.len() <= 256 && message.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(message.starts_with("spec.evidence cannot be stored as requested: xxx"));
}
