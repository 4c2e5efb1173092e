//! The steps there are, and what can come of each. Pure.
//!
//! Every step has outcomes of its own, so no outcome can be paired with a step that it does not belong to.

use jiff::Timestamp;

use super::{
    blocker::Blocker,
    evidence::{FinalizerOutcome, RemovalOutcome, UploadOutcome},
    key_fact::KeyFault,
    known_session::KnownSession,
};
use crate::portal::{
    error::PortalError,
    verification_id::VerificationId,
    wire::{Created, Details},
};

/// The one thing to do next. Whoever performs it makes no choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is called: the transition is concluded at once.
    Transition(Transition),
    /// Claim an attempt, send one create request, and record the response.
    Create {
        /// The number of the attempt.
        attempt: u32,
    },
    /// Poll a session that exists already, to follow it from now on.
    Adopt(VerificationId),
    /// Poll the session.
    Poll(VerificationId),
    /// Add the finalizer, before any evidence is stored that is to be removed with the resource.
    AddFinalizer,
    /// Store pending evidence.
    Store,
    /// Remove the stored evidence, as far as `spec.evidence` still asks for that, and take the finalizer off.
    RemoveEvidence {
        /// When the finalizer is taken off.
        release_when: ReleaseWhen,
    },
}

/// A step without effects: it changes nothing but status and what this process remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The resource is being deleted and nothing holds it: leave it.
    Release,
    /// The resource is settled.
    NoOp,
    /// Mark a finished resource as settled.
    Settle,
    /// Record again the session that this process knows the resource to have.
    Restore(KnownSession),
    /// Show a state that needs no call.
    Show(Shown),
    /// Acknowledge the unknown outcomes so far and try again. The value is that of `okid.io/retry`.
    Retry(String),
    /// Wait.
    Wait(Wait),
    /// End by the deadline.
    Fail,
    /// The claim that was found led to no request.
    AbandonUnsent,
    /// The outcome of the claim that was found is unknown.
    AbandonUnknown,
    /// The evidence was not stored in time.
    AbandonEvidence,
}

/// When the finalizer is taken off a resource whose evidence is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReleaseWhen {
    /// Once nothing removable is left.
    OnceRemoved,
    /// After this attempt, successful or not; not if the store cannot be called now.
    OnceTried,
    /// Whatever comes of it.
    Anyway,
}

/// States that need no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    /// The status contradicts itself.
    StatusUnreadable,
    /// `spec.suspend` is true.
    Suspended,
    /// The portal is not allowed, or no longer; also where evidence is pending.
    PortalNotAllowed,
    /// Outcomes of creates are unknown, and a person must decide how to go on.
    CreateOutcomeUnknown,
    /// The destination of the evidence may not be used, so no session is created.
    DestinationRefused,
    /// The record of a session might not fit into the resource, so none is created.
    ResourceTooLarge,
    /// The verification has finished but is not settled.
    Finished,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// A usable key.
    Key(KeyFault),
    /// Admission of a call to the portal.
    Admission(Refusal),
    /// The scheduled time.
    Due(Timestamp),
    /// The time from which no request of the claim can be in flight.
    InFlight(Timestamp),
}

/// Why a call to the portal is not admitted now, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The portal asked for a pause.
    Paused(Timestamp),
    /// The circuit breaker is open.
    Breaker(Timestamp),
    /// The portal rejects this key.
    KeyRejected(Timestamp),
    /// The rate is used up.
    Rate(Timestamp),
}

/// The steps that call the portal, and need admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortalStep {
    /// [`Step::Create`]
    Create,
    /// [`Step::Adopt`]
    Adopt,
    /// [`Step::Poll`]
    Poll,
    /// [`Step::Store`]
    Store,
}

impl From<Transition> for Step {
    fn from(transition: Transition) -> Self {
        Self::Transition(transition)
    }
}

impl Step {
    /// Which call to the portal the step makes, if any.
    #[must_use]
    pub const fn portal_step(&self) -> Option<PortalStep> {
        match self {
            Self::Create { attempt: _ } => Some(PortalStep::Create),
            Self::Adopt(_) => Some(PortalStep::Adopt),
            Self::Poll(_) => Some(PortalStep::Poll),
            Self::Store => Some(PortalStep::Store),
            Self::Transition(_) | Self::AddFinalizer | Self::RemoveEvidence { release_when: _ } => None,
        }
    }
}

/// A step that calls the portal and was not admitted. Nothing was claimed, sent or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAdmitted {
    /// The step.
    pub step: PortalStep,
    /// Why not, and until when.
    pub refusal: Refusal,
    /// What the last call met that led to the refusal, as far as that is known. The call may have been another
    /// resource's.
    pub cause: Option<Blocker>,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOutcome {
    /// The transition, which has no other outcome.
    Transition(Transition),
    /// The call to the portal was not admitted.
    NotAdmitted(NotAdmitted),
    /// The step could not be performed, and nothing is known that was not known before.
    NotPerformed,
    /// What came of a create.
    Create(CreateOutcome),
    /// What came of an adoption.
    Adopt {
        /// The session that was polled.
        id: VerificationId,
        /// The response.
        answer: Result<Details, PortalError>,
    },
    /// What came of a poll.
    Poll {
        /// The session that was polled.
        id: VerificationId,
        /// The response.
        answer: Result<Details, PortalError>,
    },
    /// What came of adding the finalizer.
    AddFinalizer(FinalizerOutcome),
    /// What came of storing evidence.
    Store(UploadOutcome),
    /// What came of removing evidence.
    RemoveEvidence(RemovalOutcome),
}

/// What came of a create.
#[derive(Clone, Debug, PartialEq)]
pub enum CreateOutcome {
    /// Another writer was first: nothing was claimed.
    ClaimLost,
    /// The claim could not be written: nothing was sent to the portal.
    ClaimNotWritten,
    /// The attempt was claimed, but no request was sent.
    NotSent,
    /// The portal answered, or its response was lost.
    Answered(Result<Created, PortalError>),
}
