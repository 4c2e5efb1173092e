//! One verification and the world around it, taken from turn to turn as the operator takes it.

use std::{fmt::Write, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{Condition, ConditionStatus, ConditionType, DeletionPolicy, ReadyWhen, VerificationStatus},
    lifecycle::{
        conclude::{Conclusion, Requeue, claim, conclude},
        decide::decide,
        event::Event,
        evidence::{EvidenceError, FinalizerOutcome, RemovalOutcome, UploadOutcome},
        facts::{Deadline, Due, Facts},
        fixtures::{self, UID},
        local_state::{LocalState, elapsed, later},
        state::{State, attempts, state},
        step::{CreateOutcome, Step, StepOutcome},
    },
    portal::{
        error::{ContentCoding, Failed, NotSent, PortalError},
        wire::{Created, Details},
    },
};

/// What the portal answers to the call of this turn, if the turn makes one.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The turn must make no call.
    Uncalled,
    /// To a create.
    Create(Result<Created, PortalError>),
    /// To a look or an adoption.
    Look(Result<Details, PortalError>),
    /// What came of storing.
    Store(UploadOutcome),
    /// What came of adding the finalizer, where it is not added.
    Finalizer(FinalizerOutcome),
    /// What came of removing.
    Remove(RemovalOutcome),
}

/// A status, what is remembered of it, and the facts around it.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// The status as it is written.
    pub(super) status: VerificationStatus,
    /// The facts; `now`, `portal_now`, `due`, `deadline` and `local_state` follow from the turns.
    pub(super) facts: Facts,
    /// When `spec.activeDeadline` ends.
    pub(super) deadline: Timestamp,
    /// How far the portal's clock is ahead of the API server's; nothing where its answers have no date.
    pub(super) portal_ahead: Option<SignedDuration>,
}

/// One turn: what was decided and what was concluded.
#[derive(Debug)]
pub(super) struct Turn {
    /// The step.
    pub(super) step: Step,
    /// The claim, if the step was a create.
    pub(super) claimed: Option<VerificationStatus>,
    /// The conclusion.
    pub(super) conclusion: Conclusion,
}

impl World {
    /// A resource that nobody has looked at, under facts by which everything may go on.
    pub(super) fn fresh(ready_when: ReadyWhen) -> Self {
        Self::of(fixtures::fresh(), Facts { ready_when, ..fixtures::facts() })
    }

    /// A resource with that status.
    pub(super) fn of(status: VerificationStatus, facts: Facts) -> Self {
        let deadline = later(facts.born, Duration::from_hours(168));
        Self { status, facts, deadline, portal_ahead: Some(SignedDuration::ZERO) }
    }

    /// A resource whose link was published a minute ago.
    pub(super) fn open(ready_when: ReadyWhen) -> Self {
        let mut world = Self::fresh(ready_when);
        world.turn(created());
        world.pass(60);
        world
    }

    /// A resource of whose creates so many answers were lost.
    pub(super) fn lost(times: u32) -> Self {
        let mut world = Self::fresh(ReadyWhen::Verified);
        for _ in 0..times {
            world.turn_when_due(refused(PortalError::Failed(Failed::TimedOut)));
        }
        world
    }

    /// A resource that asks for evidence, whose link was published a minute ago.
    pub(super) fn asking(ready_when: ReadyWhen, deletion_policy: DeletionPolicy) -> Self {
        let mut world = Self::fresh(ready_when);
        world.facts.evidence.spec = Some(fixtures::evidence_spec(deletion_policy));
        world.turn(created());
        world.pass(60);
        world
    }

    /// A resource that asks for evidence, once the person is verified.
    pub(super) fn storing(ready_when: ReadyWhen, deletion_policy: DeletionPolicy) -> Self {
        let mut world = Self::asking(ready_when, deletion_policy);
        world.turn(said("verified", &["document", "liveness"]));
        world
    }

    /// Time passes.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.facts.now = later(self.facts.now, Duration::from_secs(seconds));
    }

    /// Another process takes over: what was remembered is gone.
    pub(super) fn restart(&mut self) {
        self.facts.local_state = LocalState::default();
    }

    /// Its past as the status tells.
    pub(super) fn state(&self) -> State {
        state(UID, &self.status)
    }

    fn observe(&mut self) {
        let now = self.facts.now;
        self.facts.portal_now = self.portal_ahead.map(|ahead| now + ahead);
        self.facts.evidence = self.facts.evidence.after(&self.status);
        let asked = self.facts.asks_for_a_look(&self.status);
        let Facts { key, local_state, bounds, .. } = &self.facts;
        self.facts.due = Due::of(now, asked, key, local_state, *bounds);
        self.facts.deadline = Deadline::of(self.deadline, now, &self.facts.local_state);
    }

    /// The step of this instant.
    pub(super) fn decide(&mut self) -> Step {
        self.observe();
        decide(&self.state(), attempts(&self.status), &self.facts)
    }

    /// Takes a turn. The step must be one that the answer is an answer to.
    #[track_caller]
    pub(super) fn turn(&mut self, answer: Answer) -> Turn {
        let step = self.decide();
        let (outcome, claimed) = match (&step, answer) {
            (Step::Create { attempt }, Answer::Create(answer)) => {
                let claimed = claim(&self.status, *attempt, &self.facts);
                self.status.clone_from(&claimed);
                (StepOutcome::Create(CreateOutcome::Answered(answer)), Some(claimed))
            }
            (Step::Poll(_) | Step::Adopt(_), Answer::Look(answer)) => (StepOutcome::Poll(answer), None),
            (Step::Store, Answer::Store(stored)) => (StepOutcome::Store(stored), None),
            (Step::RemoveEvidence { release_when: _ }, Answer::Remove(removed)) => {
                (StepOutcome::Remove(removed), None)
            }
            (Step::AddFinalizer, Answer::Finalizer(end)) => (StepOutcome::AddFinalizer(end), None),
            (Step::AddFinalizer, Answer::Uncalled) => {
                (StepOutcome::AddFinalizer(FinalizerOutcome::Added), None)
            }
            (step, Answer::Uncalled) if !calls(step) && !keeps(step) => (StepOutcome::Nothing, None),
            (step, answer) => panic!("{step:?} meets {answer:?}"),
        };
        let before = &self.status;
        let conclusion =
            conclude(before, &state(UID, before), attempts(before), &step, &outcome, &self.facts);
        if let Some(after) = &conclusion.status {
            self.status.clone_from(after);
        }
        self.facts.local_state = conclusion.local_state.clone();
        self.holds_after(&step, &outcome);
        Turn { step, claimed, conclusion }
    }

    /// The finalizer after a step.
    pub(super) fn holds_after(&mut self, step: &Step, outcome: &StepOutcome) {
        match (step, outcome) {
            (_, StepOutcome::AddFinalizer(FinalizerOutcome::Added)) => {
                self.facts.evidence.has_finalizer = true
            }
            (
                _,
                StepOutcome::Remove(
                    RemovalOutcome::All
                    | RemovalOutcome::Versioned
                    | RemovalOutcome::Unlisted
                    | RemovalOutcome::GaveUp,
                ),
            ) => {
                self.facts.evidence.has_finalizer = false;
            }
            (_, _) => {}
        }
    }

    /// Somebody deletes it.
    pub(super) fn delete(&mut self) {
        self.facts.deleting = true;
        self.facts.evidence.deleted_at = Some(self.facts.now);
    }

    /// Waits until its time has come and takes a turn.
    #[track_caller]
    pub(super) fn turn_when_due(&mut self, answer: Answer) -> Turn {
        if let Some(next) = self.facts.local_state.next {
            self.facts.now = self.facts.now.max(next);
        }
        self.turn(answer)
    }

    /// The reason of a condition, if it is shown.
    pub(super) fn reason(&self, type_: ConditionType) -> Option<&str> {
        Condition::find(&self.status.conditions, type_).map(|shown| shown.reason.as_str())
    }

    /// The status and reason of a condition, if it is shown.
    pub(super) fn shown(&self, type_: ConditionType) -> Option<(ConditionStatus, &str)> {
        Condition::find(&self.status.conditions, type_).map(|shown| (shown.status, shown.reason.as_str()))
    }
}

/// Whether a step calls the portal.
pub(super) const fn calls(step: &Step) -> bool {
    matches!(step, Step::Create { attempt: _ } | Step::Adopt(_) | Step::Poll(_))
}

/// Whether a step reaches for the store.
pub(super) const fn keeps(step: &Step) -> bool {
    matches!(step, Step::Store | Step::RemoveEvidence { release_when: _ })
}

/// That trouble kept it from being stored.
pub(super) fn not_stored(error: EvidenceError) -> Answer {
    Answer::Store(UploadOutcome { error: Some(error), ..UploadOutcome::default() })
}

/// The portal creates the session.
pub(super) fn created() -> Answer {
    Answer::Create(Ok(fixtures::created().unwrap()))
}

/// The portal refuses a create, or its answer is lost.
pub(super) const fn refused(error: PortalError) -> Answer {
    Answer::Create(Err(error))
}

/// The portal says that word, and that those modules are completed.
pub(super) fn said(word: &str, completed: &[&str]) -> Answer {
    Answer::Look(Ok(fixtures::details(word, completed)))
}

/// The same with a stamp of the portal's, so many seconds after the session was created.
pub(super) fn said_at(stamp: u64, word: &str, completed: &[&str]) -> Answer {
    let updated_at = Some(fixtures::after(stamp));
    Answer::Look(Ok(Details { updated_at, ..fixtures::details(word, completed) }))
}

/// A look has no usable answer.
pub(super) const fn looked(error: PortalError) -> Answer {
    Answer::Look(Err(error))
}

/// Every kind of error.
pub(super) const TROUBLES: [PortalError; 25] = [
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
/// once it is over, and `ES` where evidence is asked for. The names are those of the conditions: Ready, Reconciling,
/// Stalled, `CredentialsReady`, `SessionCreated`, Finished, Verified, `EvidenceStored`.
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
    ] {
        let shown = Condition::find(&status.conditions, type_).map(|shown| shown.reason.as_str());
        if let Some(reason) = shown.filter(|reason| !matches!(*reason, "Running" | "NotFinished")) {
            let comma = if line.ends_with(':') { "" } else { "," };
            write!(line, "{comma} {name} {reason}").expect("a String takes it");
        }
    }
    line
}

/// Asserts what a turn has led to: what is shown, in how many seconds its next turn is, and what is told.
#[track_caller]
pub(super) fn assert_led_to(
    world: &World,
    turn: &Turn,
    expected: &str,
    seconds: std::ops::RangeInclusive<u64>,
    events: &[Event],
    reason: &str,
) {
    assert_eq!(line(&world.status), expected, "{reason}");
    let Requeue::At(at) = turn.conclusion.next else {
        panic!("{reason}: {:?}", turn.conclusion.next);
    };
    let wait = elapsed(world.facts.now, at);
    let (least, most) = (Duration::from_secs(*seconds.start()), Duration::from_secs(*seconds.end()));
    assert!((least..=most).contains(&wait), "{reason}: in {wait:?}");
    assert_eq!(turn.conclusion.events, events, "{reason}");
}
