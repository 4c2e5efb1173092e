//! Invariants about decisions: which calls are made and when (law d), and what ends without an answer (law f).

use super::{
    Checked::{self, NotApplicable},
    Decided, OfDecided, holds,
};
use crate::{
    api::OnUnknownOutcome,
    lifecycle::{
        facts::{Deadline, InFlight, PortalFact},
        key_fact::KeyFact,
        state::State,
        step::{Step, Transition},
        tests::world::calls,
    },
};

invariants! {
    OfDecided;
    over_the_grid_and_the_state_space:
        a_create_starts_only_from_fresh_refused_or_unknown
        a_create_is_never_decided_with_an_id_or_an_adoption
        a_create_is_the_next_attempt
        unknown_outcomes_are_retried_only_within_the_budget_and_never_with_hold
        nothing_is_called_while_deleting_suspended_or_finished
        a_call_needs_a_key_and_an_allowed_portal
        a_claim_is_abandoned_only_when_its_request_cannot_be_in_flight
        nothing_ends_while_suspended
        only_a_passed_deadline_ends_without_a_call
    ;
    only_over_the_grid:
        nothing_is_created_where_a_session_is_known_or_its_record_might_not_fit
        an_open_session_ends_by_its_deadline_only_once_polled_or_after_a_day
}

fn a_create_starts_only_from_fresh_refused_or_unknown(case: &Decided) -> Checked {
    if matches!(case.step, Step::Create { .. }) {
        holds(matches!(case.state, State::Fresh | State::Refused | State::OutcomeUnknown))
    } else {
        NotApplicable
    }
}

fn a_create_is_never_decided_with_an_id_or_an_adoption(case: &Decided) -> Checked {
    if case.facts.adopt.is_some()
        || matches!(case.state, State::Open { .. } | State::Finished(_) | State::Settled)
    {
        holds(!matches!(case.step, Step::Create { .. }))
    } else {
        NotApplicable
    }
}

fn a_create_is_the_next_attempt(case: &Decided) -> Checked {
    let Step::Create { attempt } = case.step else { return NotApplicable };
    holds(*attempt == case.attempts.attempt + 1)
}

fn unknown_outcomes_are_retried_only_within_the_budget_and_never_with_hold(case: &Decided) -> Checked {
    let unacknowledged = case.attempts.orphans - case.attempts.acknowledged;
    let held = case.facts.on_unknown == OnUnknownOutcome::Hold && unacknowledged > 0;
    if *case.state == State::OutcomeUnknown && (held || unacknowledged >= 3) {
        holds(!matches!(case.step, Step::Create { .. }))
    } else {
        NotApplicable
    }
}

fn nothing_is_called_while_deleting_suspended_or_finished(case: &Decided) -> Checked {
    let over = matches!(case.state, State::Finished(_) | State::Settled | State::Inconsistent(_));
    if case.facts.deleting || case.facts.suspend || over { holds(!calls(case.step)) } else { NotApplicable }
}

fn a_call_needs_a_key_and_an_allowed_portal(case: &Decided) -> Checked {
    if calls(case.step) {
        holds(
            matches!(case.facts.key, KeyFact::Usable { .. })
                && matches!(case.facts.portal, PortalFact::Allowed(_)),
        )
    } else {
        NotApplicable
    }
}

fn a_claim_is_abandoned_only_when_its_request_cannot_be_in_flight(case: &Decided) -> Checked {
    let is_claimed = *case.state == State::Claimed;
    if *case.step == Step::Transition(Transition::AbandonUnknown) {
        holds(is_claimed && case.facts.in_flight == InFlight::None)
    } else if *case.step == Step::Transition(Transition::AbandonUnsent) {
        holds(is_claimed && case.facts.in_flight == InFlight::NeverSent)
    } else if *case.step == Step::Transition(Transition::Fail) && is_claimed {
        holds(!matches!(case.facts.in_flight, InFlight::Possible(_)))
    } else {
        NotApplicable
    }
}

fn nothing_ends_while_suspended(case: &Decided) -> Checked {
    if case.facts.suspend { holds(*case.step != Step::Transition(Transition::Fail)) } else { NotApplicable }
}

fn only_a_passed_deadline_ends_without_a_call(case: &Decided) -> Checked {
    if *case.step == Step::Transition(Transition::Fail) {
        holds(matches!(case.facts.deadline, Deadline::Passed { .. }))
    } else {
        NotApplicable
    }
}

fn nothing_is_created_where_a_session_is_known_or_its_record_might_not_fit(case: &Decided) -> Checked {
    let is_adopted = match (case.facts.known.is_some(), case.facts.too_large) {
        (false, false) => return NotApplicable,
        // The resource already holds the record of its claim.
        (false, true) if *case.state == State::Claimed => false,
        (true, _) | (false, true) => matches!(case.step, Step::Adopt(_)),
    };
    holds(!is_adopted && !matches!(case.step, Step::Create { attempt: _ }))
}

fn an_open_session_ends_by_its_deadline_only_once_polled_or_after_a_day(case: &Decided) -> Checked {
    let (Step::Transition(Transition::Fail), State::Open { .. }) = (case.step, case.state) else {
        return NotApplicable;
    };
    let Deadline::Passed { polled, overdue, long_ago, .. } = case.facts.deadline else {
        return Checked::Broken;
    };
    let may_poll = matches!(case.facts.key, KeyFact::Usable { .. })
        && matches!(case.facts.portal, PortalFact::Allowed(_));
    holds(polled || overdue || (long_ago && !may_poll))
}
