//! Compares the version that a reconcile started from, the status that it writes, and the version that another client wrote
//! meanwhile. May depend on `reconciliation` and on `lifecycle`. Calls nothing.

use kube::ResourceExt;

use super::reconciliation::Reconciliation;
use crate::{
    api::{Verification, VerificationStatus},
    lifecycle::{ParsedStatus, attempts},
};

/// Whether an outcome still applies to the version that another client wrote.
pub(super) fn applies_to(read: &Verification, reconciliation: &Reconciliation) -> bool {
    let status = read.status.clone().unwrap_or_default();
    let parsed = ParsedStatus::of(&reconciliation.observed.facts.uid, &status);
    // A claim in the same state may be another attempt, or another process's.
    let claim = |status: &VerificationStatus| {
        status.session.as_ref().map(|session| (session.attempt, session.holder.clone()))
    };
    read.uid() == reconciliation.object.uid()
        && read.metadata.deletion_timestamp.is_none()
        && parsed.state() == reconciliation.parsed().state()
        && claim(&status) == claim(&reconciliation.status)
}

/// Whether a written claim is gone although attempts never decrease: etcd was restored from a backup.
pub(super) fn has_lost_claim(now: &Verification, claimed: &Verification, attempt: u32) -> bool {
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
    fn after_a_conflict_an_outcome_applies_only_to_the_same_attempt_of_the_same_process() {
        let claimed = fixtures::attempted(SessionState::Claimed, 2, 0);
        let ours = reconciliation(&claimed);
        let with = |change: fn(&mut Verification)| {
            let mut read = object(&claimed);
            change(&mut read);
            applies_to(&read, &ours)
        };
        assert!(with(|read| read.metadata.resource_version = Some("2".to_owned())));
        assert!(!with(|read| session(read).attempt = 3), "another attempt");
        assert!(!with(|read| session(read).holder = Some("later/0".to_owned())), "another process");
        assert!(!with(|read| session(read).state = Some(SessionState::Unknown)));
        assert!(!with(|read| read.metadata.uid = Some("another".to_owned())));
        assert!(!with(|read| read.metadata.deletion_timestamp = Some(Time(fixtures::now()))));
        let open = fixtures::open(Phase::AwaitingUser);
        assert!(applies_to(&object(&open), &reconciliation(&open)));
    }
}
