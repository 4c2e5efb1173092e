//! What the documentation promises to those who wait, for each state of a resource. Pure.

use okid_operator::api::{ConditionStatus, Phase, ReadyWhen, Verification, VerificationStatus};

/// What clients must conclude from a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    /// The result of kstatus.
    pub(crate) kstatus: &'static str,
    /// The health in Argo CD.
    pub(crate) argo_cd: &'static str,
}

const fn promise(kstatus: &'static str, argo_cd: &'static str) -> Promise {
    Promise { kstatus, argo_cd }
}

const TERMINATING: Promise = promise("Terminating", "Progressing");
const IN_PROGRESS: Promise = promise("InProgress", "Progressing");
const WAITS_FOR_PEOPLE: Promise = promise("InProgress", "Suspended");
const FAILED: Promise = promise("Failed", "Degraded");
const CURRENT: Promise = promise("Current", "Healthy");

/// Reasons of `Stalled` that are no verdict: whatever the phase and `readyWhen` are, waiting does not help.
const BLOCKED: [&str; 11] = [
    "AccessDenied",
    "CreateOutcomeUnknown",
    "DestinationNotAllowed",
    "KeyRejected",
    "KeyRotated",
    "PortalMisconfigured",
    "PortalNotAllowed",
    "PortalRejectedRequest",
    "ResourceTooLarge",
    "SessionNotFound",
    "StatusUnreadable",
];

impl Promise {
    /// What clients must conclude from a resource, from its phase, its link, and what blocks it.
    ///
    /// # Panics
    /// If no row describes the resource.
    pub(crate) fn of(resource: &Verification) -> Self {
        if resource.metadata.deletion_timestamp.is_some() {
            return TERMINATING;
        }
        match resource.status.as_ref().filter(|_| is_observed(resource)) {
            Some(status) => of_observed(resource, status),
            None => IN_PROGRESS,
        }
    }
}

/// Whether the operator has seen the newest spec.
pub(crate) fn is_observed(resource: &Verification) -> bool {
    let observed = resource.status.as_ref().and_then(|status| status.observed_generation);
    observed == resource.metadata.generation
}

fn of_observed(resource: &Verification, status: &VerificationStatus) -> Promise {
    let at_link = resource.spec.ready_when == ReadyWhen::SessionCreated;
    let stalled = reason(status, "Stalled");
    if stalled.is_some_and(|reason| BLOCKED.contains(&reason)) {
        return FAILED;
    }
    let evidence_failed = stalled == Some("EvidenceFailed");
    match status.phase.expect("an observed status has a phase") {
        Phase::Verified if !evidence_failed => CURRENT,
        Phase::Rejected | Phase::Expired | Phase::Storing if at_link && !evidence_failed => CURRENT,
        Phase::Verified | Phase::Rejected | Phase::Expired | Phase::Failed => FAILED,
        Phase::Storing => IN_PROGRESS,
        phase @ (Phase::Pending
        | Phase::Creating
        | Phase::AwaitingUser
        | Phase::InProgress
        | Phase::Processing
        | Phase::InReview) => of_live(resource, status, phase, at_link),
    }
}

fn of_live(resource: &Verification, status: &VerificationStatus, phase: Phase, at_link: bool) -> Promise {
    let stalled = reason(status, "Stalled");
    assert_eq!(stalled, None, "no row has a live check that is Stalled for this reason");
    let has_link = status.portal_url.is_some();
    if at_link && has_link {
        return CURRENT;
    }
    if resource.spec.suspend {
        return WAITS_FOR_PEOPLE;
    }
    let is_retried = matches!(reason(status, "Reconciling"), Some("ProgressingWithRetry" | "RateLimited"));
    // A link that the API server has refused is not published, so nobody can be waited for.
    let waits_for_people = phase == Phase::InReview || phase == Phase::AwaitingUser && has_link;
    if waits_for_people && !is_retried { WAITS_FOR_PEOPLE } else { IN_PROGRESS }
}

/// The reason of a condition that is True.
pub(crate) fn reason<'a>(status: &'a VerificationStatus, type_: &str) -> Option<&'a str> {
    let shown = status.conditions.iter().find(|condition| condition.type_ == type_)?;
    (shown.status == ConditionStatus::True).then_some(&*shown.reason)
}
