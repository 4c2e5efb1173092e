//! Invariants about when evidence is stored, abandoned and removed.

use std::time::Duration;

use super::{
    Checked::{self, NotApplicable},
    Decided, OfDecided, holds,
};
use crate::{
    api::DeletionPolicy,
    lifecycle::{
        evidence::EvidenceState,
        facts::{Due, PortalFact},
        key_fact::KeyFact,
        since::elapsed,
        state::State,
        step::{ReleaseWhen, Step, Transition},
    },
};

invariants! {
    OfDecided;
    over_the_grid_and_the_state_space:
        pending_evidence_a_removal_or_a_possible_retry_prevents_settling
        nothing_is_stored_before_the_verdict_or_while_suspended_or_deleting
        nothing_is_stored_before_it_is_due_or_without_a_key_and_an_allowed_portal
        evidence_with_policy_delete_is_stored_only_once_the_finalizer_is_added
        a_finalizer_is_added_only_where_evidence_is_removed_with_the_resource
        the_finalizer_is_removed_only_on_deletion_or_if_it_is_not_needed
        a_resource_with_the_finalizer_is_never_released_without_removing_it
        failed_evidence_is_stored_again_only_after_a_retry
        a_retry_is_decided_for_pending_or_failed_evidence
    ;
    only_over_the_grid:
        evidence_is_abandoned_by_time_only_after_a_day_and_ten_minutes_of_this_process
        evidence_that_meets_errors_is_abandoned_after_a_day
        a_removal_is_abandoned_after_ten_minutes_and_three_attempts_or_after_twenty
}

fn is_removed_with_resource(case: &Decided) -> bool {
    let spec = case.facts.evidence.spec.as_ref();
    spec.is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Delete)
}

fn pending_evidence_a_removal_or_a_possible_retry_prevents_settling(case: &Decided) -> Checked {
    if *case.step != Step::Transition(Transition::Settle) {
        return NotApplicable;
    }
    let evidence = &case.facts.evidence;
    let owes = matches!(evidence.state, EvidenceState::Pending | EvidenceState::Failed);
    let is_removed = evidence.is_stored && is_removed_with_resource(case);
    holds(!owes && !is_removed && !evidence.has_finalizer)
}

fn nothing_is_stored_before_the_verdict_or_while_suspended_or_deleting(case: &Decided) -> Checked {
    if case.facts.suspend || case.facts.deleting || !matches!(case.state, State::Finished(_)) {
        holds(!matches!(
            case.step,
            Step::Store | Step::AddFinalizer | Step::Transition(Transition::AbandonEvidence)
        ))
    } else {
        NotApplicable
    }
}

fn nothing_is_stored_before_it_is_due_or_without_a_key_and_an_allowed_portal(case: &Decided) -> Checked {
    if *case.step != Step::Store {
        return NotApplicable;
    }
    holds(
        case.facts.due == Due::Now
            && matches!(case.facts.key, KeyFact::Usable { .. })
            && matches!(case.facts.portal, PortalFact::Allowed(_)),
    )
}

fn evidence_with_policy_delete_is_stored_only_once_the_finalizer_is_added(case: &Decided) -> Checked {
    if *case.step == Step::Store && is_removed_with_resource(case) {
        holds(case.facts.evidence.has_finalizer)
    } else {
        NotApplicable
    }
}

fn a_finalizer_is_added_only_where_evidence_is_removed_with_the_resource(case: &Decided) -> Checked {
    if *case.step != Step::AddFinalizer {
        return NotApplicable;
    }
    holds(is_removed_with_resource(case) && !case.facts.evidence.has_finalizer)
}

fn the_finalizer_is_removed_only_on_deletion_or_if_it_is_not_needed(case: &Decided) -> Checked {
    let Step::RemoveEvidence { release_when } = *case.step else { return NotApplicable };
    let last = release_when != ReleaseWhen::OnceRemoved;
    holds(
        case.facts.evidence.has_finalizer
            && (case.facts.deleting
                || (!is_removed_with_resource(case) && matches!(case.state, State::Finished(_)) && !last)),
    )
}

fn a_resource_with_the_finalizer_is_never_released_without_removing_it(case: &Decided) -> Checked {
    if !case.facts.evidence.has_finalizer {
        return NotApplicable;
    }
    let lets_go = matches!(case.step, Step::Transition(Transition::Release | Transition::Settle));
    holds(!lets_go && case.facts.deleting <= matches!(case.step, Step::RemoveEvidence { .. }))
}

fn failed_evidence_is_stored_again_only_after_a_retry(case: &Decided) -> Checked {
    if case.facts.evidence.state == EvidenceState::Failed {
        holds(!matches!(case.step, Step::Store | Step::Transition(Transition::AbandonEvidence)))
    } else {
        NotApplicable
    }
}

fn a_retry_is_decided_for_pending_or_failed_evidence(case: &Decided) -> Checked {
    let waits = matches!(case.facts.evidence.state, EvidenceState::Pending | EvidenceState::Failed);
    let moves = !case.facts.suspend && !case.facts.deleting && matches!(case.state, State::Finished(_));
    match &case.facts.retry {
        Some(token) if waits && moves => {
            holds(*case.step == Step::Transition(Transition::Retry(token.clone())))
        }
        Some(_) | None => NotApplicable,
    }
}

/// Whether it has been pending for a day, and this process has tried for ten minutes.
fn is_late(case: &Decided) -> bool {
    let lasted = |since: Option<jiff::Timestamp>, long| {
        since.is_some_and(|since| elapsed(since, case.facts.now) >= long)
    };
    lasted(case.facts.evidence.pending_since, Duration::from_hours(24))
        && lasted(case.facts.local_state.storing_since, Duration::from_mins(10))
}

fn evidence_is_abandoned_by_time_only_after_a_day_and_ten_minutes_of_this_process(case: &Decided) -> Checked {
    if *case.step == Step::Transition(Transition::AbandonEvidence) {
        holds(case.facts.evidence.state == EvidenceState::Pending && is_late(case))
    } else {
        NotApplicable
    }
}

fn evidence_that_meets_errors_is_abandoned_after_a_day(case: &Decided) -> Checked {
    let moves = !case.facts.suspend && !case.facts.deleting && case.facts.retry.is_none();
    let holds_needless_finalizer = case.facts.evidence.has_finalizer && !is_removed_with_resource(case);
    let is_pending =
        case.facts.evidence.state == EvidenceState::Pending && matches!(case.state, State::Finished(_));
    let is_stuck = case.facts.local_state.storing.is_some()
        || matches!(case.facts.portal, PortalFact::NotAllowed)
        || matches!(case.facts.key, KeyFact::Missing(_));
    if moves && is_pending && is_stuck && is_late(case) && !holds_needless_finalizer {
        holds(*case.step == Step::Transition(Transition::AbandonEvidence))
    } else {
        NotApplicable
    }
}

fn a_removal_is_abandoned_after_ten_minutes_and_three_attempts_or_after_twenty(case: &Decided) -> Checked {
    let (Step::RemoveEvidence { release_when }, Some(deleted_at)) =
        (case.step, case.facts.evidence.deleted_at)
    else {
        return NotApplicable;
    };
    let lasted = |since, minutes| elapsed(since, case.facts.now) >= Duration::from_mins(minutes);
    let removing = case.facts.local_state.removing;
    let is_tried = removing.is_some_and(|removing| removing.count >= 2);
    let is_long = removing.is_some_and(|removing| lasted(removing.since, 20));
    holds(
        *release_when
            == match (lasted(deleted_at, 10), is_long, is_tried) {
                (true, true, _) => ReleaseWhen::Anyway,
                (true, false, true) => ReleaseWhen::OnceTried,
                (false, _, _) | (true, false, false) => ReleaseWhen::OnceRemoved,
            },
    )
}
