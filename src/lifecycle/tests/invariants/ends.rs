//! Invariants about grace periods (law e), ends (law f) and the next poll (law g).

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Checked::{self, NotApplicable},
    Concluded, OfConcluded, holds, is_claim,
};
use crate::{
    api::{ConditionStatus, ConditionType, Outcome, ReadyWhen, Reason},
    lifecycle::{
        blocker::BlockerKind,
        conclude::Requeue,
        event::Event,
        evidence::EvidenceState,
        facts::{Deadline, Due, Facts},
        since::{elapsed, later},
        state::State,
        step::{
            CreateOutcome, NotAdmitted, PortalStep, Refusal, Shown as ShownStep, StepOutcome, Transition,
            Wait,
        },
    },
    portal::{error::PortalError, verification_id::VerificationId, wire::Details},
};

invariants! {
    OfConcluded;
    over_the_grid_and_the_state_space:
        a_refusal_shows_stalled_only_after_its_grace
        what_only_a_person_can_resolve_stays_shown_until_it_is_resolved
        an_end_needs_an_answer_that_names_the_session_or_a_clock
        verified_comes_only_from_the_portals_report_on_this_session
        the_next_poll_is_within_an_hour_and_not_in_the_past
        the_next_call_waits_for_admission
        an_end_is_reported_once_and_leaves_the_watch_unless_something_is_pending
        a_refused_call_waits_unless_its_deadline_or_the_day_for_evidence_has_passed
        a_refused_call_claims_records_and_publishes_nothing
    ;
    only_over_the_grid:
}

fn a_refused_call_waits_unless_its_deadline_or_the_day_for_evidence_has_passed(case: &Concluded) -> Checked {
    let Some(NotAdmitted { step, refusal, cause: _ }) = case.refusal() else { return NotApplicable };
    let Facts { deadline, due, evidence, local_state, now, .. } = case.facts;
    let lasted = |since: Option<Timestamp>, long| since.is_some_and(|since| elapsed(since, *now) >= long);
    let is_overdue = lasted(evidence.pending_since, Duration::from_hours(24))
        && lasted(local_state.storing_since, Duration::from_mins(10));
    let is_rate = matches!(refusal, Refusal::Rate(_));
    let reported = |event| case.conclusion.events.contains(&event);
    let (is_long_ago, has_passed) = match *deadline {
        Deadline::Ahead(_) => (false, false),
        Deadline::Passed { at: _, polled: _, overdue: _, long_ago } => (long_ago, true),
    };
    let ends = match step {
        PortalStep::Create | PortalStep::Adopt => None,
        PortalStep::Poll => is_long_ago.then_some(Event::DeadlineExceeded),
        PortalStep::Store => {
            (is_overdue && (!is_rate || local_state.storing.is_some())).then_some(Event::EvidenceFailed)
        }
    };
    // The last poll does not follow the schedule, but the rate limit does not let it out earlier.
    let scheduled = match due {
        Due::At(at) if *step == PortalStep::Poll && has_passed && is_rate => Some(Wait::Due(*at)),
        Due::Now | Due::At(_) => None,
    };
    let waits_for = case.conclusion.waits_for;
    holds(match ends {
        Some(event) => waits_for.is_none() && reported(event),
        None => waits_for == Some(scheduled.unwrap_or(Wait::Admission(*refusal))),
    })
}

fn a_refused_call_claims_records_and_publishes_nothing(case: &Concluded) -> Checked {
    if case.refusal().is_none() {
        return NotApplicable;
    }
    let Some((after, _)) = &case.after else { return Checked::Holds };
    let before = case.before;
    holds(
        after.session == before.session
            && after.verification_id == before.verification_id
            && after.evidence == before.evidence
            && after.progress == before.progress
            && after.portal_status == before.portal_status,
    )
}

fn blocker_kind(stalled: Reason) -> Option<BlockerKind> {
    [
        (Reason::KeyRejected, BlockerKind::Key),
        (Reason::AccessDenied, BlockerKind::Key),
        (Reason::KeyRotated, BlockerKind::Key),
        (Reason::PortalMisconfigured, BlockerKind::Misconfigured),
        (Reason::PortalRejectedRequest, BlockerKind::Invalid),
    ]
    .into_iter()
    .find_map(|(reason, blocker_kind)| (reason == stalled).then_some(blocker_kind))
}

fn a_refusal_shows_stalled_only_after_its_grace(case: &Concluded) -> Checked {
    let Some((_, shown)) = &case.after else { return NotApplicable };
    let Some(stalled) = shown.reason(ConditionType::Stalled) else { return NotApplicable };
    let Some(what) = blocker_kind(stalled) else { return NotApplicable };
    let shown_already = case.shown_before.reason(ConditionType::Stalled).and_then(blocker_kind) == Some(what);
    let long = case.facts.local_state.blocker_kind.is_some_and(|failures| {
        failures.what == what && elapsed(failures.since, case.facts.now) >= Duration::from_mins(10)
    });
    holds(shown_already || long)
}

/// Whether the outcome of the step says nothing about that error, or confirms it.
fn leaves_open(case: &Concluded, stalled: Reason) -> bool {
    if case.wait().is_some() || is_claim(case) {
        return true;
    }
    let is_create = matches!(case.outcome, Some(StepOutcome::Create(_)));
    let is_poll = matches!(case.outcome, Some(StepOutcome::Poll { id: _, answer: _ }));
    if case.outcome == Some(&StepOutcome::Create(CreateOutcome::NotSent)) {
        return true;
    }
    let Some(error) = case.error() else { return false };
    match error {
        PortalError::NotSent(_) | PortalError::Unclear { .. } | PortalError::Limited { .. } => true,
        PortalError::Failed(_) => !is_create,
        PortalError::KeyRejected | PortalError::AccessDenied => {
            blocker_kind(stalled) == Some(BlockerKind::Key)
        }
        PortalError::Invalid => stalled == Reason::PortalRejectedRequest && !is_poll,
        PortalError::NotFound | PortalError::Redirected | PortalError::Unconfigured => {
            stalled == Reason::PortalMisconfigured && is_create
        }
        PortalError::Conflict => false,
    }
}

fn what_only_a_person_can_resolve_stays_shown_until_it_is_resolved(case: &Concluded) -> Checked {
    let Some((status, shown)) = &case.after else { return NotApplicable };
    let Some(stalled) = case.shown_before.reason(ConditionType::Stalled) else { return NotApplicable };
    let ready_anyway = case.facts.ready_when == ReadyWhen::SessionCreated && status.verification_id.is_some();
    let for_a_person = blocker_kind(stalled).is_some() || stalled == Reason::SessionNotFound;
    if !for_a_person || ready_anyway || !leaves_open(case, stalled) {
        return NotApplicable;
    }
    // Before there is a link, a missing key is the current cause.
    if let Some(Wait::Key(fault)) = case.wait()
        && status.verification_id.is_none()
    {
        return holds(shown.reason(ConditionType::Reconciling) == Some(fault.reason()));
    }
    let after = shown.reason(ConditionType::Stalled);
    // Another refused key is one more error for a person to resolve.
    let refused_key = matches!(case.wait(), Some(Wait::Admission(Refusal::KeyRejected(_))))
        && after.and_then(blocker_kind) == Some(BlockerKind::Key);
    let stays = after == Some(stalled)
        || (blocker_kind(stalled).is_some() && after.and_then(blocker_kind) == blocker_kind(stalled));
    holds(refused_key || stays)
}

fn ends_here(case: &Concluded) -> Option<Outcome> {
    let (status, _) = case.after.as_ref()?;
    status.outcome.filter(|_| case.before.outcome.is_none())
}

fn about_this_session<'a>(case: &Concluded<'a>) -> Option<&'a Details> {
    match case.outcome? {
        StepOutcome::Poll { id, answer: Ok(details) } | StepOutcome::Adopt { id, answer: Ok(details) } => {
            (details.id.as_ref() == Some(id)).then_some(details)
        }
        StepOutcome::Poll { id: _, answer: Err(_) }
        | StepOutcome::Adopt { id: _, answer: Err(_) }
        | StepOutcome::Transition(_)
        | StepOutcome::NotAdmitted(_)
        | StepOutcome::NotPerformed
        | StepOutcome::Create(_)
        | StepOutcome::AddFinalizer(_)
        | StepOutcome::Store(_)
        | StepOutcome::RemoveEvidence(_)
        | StepOutcome::Delete(_) => None,
    }
}

fn an_end_needs_an_answer_that_names_the_session_or_a_clock(case: &Concluded) -> Checked {
    let Some(outcome) = ends_here(case) else { return NotApplicable };
    let hour = Duration::from_hours(1);
    let Facts { now, portal_now, local_state, .. } = case.facts;
    let created_at = case.before.session.as_ref().and_then(|session| session.created_at);
    let hour_over = portal_now.zip(case.before.expires_at).zip(created_at).is_some_and(
        |((portal_now, end), created_at)| {
            let is_date = end - portal_now.duration_since(*now) > created_at;
            is_date && elapsed(end, portal_now) >= hour
        },
    );
    let stands_still = local_state.still_since.is_some_and(|since| elapsed(since, *now) >= hour);
    let word = about_this_session(case).map(|details| details.current.as_deref());
    let by_word = match outcome {
        Outcome::Verified => word == Some(Some("verified")),
        Outcome::Rejected => word == Some(Some("rejected")),
        Outcome::Expired => word == Some(Some("expired")),
        Outcome::Failed => false,
    };
    let is_create = matches!(case.outcome, Some(StepOutcome::Create(_)));
    let gone = case.error() == Some(&PortalError::NotFound) && !is_create && {
        let first = case.facts.local_state.not_found.map_or(case.facts.now, |failures| failures.since);
        case.facts.polled_at.is_some_and(|polled_at| polled_at >= first)
            || elapsed(first, case.facts.now) >= Duration::from_hours(24)
    };
    let by_clock = outcome == Outcome::Expired && hour_over && ((word.is_some() && stands_still) || gone);
    let is_refused_long_after = case.refusal().is_some_and(|refused| {
        let is_long_ago = matches!(case.facts.deadline, Deadline::Passed { long_ago: true, .. });
        refused.step == PortalStep::Poll && is_long_ago
    });
    let is_decided = case.transition() == Some(&Transition::Fail);
    let by_deadline = outcome == Outcome::Failed && (is_decided || is_refused_long_after);
    holds(by_word || by_clock || by_deadline)
}

fn verified_comes_only_from_the_portals_report_on_this_session(case: &Concluded) -> Checked {
    let Some((status, shown)) = &case.after else { return NotApplicable };
    let said = about_this_session(case).is_some_and(|details| details.current.as_deref() == Some("verified"));
    let was = case.shown_before.is(ConditionType::Verified, ConditionStatus::True)
        || (case.before.outcome == Some(Outcome::Verified) && !matches!(case.state, State::Inconsistent(_)));
    let becomes = shown.is(ConditionType::Verified, ConditionStatus::True)
        || (status.outcome == Some(Outcome::Verified) && case.before.outcome.is_none())
        || shown.reason(ConditionType::Ready) == Some(Reason::Verified);
    if said {
        let id = status.verification_id.as_deref().map(VerificationId::parse);
        return holds(becomes && matches!(id, Some(Ok(_))));
    }
    holds(!becomes || was)
}

fn the_next_poll_is_within_an_hour_and_not_in_the_past(case: &Concluded) -> Checked {
    let now = case.facts.now;
    match case.conclusion.next {
        Requeue::At(at) => {
            let within = elapsed(now, at) <= Duration::from_hours(1);
            // A resource that waits for a person alone wakes only at its deadline.
            let shown = case.after.as_ref().and_then(|(_, shown)| shown.reason(ConditionType::Stalled));
            let waits_for_a_person = shown == Some(Reason::CreateOutcomeUnknown)
                || case.transition() == Some(&Transition::Show(ShownStep::ResourceTooLarge));
            let by_deadline = case.facts.deadline == Deadline::Ahead(at) && waits_for_a_person;
            // Before the end of its TTL, nothing matters but a change of the resource or a clock that is corrected.
            let by_ttl = is_ttl_check(case, at);
            holds(at >= now && (within || by_deadline || by_ttl))
        }
        Requeue::Now | Requeue::AwaitChange | Requeue::Done => NotApplicable,
    }
}

/// Whether the end of a TTL is awaited: until then, but no longer than a day.
fn is_ttl_check(case: &Concluded, at: jiff::Timestamp) -> bool {
    let Some(Wait::Ttl(end)) = case.conclusion.waits_for else { return false };
    let within_a_day = elapsed(case.facts.now, at) <= Duration::from_hours(24);
    within_a_day && at <= end
}

fn the_next_call_waits_for_admission(case: &Concluded) -> Checked {
    let wait = case.wait();
    if let Some(Wait::Admission(Refusal::Breaker(until) | Refusal::Rate(until)) | Wait::InFlight(until)) =
        wait
    {
        let at = match case.facts.deadline {
            Deadline::Ahead(deadline) => deadline.min(until),
            Deadline::Passed { .. } => until,
        };
        // Before there is a link, a reconcile may come earlier to show the cause; it calls nothing.
        let may_show = matches!(wait, Some(Wait::Admission(Refusal::Breaker(_))))
            && case.after.as_ref().is_some_and(|(status, _)| status.verification_id.is_none());
        let is_in_time = match case.conclusion.next {
            Requeue::At(next) => next == at || (may_show && next < at),
            Requeue::Now | Requeue::AwaitChange | Requeue::Done => false,
        };
        return holds(is_in_time);
    }
    let Some(error) = case.error() else { return NotApplicable };
    let least = if let PortalError::Limited { retry_after } = error {
        retry_after.unwrap_or_default().max(Duration::from_secs(5))
    } else if !matches!(error, PortalError::KeyRejected | PortalError::AccessDenied) {
        return NotApplicable;
    } else if matches!(case.outcome, Some(StepOutcome::Poll { id: _, answer: _ })) {
        Duration::from_mins(5)
    } else {
        Duration::from_secs(150)
    };
    holds(case.conclusion.local_state.next.is_some_and(|next| next >= later(case.facts.now, least)))
}

fn an_end_is_reported_once_and_leaves_the_watch_unless_something_is_pending(case: &Concluded) -> Checked {
    let ends = [
        Event::Verified,
        Event::Rejected,
        Event::Expired,
        Event::ExpiredAndGone,
        Event::ExpiredByClock,
        Event::DeadlineExceeded,
    ];
    let reported = case.conclusion.events.iter().filter(|event| ends.contains(event)).count();
    match (ends_here(case), &case.after) {
        (Some(_), Some((status, _))) => {
            let pending =
                case.evidence_after.as_ref().is_some_and(|after| after.state == EvidenceState::Pending);
            let (has_finalizer, cleanup) = (case.evidence().has_finalizer, case.facts.cleanup);
            let is_kept = cleanup.is_some_and(|cleanup| cleanup.managed_by_git_ops);
            let goes_on = match case.conclusion.next {
                Requeue::Done => status.settled && !pending && !has_finalizer && cleanup.is_none(),
                Requeue::Now => !status.settled && (pending || has_finalizer || cleanup.is_some()),
                // The finalizer holds it until it is deleted, or Git would bring it back.
                Requeue::AwaitChange => !status.settled && !pending && (has_finalizer || is_kept),
                Requeue::At(at) => !status.settled && !pending && is_ttl_check(case, at),
            };
            holds(reported == 1 && goes_on)
        }
        (_, Some((status, _))) if status.outcome.is_some() => holds(reported == 0),
        (_, _) => {
            if reported == 0 {
                NotApplicable
            } else {
                Checked::Broken
            }
        }
    }
}
