//! The first table: status and facts → exactly one step. The first row that matches decides. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    evidence::{DestinationFact, EvidenceState},
    evidence_error::STORED_WITHIN,
    facts::{Deadline, Due, Facts, InFlight, PortalFact},
    key_fact::KeyFact,
    since::elapsed,
    state::{Attempts, ParsedStatus, State},
    step::{NotAdmitted, PortalStep, Refusal, ReleaseWhen, Shown, Step, Transition, Wait},
};
use crate::{api::OnUnknownOutcome, portal::verification_id::VerificationId};

/// How long the removal of its evidence may hold a resource.
pub(super) const REMOVED_WITHIN: Duration = Duration::from_mins(10);
/// How long it may hold a resource if the store could not be called.
const REMOVAL_AWAITED: Duration = Duration::from_mins(20);
/// Each process makes this many attempts to remove evidence before it takes the finalizer off regardless.
const REMOVALS_BY_EACH_PROCESS: u32 = 3;
/// How long a resource whose `spec.ttlAfterFinished` has passed waits for a store that does not respond.
const STORE_AWAITED_FOR: Duration = Duration::from_hours(24);
/// Each process tries to store evidence for at least this long, even if the time limit had passed before it started.
const TRIED_BY_EACH_PROCESS: Duration = Duration::from_mins(10);

/// Decides what to do next.
///
/// Admission of a call to the portal is not known here. A refusal is an outcome of the step; [`after_refusal`] says
/// what follows from it.
#[must_use]
pub fn decide(parsed: &ParsedStatus<'_>, facts: &Facts) -> Step {
    if facts.deleting {
        return if facts.evidence.has_finalizer {
            Step::RemoveEvidence { release_when: release_when(facts) }
        } else {
            Transition::Release.into()
        };
    }
    match parsed.state() {
        State::Settled => Transition::NoOp.into(),
        State::Inconsistent(_) => Transition::Show(Shown::StatusUnreadable).into(),
        State::Finished(_) => decide_finished(facts),
        state @ (State::Fresh
        | State::Claimed
        | State::Refused
        | State::OutcomeUnknown
        | State::Open { .. }) => decide_live(state, parsed.attempts(), facts),
    }
}

/// What follows from a refused admission: usually a wait. The verification ends if the deadline passed a day ago, and
/// the evidence is abandoned if the time to store it is over.
#[must_use]
pub fn after_refusal(not_admitted: &NotAdmitted, facts: &Facts) -> Transition {
    let NotAdmitted { step, refusal, cause: _ } = *not_admitted;
    let wait = Wait::Admission(refusal);
    match step {
        PortalStep::Poll => match (facts.deadline, refusal, facts.due) {
            (Deadline::Passed { long_ago: true, .. }, _, _) => Transition::Fail,
            // The last poll need not wait for its schedule, but the rate limit does not let it out earlier either.
            (Deadline::Passed { long_ago: false, .. }, Refusal::Rate(_), Due::At(at)) => {
                Transition::Wait(Wait::Due(at))
            }
            (
                Deadline::Ahead(_) | Deadline::Passed { long_ago: false, .. },
                Refusal::Paused(_) | Refusal::Breaker(_) | Refusal::KeyRejected(_) | Refusal::Rate(_),
                Due::Now | Due::At(_),
            ) => Transition::Wait(wait),
        },
        PortalStep::Store if is_storing_abandoned(Some(wait), facts) => Transition::AbandonEvidence,
        PortalStep::Create | PortalStep::Adopt | PortalStep::Store => Transition::Wait(wait),
    }
}

fn decide_live(state: &State, attempts: Attempts, facts: &Facts) -> Step {
    if let Some(known) = facts.known.as_ref().filter(|_| !matches!(state, State::Open { .. })) {
        return Transition::Restore(known.clone()).into();
    }
    if facts.suspend {
        return Transition::Show(Shown::Suspended).into();
    }
    if let Some(token) = &facts.retry {
        return Transition::Retry(token.clone()).into();
    }
    match state {
        State::Open { id, phase: _ } => decide_open(id, facts),
        State::Claimed => decide_claimed(facts),
        State::Fresh | State::Refused | State::OutcomeUnknown => {
            decide_without_session(state, attempts, facts)
        }
        State::Finished(_) | State::Settled | State::Inconsistent(_) => Transition::NoOp.into(),
    }
}

fn decide_finished(facts: &Facts) -> Step {
    let evidence = &facts.evidence;
    if let Some(at) = facts.cleanup_at() {
        return decide_cleanup(at, facts);
    }
    if !evidence.is_live() {
        return Transition::Settle.into();
    }
    if facts.suspend {
        return Transition::Show(Shown::Finished).into();
    }
    if let Some(token) = &facts.retry {
        return Transition::Retry(token.clone()).into();
    }
    if evidence.holds_needless_finalizer() {
        return Step::RemoveEvidence { release_when: ReleaseWhen::OnceRemoved };
    }
    if evidence.state != EvidenceState::Pending {
        return if evidence.lacks_finalizer() {
            Step::AddFinalizer
        } else {
            Transition::Show(Shown::Finished).into()
        };
    }
    let wait = wait_before_call(facts);
    if is_storing_abandoned(wait, facts) {
        return Transition::AbandonEvidence.into();
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Transition::Show(Shown::PortalNotAllowed).into();
    }
    if evidence.lacks_finalizer() {
        return Step::AddFinalizer;
    }
    wait.map_or(Step::Store, |wait| Transition::Wait(wait).into())
}

/// Deletes a resource at the end of its `spec.ttlAfterFinished`, unless Git would bring it back. A deletion that failed
/// is tried again when it is due.
fn decide_cleanup(at: Timestamp, facts: &Facts) -> Step {
    if facts.cleanup.is_some_and(|cleanup| cleanup.managed_by_git_ops) {
        return Transition::Show(Shown::Finished).into();
    }
    if at > facts.now {
        return Transition::Wait(Wait::Ttl(at)).into();
    }
    match facts.due {
        Due::At(at) => Transition::Wait(Wait::Due(at)).into(),
        Due::Now => Step::Delete { awaits_store: awaits_store(at, facts) },
    }
}

/// Whether the store must respond before the resource is deleted at the end of its `spec.ttlAfterFinished`. A deleted
/// resource is held for minutes only, and then leaves evidence behind; before the deletion there is time.
fn awaits_store(ttl_ended_at: Timestamp, facts: &Facts) -> bool {
    facts.evidence.has_finalizer
        && facts.evidence.is_stored
        && elapsed(ttl_ended_at, facts.now) < STORE_AWAITED_FOR
}

/// Whether the time to store evidence is over. It is not while only the schedule or the rate limit delays it and no
/// error is known.
fn is_storing_abandoned(wait: Option<Wait>, facts: &Facts) -> bool {
    let is_prevented = match wait {
        None | Some(Wait::Due(_) | Wait::Admission(Refusal::Rate(_))) => {
            matches!(facts.portal, PortalFact::NotAllowed)
        }
        Some(
            Wait::Key(_)
            | Wait::Admission(Refusal::KeyRejected(_) | Refusal::Paused(_) | Refusal::Breaker(_))
            | Wait::InFlight(_)
            | Wait::Ttl(_),
        ) => true,
    };
    storing_is_over(facts) && (is_prevented || facts.local_state.storing.is_some())
}

/// Whether pending evidence was not stored in time. A process that started late still tries for ten minutes.
pub(super) fn storing_is_over(facts: &Facts) -> bool {
    let lasted =
        |since: Option<Timestamp>, long| since.is_some_and(|since| elapsed(since, facts.now) >= long);
    lasted(facts.evidence.pending_since, STORED_WITHIN)
        && lasted(facts.local_state.storing_since, TRIED_BY_EACH_PROCESS)
}

/// When the finalizer is removed from a resource that is being deleted. A process that started late still makes a few
/// attempts; a store behind an open breaker is not called, which counts as no attempt.
fn release_when(facts: &Facts) -> ReleaseWhen {
    let is_over =
        facts.evidence.deleted_at.is_none_or(|deleted_at| elapsed(deleted_at, facts.now) >= REMOVED_WITHIN);
    let Some(removing) = facts.local_state.removing.filter(|_| is_over) else {
        return ReleaseWhen::OnceRemoved;
    };
    if removing.lasted(facts.now, REMOVAL_AWAITED) {
        ReleaseWhen::Anyway
    } else if removing.count >= REMOVALS_BY_EACH_PROCESS - 1 {
        ReleaseWhen::OnceTried
    } else {
        ReleaseWhen::OnceRemoved
    }
}

fn decide_claimed(facts: &Facts) -> Step {
    if let InFlight::Possible(until) = facts.in_flight
        && has_passed(facts)
    {
        return Transition::Wait(Wait::InFlight(until)).into();
    }
    if has_passed(facts) {
        return Transition::Fail.into();
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Transition::Show(Shown::PortalNotAllowed).into();
    }
    if let Some(id) = &facts.adopt {
        return decide_adoption(id, facts);
    }
    match facts.in_flight {
        InFlight::Possible(until) => Transition::Wait(Wait::InFlight(until)).into(),
        InFlight::NeverSent => Transition::AbandonUnsent.into(),
        InFlight::None => Transition::AbandonUnknown.into(),
    }
}

fn decide_without_session(state: &State, attempts: Attempts, facts: &Facts) -> Step {
    if has_passed(facts) {
        return Transition::Fail.into();
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Transition::Show(Shown::PortalNotAllowed).into();
    }
    if matches!(facts.evidence.destination, DestinationFact::Refused(_)) {
        return Transition::Show(Shown::DestinationRefused).into();
    }
    if facts.too_large {
        return Transition::Show(Shown::ResourceTooLarge).into();
    }
    if let Some(id) = &facts.adopt {
        return decide_adoption(id, facts);
    }
    if matches!(state, State::OutcomeUnknown) && awaits_person(attempts, facts.on_unknown) {
        return Transition::Show(Shown::CreateOutcomeUnknown).into();
    }
    if let Some(wait) = wait_before_call(facts) {
        return Transition::Wait(wait).into();
    }
    Step::Create { attempt: attempts.attempt.saturating_add(1) }
}

fn decide_adoption(id: &VerificationId, facts: &Facts) -> Step {
    wait_before_call(facts).map_or_else(|| Step::Adopt(id.clone()), |wait| Transition::Wait(wait).into())
}

fn decide_open(id: &VerificationId, facts: &Facts) -> Step {
    let is_callable = matches!(facts.portal, PortalFact::Allowed(_))
        && matches!(facts.key, KeyFact::Usable { fingerprint: _ });
    if let Deadline::Passed { at: _, polled, overdue, long_ago } = facts.deadline {
        if polled || overdue {
            return Transition::Fail.into();
        }
        // A verdict from before the deadline counts, no matter how late the portal is polled for it.
        if is_callable {
            return facts
                .held_until()
                .map_or_else(|| Step::Poll(id.clone()), |until| Transition::Wait(Wait::Due(until)).into());
        }
        if long_ago {
            return Transition::Fail.into();
        }
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Transition::Show(Shown::PortalNotAllowed).into();
    }
    wait_before_call(facts).map_or_else(|| Step::Poll(id.clone()), |wait| Transition::Wait(wait).into())
}

/// Whether a person must decide what follows from the unknown outcomes.
pub(super) const fn awaits_person(attempts: Attempts, policy: OnUnknownOutcome) -> bool {
    match policy {
        OnUnknownOutcome::Retry => attempts.left() == 0,
        OnUnknownOutcome::Hold => attempts.unacknowledged() > 0,
    }
}

const fn has_passed(facts: &Facts) -> bool {
    matches!(facts.deadline, Deadline::Passed { .. })
}

/// What delays a call to the portal, apart from admission.
const fn wait_before_call(facts: &Facts) -> Option<Wait> {
    if let KeyFact::Missing(fault) = facts.key {
        return Some(Wait::Key(fault));
    }
    match facts.due {
        Due::At(at) => Some(Wait::Due(at)),
        Due::Now => None,
    }
}
