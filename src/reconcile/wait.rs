//! What the next reconcile of a verification waits for: a key, the portal, or the time of its next poll. May depend on
//! `reconciler`, `cache_entry`, `key_wait`, `keys` and `observe`, and on `lifecycle`. Calls nothing.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    cache_entry::{PollContext, PortalWait},
    key_wait::{Awaited, KeyWait},
    keys::PreviousKey,
    observe::Observed,
    reconciler::Reconciler,
};
use crate::{
    api::{Condition, ConditionStatus, ConditionType, Verification, VerificationStatus},
    lifecycle::{
        Conclusion, CreateOutcome, Deadline, Facts, NotAdmitted, PollBaseline, PortalStep, Refusal,
        STALLED_AFTER, State, StepOutcome, Wait, is_outage,
    },
    portal::{PortalError, PortalUrl, budget::Closed},
};

/// A call that is due this soon after a pause counts as waiting for that pause.
const WITH_THE_PAUSE: SignedDuration = SignedDuration::from_secs(5);

impl Reconciler {
    /// What the fast path needs after a poll that was answered and is shown in full, or was not admitted.
    pub(crate) fn poll_context(
        &self,
        observed: &Observed,
        before: &VerificationStatus,
        outcome: &StepOutcome,
        conclusion: &Conclusion,
    ) -> Option<Box<PollContext>> {
        let Observed { facts, account, key: _, found: _, budget: _ } = observed;
        let Deadline::Ahead(deadline) = facts.deadline else { return None };
        let status = match outcome {
            StepOutcome::Poll { id: _, answer: Ok(_) } | StepOutcome::Adopt { id: _, answer: Ok(_) } => {
                conclusion.status.as_ref()?
            }
            StepOutcome::NotAdmitted(_) if is_poll_deferred(before, outcome, conclusion, facts) => before,
            StepOutcome::Poll { id: _, answer: Err(_) }
            | StepOutcome::Adopt { id: _, answer: Err(_) }
            | StepOutcome::Transition(_)
            | StepOutcome::NotAdmitted(_)
            | StepOutcome::NotPerformed
            | StepOutcome::Create(_)
            | StepOutcome::AddFinalizer(_)
            | StepOutcome::Store(_)
            | StepOutcome::RemoveEvidence(_)
            | StepOutcome::Delete(_) => return None,
        };
        let baseline =
            PollBaseline::of(status, &conclusion.local_state, facts.bounds, deadline, facts.times())?;
        let account = self.accounts.share(account.clone()?);
        Some(Box::new(PollContext { baseline, account }))
    }

    /// What the fast path needs for a session that this reconcile created and recorded.
    pub(crate) fn poll_context_of_new(
        &self,
        observed: &Observed,
        written: &Verification,
        conclusion: &Conclusion,
    ) -> Option<Box<PollContext>> {
        let Observed { facts, account, key: _, found: _, budget: _ } = observed;
        let Deadline::Ahead(deadline) = facts.deadline else { return None };
        // If the schema refused something, the next reconcile reads the resource.
        let status = conclusion.status.as_ref().filter(|status| written.status.as_ref() == Some(status))?;
        let baseline =
            PollBaseline::of_new(status, &conclusion.local_state, facts.bounds, deadline, facts.times())?;
        let account = self.accounts.share(account.clone()?);
        Some(Box::new(PollContext { baseline, account }))
    }

    pub(super) fn waits_at(&self, portal: &PortalUrl, closed: Closed) -> Option<PortalWait> {
        self.portal.number_of(portal).map(|portal| PortalWait { portal, closed, is_shown: false })
    }

    /// What the next call to the portal waits for after this answer.
    pub(crate) fn waits_after(&self, portal: &PortalUrl, error: Option<&PortalError>) -> Option<PortalWait> {
        let closed = match error? {
            PortalError::Limited { retry_after: _ } => Closed::Paused,
            PortalError::KeyRejected => Closed::KeyRejected,
            PortalError::NotSent(_)
            | PortalError::AccessDenied
            | PortalError::Invalid
            | PortalError::NotFound
            | PortalError::Conflict
            | PortalError::Redirected
            | PortalError::Unconfigured
            | PortalError::Unclear { status: _ }
            | PortalError::Failed(_) => return None,
        };
        self.waits_at(portal, closed)
    }

    /// What the next call to the portal waits for after this outcome.
    pub(crate) fn portal_wait(
        &self,
        outcome: &StepOutcome,
        observed: &Observed,
        conclusion: &Conclusion,
    ) -> Option<PortalWait> {
        let error = match outcome {
            StepOutcome::Poll { id: _, answer } | StepOutcome::Adopt { id: _, answer } => {
                Some(answer.as_ref().err())
            }
            StepOutcome::Create(CreateOutcome::Answered(answer)) => Some(answer.as_ref().err()),
            StepOutcome::Transition(_)
            | StepOutcome::NotAdmitted(_)
            | StepOutcome::NotPerformed
            | StepOutcome::Create(
                CreateOutcome::ClaimLost | CreateOutcome::ClaimNotWritten | CreateOutcome::NotSent,
            )
            | StepOutcome::AddFinalizer(_)
            | StepOutcome::Store(_)
            | StepOutcome::RemoveEvidence(_)
            | StepOutcome::Delete(_) => None,
        };
        if let Some(error) = error {
            return self.waits_after(&observed.account.as_ref()?.portal, error);
        }
        let closed = match conclusion.waits_for? {
            Wait::Admission(Refusal::KeyRejected(_)) => Closed::KeyRejected,
            Wait::Admission(Refusal::Paused(_)) => Closed::Paused,
            Wait::Admission(Refusal::Breaker(_)) => Closed::Breaker,
            // A verification whose own call was answered with the pause waits exactly for the end of the pause.
            Wait::Due(at) => match observed.budget.as_ref()?.closed(Instant::now())? {
                (until, Closed::Paused) if at.duration_since(self.clock.time(until)) <= WITH_THE_PAUSE => {
                    Closed::Paused
                }
                (_, Closed::Paused | Closed::Breaker | Closed::KeyRejected | Closed::Rate) => return None,
            },
            Wait::Key(_) | Wait::Admission(Refusal::Rate(_)) | Wait::InFlight(_) | Wait::Ttl(_) => {
                return None;
            }
        };
        let is_shown =
            closed == Closed::Breaker && is_outage(&observed.facts.local_state, observed.facts.now);
        let portal_wait = self.waits_at(&observed.account.as_ref()?.portal, closed)?;
        Some(PortalWait { is_shown, ..portal_wait })
    }

    /// The key that the next call waits for, if it waits for one.
    pub(crate) fn key_wait(
        &self,
        state: &State,
        observed: &Observed,
        conclusion: &Conclusion,
    ) -> Option<KeyWait> {
        let Observed { facts, account, key, found, budget: _ } = observed;
        let Deadline::Ahead(deadline) = facts.deadline else { return None };
        let now = facts.now;
        let refused = || key.as_ref().map(|_| Awaited::AnotherThan(found.current));
        let local_state = &conclusion.local_state;
        let (awaited, until) = match conclusion.waits_for? {
            Wait::Key(fault) => {
                (Awaited::Usable(fault, local_state.key_missing.unwrap_or(now)), Timestamp::MAX)
            }
            Wait::Admission(Refusal::KeyRejected(until)) => (refused()?, until),
            Wait::Due(at) if local_state.refused_key.is_some() => (refused()?, at),
            Wait::Due(_)
            | Wait::Admission(Refusal::Paused(_) | Refusal::Breaker(_) | Refusal::Rate(_))
            | Wait::InFlight(_)
            | Wait::Ttl(_) => return None,
        };
        // A rejected key becomes Stalled after a grace period.
        let grace = local_state
            .blocker_kind
            .and_then(|blocker_kind| blocker_kind.since.checked_add(STALLED_AFTER).ok());
        let grace = grace.filter(|end| *end > now).unwrap_or(Timestamp::MAX);
        let end = match state {
            // Pending evidence is abandoned after some time.
            State::Finished(_) => now.checked_add(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MAX),
            State::Fresh
            | State::Claimed
            | State::Refused
            | State::OutcomeUnknown
            | State::Open { .. }
            | State::Settled
            | State::Inconsistent(_) => deadline,
        };
        let account = self.accounts.share(account.clone()?);
        let until = until.min(grace).min(end);
        let previous = match found.previous {
            PreviousKey::NotNeeded => None,
            PreviousKey::Absent => Some(Awaited::AnotherThan(None)),
            PreviousKey::Usable(identity) => Some(Awaited::AnotherThan(Some(identity))),
        };
        Some(KeyWait { account, awaited, previous, until, priority: conclusion.priority })
    }
}

/// Whether a poll was not admitted and status stays unchanged. There is nothing to read until it is admitted, as after
/// a restart, when the first polls of a hundred thousand sessions may wait for a slow portal.
pub(super) fn is_poll_deferred(
    before: &VerificationStatus,
    outcome: &StepOutcome,
    conclusion: &Conclusion,
    facts: &Facts,
) -> bool {
    let is_poll = matches!(outcome, StepOutcome::NotAdmitted(NotAdmitted { step: PortalStep::Poll, .. }));
    // After a short wait it is not concluded what status would show. It may be a change of the spec, or a key that was
    // repaired.
    let stays = match &conclusion.status {
        Some(after) => after == before,
        None => before.observed_generation == Some(facts.generation) && !shows_key_fault(before),
    };
    // A request that is not acknowledged yet has its own priority.
    is_poll && !facts.requests_poll(before) && stays
}

fn shows_key_fault(status: &VerificationStatus) -> bool {
    Condition::find(&status.conditions, ConditionType::CredentialsReady)
        .is_some_and(|condition| condition.status == ConditionStatus::False)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Phase, Reason},
        lifecycle::{ParsedStatus, conclude, fixtures},
    };

    fn is_deferred(status: &VerificationStatus, facts: &Facts) -> bool {
        let refusal = Refusal::Rate(facts.now + SignedDuration::from_millis(100));
        let outcome = StepOutcome::NotAdmitted(NotAdmitted { step: PortalStep::Poll, refusal, cause: None });
        let parsed = ParsedStatus::of(fixtures::UID, status);
        let conclusion = conclude(&parsed, &outcome, facts);
        assert_eq!(conclusion.status, None, "the wait is short");
        is_poll_deferred(status, &outcome, &conclusion, facts)
    }

    #[test]
    fn a_changed_spec_or_a_repaired_key_is_shown_although_the_poll_waits() {
        let mut facts = fixtures::facts();
        let mut status = fixtures::open(Phase::AwaitingUser);
        status.observed_generation = Some(facts.generation);
        assert!(is_deferred(&status, &facts));
        facts.generation += 1;
        assert!(!is_deferred(&status, &facts));
        status.observed_generation = Some(facts.generation);
        assert!(is_deferred(&status, &facts));
        status.conditions.push(Condition {
            type_: ConditionType::CredentialsReady.as_str().into(),
            status: ConditionStatus::False,
            observed_generation: facts.generation,
            last_transition_time: facts.now,
            reason: Reason::SecretNotFound.as_str().into(),
            message: "".into(),
        });
        assert!(!is_deferred(&status, &facts));
    }
}
