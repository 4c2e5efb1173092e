//! What is said of a destination of evidence that is refused.

use serde_json::json;

use crate::{
    api::{Condition, ConditionType, Outcome, VerificationStatus},
    lifecycle::{
        Conclusion, DestinationFact, EvidenceFacts, EvidenceTrouble, Facts, Happened, Step, Stored, conclude,
        decide, ledger, past,
        sample::{self, UID},
        step::Shown,
    },
};

/// What is wrong with a destination.
pub(super) const REFUSAL: &str =
    "the Secret with the credentials of the store: aws_regoin is no option of s3 stores";
const SAID: &str = "spec.images cannot be kept as asked: the Secret with the credentials of the store: aws_regoin is \
                    no option of s3 stores.";

/// A destination that is refused.
pub(super) fn refused_destination() -> DestinationFact {
    DestinationFact::Refused(REFUSAL.to_owned())
}

fn facts(status: &VerificationStatus, refusal: Option<&str>) -> Facts {
    let images = json!({
        "items": [{"kind": "Front"}],
        "destination": {"url": "s3://evidence", "credentialsSecretRef": {"name": "store"}},
    });
    let evidence = EvidenceFacts::of(Some(serde_json::from_value(images).unwrap()), status);
    let destination =
        refusal.map_or(DestinationFact::Allowed, |why| DestinationFact::Refused(why.to_owned()));
    let evidence = EvidenceFacts { destination, ..evidence };
    Facts { evidence, ..sample::facts() }
}

fn concluded(
    status: &VerificationStatus,
    facts: &Facts,
    step: &Step,
    happened: &Happened,
) -> VerificationStatus {
    let Conclusion { status, .. } =
        conclude(status, &past(UID, status), ledger(status), step, happened, facts);
    status.unwrap()
}

fn said(status: &VerificationStatus, type_: ConditionType) -> Option<&str> {
    Condition::find(&status.conditions, type_).map(|condition| condition.message.as_str())
}

#[test]
fn before_a_session_is_made_it_is_said_what_is_wrong_with_the_destination() {
    let status = sample::fresh();
    let facts = facts(&status, Some(REFUSAL));
    let step = decide(&past(UID, &status), ledger(&status), &facts);
    assert_eq!(step, Step::Show(Shown::DestinationRefused));
    let shown = concluded(&status, &facts, &step, &Happened::Nothing);
    assert_eq!(said(&shown, ConditionType::Stalled), Some(SAID));
    assert_eq!(said(&shown, ConditionType::Ready), Some(SAID));
    assert!(
        shown.conditions.iter().filter(|condition| condition.message.contains("aws_regoin")).count() == 2
    );
}

#[test]
fn what_is_wrong_is_said_for_as_long_as_evidence_stays_refused() {
    let over = sample::over(Outcome::Verified);
    let stored = Stored {
        trouble: Some(EvidenceTrouble::DestinationRefused),
        refusal: Some(REFUSAL.to_owned()),
        ..Stored::default()
    };
    let failed = concluded(&over, &facts(&over, None), &Step::Store, &Happened::Store(stored));
    assert_eq!(said(&failed, ConditionType::EvidenceStored), Some(SAID));
    let later = concluded(&failed, &facts(&failed, None), &Step::Show(Shown::Over), &Happened::Nothing);
    assert_eq!(said(&later, ConditionType::EvidenceStored), Some(SAID));
    let retried =
        concluded(&failed, &facts(&failed, None), &Step::Grant("go".to_owned()), &Happened::Nothing);
    assert_ne!(said(&retried, ConditionType::EvidenceStored), Some(SAID));
}

#[test]
fn a_refusal_that_is_too_long_or_odd_still_fits_the_condition() {
    let status = sample::fresh();
    let odd = format!("{}\u{1b}[31mé", "x".repeat(400));
    let facts = facts(&status, Some(&odd));
    let shown = concluded(&status, &facts, &Step::Show(Shown::DestinationRefused), &Happened::Nothing);
    let message = said(&shown, ConditionType::Stalled).unwrap();
    assert!(message.len() <= 256 && message.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(message.starts_with("spec.images cannot be kept as asked: xxx"));
}
