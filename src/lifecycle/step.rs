//! The steps there are, and what can come of them.

use jiff::Timestamp;

use super::{
    evidence::{FinalizerOutcome, RemovalOutcome, UploadOutcome},
    facts::KeyFault,
    known_session::KnownSession,
};
use crate::portal::{
    error::PortalError,
    verification_id::VerificationId,
    wire::{Created, Details},
};

/// The one thing to do next. Whoever does it chooses nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The resource goes away: let go of it.
    Release,
    /// It is over and owes nothing.
    NoOp,
    /// Mark it as over and owing nothing.
    Settle,
    /// Write down again the session that the resource is known to have.
    Restore(KnownSession),
    /// Only show how it stands.
    Show(Shown),
    /// Forgive the lost answers so far and try again.
    Retry(String),
    /// Not yet.
    Wait(Wait),
    /// End it by its deadline.
    Fail,
    /// The claim that was found led to no session.
    GiveUpRefused,
    /// Nobody knows what the claim that was found led to.
    GiveUpLost,
    /// Claim, ask the portal once for a session, record the answer.
    Create {
        /// The number of the attempt.
        attempt: u32,
    },
    /// Ask for a session that exists already.
    Adopt(VerificationId),
    /// Ask how the session stands.
    Poll(VerificationId),
    /// Hold the resource until its evidence is removed, before any is stored.
    AddFinalizer,
    /// Store what is owed of the evidence.
    Store,
    /// The evidence was not stored in time.
    GiveUpEvidence,
    /// Remove the evidence, as far as `spec.evidence` still asks for that, and let go of the resource.
    RemoveEvidence {
        /// When the resource is let go of.
        release_when: ReleaseWhen,
    },
}

/// When a resource is let go of whose evidence is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReleaseWhen {
    /// Once nothing is left that could be removed.
    OnceRemoved,
    /// Also if this try does not succeed; not if the store cannot be asked now.
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
    /// The portal is not allowed, or not any more; also where evidence is owed.
    PortalNotAllowed,
    /// Answers to creates were lost, and a person must say how to go on.
    CreateOutcomeUnknown,
    /// Evidence may not be stored where it was asked to be, so no session is created.
    DestinationRefused,
    /// The record of a session might not fit into the resource, so none is created.
    ResourceTooLarge,
    /// It is over, and stays in the watch.
    Over,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// A usable key.
    Key(KeyFault),
    /// The portal refuses this key; no call is made before then.
    KeyRejected(Timestamp),
    /// The pause that the portal asked for.
    Paused(Timestamp),
    /// The portal has too much trouble.
    Breaker(Timestamp),
    /// The rate.
    Rate(Timestamp),
    /// Its own time.
    Due(Timestamp),
    /// That no request of the claim can be in flight.
    InFlight(Timestamp),
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOutcome {
    /// The step has no effect outside of status.
    Nothing,
    /// What came of a create.
    Create(CreateOutcome),
    /// What came of a look, or of an adoption.
    Poll(Result<Details, PortalError>),
    /// What came of adding the finalizer.
    AddFinalizer(FinalizerOutcome),
    /// What came of storing evidence.
    Store(UploadOutcome),
    /// What came of removing it.
    Remove(RemovalOutcome),
}

/// What came of a create.
#[derive(Clone, Debug, PartialEq)]
pub enum CreateOutcome {
    /// Another one wrote first: nothing was claimed.
    ClaimLost,
    /// The claim could not be written: nothing was asked of the portal.
    ClaimNotWritten,
    /// Claimed, but the request was not sent.
    NotSent,
    /// The portal answered, or its answer was lost.
    Answered(Result<Created, PortalError>),
}
