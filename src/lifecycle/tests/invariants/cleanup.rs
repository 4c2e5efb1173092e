//! Invariants about `spec.ttlAfterFinished`.

/// When a resource is deleted.
pub(super) mod decided {
    use super::super::{
        Checked::{self, NotApplicable},
        Decided, OfDecided, holds,
    };
    use crate::lifecycle::{
        evidence::EvidenceState,
        facts::Due,
        since::elapsed,
        state::State,
        step::{Step, Transition},
    };

    invariants! {
        OfDecided;
        over_the_grid_and_the_state_space:
            a_resource_is_deleted_only_after_its_ttl_with_nothing_pending
            what_git_would_bring_back_is_never_deleted
            a_resource_with_a_ttl_is_never_settled
        ;
        only_over_the_grid:
            a_resource_is_deleted_at_the_end_of_its_ttl_even_if_it_is_suspended
    }

    fn a_resource_is_deleted_only_after_its_ttl_with_nothing_pending(case: &Decided) -> Checked {
        let Step::Delete { awaits_store } = *case.step else {
            return NotApplicable;
        };
        let (facts, evidence) = (case.facts, &case.facts.evidence);
        let has_lasted =
            |since: Option<jiff::Timestamp>, ttl| since.is_none_or(|since| elapsed(since, facts.now) >= ttl);
        let is_over = facts.cleanup.is_some_and(|cleanup| {
            [Some(facts.created_at), evidence.verdict_at, evidence.stored_at]
                .into_iter()
                .all(|since| has_lasted(since, cleanup.ttl))
        });
        let is_pending = matches!(evidence.state, EvidenceState::Pending | EvidenceState::Failed);
        let is_finished = matches!(case.state, State::Finished(_));
        let is_removed_with_it = evidence.is_stored && evidence.has_finalizer;
        holds(
            is_over
                && is_finished
                && !is_pending
                && !facts.deleting
                && facts.due == Due::Now
                && (is_removed_with_it || !awaits_store),
        )
    }

    fn is_deletion(case: &Decided) -> bool {
        matches!(case.step, Step::Delete { awaits_store: _ })
    }

    fn what_git_would_bring_back_is_never_deleted(case: &Decided) -> Checked {
        match case.facts.cleanup {
            Some(cleanup) if cleanup.managed_by_git_ops => holds(!is_deletion(case)),
            Some(_) | None => NotApplicable,
        }
    }

    fn a_resource_with_a_ttl_is_never_settled(case: &Decided) -> Checked {
        match case.facts.cleanup {
            Some(_) => holds(*case.step != Step::Transition(Transition::Settle)),
            None => holds(!is_deletion(case)),
        }
    }

    fn a_resource_is_deleted_at_the_end_of_its_ttl_even_if_it_is_suspended(case: &Decided) -> Checked {
        let (facts, evidence) = (case.facts, &case.facts.evidence);
        let Some(cleanup) = facts.cleanup.filter(|cleanup| !cleanup.managed_by_git_ops) else {
            return NotApplicable;
        };
        // Without a finalizer, nothing but pending or failed evidence is left to do.
        let is_done = matches!(case.state, State::Finished(_))
            && matches!(evidence.state, EvidenceState::NotRequested | EvidenceState::NotApplicable)
            && !evidence.has_finalizer
            && !evidence.is_stored;
        let ended = evidence.verdict_at.map_or(facts.created_at, |at| at.max(facts.created_at));
        let is_over = is_done && evidence.stored_at.is_none() && elapsed(ended, facts.now) >= cleanup.ttl;
        if is_over && !facts.deleting && facts.due == Due::Now {
            holds(is_deletion(case))
        } else {
            NotApplicable
        }
    }
}

/// What is shown and reported of it.
pub(super) mod concluded {
    use std::time::Duration;

    use super::super::{
        Checked::{self, NotApplicable},
        Concluded, OfConcluded, holds,
    };
    use crate::{
        api::{ConditionStatus, ConditionType, Reason, VerificationStatus},
        lifecycle::{
            cleanup::DeletionOutcome,
            conclude::{Requeue, conclude},
            event::Event,
            facts::Facts,
            since::elapsed,
            state::ParsedStatus,
            step::StepOutcome,
        },
    };

    invariants! {
        OfConcluded;
        over_the_grid_and_the_state_space:
            a_resource_with_a_ttl_stays_in_the_watch
            what_git_would_bring_back_is_reported_once
            a_refused_deletion_is_shown_and_tried_again_after_five_minutes_to_an_hour
        ;
        only_over_the_grid:
            a_ttl_changes_nothing_else_that_is_shown
    }

    fn a_resource_with_a_ttl_stays_in_the_watch(case: &Concluded) -> Checked {
        let Some((status, _)) = &case.after else { return NotApplicable };
        if case.facts.cleanup.is_none() || case.before.settled {
            return NotApplicable;
        }
        holds(!status.settled && case.conclusion.next != Requeue::Done)
    }

    fn what_git_would_bring_back_is_reported_once(case: &Concluded) -> Checked {
        let Some((status, _)) = &case.after else { return NotApplicable };
        let Some(cleanup) = case.facts.cleanup else {
            return holds(case.reported(Event::ManagedByGitOps) == 0);
        };
        let was_kept = case.before.outcome.is_some()
            && case.shown_before.reason(ConditionType::CleanupReady) == Some(Reason::ManagedByGitOps);
        let is_news = cleanup.managed_by_git_ops && status.outcome.is_some() && !was_kept;
        holds(case.reported(Event::ManagedByGitOps) == usize::from(is_news))
    }

    fn a_refused_deletion_is_shown_and_tried_again_after_five_minutes_to_an_hour(
        case: &Concluded,
    ) -> Checked {
        if case.outcome != Some(&StepOutcome::Delete(DeletionOutcome::Refused)) {
            return NotApplicable;
        }
        let (Some((_, shown)), Requeue::At(at)) = (&case.after, case.conclusion.next) else {
            return Checked::Broken;
        };
        let wait = elapsed(case.facts.now, at);
        holds(
            shown.is(ConditionType::CleanupReady, ConditionStatus::False)
                && shown.reason(ConditionType::CleanupReady) == Some(Reason::DeletionForbidden)
                && (Duration::from_mins(5)..=Duration::from_hours(1)).contains(&wait),
        )
    }

    fn a_ttl_changes_nothing_else_that_is_shown(case: &Concluded) -> Checked {
        let (Some((status, _)), Some(outcome)) = (&case.after, case.outcome) else { return NotApplicable };
        if case.facts.cleanup.is_none() {
            return NotApplicable;
        }
        let without = |status: &VerificationStatus| {
            let mut status = status.clone();
            status.settled = false;
            status.conditions.retain(|shown| shown.type_ != ConditionType::CleanupReady.as_str());
            status
        };
        let facts = Facts { cleanup: None, ..case.facts.clone() };
        let other = conclude(&ParsedStatus::of(&facts.uid, case.before), outcome, &facts);
        holds(other.status.is_some_and(|other| without(&other) == without(status)))
    }
}
