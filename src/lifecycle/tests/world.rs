//! One verification and its surroundings, carried from reconcile to reconcile as the operator does it.

use std::{fmt::Write, ops::RangeInclusive, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{Condition, ConditionStatus, ConditionType, DeletionPolicy, ReadyWhen, VerificationStatus},
    lifecycle::{
        blocker::Blocker,
        cleanup::DeletionOutcome,
        conclude::{Conclusion, Requeue, claim, conclude},
        decide::{after_refusal, decide},
        event::Event,
        evidence::{FinalizerOutcome, RemovalOutcome, UploadOutcome},
        evidence_error::EvidenceError,
        facts::{Deadline, Due, Facts, PollRequest},
        fixtures::{self, UID},
        local_state::LocalState,
        since::{elapsed, later},
        state::{ParsedStatus, State},
        step::{CreateOutcome, NotAdmitted, Refusal, Step, StepOutcome},
    },
    portal::{
        error::{ContentCoding, Failed, NotSent, PortalError},
        wire::{Created, Details},
    },
};

/// What the portal or store answers to the call of this reconcile, if there is one.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The reconcile must make no call.
    Uncalled,
    /// The answer to a create.
    Create(Result<Created, PortalError>),
    /// The answer to a poll or an adoption.
    Poll(Result<Details, PortalError>),
    /// The result of an upload.
    Store(UploadOutcome),
    /// The result of adding the finalizer, if it is not added.
    Finalizer(FinalizerOutcome),
    /// The result of a removal.
    Remove(RemovalOutcome),
    /// The result of deleting the resource.
    Delete(DeletionOutcome),
}

/// A status, the local state, and the facts around it.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// The status as it is written.
    pub(super) status: VerificationStatus,
    /// The facts; `now`, `portal_now`, `due`, `deadline` and `local_state` follow from the reconciles.
    pub(super) facts: Facts,
    /// When `spec.activeDeadline` ends.
    pub(super) deadline: Timestamp,
    /// How far the portal's clock is ahead of the API server's; none if the portal's responses have no date.
    pub(super) portal_ahead: Option<SignedDuration>,
    /// Why calls to the portal are not admitted, if they are not.
    pub(super) refusal: Option<Refusal>,
    /// What the last call met that led to the refusal.
    pub(super) refused_for: Option<Blocker>,
}

/// One reconcile: its step, or what a refusal of its call led to, and the conclusion.
#[derive(Debug)]
pub(super) struct Reconcile {
    /// The step.
    pub(super) step: Step,
    /// The claim, if the step was a create.
    pub(super) claimed: Option<VerificationStatus>,
    /// The conclusion.
    pub(super) conclusion: Conclusion,
}

impl World {
    /// A new resource, with facts that prevent nothing.
    pub(super) fn fresh(ready_when: ReadyWhen) -> Self {
        Self::of(fixtures::fresh(), Facts { ready_when, ..fixtures::facts() })
    }

    /// A resource with this status.
    pub(super) fn of(status: VerificationStatus, facts: Facts) -> Self {
        let deadline = later(facts.created_at, Duration::from_hours(168));
        let portal_ahead = Some(SignedDuration::ZERO);
        Self { status, facts, deadline, portal_ahead, refusal: None, refused_for: None }
    }

    /// A resource whose link was published a minute ago.
    pub(super) fn open(ready_when: ReadyWhen) -> Self {
        let mut world = Self::fresh(ready_when);
        world.reconcile(created());
        world.pass(60);
        world
    }

    /// A resource with this many creates of unknown outcome.
    pub(super) fn outcome_unknown(times: u32) -> Self {
        let mut world = Self::fresh(ReadyWhen::Verified);
        for _ in 0..times {
            world.reconcile_when_due(refused(PortalError::Failed(Failed::TimedOut)));
        }
        world
    }

    /// A resource that requests evidence, whose link was published a minute ago.
    pub(super) fn asking(ready_when: ReadyWhen, deletion_policy: DeletionPolicy) -> Self {
        let mut world = Self::fresh(ready_when);
        world.facts.evidence.spec = Some(fixtures::evidence_spec(deletion_policy));
        world.reconcile(created());
        world.pass(60);
        world
    }

    /// A resource that requests evidence, after the person was verified.
    pub(super) fn storing(ready_when: ReadyWhen, deletion_policy: DeletionPolicy) -> Self {
        let mut world = Self::asking(ready_when, deletion_policy);
        world.reconcile(said("verified", &["document", "liveness"]));
        world
    }

    /// Time passes.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.facts.now = later(self.facts.now, Duration::from_secs(seconds));
    }

    /// Another process takes over: the local state is lost.
    pub(super) fn restart(&mut self) {
        self.facts.local_state = LocalState::default();
    }

    /// Its state, read from the status.
    pub(super) fn state(&self) -> State {
        self.parsed().state().clone()
    }

    /// The status, parsed.
    pub(super) fn parsed(&self) -> ParsedStatus<'_> {
        ParsedStatus::of(UID, &self.status)
    }

    fn observe(&mut self) {
        let now = self.facts.now;
        self.facts.portal_now = self.portal_ahead.map(|ahead| now + ahead);
        self.facts.evidence = self.facts.evidence.after(&self.status);
        let asked = self.facts.requests_poll(&self.status);
        let request = if asked { PollRequest::Person } else { PollRequest::None };
        let Facts { key, local_state, bounds, .. } = &self.facts;
        self.facts.due = Due::of(now, request, key, local_state, *bounds);
        self.facts.deadline = Deadline::of(self.deadline, now, &self.facts.local_state);
    }

    /// The step at this instant, or what a refusal of its call leads to.
    pub(super) fn decide(&mut self) -> Step {
        let step = self.decide_only();
        self.not_admitted(&step).map_or(step, |not_admitted| after_refusal(&not_admitted, &self.facts).into())
    }

    /// The step at this instant.
    pub(super) fn decide_only(&mut self) -> Step {
        self.observe();
        decide(&self.parsed(), &self.facts)
    }

    /// The refusal of the step's call, if calls are refused.
    fn not_admitted(&self, step: &Step) -> Option<NotAdmitted> {
        let (step, refusal) = step.portal_step().zip(self.refusal)?;
        Some(NotAdmitted { step, refusal, cause: self.refused_for })
    }

    /// Reconciles. The answer must fit the step.
    #[track_caller]
    pub(super) fn reconcile(&mut self, answer: Answer) -> Reconcile {
        let mut step = self.decide_only();
        let not_admitted = self.not_admitted(&step);
        let (outcome, claimed) = match (&step, answer) {
            (_, Answer::Uncalled) if not_admitted.is_some() => {
                (not_admitted.map(StepOutcome::NotAdmitted).unwrap(), None)
            }
            (step, answer) if not_admitted.is_some() => panic!("{step:?} is not admitted: {answer:?}"),
            (Step::Create { attempt }, Answer::Create(answer)) => {
                let claimed = claim(&self.status, *attempt, &self.facts);
                self.status.clone_from(&claimed);
                (StepOutcome::Create(CreateOutcome::Answered(answer)), Some(claimed))
            }
            (Step::Poll(id), Answer::Poll(answer)) => (StepOutcome::Poll { id: id.clone(), answer }, None),
            (Step::Adopt(id), Answer::Poll(answer)) => (StepOutcome::Adopt { id: id.clone(), answer }, None),
            (Step::Store, Answer::Store(stored)) => (StepOutcome::Store(stored), None),
            (Step::RemoveEvidence { release_when: _ }, Answer::Remove(removed)) => {
                (StepOutcome::RemoveEvidence(removed), None)
            }
            (Step::Delete { awaits_store: _ }, Answer::Delete(deleted)) => {
                (StepOutcome::Delete(deleted), None)
            }
            (Step::AddFinalizer, Answer::Finalizer(end)) => (StepOutcome::AddFinalizer(end), None),
            (Step::AddFinalizer, Answer::Uncalled) => {
                (StepOutcome::AddFinalizer(FinalizerOutcome::Added), None)
            }
            (Step::Transition(transition), Answer::Uncalled) => {
                (StepOutcome::Transition(transition.clone()), None)
            }
            (step, answer) => panic!("{step:?} meets {answer:?}"),
        };
        let conclusion = conclude(&self.parsed(), &outcome, &self.facts);
        if let Some(not_admitted) = not_admitted {
            step = after_refusal(&not_admitted, &self.facts).into();
        }
        if let Some(after) = &conclusion.status {
            self.status.clone_from(after);
        }
        self.facts.local_state = conclusion.local_state.clone();
        self.holds_after(&outcome);
        Reconcile { step, claimed, conclusion }
    }

    /// Whether the resource has the finalizer after a step.
    pub(super) fn holds_after(&mut self, outcome: &StepOutcome) {
        match outcome {
            StepOutcome::AddFinalizer(FinalizerOutcome::Added) => self.facts.evidence.has_finalizer = true,
            StepOutcome::RemoveEvidence(
                RemovalOutcome::All
                | RemovalOutcome::Versioned
                | RemovalOutcome::Unlisted
                | RemovalOutcome::Abandoned,
            ) => self.facts.evidence.has_finalizer = false,
            StepOutcome::RemoveEvidence(RemovalOutcome::NotYet | RemovalOutcome::NotTried)
            | StepOutcome::AddFinalizer(FinalizerOutcome::Refused | FinalizerOutcome::Unknown)
            | StepOutcome::Transition(_)
            | StepOutcome::NotAdmitted(_)
            | StepOutcome::NotPerformed
            | StepOutcome::Create(_)
            | StepOutcome::Adopt { id: _, answer: _ }
            | StepOutcome::Poll { id: _, answer: _ }
            | StepOutcome::Store(_)
            | StepOutcome::Delete(_) => {}
        }
    }

    /// Deletes the resource.
    pub(super) fn delete(&mut self) {
        self.facts.deleting = true;
        self.facts.evidence.deleted_at = Some(self.facts.now);
    }

    /// Waits until it is due and reconciles.
    #[track_caller]
    pub(super) fn reconcile_when_due(&mut self, answer: Answer) -> Reconcile {
        if let Some(next) = self.facts.local_state.next {
            self.facts.now = self.facts.now.max(next);
        }
        self.reconcile(answer)
    }

    /// The reason of a condition, if it is shown.
    pub(super) fn reason(&self, type_: ConditionType) -> Option<&str> {
        Condition::find(&self.status.conditions, type_).map(|shown| &*shown.reason)
    }

    /// The status and reason of a condition, if it is shown.
    pub(super) fn shown(&self, type_: ConditionType) -> Option<(ConditionStatus, &str)> {
        Condition::find(&self.status.conditions, type_).map(|shown| (shown.status, &*shown.reason))
    }
}

/// Whether a step calls the portal.
pub(super) const fn calls(step: &Step) -> bool {
    matches!(step, Step::Create { attempt: _ } | Step::Adopt(_) | Step::Poll(_))
}

/// An error that prevented the upload.
pub(super) fn not_stored(error: EvidenceError) -> Answer {
    Answer::Store(UploadOutcome { error: Some(error), ..UploadOutcome::default() })
}

/// The portal creates the session.
pub(super) fn created() -> Answer {
    Answer::Create(Ok(fixtures::created().unwrap()))
}

/// The portal refuses a create, or its response is lost.
pub(super) const fn refused(error: PortalError) -> Answer {
    Answer::Create(Err(error))
}

/// The portal reports this status, with these modules completed.
pub(super) fn said(word: &str, completed: &[&str]) -> Answer {
    Answer::Poll(Ok(fixtures::details(word, completed)))
}

/// The same with a stamp of the portal's, this many seconds after the session was created.
pub(super) fn said_at(stamp: u64, word: &str, completed: &[&str]) -> Answer {
    let updated_at = Some(fixtures::after(stamp));
    Answer::Poll(Ok(Details { updated_at, ..fixtures::details(word, completed) }))
}

/// A poll without a usable answer.
pub(super) const fn poll_failed(error: PortalError) -> Answer {
    Answer::Poll(Err(error))
}

/// Every kind of error.
pub(super) const ERRORS: [PortalError; 25] = [
    PortalError::NotSent(NotSent::Resolve),
    PortalError::NotSent(NotSent::Refused),
    PortalError::NotSent(NotSent::Connect),
    PortalError::NotSent(NotSent::Tls),
    PortalError::NotSent(NotSent::Build),
    PortalError::KeyRejected,
    PortalError::AccessDenied,
    PortalError::Invalid,
    PortalError::NotFound,
    PortalError::Conflict,
    PortalError::Redirected,
    PortalError::Unconfigured,
    PortalError::Unclear { status: 403 },
    PortalError::Limited { retry_after: None },
    PortalError::Limited { retry_after: Some(Duration::ZERO) },
    PortalError::Limited { retry_after: Some(Duration::from_secs(1)) },
    PortalError::Limited { retry_after: Some(Duration::from_mins(2)) },
    PortalError::Limited { retry_after: Some(Duration::from_mins(15)) },
    PortalError::Failed(Failed::ServerError(500)),
    PortalError::Failed(Failed::UnknownStatus(600)),
    PortalError::Failed(Failed::TimedOut),
    PortalError::Failed(Failed::Cut),
    PortalError::Failed(Failed::Unusable),
    PortalError::Failed(Failed::TooLarge),
    PortalError::Failed(Failed::Encoded(ContentCoding::Brotli)),
];

/// What a status shows, as one line: `Pending: R Pending, Rec Pending, CR NotChecked, SC NotYet`, and `F` and `V`
/// once it has finished, `ES` if evidence is requested, and `CL` with a TTL. The names are those of the conditions: Ready, Reconciling,
/// Stalled, `CredentialsReady`, `SessionCreated`, Finished, Verified, `EvidenceStored`,
/// `CleanupReady`.
pub(super) fn line(status: &VerificationStatus) -> String {
    let mut line = format!("{}:", status.phase.map_or("–", crate::api::Phase::as_str));
    for (name, type_) in [
        ("R", ConditionType::Ready),
        ("Rec", ConditionType::Reconciling),
        ("St", ConditionType::Stalled),
        ("CR", ConditionType::CredentialsReady),
        ("SC", ConditionType::SessionCreated),
        ("F", ConditionType::Finished),
        ("V", ConditionType::Verified),
        ("ES", ConditionType::EvidenceStored),
        ("CL", ConditionType::CleanupReady),
    ] {
        let shown = Condition::find(&status.conditions, type_).map(|shown| &*shown.reason);
        if let Some(reason) = shown.filter(|reason| !matches!(*reason, "Running" | "NotFinished")) {
            let comma = if line.ends_with(':') { "" } else { "," };
            write!(line, "{comma} {name} {reason}").expect("a String takes it");
        }
    }
    line
}

/// What a reconcile should lead to.
pub(super) struct Expected<'a> {
    shown: &'a str,
    seconds: RangeInclusive<u64>,
    events: &'a [Event],
}

/// What is shown, in how many seconds the next reconcile is, and what is reported.
pub(super) const fn expected<'a>(
    shown: &'a str,
    seconds: RangeInclusive<u64>,
    events: &'a [Event],
) -> Expected<'a> {
    Expected { shown, seconds, events }
}

/// Asserts what a reconcile led to.
#[track_caller]
pub(super) fn assert_led_to(world: &World, reconcile: &Reconcile, expected: Expected<'_>, reason: &str) {
    let Expected { shown, seconds, events } = expected;
    assert_eq!(line(&world.status), shown, "{reason}");
    let Requeue::At(at) = reconcile.conclusion.next else {
        panic!("{reason}: {:?}", reconcile.conclusion.next);
    };
    let wait = elapsed(world.facts.now, at);
    let (least, most) = (Duration::from_secs(*seconds.start()), Duration::from_secs(*seconds.end()));
    assert!((least..=most).contains(&wait), "{reason}: in {wait:?}");
    assert_eq!(reconcile.conclusion.events, events, "{reason}");
}
