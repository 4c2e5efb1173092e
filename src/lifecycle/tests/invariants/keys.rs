//! Invariants about the key that a session is asked with.

use super::{
    Checked::{self, NotApplicable},
    Concluded, OfConcluded, holds,
};
use crate::{
    api::{ConditionType, Reason},
    lifecycle::{evidence::EvidenceState, step::StepOutcome},
    portal::error::PortalError,
};

invariants! {
    OfConcluded;
    over_the_grid_and_the_state_space:
        a_session_needs_the_previous_key_while_it_is_asked_with_it
        a_refused_previous_key_is_shown_as_a_rotation
    ;
    only_over_the_grid:
}

fn a_session_needs_the_previous_key_while_it_is_asked_with_it(case: &Concluded) -> Checked {
    let status = case.after.as_ref().map_or(case.before, |(status, _)| *status);
    let evidence = case.evidence_after.as_ref().unwrap_or(case.evidence());
    let is_over = status.outcome.is_some() && evidence.state != EvidenceState::Pending;
    let needs = case.facts.key_version.is_previous() && status.verification_id.is_some() && !is_over;
    if case.outcome.is_none() {
        // A claim is concluded again with the response.
        return NotApplicable;
    }
    holds(case.conclusion.local_state.key_version.is_previous() == needs)
}

fn a_refused_previous_key_is_shown_as_a_rotation(case: &Concluded) -> Checked {
    let is_poll = matches!(case.outcome, Some(StepOutcome::Poll { id: _, answer: _ }));
    let is_refused = matches!(case.error(), Some(PortalError::KeyRejected | PortalError::AccessDenied));
    let Some((_, shown)) = case.after.as_ref().filter(|_| is_poll && is_refused) else {
        return NotApplicable;
    };
    let reason = shown.reason(ConditionType::CredentialsReady);
    if case.facts.key_version.is_previous() {
        return holds(reason == Some(Reason::KeyRotated));
    }
    let is_rejected = case.error() == Some(&PortalError::KeyRejected);
    holds(!is_rejected || reason == Some(Reason::KeyRejected))
}
