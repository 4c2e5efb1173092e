//! Invariants: each is a sentence that holds in every case of the grid and of the state space.

macro_rules! invariants {
    (
        $law:ty;
        over_the_grid_and_the_state_space: $($both:ident)+;
        only_over_the_grid: $($only:ident)*
    ) => {
        /// The invariants of this file by name.
        pub(in crate::lifecycle::tests) const INVARIANTS: &[(&str, $law)] =
            &[$((stringify!($both), $both as $law),)+ $((stringify!($only), $only as $law),)*];

        mod over_the_grid {
            $(#[test]
            fn $both() {
                crate::lifecycle::tests::grid::holds(stringify!($both));
            })+
            $(#[test]
            fn $only() {
                crate::lifecycle::tests::grid::holds(stringify!($only));
            })*
        }

        mod over_the_state_space {
            $(#[test]
            fn $both() {
                crate::lifecycle::tests::state_space::holds(stringify!($both));
            })+
        }
    };
}

mod cleanup;
mod decided;
mod ends;
mod evidence_concluded;
mod evidence_decided;
mod keys;
mod recorded;
mod shown;

use crate::{
    api::{Condition, ConditionStatus, ConditionType, Reason, VerificationStatus},
    lifecycle::{
        conclude::Conclusion,
        event::Event,
        evidence::{EvidenceFacts, UploadOutcome},
        facts::Facts,
        state::{Attempts, ParsedStatus, State},
        step::{CreateOutcome, NotAdmitted, Step, StepOutcome, Transition, Wait},
    },
    portal::error::PortalError,
};

/// The invariants about what is decided, by name.
pub(super) fn of_decided() -> impl Iterator<Item = (&'static str, OfDecided)> {
    [decided::INVARIANTS, evidence_decided::INVARIANTS, cleanup::decided::INVARIANTS]
        .into_iter()
        .flatten()
        .copied()
}

/// The invariants about what is concluded, by name.
pub(super) fn of_concluded() -> impl Iterator<Item = (&'static str, OfConcluded)> {
    [
        shown::INVARIANTS,
        recorded::INVARIANTS,
        ends::INVARIANTS,
        evidence_concluded::INVARIANTS,
        cleanup::concluded::INVARIANTS,
        keys::INVARIANTS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// What a status shows, read once for all invariants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shown([Option<(ConditionStatus, Reason)>; 9]);

impl Shown {
    /// Reads the conditions of a status.
    pub(super) fn of(status: &VerificationStatus) -> Self {
        let mut shown = Self::default();
        for condition in &status.conditions {
            let type_ = ConditionType::from_word(&condition.type_).expect("a type of ours");
            let reason = Reason::from_word(&condition.reason).expect("a reason of ours");
            let seen = shown.0[type_ as usize].replace((condition.status, reason));
            assert_eq!(seen, None, "{type_:?} stands twice");
        }
        shown
    }

    /// The reason of a condition, if it is shown.
    pub(super) fn reason(&self, type_: ConditionType) -> Option<Reason> {
        self.0[type_ as usize].map(|(_, reason)| reason)
    }

    fn is(&self, type_: ConditionType, status: ConditionStatus) -> bool {
        self.0[type_ as usize].is_some_and(|(shown, _)| shown == status)
    }
}

/// A decided step.
pub(super) struct Decided<'a> {
    pub(super) state: &'a State,
    pub(super) attempts: Attempts,
    pub(super) facts: &'a Facts,
    pub(super) step: &'a Step,
}

/// A concluded step. A claim is one too: its create has no outcome yet.
pub(super) struct Concluded<'a> {
    pub(super) state: &'a State,
    pub(super) before: &'a VerificationStatus,
    pub(super) shown_before: &'a Shown,
    pub(super) facts: &'a Facts,
    /// The outcome of the step; none for a claim.
    pub(super) outcome: Option<&'a StepOutcome>,
    pub(super) conclusion: &'a Conclusion,
    /// What is written, and what it shows.
    pub(super) after: Option<(&'a VerificationStatus, Shown)>,
    /// The evidence after it, if a status is written.
    pub(super) evidence_after: Option<EvidenceFacts>,
}

impl<'a> Concluded<'a> {
    /// A conclusion about this status, which shows this.
    pub(super) fn of(
        (parsed, shown_before): (&'a ParsedStatus<'a>, &'a Shown),
        facts: &'a Facts,
        outcome: Option<&'a StepOutcome>,
        conclusion: &'a Conclusion,
    ) -> Self {
        let after = conclusion.status.as_ref().map(|status| (status, Shown::of(status)));
        let evidence_after = after.as_ref().map(|(status, _)| facts.evidence.after(status));
        let (state, before) = (parsed.state(), parsed.status());
        Self { state, before, shown_before, facts, outcome, conclusion, after, evidence_after }
    }

    /// The evidence before the step.
    fn evidence(&self) -> &EvidenceFacts {
        &self.facts.evidence
    }

    /// The result of an upload, if that was the step.
    fn stored(&self) -> Option<&UploadOutcome> {
        if let Some(StepOutcome::Store(stored)) = self.outcome { Some(stored) } else { None }
    }

    /// The transition, if that was the step.
    fn transition(&self) -> Option<&Transition> {
        if let Some(StepOutcome::Transition(transition)) = self.outcome { Some(transition) } else { None }
    }

    /// The refusal of the call, if it was refused.
    fn refusal(&self) -> Option<&NotAdmitted> {
        if let Some(StepOutcome::NotAdmitted(refused)) = self.outcome { Some(refused) } else { None }
    }

    /// What is waited for, if that was the step or follows from a refused call.
    fn wait(&self) -> Option<Wait> {
        match (self.transition(), self.refusal()) {
            (Some(Transition::Wait(wait)), _) => Some(*wait),
            (None, Some(_)) => self.conclusion.waits_for,
            (_, _) => None,
        }
    }

    /// The error of the portal, if there was one.
    fn error(&self) -> Option<&PortalError> {
        match self.outcome? {
            StepOutcome::Create(CreateOutcome::Answered(Err(error)))
            | StepOutcome::Adopt { id: _, answer: Err(error) }
            | StepOutcome::Poll { id: _, answer: Err(error) } => Some(error),
            StepOutcome::Create(_)
            | StepOutcome::Adopt { id: _, answer: Ok(_) }
            | StepOutcome::Poll { id: _, answer: Ok(_) }
            | StepOutcome::Transition(_)
            | StepOutcome::NotAdmitted(_)
            | StepOutcome::NotPerformed
            | StepOutcome::AddFinalizer(_)
            | StepOutcome::Store(_)
            | StepOutcome::RemoveEvidence(_)
            | StepOutcome::Delete(_) => None,
        }
    }

    /// How often this event is reported.
    fn reported(&self, event: Event) -> usize {
        self.conclusion.events.iter().filter(|reported| **reported == event).count()
    }
}

/// The result of an invariant for one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// The invariant does not apply to this case.
    NotApplicable,
    /// It holds.
    Holds,
    /// It is violated.
    Broken,
}

const fn holds(it_does: bool) -> Checked {
    if it_does { Checked::Holds } else { Checked::Broken }
}

/// An invariant about what is decided.
pub(super) type OfDecided = fn(&Decided) -> Checked;
/// An invariant about what is concluded.
pub(super) type OfConcluded = fn(&Concluded) -> Checked;

/// Whether the case is a claim.
fn is_claim(case: &Concluded) -> bool {
    case.outcome.is_none()
}

#[test]
fn each_type_of_condition_is_found_by_its_name() {
    let condition = |type_: ConditionType| Condition {
        type_: type_.as_str().into(),
        status: ConditionStatus::True,
        reason: Reason::Pending.as_str().into(),
        message: "".into(),
        last_transition_time: jiff::Timestamp::UNIX_EPOCH,
        observed_generation: 1,
    };
    for type_ in ConditionType::ALL {
        let status =
            VerificationStatus { conditions: vec![condition(*type_)], ..VerificationStatus::default() };
        assert_eq!(Shown::of(&status).reason(*type_), Some(Reason::Pending));
    }
}
