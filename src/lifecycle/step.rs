//! The steps, and the outcomes of each. Pure.
//!
//! Every step has its own outcomes, so an outcome cannot be paired with the wrong step.

use jiff::Timestamp;

use super::{
    blocker::Blocker,
    cleanup::DeletionOutcome,
    evidence::{FinalizerOutcome, RemovalOutcome, UploadOutcome},
    key_fact::KeyFault,
    known_session::KnownSession,
};
use crate::portal::{
    error::PortalError,
    verification_id::VerificationId,
    wire::{Created, Details},
};

/// The one thing to do next. Performing it requires no further choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transition calls nothing and is concluded at once.
    Transition(Transition),
    /// Claim an attempt, send one create request, and record the response.
    Create {
        /// The number of the attempt.
        attempt: u32,
    },
    /// Poll an existing session, to follow it from now on.
    Adopt(VerificationId),
    /// Poll the session.
    Poll(VerificationId),
    /// Add the finalizer, before evidence is stored that is removed with the resource.
    AddFinalizer,
    /// Store pending evidence.
    Store,
    /// Remove the stored evidence, as far as `spec.evidence` still asks for that, and remove the finalizer.
    RemoveEvidence {
        /// When to remove the finalizer.
        release_when: ReleaseWhen,
    },
    /// Delete the resource: `spec.ttlAfterFinished` has passed.
    Delete {
        /// Whether the store of its evidence must respond first, because the evidence is removed with it.
        awaits_store: bool,
    },
}

/// A step without effects: it changes only status and what this process remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The resource is being deleted, and nothing holds it.
    Release,
    /// The resource is settled.
    NoOp,
    /// Mark a finished resource as settled.
    Settle,
    /// Record the session again that this process knows the resource to have.
    Restore(KnownSession),
    /// Show a state that needs no call.
    Show(Shown),
    /// Acknowledge the unknown outcomes so far and try again. Holds the value of `okid.io/retry`.
    Retry(String),
    /// Wait.
    Wait(Wait),
    /// End the verification by its deadline.
    Fail,
    /// The claim that was found led to no request.
    AbandonUnsent,
    /// The claim that was found has an unknown outcome.
    AbandonUnknown,
    /// Stop trying to store the evidence, because its time is over.
    AbandonEvidence,
}

/// When to remove the finalizer from a resource whose evidence is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReleaseWhen {
    /// Once nothing removable is left.
    OnceRemoved,
    /// After this attempt, successful or not, unless the store cannot be called now.
    OnceTried,
    /// In any case.
    Anyway,
}

/// States that need no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    /// The status contradicts itself.
    StatusUnreadable,
    /// `spec.suspend` is true.
    Suspended,
    /// The portal is not allowed, or not any more; also while evidence is pending.
    PortalNotAllowed,
    /// Outcomes of creates are unknown, and a person must decide how to continue.
    CreateOutcomeUnknown,
    /// The destination of the evidence may not be used, so no session is created.
    DestinationRefused,
    /// The resource might be too large to record a session, so none is created.
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
    /// The next scheduled call.
    Due(Timestamp),
    /// The time after which no request of the claim can be in flight.
    InFlight(Timestamp),
    /// The end of `spec.ttlAfterFinished`.
    Ttl(Timestamp),
}

/// Why a call to the portal is not admitted, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The portal asked for a pause.
    Paused(Timestamp),
    /// The circuit breaker is open.
    Breaker(Timestamp),
    /// The portal rejects this key.
    KeyRejected(Timestamp),
    /// The rate limit is reached.
    Rate(Timestamp),
}

/// The steps that call the portal and need admission.
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
    /// The call that the step makes to the portal, if any.
    #[must_use]
    pub const fn portal_step(&self) -> Option<PortalStep> {
        match self {
            Self::Create { attempt: _ } => Some(PortalStep::Create),
            Self::Adopt(_) => Some(PortalStep::Adopt),
            Self::Poll(_) => Some(PortalStep::Poll),
            Self::Store => Some(PortalStep::Store),
            Self::Transition(_)
            | Self::AddFinalizer
            | Self::RemoveEvidence { release_when: _ }
            | Self::Delete { awaits_store: _ } => None,
        }
    }
}

/// A step that calls the portal and was not admitted. Nothing was claimed, sent or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAdmitted {
    /// The step.
    pub step: PortalStep,
    /// Why, and until when.
    pub refusal: Refusal,
    /// What the last call met that led to the refusal, if known. It may have been a call for another resource.
    pub cause: Option<Blocker>,
}

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOutcome {
    /// The transition; it has no other outcome.
    Transition(Transition),
    /// The call to the portal was not admitted.
    NotAdmitted(NotAdmitted),
    /// The step could not be performed, and nothing new is known.
    NotPerformed,
    /// The outcome of a create.
    Create(CreateOutcome),
    /// The outcome of an adoption.
    Adopt {
        /// The session that was polled.
        id: VerificationId,
        /// The response.
        answer: Result<Details, PortalError>,
    },
    /// The outcome of a poll.
    Poll {
        /// The session that was polled.
        id: VerificationId,
        /// The response.
        answer: Result<Details, PortalError>,
    },
    /// The outcome of adding the finalizer.
    AddFinalizer(FinalizerOutcome),
    /// The outcome of storing evidence.
    Store(UploadOutcome),
    /// The outcome of removing evidence.
    RemoveEvidence(RemovalOutcome),
    /// The outcome of deleting the resource.
    Delete(DeletionOutcome),
}

/// The outcome of a create.
#[derive(Clone, Debug, PartialEq)]
pub enum CreateOutcome {
    /// Another writer was first, so nothing was claimed.
    ClaimLost,
    /// The claim could not be written, so nothing was sent to the portal.
    ClaimNotWritten,
    /// The attempt was claimed, but no request was sent.
    NotSent,
    /// The portal answered, or its response was lost.
    Answered(Result<Created, PortalError>),
}
