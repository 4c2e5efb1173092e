//! The second table: step and what came of it → what is true, what to show, when to look again.

mod block;
mod create;
mod evidence;
mod look;
mod refusal;
mod restore;
mod show;
mod standing;
mod wait;

pub use wait::{KEY_SOUGHT_EVERY, SECRET_READ_AGAIN, is_outage, key_sought_again};

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{Mode, Outcome, Reason, Session, SessionState, VerificationStatus},
    portal::allowed::LinkMode,
    priority::Priority,
};

use super::{
    absence::Misses,
    conditions::{Picture, conditions, phase, whole_seconds},
    event::Event,
    evidence::{DestinationFact, EvidenceStanding, FinalizerEnd},
    facts::{Deadline, Facts, PortalFact},
    overlay::Overlay,
    past::{Ledger, Past},
    schedule::{LONGEST, pace},
    step::{CreateEnd, Happened, Step},
    streaks::{Since, Streaks, later},
};

/// What is true after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// The whole status as it shall be; nothing, where nothing may be written.
    pub status: Option<VerificationStatus>,
    /// When it is its turn again.
    pub next: Next,
    /// How urgent that turn is.
    pub priority: Priority,
    /// What to remember.
    pub streaks: Streaks,
    /// What has happened, to be told after the write.
    pub events: Vec<Event>,
}

/// When it is a verification's turn again. A change of the resource always wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Now,
    /// Then.
    At(Timestamp),
    /// Only when the resource changes.
    Watch,
    /// Never: it is no longer watched.
    Leave,
}

/// The status that is written before a create: the claim.
#[must_use]
pub fn claim(status: &VerificationStatus, attempt: u32, facts: &Facts) -> VerificationStatus {
    let mut draft = Draft::new(status, facts);
    // What keeps the session from being created stays shown until a create is not refused for it.
    if let standing @ (Overlay::Stalled(_) | Overlay::Blocked(_) | Overlay::RateLimited) =
        draft.standing_overlay()
    {
        draft.picture.overlay = standing;
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
    draft.finish(Next::Watch).status.unwrap_or_default()
}

/// Concludes what is true after a step.
#[must_use]
pub fn conclude(
    status: &VerificationStatus,
    past: &Past,
    ledger: Ledger,
    step: &Step,
    happened: &Happened,
    facts: &Facts,
) -> Conclusion {
    let draft = Draft::new(status, facts);
    match (step, happened) {
        (Step::Forget | Step::Rest, _) => draft.leave_unwritten(),
        (Step::Settle, _) => draft.settle(),
        (Step::End, _) => draft.end(Outcome::Failed, Event::DeadlineExceeded),
        (Step::Grant(token), _) => draft.grant(token, past),
        (Step::Restore(known), _) => draft.restore(known),
        (Step::Show(shown), _) => draft.show(*shown),
        (Step::Wait(wait), _) => draft.wait(*wait, past),
        (Step::GiveUpLost, _) => draft.give_up_lost(ledger),
        (Step::Create { attempt: _ }, Happened::Create(CreateEnd::ClaimLost)) => draft.unwritten(Next::Watch),
        (Step::GiveUpRefused, _) | (Step::Create { attempt: _ }, Happened::Create(CreateEnd::NotSent)) => {
            draft.not_sent()
        }
        (Step::Create { attempt: _ }, Happened::Create(CreateEnd::Answered(answer))) => {
            draft.create(answer, ledger)
        }
        (Step::Adopt(id), Happened::Look(answer)) => draft.adopt(id, answer),
        (Step::Look(id), Happened::Look(answer)) => draft.look(id, answer),
        (Step::Store, Happened::Store(stored)) => draft.store(stored),
        (Step::GiveUpEvidence, _) => draft.give_up_evidence(),
        (Step::RemoveEvidence { let_go: _ }, Happened::Remove(removed)) => draft.remove(*removed),
        (Step::AddFinalizer, Happened::AddFinalizer(FinalizerEnd::Refused)) => draft.finalizer_refused(),
        // The change of the resource's metadata wakes it.
        (Step::AddFinalizer, Happened::AddFinalizer(FinalizerEnd::Added)) => {
            let again = later(facts.now, Duration::from_secs(5));
            draft.unwritten(Next::At(again))
        }
        // A step whose effect did not take place, a claim that could not be written included: try again later.
        (
            Step::Create { attempt: _ }
            | Step::Adopt(_)
            | Step::Look(_)
            | Step::AddFinalizer
            | Step::Store
            | Step::RemoveEvidence { let_go: _ },
            _,
        ) => draft.later_unwritten(),
    }
}

/// For how long it was suspended after its deadline, in the first turn after that.
fn resumed_after(facts: &Facts) -> Duration {
    match facts.deadline {
        Deadline::Passed { at, looked: _, overdue: _, long_ago: _ } if !facts.suspend => {
            facts.streaks.suspended_since(at, facts.now)
        }
        Deadline::Ahead(_) | Deadline::Passed { at: _, looked: _, overdue: _, long_ago: _ } => Duration::ZERO,
    }
}

/// A status in the making.
struct Draft<'a> {
    facts: &'a Facts,
    before: &'a VerificationStatus,
    status: VerificationStatus,
    picture: Picture,
    /// Why the destination of evidence is refused.
    refusal: Option<String>,
    /// Why evidence is not stored, where its reason has several causes.
    cause: Option<&'static str>,
    streaks: Streaks,
    events: Vec<Event>,
}

impl<'a> Draft<'a> {
    fn new(before: &'a VerificationStatus, facts: &'a Facts) -> Self {
        let mut status = before.clone();
        // The default of the definition; every written status has its own.
        status.observed_generation = Some(facts.generation);
        let is_being_stored = facts.evidence.standing == EvidenceStanding::Owed && !facts.suspend;
        Self {
            facts,
            before,
            status,
            picture: Picture {
                overlay: Overlay::Plain,
                credentials: None,
                session: None,
                evidence: facts.evidence.standing,
                evidence_trouble: None,
            },
            cause: None,
            refusal: match &facts.evidence.destination {
                DestinationFact::Allowed => None,
                DestinationFact::Refused(why) => Some(why.clone()),
            },
            streaks: Streaks {
                suspended: facts.suspend.then(|| facts.streaks.suspended.unwrap_or(facts.now)),
                suspended_for: facts.streaks.suspended_for + resumed_after(facts),
                last_tries_since: facts.streaks.last_tries_since.filter(|_| !facts.suspend),
                storing: facts.streaks.storing.filter(|_| is_being_stored),
                removing: facts.streaks.removing.filter(|_| facts.evidence.has_finalizer),
                manifest_sought: facts.streaks.manifest_sought && is_being_stored,
                misses: if is_being_stored { facts.streaks.misses.clone() } else { Misses::default() },
                storing_since: is_being_stored.then(|| facts.streaks.storing_since.unwrap_or(facts.now)),
                ..facts.streaks.clone()
            },
            events: Vec::new(),
        }
    }

    fn session(&mut self) -> &mut Session {
        self.status.session.get_or_insert_default()
    }

    fn has_session(&self) -> bool {
        self.status.verification_id.is_some()
    }

    fn due(&mut self, wait: Duration) -> Next {
        self.due_at(later(self.facts.now, wait))
    }

    fn due_at(&mut self, at: Timestamp) -> Next {
        self.streaks.next = Some(at);
        Next::At(at)
    }

    fn settle(mut self) -> Conclusion {
        self.status.settled = true;
        self.finish(Next::Leave)
    }

    /// The end; where nothing is owed after it, it is settled in the same write.
    fn end(mut self, outcome: Outcome, event: Event) -> Conclusion {
        self.status.outcome = Some(outcome);
        self.status.finished_at = Some(whole_seconds(self.facts.now));
        // Whatever was the matter with the session is over with it.
        self.picture.overlay = Overlay::Plain;
        self.events.push(event);
        self.streaks = Streaks { next: Some(self.facts.now), manifest_sought: true, ..Streaks::default() };
        self.settle_unless_owed(Next::Now)
    }

    fn unwritten(self, next: Next) -> Conclusion {
        let priority = self.priority();
        Conclusion { status: None, next, priority, streaks: self.streaks, events: self.events }
    }

    fn leave_unwritten(self) -> Conclusion {
        self.unwritten(Next::Leave)
    }

    fn later_unwritten(mut self) -> Conclusion {
        let failures = self.one_more_failure();
        let wait = super::schedule::backoff(
            Duration::from_secs(2),
            Duration::from_mins(2),
            failures,
            self.facts.seed,
        );
        let next = self.due(wait);
        self.unwritten(next)
    }

    /// Counts a call without a usable answer and returns how many there were before it.
    fn one_more_failure(&mut self) -> u32 {
        let streak = Since::one_more(self.streaks.failing, (), self.facts.now);
        self.streaks.failing = Some(streak);
        self.streaks.good_looks = 0;
        streak.count.saturating_sub(1)
    }

    fn priority(&self) -> Priority {
        if self.has_session() {
            pace(&self.status, &self.streaks, self.facts.bounds, self.facts.times()).stage.priority()
        } else {
            Priority::Create
        }
    }

    /// The status with its phase, link and conditions as they follow from the rest.
    fn finish(mut self, next: Next) -> Conclusion {
        self.status.phase = Some(phase(&self.status, self.picture.evidence));
        // A link is published with its id, even if the session that is adopted is over; after an end it stays as it is.
        if self.status.outcome.is_none() || self.before.verification_id.is_none() {
            self.publish_link();
        }
        self.finish_as_it_was(next)
    }

    fn finish_as_it_was(mut self, next: Next) -> Conclusion {
        self.status.conditions = conditions(
            &self.status,
            self.picture,
            self.facts.ready_when,
            self.facts.generation,
            self.facts.now,
        );
        self.tell_refusal();
        self.tell_cause();
        if let Some(requested) = &self.facts.reconcile_requested {
            self.status.last_handled_reconcile_at = Some(requested.clone());
        }
        self.report_blocker();
        self.tell_of_a_refused_key();
        let priority = self.priority();
        let next = self.within_bounds(next);
        Conclusion { status: Some(self.status), next, priority, streaks: self.streaks, events: self.events }
    }

    /// Our own link, never one from a body; the mode may change while the session is open.
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

    fn tell_of_a_refused_key(&mut self) {
        let refused = |reason: Option<Reason>| {
            matches!(reason, Some(Reason::KeyRejected | Reason::AccessDenied | Reason::KeyRotated))
        };
        if self.has_session() && refused(self.picture.credentials) && !refused(self.credentials_before()) {
            self.events.push(Event::KeyRejected);
        }
    }

    /// Never later than an hour; while it is not over, not past the deadline, nor long after it.
    fn within_bounds(&self, next: Next) -> Next {
        if self.status.outcome.is_some() {
            let Next::At(at) = next else { return next };
            return Next::At(at.min(later(self.facts.now, LONGEST)).max(self.facts.now));
        }
        let Next::At(at) = next else {
            return match (next, self.facts.deadline) {
                (Next::Watch, Deadline::Ahead(deadline)) if !self.facts.suspend => Next::At(deadline),
                _ => next,
            };
        };
        let at = at.min(later(self.facts.now, LONGEST)).max(self.facts.now);
        match self.facts.deadline {
            Deadline::Ahead(deadline) if !self.facts.suspend => {
                Next::At(at.min(deadline.max(self.facts.now)))
            }
            Deadline::Passed { at: _, looked: _, overdue: _, long_ago: _ } if !self.facts.suspend => {
                Next::At(at.min(later(self.facts.now, Deadline::LAST_LOOK_WITHIN)))
            }
            Deadline::Ahead(_) | Deadline::Passed { at: _, looked: _, overdue: _, long_ago: _ } => {
                Next::At(at)
            }
        }
    }
}
