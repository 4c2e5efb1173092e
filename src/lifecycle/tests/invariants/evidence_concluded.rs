//! Invariants about what is shown, recorded and reported of evidence.

use std::time::Duration;

use super::{
    Checked::{self, NotApplicable},
    Concluded, OfConcluded, holds,
};
use crate::{
    api::{
        ConditionStatus, ConditionType, DeletionPolicy, EvidenceKind, EvidenceStatus, ObjectState, Outcome,
        ReadyWhen, Reason, VerificationStatus,
    },
    lifecycle::{
        conclude::Requeue,
        event::Event,
        evidence::{EvidenceState, FinalizerOutcome, RemovalOutcome},
        evidence_error::EvidenceError,
        since::elapsed,
        state::State,
        step::{StepOutcome, Transition},
    },
};

invariants! {
    OfConcluded;
    over_the_grid_and_the_state_space:
        without_a_request_no_evidence_is_shown
        what_is_settled_has_no_pending_evidence_and_holds_no_finalizer
        the_verdict_is_final_while_its_evidence_is_stored_or_failed
        pending_evidence_is_shown_as_storing
        pending_evidence_of_a_portal_that_is_not_allowed_shows_that
        a_finalizer_that_is_refused_is_an_error_of_pending_evidence
        failed_evidence_is_stalled_and_stays_in_the_watch
        complete_evidence_is_shown_as_stored_or_as_nothing_to_store
        required_objects_are_listed_if_evidence_is_shown_as_stored
        stored_objects_stay_in_status_unless_the_destination_changes
        evidence_stored_is_reported_once
        evidence_failed_is_reported_once
        evidence_left_behind_is_reported
        an_error_ends_storing_only_after_its_time_limit
        an_error_is_not_shown_in_its_first_minute
        a_removal_writes_nothing
    ;
    only_over_the_grid:
        a_step_without_a_result_is_not_written
        an_unfinished_removal_is_retried_within_a_minute_and_its_time_limit
}

fn stands(case: &Concluded, state: EvidenceState) -> bool {
    case.evidence_after.as_ref().is_some_and(|after| after.state == state)
        && !matches!(case.state, State::Inconsistent(_))
        && case.after.as_ref().is_some_and(|(status, _)| status.outcome.is_some())
}

const fn reason_of(outcome: Outcome) -> Reason {
    match outcome {
        Outcome::Verified => Reason::Verified,
        Outcome::Rejected => Reason::Rejected,
        Outcome::Expired => Reason::Expired,
        Outcome::Failed => Reason::Failed,
    }
}

/// Whether the evidence reaches this state by this step.
fn becomes(case: &Concluded, state: EvidenceState) -> bool {
    stands(case, state) && case.evidence().state != state
}

fn without_a_request_no_evidence_is_shown(case: &Concluded) -> Checked {
    let Some((_, shown)) = &case.after else { return NotApplicable };
    if case.evidence().spec.is_some() {
        return NotApplicable;
    }
    let ready = shown.reason(ConditionType::Ready);
    let stalled = shown.reason(ConditionType::Stalled);
    holds(
        shown.reason(ConditionType::EvidenceStored).is_none()
            && !matches!(ready, Some(Reason::StoringEvidence | Reason::EvidenceFailed))
            && stalled != Some(Reason::EvidenceFailed),
    )
}

fn what_is_settled_has_no_pending_evidence_and_holds_no_finalizer(case: &Concluded) -> Checked {
    let Some((status, _)) = &case.after else { return NotApplicable };
    if !status.settled || case.before.settled {
        return NotApplicable;
    }
    let Some(after) = &case.evidence_after else { return NotApplicable };
    let is_removed = after.spec.as_ref().is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Delete)
        && after.is_stored;
    let owes = matches!(after.state, EvidenceState::Pending | EvidenceState::Failed);
    holds(!owes && !is_removed && !after.has_finalizer && case.conclusion.next == Requeue::Done)
}

fn the_verdict_is_final_while_its_evidence_is_stored_or_failed(case: &Concluded) -> Checked {
    let Some((status, shown)) = &case.after else { return NotApplicable };
    let is_pending = matches!(case.evidence().state, EvidenceState::Pending | EvidenceState::Failed);
    if !is_pending || !matches!(case.state, State::Finished(_)) {
        return NotApplicable;
    }
    let outcome = case.before.outcome.map(reason_of);
    let is_verified = case.before.outcome == Some(Outcome::Verified);
    let verdict = if is_verified { ConditionStatus::True } else { ConditionStatus::False };
    holds(
        status.outcome == case.before.outcome
            && shown.reason(ConditionType::Verified) == outcome
            && shown.is(ConditionType::Verified, verdict)
            && shown.reason(ConditionType::Finished) == outcome
            && shown.is(ConditionType::Finished, ConditionStatus::True),
    )
}

fn pending_evidence_is_shown_as_storing(case: &Concluded) -> Checked {
    let Some((_, shown)) = &case.after else { return NotApplicable };
    if !stands(case, EvidenceState::Pending) || case.transition() == Some(&NOT_ALLOWED) {
        return NotApplicable;
    }
    let ready = shown.reason(ConditionType::Ready);
    let reconciling = shown.reason(ConditionType::Reconciling);
    let as_asked = match case.facts.ready_when {
        ReadyWhen::Verified => {
            ready == Some(Reason::StoringEvidence) && reconciling == Some(Reason::StoringEvidence)
        }
        ReadyWhen::SessionCreated => ready == Some(Reason::Finished) && reconciling.is_none(),
    };
    holds(
        as_asked
            && shown.reason(ConditionType::Stalled).is_none()
            && shown.is(ConditionType::EvidenceStored, ConditionStatus::False),
    )
}

const NOT_ALLOWED: Transition = Transition::Show(crate::lifecycle::step::Shown::PortalNotAllowed);

fn pending_evidence_of_a_portal_that_is_not_allowed_shows_that(case: &Concluded) -> Checked {
    let Some((_, shown)) = &case.after else { return NotApplicable };
    if !stands(case, EvidenceState::Pending) || case.transition() != Some(&NOT_ALLOWED) {
        return NotApplicable;
    }
    holds(
        shown.reason(ConditionType::Ready) == Some(Reason::StoringEvidence)
            && shown.reason(ConditionType::Reconciling).is_none()
            && shown.reason(ConditionType::Stalled) == Some(Reason::PortalNotAllowed)
            && shown.is(ConditionType::EvidenceStored, ConditionStatus::False),
    )
}

fn a_finalizer_that_is_refused_is_an_error_of_pending_evidence(case: &Concluded) -> Checked {
    if case.outcome != Some(&StepOutcome::AddFinalizer(FinalizerOutcome::Refused)) {
        return NotApplicable;
    }
    if case.evidence().state != EvidenceState::Pending {
        return holds(case.after.is_none() && matches!(case.conclusion.next, Requeue::At(_)));
    }
    let Some((_, shown)) = &case.after else { return Checked::Broken };
    let since = |since: jiff::Timestamp| elapsed(since, case.facts.now);
    let what = EvidenceError::FinalizerDenied;
    let failures = case.facts.local_state.storing.filter(|failures| failures.what == what);
    let is_late = case
        .evidence()
        .pending_since
        .is_some_and(|pending| since(pending) >= Duration::from_hours(24))
        && case.facts.local_state.storing_since.is_some_and(|tried| since(tried) >= Duration::from_mins(10));
    let is_told = is_late || failures.is_some_and(|failures| since(failures.since) >= Duration::from_mins(1));
    holds(
        stands(case, EvidenceState::Failed) == is_late
            && (!is_told || shown.reason(ConditionType::EvidenceStored) == Some(Reason::FinalizerDenied)),
    )
}

fn failed_evidence_is_stalled_and_stays_in_the_watch(case: &Concluded) -> Checked {
    let Some((status, shown)) = &case.after else { return NotApplicable };
    if !stands(case, EvidenceState::Failed) {
        return NotApplicable;
    }
    let reason = shown.reason(ConditionType::EvidenceStored);
    holds(
        shown.reason(ConditionType::Ready) == Some(Reason::EvidenceFailed)
            && shown.is(ConditionType::Ready, ConditionStatus::False)
            && shown.reason(ConditionType::Stalled) == Some(Reason::EvidenceFailed)
            && shown.is(ConditionType::EvidenceStored, ConditionStatus::False)
            && reason != Some(Reason::Storing)
            && status.phase.map(crate::api::Phase::as_str)
                == status.outcome.map(|outcome| reason_of(outcome).as_str())
            && !status.settled
            && case.conclusion.next == Requeue::AwaitChange,
    )
}

fn complete_evidence_is_shown_as_stored_or_as_nothing_to_store(case: &Concluded) -> Checked {
    let Some((status, shown)) = &case.after else { return NotApplicable };
    if !stands(case, EvidenceState::Complete) {
        return NotApplicable;
    }
    let is_stored = !stored_keys(status).is_empty();
    let expected = if is_stored { Reason::Stored } else { Reason::NothingToStore };
    holds(
        shown.reason(ConditionType::EvidenceStored) == Some(expected)
            && shown.is(ConditionType::EvidenceStored, ConditionStatus::True)
            && !matches!(
                shown.reason(ConditionType::Ready),
                Some(Reason::StoringEvidence | Reason::EvidenceFailed)
            ),
    )
}

fn stored_keys(status: &VerificationStatus) -> Vec<&str> {
    let objects = status.evidence.as_ref().map_or(&[][..], |evidence| &evidence.objects);
    objects
        .iter()
        .filter(|object| object.state == ObjectState::Stored)
        .map(|object| object.key.as_str())
        .collect()
}

fn required_objects_are_listed_if_evidence_is_shown_as_stored(case: &Concluded) -> Checked {
    let (Some((status, shown)), Some(spec)) = (&case.after, &case.evidence().spec) else {
        return NotApplicable;
    };
    if !matches!(case.state, State::Finished(_))
        || !shown.is(ConditionType::EvidenceStored, ConditionStatus::True)
    {
        return NotApplicable;
    }
    // A manifest is final, whatever the spec requests later; one that arrives without an object was written by an
    // earlier process.
    let has_manifest = |evidence: &EvidenceStatus| evidence.manifest_sha256.is_some();
    let was_written = case.before.evidence.as_ref().is_some_and(has_manifest);
    let of_an_earlier_process = matches!(
        case.outcome,
        Some(StepOutcome::Store(stored)) if stored.manifest_sha256.is_some() && stored.objects.is_empty()
    );
    if was_written || of_an_earlier_process {
        return NotApplicable;
    }
    // A manifest that lists an object as absent was written before the object was required.
    let objects = status.evidence.as_ref().map_or(&[][..], |evidence| &evidence.objects);
    let is_listed = |stem: &str| objects.iter().any(|object| object.key.split('.').next() == Some(stem));
    let required = spec.images.iter().filter(|item| item.required);
    holds(
        required
            .map(|item| EvidenceKind::from(item.kind).stem(&item.image_type, None))
            .all(|stem| is_listed(&stem)),
    )
}

fn destination_changes(case: &Concluded) -> bool {
    let prefix =
        |status: &VerificationStatus| status.evidence.as_ref().map(|evidence| evidence.prefix.clone());
    let after = case.after.as_ref().and_then(|(status, _)| prefix(status));
    prefix(case.before).is_some_and(|before| after.is_some_and(|after| after != before))
}

fn stored_objects_stay_in_status_unless_the_destination_changes(case: &Concluded) -> Checked {
    let Some((status, _)) = &case.after else { return NotApplicable };
    let before = stored_keys(case.before);
    if before.is_empty() || destination_changes(case) {
        return NotApplicable;
    }
    let after = stored_keys(status);
    let manifest = |status: &VerificationStatus| {
        status.evidence.as_ref().is_some_and(|evidence| evidence.manifest_sha256.is_some())
    };
    // An object that is found absent later was another answer about the same image.
    let again = case.stored().map_or(&[][..], |stored| &stored.objects);
    let is_kept = |key: &&str| {
        after.contains(key)
            || again.iter().any(|object| key.split('.').next() == object.key.split('.').next())
    };
    holds(before.iter().all(is_kept) && manifest(case.before) <= manifest(status))
}

fn evidence_stored_is_reported_once(case: &Concluded) -> Checked {
    let reported = case.reported(Event::EvidenceStored);
    let is_due = becomes(case, EvidenceState::Complete)
        && case.after.as_ref().is_some_and(|(status, _)| !stored_keys(status).is_empty());
    if reported == 0 && !is_due { NotApplicable } else { holds((reported == 1) == is_due) }
}

fn evidence_failed_is_reported_once(case: &Concluded) -> Checked {
    let reported = case.reported(Event::EvidenceFailed);
    let is_due = becomes(case, EvidenceState::Failed);
    if reported == 0 && !is_due { NotApplicable } else { holds((reported == 1) == is_due) }
}

fn evidence_left_behind_is_reported(case: &Concluded) -> Checked {
    let is_removed =
        case.evidence().spec.as_ref().is_some_and(|spec| spec.deletion_policy == DeletionPolicy::Delete);
    let leaves = destination_changes(case) && is_removed && !stored_keys(case.before).is_empty();
    let is_due = leaves || case.outcome == Some(&StepOutcome::RemoveEvidence(RemovalOutcome::Abandoned));
    let reported = case.reported(Event::EvidenceOrphaned);
    if reported == 0 && !is_due { NotApplicable } else { holds((reported == 1) == is_due) }
}

fn an_error_ends_storing_only_after_its_time_limit(case: &Concluded) -> Checked {
    let Some(error) = case.stored().and_then(|stored| stored.error) else { return NotApplicable };
    if stands(case, EvidenceState::Complete) {
        return NotApplicable;
    }
    let since = |since: jiff::Timestamp| elapsed(since, case.facts.now);
    let lasted = case
        .facts
        .local_state
        .storing
        .filter(|failures| failures.what == error)
        .map_or(Duration::ZERO, |failures| since(failures.since));
    let late = case
        .evidence()
        .pending_since
        .is_some_and(|pending| since(pending) >= Duration::from_hours(24))
        && case.facts.local_state.storing_since.is_some_and(|tried| since(tried) >= Duration::from_mins(10));
    let is_over = match error {
        EvidenceError::Conflict
        | EvidenceError::DestinationNotAllowed
        | EvidenceError::StoreSecretInvalid
        | EvidenceError::NoConditionalWrites => true,
        EvidenceError::ImageNotAvailable | EvidenceError::ImageUnusable | EvidenceError::ImageTooLarge => {
            late || lasted >= Duration::from_mins(10)
        }
        EvidenceError::StoreUnavailable
        | EvidenceError::StoreUnresponsive(_)
        | EvidenceError::StoreCircuitOpen
        | EvidenceError::StoreSecretUnread
        | EvidenceError::BucketNotFound
        | EvidenceError::StoreMisconfigured
        | EvidenceError::StoreRegionWrong
        | EvidenceError::StoreEncryptionKeyWrong
        | EvidenceError::StoreFeatureMissing
        | EvidenceError::StoreAccessDenied
        | EvidenceError::StoreCredentialsRejected
        | EvidenceError::StoreSecretNotFound
        | EvidenceError::StoreSecretForbidden
        | EvidenceError::PortalUnavailable
        | EvidenceError::PortalKeyUnusable
        | EvidenceError::PortalNotAllowed
        | EvidenceError::FinalizerDenied => late,
    };
    holds(stands(case, EvidenceState::Failed) == is_over)
}

fn an_error_is_not_shown_in_its_first_minute(case: &Concluded) -> Checked {
    let (Some(stored), Some((_, shown))) = (case.stored(), &case.after) else { return NotApplicable };
    let Some(error) = stored.error else { return NotApplicable };
    if !stands(case, EvidenceState::Pending) {
        return NotApplicable;
    }
    let lasted = case.facts.local_state.storing.is_some_and(|failures| {
        let (_, is_the_same) = error.after(Some(failures.what));
        is_the_same && elapsed(failures.since, case.facts.now) >= Duration::from_mins(1)
    });
    let reason = shown.reason(ConditionType::EvidenceStored);
    let before = case.shown_before.0[ConditionType::EvidenceStored as usize]
        .filter(|(status, _)| *status == ConditionStatus::False)
        .map_or(Reason::Storing, |(_, reason)| reason);
    holds(reason == Some(if lasted { error.reason() } else { before }))
}

fn a_removal_writes_nothing(case: &Concluded) -> Checked {
    if matches!(case.outcome, Some(StepOutcome::RemoveEvidence(_)))
        || case.outcome == Some(&StepOutcome::AddFinalizer(FinalizerOutcome::Added))
    {
        holds(case.conclusion.status.is_none() && case.conclusion.next != Requeue::Done)
    } else {
        NotApplicable
    }
}

fn a_step_without_a_result_is_not_written(case: &Concluded) -> Checked {
    let Some(stored) = case.stored() else { return NotApplicable };
    let is_nothing = stored.objects.is_empty()
        && stored.manifest_sha256.is_none()
        && stored.error.is_none()
        && stored.again_at.is_none();
    if is_nothing {
        holds(case.after.is_none() && matches!(case.conclusion.next, Requeue::At(at) if at > case.facts.now))
    } else {
        NotApplicable
    }
}

fn an_unfinished_removal_is_retried_within_a_minute_and_its_time_limit(case: &Concluded) -> Checked {
    if !matches!(
        case.outcome,
        Some(StepOutcome::RemoveEvidence(RemovalOutcome::NotYet | RemovalOutcome::NotTried))
    ) {
        return NotApplicable;
    }
    let Requeue::At(at) = case.conclusion.next else { return Checked::Broken };
    let now = case.facts.now;
    let time = Duration::from_mins(10);
    let in_time = case
        .evidence()
        .deleted_at
        .is_none_or(|deleted| elapsed(deleted, now) >= time || elapsed(deleted, at) <= time);
    holds(at > now && elapsed(now, at) <= Duration::from_mins(1) && in_time)
}
