//! Compares the version that a reconcile started from, the status that it writes, and the version that another client wrote
//! meanwhile. May depend on `reconciliation` and on `lifecycle`. Calls nothing.

use kube::ResourceExt;

use super::reconciliation::{Reconciliation, WrittenClaim};
use crate::{
    api::{SessionState, Verification, VerificationStatus},
    lifecycle::{ParsedStatus, attempts},
};

/// Whether an outcome still applies to the version that another client wrote.
pub(super) fn applies_to(read: &Verification, reconciliation: &Reconciliation) -> bool {
    let status = read.status.clone().unwrap_or_default();
    let parsed = ParsedStatus::of(&reconciliation.observed.facts.uid, &status);
    // A claim in the same state may be another attempt, or another reconcile's.
    let claim = |status: &VerificationStatus| {
        status.session.as_ref().map(|session| (session.attempt, session.holder.clone()))
    };
    read.uid() == reconciliation.object.uid()
        && read.metadata.deletion_timestamp.is_none()
        && parsed.state() == reconciliation.parsed().state()
        && claim(&status) == claim(&reconciliation.status)
}

/// Whether the resource carries this reconcile's claim of this attempt.
pub(super) fn has_claim(now: &Verification, reconciliation: &Reconciliation, attempt: u32) -> bool {
    let session = now.status.as_ref().and_then(|status| status.session.as_ref());
    now.uid() == reconciliation.object.uid()
        && is_claimed(now, attempt)
        && session.and_then(|session| session.holder.as_ref()) == Some(&reconciliation.observed.facts.holder)
}

/// Whether the resource carries a claim of this attempt, whoever wrote it.
pub(super) fn is_claimed(now: &Verification, attempt: u32) -> bool {
    let session = now.status.as_ref().and_then(|status| status.session.as_ref());
    session.is_some_and(|session| {
        session.state == Some(SessionState::Claimed) && u32::try_from(session.attempt) == Ok(attempt)
    })
}

/// Whether the resource carries the claim of this reconcile, or has lost it because etcd was restored from a backup.
pub(super) fn still_claims(now: &Verification, reconciliation: &Reconciliation) -> bool {
    let Some(WrittenClaim { attempt, .. }) = reconciliation.claim else { return false };
    has_claim(now, reconciliation, attempt) || has_lost_claim(now, &reconciliation.object, attempt)
}

/// Whether a written claim is gone although attempts never decrease: etcd was restored from a backup.
fn has_lost_claim(now: &Verification, claimed: &Verification, attempt: u32) -> bool {
    let status = now.status.clone().unwrap_or_default();
    now.uid() == claimed.uid()
        && status.verification_id.is_none()
        && status.outcome.is_none()
        && attempts(&status).attempt < attempt
}

/// Whether a record that seemed unwritten was written after all.
pub(super) fn is_recorded(now: &Verification, read: &Verification, after: &VerificationStatus) -> bool {
    let status = now.status.as_ref();
    now.uid() == read.uid()
        && status.is_some_and(|status| {
            status.verification_id == after.verification_id
                && status.session.as_ref().map(|s| (s.attempt, s.state, s.orphans))
                    == after.session.as_ref().map(|s| (s.attempt, s.state, s.orphans))
        })
}

/// The minimum of a record that must not be lost if the schema refuses other fields: id, phase and session.
pub(super) fn minimal_record(before: &VerificationStatus, after: &VerificationStatus) -> VerificationStatus {
    VerificationStatus {
        verification_id: after.verification_id.clone(),
        phase: after.phase,
        session: after.session.clone(),
        ..before.clone()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::{
        api::{Phase, Session, SessionState},
        lifecycle::fixtures,
        reconcile::reconciliation::samples::{object, reconciliation},
    };

    fn session(read: &mut Verification) -> &mut Session {
        read.status.get_or_insert_default().session.get_or_insert_default()
    }

    #[test]
    fn a_claim_belongs_to_the_reconcile_that_wrote_it_and_to_no_other_of_its_process() {
        let claimed = fixtures::attempted(SessionState::Claimed, 2, 0);
        let mut ours = reconciliation(&claimed);
        ours.observed.facts.holder = claimed.session.as_ref().and_then(|s| s.holder.clone()).unwrap();
        assert!(has_claim(&object(&claimed), &ours, 2));
        assert!(!has_claim(&object(&claimed), &ours, 1), "another attempt");
        ours.observed.facts.holder.push('0');
        assert!(!has_claim(&object(&claimed), &ours, 2), "another reconcile");
        let mut without_holder = object(&claimed);
        session(&mut without_holder).holder = None;
        assert!(!has_claim(&without_holder, &ours, 2));
        assert!(is_claimed(&without_holder, 2) && !is_claimed(&without_holder, 3));
        session(&mut without_holder).state = Some(SessionState::NotCreated);
        assert!(!is_claimed(&without_holder, 2));
    }

    #[test]
    fn after_a_conflict_an_outcome_applies_only_to_the_same_attempt_and_reconcile() {
        let claimed = fixtures::attempted(SessionState::Claimed, 2, 0);
        let ours = reconciliation(&claimed);
        let with = |change: fn(&mut Verification)| {
            let mut read = object(&claimed);
            change(&mut read);
            applies_to(&read, &ours)
        };
        assert!(with(|read| read.metadata.resource_version = Some("2".to_owned())));
        assert!(!with(|read| session(read).attempt = 3), "another attempt");
        assert!(!with(|read| session(read).holder = Some("later/0".to_owned())), "another reconcile");
        assert!(!with(|read| session(read).state = Some(SessionState::Unknown)));
        assert!(!with(|read| read.metadata.uid = Some("another".to_owned())));
        assert!(!with(|read| read.metadata.deletion_timestamp = Some(Time(fixtures::now()))));
        let open = fixtures::open(Phase::AwaitingUser);
        assert!(applies_to(&object(&open), &reconciliation(&open)));
    }
}
