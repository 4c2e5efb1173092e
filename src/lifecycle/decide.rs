//! The first table: past and facts → exactly one step. The first row that matches decides.

use super::{
    evidence::{DestinationFact, EvidenceState, release_when, storing_is_over},
    facts::{AdmissionFact, Deadline, Due, Facts, InFlight, KeyFact, PortalFact},
    state::{Attempts, State},
    step::{ReleaseWhen, Shown, Step, Wait},
};
use crate::{api::OnUnknownOutcome, portal::verification_id::VerificationId};

/// Decides what to do next.
#[must_use]
pub fn decide(state: &State, attempts: Attempts, facts: &Facts) -> Step {
    if facts.deleting {
        return if facts.evidence.has_finalizer {
            Step::RemoveEvidence { release_when: release_when(facts) }
        } else {
            Step::Release
        };
    }
    match state {
        State::Settled => Step::NoOp,
        State::Inconsistent(_) => Step::Show(Shown::StatusUnreadable),
        State::Finished(_) => decide_over(facts),
        State::Fresh | State::Claimed | State::Refused | State::OutcomeUnknown | State::Open { .. } => {
            decide_live(state, attempts, facts)
        }
    }
}

fn decide_live(state: &State, attempts: Attempts, facts: &Facts) -> Step {
    if let Some(known) = facts.known.as_ref().filter(|_| !matches!(state, State::Open { .. })) {
        return Step::Restore(known.clone());
    }
    if facts.suspend {
        return Step::Show(Shown::Suspended);
    }
    if let Some(token) = &facts.retry {
        return Step::Retry(token.clone());
    }
    match state {
        State::Open { id, phase: _ } => decide_open(id, facts),
        State::Claimed => decide_claimed(facts),
        State::Fresh | State::Refused | State::OutcomeUnknown => {
            decide_without_session(state, attempts, facts)
        }
        State::Finished(_) | State::Settled | State::Inconsistent(_) => Step::NoOp,
    }
}

fn decide_over(facts: &Facts) -> Step {
    let evidence = &facts.evidence;
    if !evidence.keeps_it_live() {
        return Step::Settle;
    }
    if facts.suspend {
        return Step::Show(Shown::Over);
    }
    if let Some(token) = &facts.retry {
        return Step::Retry(token.clone());
    }
    if evidence.is_held_for_nothing() {
        return Step::RemoveEvidence { release_when: ReleaseWhen::OnceRemoved };
    }
    if evidence.state != EvidenceState::Pending {
        return if evidence.lacks_finalizer() { Step::AddFinalizer } else { Step::Show(Shown::Over) };
    }
    let wait = wait_before_call(facts);
    if storing_is_over(facts) && !goes_on_by_itself(wait, facts) {
        return Step::GiveUpEvidence;
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Step::Show(Shown::PortalNotAllowed);
    }
    if evidence.lacks_finalizer() {
        return Step::AddFinalizer;
    }
    wait.map_or(Step::Store, Step::Wait)
}

/// Whether storing meets no trouble, as far as is known, and only its turn is waited for.
const fn goes_on_by_itself(wait: Option<Wait>, facts: &Facts) -> bool {
    let is_prevented = match wait {
        None | Some(Wait::Due(_) | Wait::Rate(_)) => matches!(facts.portal, PortalFact::NotAllowed),
        Some(
            Wait::Key(_) | Wait::KeyRejected(_) | Wait::Paused(_) | Wait::Breaker(_) | Wait::InFlight(_),
        ) => true,
    };
    !is_prevented && facts.local_state.storing.is_none()
}

fn decide_claimed(facts: &Facts) -> Step {
    if let InFlight::Possible(until) = facts.in_flight
        && passed(facts)
    {
        return Step::Wait(Wait::InFlight(until));
    }
    if passed(facts) {
        return Step::Fail;
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Step::Show(Shown::PortalNotAllowed);
    }
    if let Some(id) = &facts.adopt {
        return decide_adoption(id, facts);
    }
    match facts.in_flight {
        InFlight::Possible(until) => Step::Wait(Wait::InFlight(until)),
        InFlight::NeverSent => Step::GiveUpRefused,
        InFlight::None => Step::GiveUpLost,
    }
}

fn decide_without_session(state: &State, attempts: Attempts, facts: &Facts) -> Step {
    if passed(facts) {
        return Step::Fail;
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Step::Show(Shown::PortalNotAllowed);
    }
    if matches!(facts.evidence.destination, DestinationFact::Refused(_)) {
        return Step::Show(Shown::DestinationRefused);
    }
    if facts.too_large {
        return Step::Show(Shown::ResourceTooLarge);
    }
    if let Some(id) = &facts.adopt {
        return decide_adoption(id, facts);
    }
    if matches!(state, State::OutcomeUnknown) && asks_a_person(attempts, facts.on_unknown) {
        return Step::Show(Shown::CreateOutcomeUnknown);
    }
    if let Some(wait) = wait_before_call(facts) {
        return Step::Wait(wait);
    }
    Step::Create { attempt: attempts.attempt.saturating_add(1) }
}

fn decide_adoption(id: &VerificationId, facts: &Facts) -> Step {
    wait_before_call(facts).map_or_else(|| Step::Adopt(id.clone()), Step::Wait)
}

fn decide_open(id: &VerificationId, facts: &Facts) -> Step {
    let may_look = matches!(facts.portal, PortalFact::Allowed(_))
        && matches!(facts.key, KeyFact::Usable { .. })
        && matches!(facts.admission, AdmissionFact::Open);
    if let Deadline::Passed { at: _, looked, overdue, long_ago } = facts.deadline {
        if looked || overdue {
            return Step::Fail;
        }
        // A verdict from before the deadline counts, however late it is asked for.
        if may_look {
            let held = facts.held_until();
            return held.map_or_else(|| Step::Poll(id.clone()), |until| Step::Wait(Wait::Due(until)));
        }
        if long_ago {
            return Step::Fail;
        }
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Step::Show(Shown::PortalNotAllowed);
    }
    wait_before_call(facts).map_or_else(|| Step::Poll(id.clone()), Step::Wait)
}

/// Whether lost answers are for a person to judge now.
pub(super) const fn asks_a_person(attempts: Attempts, policy: OnUnknownOutcome) -> bool {
    match policy {
        OnUnknownOutcome::Retry => attempts.left() == 0,
        OnUnknownOutcome::Hold => attempts.unacknowledged() > 0,
    }
}

const fn passed(facts: &Facts) -> bool {
    matches!(facts.deadline, Deadline::Passed { .. })
}

/// What keeps a call from going out now; the key first, because without it there is nobody to ask as.
fn wait_before_call(facts: &Facts) -> Option<Wait> {
    if let KeyFact::Missing(fault) = facts.key {
        return Some(Wait::Key(fault));
    }
    match facts.admission {
        AdmissionFact::KeyRejected(until) => return Some(Wait::KeyRejected(until)),
        AdmissionFact::Paused(until) => return Some(Wait::Paused(until)),
        AdmissionFact::Breaker(until) => return Some(Wait::Breaker(until)),
        AdmissionFact::Open | AdmissionFact::Rate(_) => {}
    }
    if let Due::At(at) = facts.due {
        return Some(Wait::Due(at));
    }
    match facts.admission {
        AdmissionFact::Rate(until) => Some(Wait::Rate(until)),
        AdmissionFact::Open
        | AdmissionFact::KeyRejected(_)
        | AdmissionFact::Paused(_)
        | AdmissionFact::Breaker(_) => None,
    }
}
