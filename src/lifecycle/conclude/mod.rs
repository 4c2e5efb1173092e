//! The second table: outcome of a step → what is true, what to show, when to requeue. Pure.

mod block;
mod cause;
mod cleanup;
mod create;
mod evidence;
mod poll;
mod restore;
mod retained;
mod show;
pub(super) mod wait;

use std::time::Duration;

use jiff::Timestamp;

use super::{
    absence::Misses,
    blocker::Blocker,
    conditions::{ConditionInputs, conditions, phase, whole_seconds},
    decide::after_refusal,
    event::Event,
    evidence::{DestinationFact, EvidenceState, FinalizerOutcome},
    facts::{Deadline, Facts, PortalFact},
    interruption::Interruption,
    key_fact::KeyVersion,
    local_state::LocalState,
    schedule::{LONGEST, poll_schedule},
    since::{Since, later},
    state::ParsedStatus,
    step::{CreateOutcome, StepOutcome, Transition, Wait},
};
use crate::{
    api::{Mode, Outcome, Reason, Session, SessionState, VerificationStatus},
    portal::allowed::LinkMode,
    priority::Priority,
};

/// What is true after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// The whole status to write; none if nothing may be written.
    pub status: Option<VerificationStatus>,
    /// When to reconcile again.
    pub next: Requeue,
    /// How urgent that reconcile is.
    pub priority: Priority,
    /// What this process remembers.
    pub local_state: LocalState,
    /// What happened, to be reported after the write.
    pub events: Vec<Event>,
    /// What the resource waits for, if it only waits.
    pub waits_for: Option<Wait>,
}

/// When a verification is reconciled again. A change of the resource always triggers a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// At once.
    Now,
    /// At that time.
    At(Timestamp),
    /// Only when the resource changes.
    AwaitChange,
    /// Never: it is no longer watched.
    Done,
}

/// The status that is written before a create: the claim.
#[must_use]
pub fn claim(status: &VerificationStatus, attempt: u32, facts: &Facts) -> VerificationStatus {
    let mut draft = Draft::new(status, facts);
    // A blocker stays shown until a create is not refused for it.
    if let lasting @ (Interruption::Stalled(_) | Interruption::Blocked(_) | Interruption::RateLimited) =
        draft.lasting_interruption()
    {
        draft.inputs.interruption = lasting;
    }
    let session = draft.session();
    session.attempt = i32::try_from(attempt).unwrap_or(i32::MAX);
    session.state = Some(SessionState::Claimed);
    session.uid = Some(facts.uid.clone());
    session.holder = Some(facts.holder.clone());
    session.claimed_at = Some(whole_seconds(facts.now));
    if let PortalFact::Allowed(portal) = &facts.portal {
        session.portal = Some(portal.as_str().to_owned());
    }
    draft.finish(Requeue::AwaitChange).status.unwrap_or_default()
}

/// Concludes what is true after a step.
#[must_use]
pub fn conclude(parsed: &ParsedStatus<'_>, outcome: &StepOutcome, facts: &Facts) -> Conclusion {
    let draft = Draft::new(parsed.status(), facts);
    match outcome {
        StepOutcome::Transition(transition) => draft.transition(parsed, transition),
        StepOutcome::NotAdmitted(not_admitted) => {
            let transition = after_refusal(not_admitted, facts);
            Draft { refused_for: not_admitted.cause, ..draft }.transition(parsed, &transition)
        }
        StepOutcome::Create(CreateOutcome::ClaimLost) => draft.unwritten(Requeue::AwaitChange),
        StepOutcome::Create(CreateOutcome::NotSent) => draft.not_sent(),
        StepOutcome::Create(CreateOutcome::Answered(answer)) => draft.create(answer, parsed.attempts()),
        StepOutcome::Adopt { id, answer } => draft.adopt(id, answer),
        StepOutcome::Poll { id, answer } => draft.poll(id, answer),
        StepOutcome::Store(stored) => draft.store(stored),
        StepOutcome::RemoveEvidence(removed) => draft.remove(*removed),
        StepOutcome::Delete(deleted) => draft.delete(*deleted),
        StepOutcome::AddFinalizer(FinalizerOutcome::Refused) => draft.finalizer_refused(),
        // The metadata change wakes it.
        StepOutcome::AddFinalizer(FinalizerOutcome::Added) => {
            draft.unwritten(Requeue::At(later(facts.now, Duration::from_secs(5))))
        }
        StepOutcome::NotPerformed
        | StepOutcome::Create(CreateOutcome::ClaimNotWritten)
        | StepOutcome::AddFinalizer(FinalizerOutcome::Unknown) => draft.retry_unwritten(),
    }
}

/// How long it was suspended after its deadline; nonzero only in the first reconcile after it resumed.
fn resumed_after(facts: &Facts) -> Duration {
    match facts.deadline {
        Deadline::Passed { at, polled: _, overdue: _, long_ago: _ } if !facts.suspend => {
            facts.local_state.suspended_since(at, facts.now)
        }
        Deadline::Ahead(_) | Deadline::Passed { at: _, polled: _, overdue: _, long_ago: _ } => Duration::ZERO,
    }
}

/// A status that is being built.
struct Draft<'a> {
    facts: &'a Facts,
    before: &'a VerificationStatus,
    status: VerificationStatus,
    inputs: ConditionInputs,
    /// Why the destination of the evidence is refused.
    refusal: Option<String>,
    /// Why evidence is not stored, where the reason stands for several causes.
    cause: Option<&'static str>,
    local_state: LocalState,
    events: Vec<Event>,
    /// What the last call met that led to this refusal.
    refused_for: Option<Blocker>,
    waits_for: Option<Wait>,
}

impl<'a> Draft<'a> {
    fn transition(self, parsed: &ParsedStatus<'_>, transition: &Transition) -> Conclusion {
        match transition {
            Transition::Release | Transition::NoOp => self.release(),
            Transition::Settle => self.settle(),
            Transition::Restore(known) => self.restore(known),
            Transition::Show(shown) => self.show(*shown),
            Transition::Retry(token) => self.retry(token, parsed.state()),
            Transition::Wait(wait) => self.wait(*wait, parsed.state()),
            Transition::Fail => self.end(Outcome::Failed, Event::DeadlineExceeded),
            Transition::AbandonUnsent => self.not_sent(),
            Transition::AbandonUnknown => self.abandon_unknown(parsed.attempts()),
            Transition::AbandonEvidence => self.abandon_evidence(),
        }
    }

    fn new(before: &'a VerificationStatus, facts: &'a Facts) -> Self {
        let mut status = before.clone();
        // The default in the definition; every written status has its own.
        status.observed_generation = Some(facts.generation);
        let is_being_stored = facts.evidence.state == EvidenceState::Pending && !facts.suspend;
        Self {
            facts,
            before,
            status,
            inputs: ConditionInputs {
                interruption: Interruption::None,
                credentials: None,
                session: None,
                evidence: facts.evidence.state,
                evidence_reason: None,
                cleanup: cleanup::planned(facts, &before.conditions),
            },
            cause: None,
            refusal: match &facts.evidence.destination {
                DestinationFact::Allowed => None,
                DestinationFact::Refused(why) => Some(why.clone()),
            },
            local_state: LocalState {
                suspended: facts.suspend.then(|| facts.local_state.suspended.unwrap_or(facts.now)),
                suspended_for: facts.local_state.suspended_for + resumed_after(facts),
                last_polls_since: facts.local_state.last_polls_since.filter(|_| !facts.suspend),
                storing: facts.local_state.storing.filter(|_| is_being_stored),
                removing: facts.local_state.removing.filter(|_| facts.evidence.has_finalizer),
                manifest_checked: facts.local_state.manifest_checked && is_being_stored,
                misses: if is_being_stored { facts.local_state.misses.clone() } else { Misses::default() },
                storing_since: is_being_stored.then(|| facts.local_state.storing_since.unwrap_or(facts.now)),
                ..facts.local_state.clone()
            },
            events: Vec::new(),
            refused_for: None,
            waits_for: None,
        }
    }

    fn session(&mut self) -> &mut Session {
        self.status.session.get_or_insert_default()
    }

    fn has_session(&self) -> bool {
        self.status.verification_id.is_some()
    }

    fn due(&mut self, wait: Duration) -> Requeue {
        self.due_at(later(self.facts.now, wait))
    }

    fn due_at(&mut self, at: Timestamp) -> Requeue {
        self.local_state.next = Some(at);
        Requeue::At(at)
    }

    fn settle(mut self) -> Conclusion {
        self.status.settled = true;
        self.finish(Requeue::Done)
    }

    /// Ends the verification. If nothing is pending, it is settled in the same write.
    fn end(mut self, outcome: Outcome, event: Event) -> Conclusion {
        self.status.outcome = Some(outcome);
        self.status.finished_at = Some(whole_seconds(self.facts.now));
        // What was wrong with the session no longer matters.
        self.inputs.interruption = Interruption::None;
        self.events.push(event);
        self.local_state =
            LocalState { next: Some(self.facts.now), manifest_checked: true, ..LocalState::default() };
        self.settle_unless_pending(Requeue::Now)
    }

    fn unwritten(mut self, next: Requeue) -> Conclusion {
        self.note_key();
        let priority = self.priority();
        Conclusion {
            status: None,
            next,
            priority,
            local_state: self.local_state,
            events: self.events,
            waits_for: self.waits_for,
        }
    }

    fn release(self) -> Conclusion {
        self.unwritten(Requeue::Done)
    }

    fn retry_unwritten(mut self) -> Conclusion {
        let next = self.retry_soon();
        self.unwritten(next)
    }

    /// Counts a call without a usable answer, and returns when to make it again.
    fn retry_soon(&mut self) -> Requeue {
        let failures = self.one_more_failure();
        let wait = super::schedule::backoff(
            Duration::from_secs(2),
            Duration::from_mins(2),
            failures,
            self.facts.jitter_seed,
        );
        self.due(wait)
    }

    /// Counts a call without a usable answer, and returns how many came before it.
    fn one_more_failure(&mut self) -> u32 {
        let failures = Since::one_more(self.local_state.failing, (), self.facts.now);
        self.local_state.failing = Some(failures);
        self.local_state.good_polls = 0;
        failures.count.saturating_sub(1)
    }

    fn priority(&self) -> Priority {
        let has_ended = self.status.outcome.is_some() && self.inputs.evidence != EvidenceState::Pending;
        if has_ended && self.facts.evidence.deleted_at.is_none() {
            // Nobody waits for the end of its `spec.ttlAfterFinished`.
            Priority::Idle
        } else if self.has_session() {
            poll_schedule(&self.status, &self.local_state, self.facts.bounds, self.facts.times())
                .stage
                .priority()
        } else {
            Priority::Create
        }
    }

    /// The status, with its phase, link and conditions derived from the other fields.
    fn finish(mut self, next: Requeue) -> Conclusion {
        self.status.phase = Some(phase(&self.status, self.inputs.evidence));
        // A link is published with its id, even if the adopted session has already ended; after the end it stays
        // unchanged.
        if self.status.outcome.is_none() || self.before.verification_id.is_none() {
            self.publish_link();
        }
        self.finish_unpublished(next)
    }

    fn finish_unpublished(mut self, next: Requeue) -> Conclusion {
        self.status.conditions = conditions(
            &self.status,
            self.inputs,
            self.facts.ready_when,
            self.facts.generation,
            self.facts.now,
        );
        self.show_refusal();
        self.show_cause();
        if let Some(requested) = &self.facts.reconcile_requested {
            self.status.last_handled_reconcile_at = Some(requested.clone());
        }
        self.report_blocker();
        self.report_rejected_key();
        self.report_git_ops();
        self.note_key();
        let priority = self.priority();
        let next = self.within_bounds(next);
        Conclusion {
            status: Some(self.status),
            next,
            priority,
            local_state: self.local_state,
            events: self.events,
            waits_for: self.waits_for,
        }
    }

    /// The operator builds the link and never takes it from a response. The mode may change while the session is open.
    fn publish_link(&mut self) {
        let PortalFact::Allowed(portal) = &self.facts.portal else { return };
        let id = self.status.verification_id.as_deref();
        if let Some(Ok(id)) = id.map(crate::portal::verification_id::VerificationId::parse) {
            let mode = match self.facts.mode {
                Mode::Direct => LinkMode::Direct,
                Mode::Select => LinkMode::Select,
            };
            self.status.portal_url = Some(portal.link(&id, mode, &self.facts.link_path));
        }
    }

    /// Remembers which key the calls need that are left to make.
    fn note_key(&mut self) {
        let is_over = self.status.outcome.is_some() && self.inputs.evidence != EvidenceState::Pending;
        let needs_key = self.has_session() && !is_over;
        self.local_state.key_version = if needs_key { self.facts.key_version } else { KeyVersion::Current };
    }

    fn report_rejected_key(&mut self) {
        let refused = |reason: Option<Reason>| match reason {
            Some(Reason::KeyRejected) => Some(Event::KeyRejected),
            Some(Reason::AccessDenied) => Some(Event::Blocked(Blocker::AccessDenied)),
            Some(Reason::KeyRotated) => Some(Event::Blocked(Blocker::KeyRotated)),
            _ => None,
        };
        if self.has_session() && refused(self.credentials_before()).is_none() {
            self.events.extend(refused(self.inputs.credentials));
        }
    }

    /// At most an hour away, except while only the end of `spec.ttlAfterFinished` is awaited. Until the verification ends,
    /// also at most at the deadline, or shortly after it.
    fn within_bounds(&self, next: Requeue) -> Requeue {
        if self.status.outcome.is_some() {
            let Requeue::At(at) = next else { return next };
            if matches!(self.waits_for, Some(Wait::Ttl(_))) {
                return next;
            }
            return Requeue::At(at.min(later(self.facts.now, LONGEST)).max(self.facts.now));
        }
        let Requeue::At(at) = next else {
            return match (next, self.facts.deadline) {
                (Requeue::AwaitChange, Deadline::Ahead(deadline)) if !self.facts.suspend => {
                    Requeue::At(deadline)
                }
                _ => next,
            };
        };
        let at = at.min(later(self.facts.now, LONGEST)).max(self.facts.now);
        match self.facts.deadline {
            Deadline::Ahead(deadline) if !self.facts.suspend => {
                Requeue::At(at.min(deadline.max(self.facts.now)))
            }
            Deadline::Passed { at: _, polled: _, overdue: _, long_ago: _ } if !self.facts.suspend => {
                Requeue::At(at.min(later(self.facts.now, Deadline::LAST_POLL_WITHIN)))
            }
            Deadline::Ahead(_) | Deadline::Passed { at: _, polled: _, overdue: _, long_ago: _ } => {
                Requeue::At(at)
            }
        }
    }
}
