//! What status shows: the state of a verification as conditions that kstatus, Argo CD and kubectl read correctly. Pure.
//!
//! Reconciling and Stalled are present only when True and never together, because kstatus reads the first of them.
//! Every condition carries the generation, and its time moves only when its status flips.

use jiff::Timestamp;

use super::{
    blocker::Blocker,
    evidence::{EvidenceState, nothing_to_store},
    interruption::{Interruption, Stall},
    message::message,
};
use crate::api::{
    Condition, ConditionStatus, ConditionType, Outcome, Phase, ReadyWhen, Reason, SessionState,
    VerificationStatus,
};

/// Whether it is in progress or stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Reconciling(Reason),
    Stalled(Reason),
    Neither,
}

/// What to show besides the fields of status.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConditionInputs {
    /// What takes the place of the phase's own reason.
    pub(super) interruption: Interruption,
    /// Reason of `CredentialsReady`; if none, the former one stays.
    pub(super) credentials: Option<Reason>,
    /// Reason of `SessionCreated`; if none, it follows from the session's state.
    pub(super) session: Option<Reason>,
    /// How much of the evidence is stored.
    pub(super) evidence: EvidenceState,
    /// Reason of `EvidenceStored` while it is not stored; if none, the former one stays.
    pub(super) evidence_reason: Option<Reason>,
    /// Reason of `CleanupReady`; none without `spec.ttlAfterFinished`.
    pub(super) cleanup: Option<Reason>,
}

/// The phase, from its last value and the other fields.
pub(super) fn phase(status: &VerificationStatus, evidence: EvidenceState) -> Phase {
    if status.outcome.is_some() && evidence == EvidenceState::Pending {
        return Phase::Storing;
    }
    match status.outcome {
        Some(Outcome::Verified) => return Phase::Verified,
        Some(Outcome::Rejected) => return Phase::Rejected,
        Some(Outcome::Expired) => return Phase::Expired,
        Some(Outcome::Failed) => return Phase::Failed,
        None => {}
    }
    if status.verification_id.is_some() {
        return match status.phase {
            Some(open @ (Phase::AwaitingUser | Phase::InProgress | Phase::Processing | Phase::InReview)) => {
                open
            }
            Some(
                Phase::Pending
                | Phase::Creating
                | Phase::Storing
                | Phase::Verified
                | Phase::Rejected
                | Phase::Expired
                | Phase::Failed,
            )
            | None => Phase::AwaitingUser,
        };
    }
    match status.session.as_ref().and_then(|session| session.state) {
        Some(SessionState::Claimed | SessionState::Unknown) => Phase::Creating,
        Some(SessionState::NotCreated | SessionState::Created | SessionState::Adopted) | None => {
            Phase::Pending
        }
    }
}

/// The conditions of a status whose other fields are final.
pub(super) fn conditions(
    status: &VerificationStatus,
    inputs: ConditionInputs,
    ready_when: ReadyWhen,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let old = &status.conditions;
    let (ready, work) = ready_and_work(status, inputs, ready_when);
    let credentials = inputs
        .credentials
        .or_else(|| {
            Condition::find(old, ConditionType::CredentialsReady)
                .and_then(|condition| Reason::from_word(&condition.reason))
        })
        .unwrap_or(Reason::NotChecked);
    let session = inputs.session.unwrap_or_else(|| session_reason(status));
    // An inconsistent status keeps its final conditions, because they never go back. Its outcome is not believed, so it
    // makes no condition final.
    let unreadable = inputs.interruption == Interruption::Stalled(Stall::StatusUnreadable);
    let outcome = status.outcome.filter(|_| !unreadable);
    let finished = outcome.map_or(Reason::Running, outcome_reason);
    let verified = outcome.map_or(Reason::NotFinished, outcome_reason);

    let mut shown = vec![(ConditionType::Ready, ready_status(ready), ready)];
    match work {
        Work::Reconciling(reason) => {
            shown.push((ConditionType::Reconciling, ConditionStatus::True, reason));
        }
        Work::Stalled(reason) => shown.push((ConditionType::Stalled, ConditionStatus::True, reason)),
        Work::Neither => {}
    }
    shown.push((ConditionType::CredentialsReady, credentials_status(credentials), credentials));
    shown.push((ConditionType::SessionCreated, session_status(session), session));
    let over = if outcome.is_some() { ConditionStatus::True } else { ConditionStatus::False };
    shown.push((ConditionType::Finished, over, finished));
    let verdict = match outcome {
        None => ConditionStatus::Unknown,
        Some(Outcome::Verified) => ConditionStatus::True,
        Some(Outcome::Rejected | Outcome::Expired | Outcome::Failed) => ConditionStatus::False,
    };
    shown.push((ConditionType::Verified, verdict, verified));
    if let Some((stored, reason)) = evidence_stored(inputs.evidence, status, inputs.evidence_reason) {
        shown.push((ConditionType::EvidenceStored, stored, reason));
    }
    if let Some(reason) = inputs.cleanup {
        shown.push((ConditionType::CleanupReady, cleanup_status(reason), reason));
    }

    shown
        .into_iter()
        .map(|(type_, status, reason)| {
            let before = Condition::find(old, type_);
            let is_final = matches!(type_, ConditionType::Finished | ConditionType::Verified);
            match before {
                Some(before) if unreadable && is_final => {
                    Condition { observed_generation: generation, ..before.clone() }
                }
                _ => Condition {
                    type_: type_.as_str().into(),
                    status,
                    reason: reason.as_str().into(),
                    message: said(type_, reason, inputs.interruption).into(),
                    last_transition_time: before
                        .filter(|before| before.status == status)
                        .map_or(whole_seconds(now), |before| before.last_transition_time),
                    observed_generation: generation,
                },
            }
        })
        .collect()
}

/// The message of a condition. A blocker has its own, which is more precise than that of its reason.
fn said(type_: ConditionType, reason: Reason, interruption: Interruption) -> &'static str {
    interruption
        .blocker()
        .filter(|blocker| blocker.reason() == reason)
        .map_or_else(|| message(type_, reason), Blocker::message)
}

fn ready_and_work(
    status: &VerificationStatus,
    inputs: ConditionInputs,
    ready_when: ReadyWhen,
) -> (Reason, Work) {
    let ConditionInputs { interruption, evidence, .. } = inputs;
    let has_session = status.verification_id.is_some();
    let plain = |status| plain(status, evidence);
    let (ready, work) = match interruption {
        Interruption::Stalled(Stall::StatusUnreadable) => {
            let ready = plain(status).0;
            // Otherwise Ready would be True beside Stalled.
            let as_before = has_session && ready != Reason::Verified;
            let ready = if as_before { ready } else { Reason::StatusUnreadable };
            (ready, Work::Stalled(Reason::StatusUnreadable))
        }
        _ if status.outcome.is_some() && evidence == EvidenceState::Failed => {
            (Reason::EvidenceFailed, Work::Stalled(Reason::EvidenceFailed))
        }
        // Pending evidence cannot be requested, and waiting will not help.
        Interruption::Stalled(stall @ Stall::PortalNotAllowed)
            if status.outcome.is_some() && evidence == EvidenceState::Pending =>
        {
            (plain(status).0, Work::Stalled(stall.reason()))
        }
        _ if status.outcome.is_some() => plain(status),
        Interruption::None => plain(status),
        // A blocker concerns a session that does not exist yet.
        Interruption::Blocked(_) if has_session => plain(status),
        Interruption::Blocked(blocker) => (blocker.reason(), Work::Reconciling(blocker.reason())),
        Interruption::Retry => {
            (Reason::ProgressingWithRetry, Work::Reconciling(Reason::ProgressingWithRetry))
        }
        Interruption::RateLimited => {
            let ready = if has_session { plain(status).0 } else { Reason::RateLimited };
            (ready, Work::Reconciling(Reason::RateLimited))
        }
        Interruption::RetryingCreate => {
            (Reason::CreatingSession, Work::Reconciling(Reason::CreateOutcomeUnknown))
        }
        Interruption::Suspended => (Reason::Suspended, Work::Neither),
        Interruption::Stalled(stall @ Stall::SessionNotFound) => {
            (stall.reason(), Work::Stalled(stall.reason()))
        }
        Interruption::Stalled(stall) => {
            let ready = if has_session { plain(status).0 } else { stall.reason() };
            (ready, Work::Stalled(stall.reason()))
        }
    };
    match ready_when {
        ReadyWhen::Verified => (ready, work),
        ReadyWhen::SessionCreated => ready_by_link(status, inputs, ready, work),
    }
}

/// With `readyWhen: SessionCreated`, a published link is enough.
fn ready_by_link(
    status: &VerificationStatus,
    inputs: ConditionInputs,
    ready: Reason,
    work: Work,
) -> (Reason, Work) {
    let spoiled = match inputs.interruption {
        _ if status.outcome.is_some() && inputs.evidence == EvidenceState::Failed => true,
        Interruption::Stalled(stall) => stall.spoils_a_published_link(),
        Interruption::None
        | Interruption::Blocked(_)
        | Interruption::Retry
        | Interruption::RateLimited
        | Interruption::RetryingCreate
        | Interruption::Suspended => false,
    };
    if spoiled || status.verification_id.is_none() {
        // Keeping the former one could leave a True that contradicts Stalled.
        return (ready, work);
    }
    match status.outcome {
        None => (Reason::SessionCreated, Work::Neither),
        Some(Outcome::Verified | Outcome::Rejected | Outcome::Expired) => (Reason::Finished, Work::Neither),
        Some(Outcome::Failed) => (ready, work),
    }
}

/// What a phase shows when nothing interrupts it.
fn plain(status: &VerificationStatus, evidence: EvidenceState) -> (Reason, Work) {
    match phase(status, evidence) {
        Phase::Pending => (Reason::Pending, Work::Reconciling(Reason::Pending)),
        Phase::Creating => (Reason::CreatingSession, Work::Reconciling(Reason::CreatingSession)),
        Phase::AwaitingUser => (Reason::AwaitingUser, Work::Reconciling(Reason::AwaitingUser)),
        Phase::InProgress | Phase::Processing => (Reason::InProgress, Work::Reconciling(Reason::InProgress)),
        Phase::InReview => (Reason::InReview, Work::Reconciling(Reason::InReview)),
        Phase::Storing => (Reason::StoringEvidence, Work::Reconciling(Reason::StoringEvidence)),
        Phase::Verified => (Reason::Verified, Work::Neither),
        Phase::Rejected => (Reason::Rejected, Work::Stalled(Reason::Rejected)),
        Phase::Expired => (Reason::Expired, Work::Stalled(Reason::Expired)),
        Phase::Failed => (Reason::Failed, Work::Stalled(Reason::DeadlineExceeded)),
    }
}

fn session_reason(status: &VerificationStatus) -> Reason {
    let session = status.session.as_ref();
    if status.verification_id.is_some() {
        return match session.and_then(|session| session.state) {
            Some(SessionState::Adopted) => Reason::Adopted,
            Some(
                SessionState::Claimed
                | SessionState::Created
                | SessionState::NotCreated
                | SessionState::Unknown,
            )
            | None => Reason::Created,
        };
    }
    match session.and_then(|session| session.state) {
        Some(SessionState::Unknown) => Reason::OutcomeUnknown,
        Some(SessionState::NotCreated) => Condition::find(&status.conditions, ConditionType::SessionCreated)
            .and_then(|before| Reason::from_word(&before.reason))
            .filter(|reason| *reason == Reason::Refused)
            .unwrap_or(Reason::NotYet),
        Some(SessionState::Claimed | SessionState::Created | SessionState::Adopted) | None => Reason::NotYet,
    }
}

/// The status and reason of `EvidenceStored`; none if no evidence is requested.
fn evidence_stored(
    state: EvidenceState,
    status: &VerificationStatus,
    error: Option<Reason>,
) -> Option<(ConditionStatus, Reason)> {
    let before = || {
        let before = Condition::find(&status.conditions, ConditionType::EvidenceStored)
            .filter(|before| before.status == ConditionStatus::False);
        before.and_then(|before| Reason::from_word(&before.reason)).unwrap_or(Reason::Storing)
    };
    Some(match state {
        EvidenceState::NotRequested => return None,
        EvidenceState::NotStarted => (ConditionStatus::Unknown, Reason::NotStarted),
        EvidenceState::NotApplicable => (ConditionStatus::Unknown, Reason::NotApplicable),
        EvidenceState::Pending | EvidenceState::Failed => {
            (ConditionStatus::False, error.unwrap_or_else(before))
        }
        EvidenceState::Complete if nothing_to_store(status) => {
            (ConditionStatus::True, Reason::NothingToStore)
        }
        EvidenceState::Complete => (ConditionStatus::True, Reason::Stored),
    })
}

const fn outcome_reason(outcome: Outcome) -> Reason {
    match outcome {
        Outcome::Verified => Reason::Verified,
        Outcome::Rejected => Reason::Rejected,
        Outcome::Expired => Reason::Expired,
        Outcome::Failed => Reason::Failed,
    }
}

const fn ready_status(reason: Reason) -> ConditionStatus {
    if matches!(reason, Reason::Verified | Reason::SessionCreated | Reason::Finished) {
        ConditionStatus::True
    } else {
        ConditionStatus::False
    }
}

const fn credentials_status(reason: Reason) -> ConditionStatus {
    if matches!(reason, Reason::Accepted) {
        ConditionStatus::True
    } else if matches!(reason, Reason::NotChecked) {
        ConditionStatus::Unknown
    } else {
        ConditionStatus::False
    }
}

const fn cleanup_status(reason: Reason) -> ConditionStatus {
    if matches!(reason, Reason::Scheduled) { ConditionStatus::True } else { ConditionStatus::False }
}

const fn session_status(reason: Reason) -> ConditionStatus {
    if matches!(reason, Reason::Created | Reason::Adopted) {
        ConditionStatus::True
    } else if matches!(reason, Reason::OutcomeUnknown) {
        ConditionStatus::Unknown
    } else {
        ConditionStatus::False
    }
}

/// Kubernetes writes times in whole seconds (`metav1.Time`).
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
