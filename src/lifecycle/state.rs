//! What has happened, read from status as one enum that cannot hold contradictions. Pure and total.

use crate::{
    api::{
        Condition, ConditionStatus, ConditionType, Outcome, Phase, Session, SessionState, VerificationStatus,
    },
    portal::verification_id::VerificationId,
};

/// How many creates with an unknown outcome are retried before a person must decide.
pub(crate) const UNKNOWN_OUTCOME_BUDGET: u32 = 3;

/// The state of a verification, read from its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No create was attempted.
    Fresh,
    /// A create was claimed, and its outcome is not recorded.
    Claimed,
    /// The last create made no session.
    Refused,
    /// It is unknown whether the last create request created a session.
    OutcomeUnknown,
    /// The session is known.
    Open {
        /// Its id.
        id: VerificationId,
        /// What the portal reported last.
        phase: OpenPhase,
    },
    /// The verification ended.
    Finished(Outcome),
    /// It finished, nothing is pending, and it is not watched any more.
    Settled,
    /// The status contradicts itself; it was not written by this operator alone.
    Inconsistent(Contradiction),
}

/// The phase of an open session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenPhase {
    /// The person has not started.
    AwaitingUser,
    /// The person has started.
    InProgress,
    /// The portal is evaluating.
    Processing,
    /// okID is reviewing the check manually.
    InReview,
}

impl OpenPhase {
    /// The phase as status shows it.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self {
            Self::AwaitingUser => Phase::AwaitingUser,
            Self::InProgress => Phase::InProgress,
            Self::Processing => Phase::Processing,
            Self::InReview => Phase::InReview,
        }
    }
}

/// Why a status cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contradiction {
    /// A verdict or a created session without an id.
    IdMissing,
    /// An invalid id.
    IdUnusable,
    /// An id without its portal.
    PortalMissing,
    /// Impossible counters: negative, or more unknown outcomes than creates.
    CountersImpossible,
    /// Settled without an outcome.
    OutcomeMissing,
    /// A final condition without an outcome, or one that contradicts it.
    ConditionsAgainstOutcome,
}

/// The counters of the create protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attempts {
    /// Creates that were attempted.
    pub attempt: u32,
    /// Creates whose outcome is unknown.
    pub orphans: u32,
    /// Unknown outcomes that a person has acknowledged.
    pub acknowledged: u32,
}

impl Attempts {
    /// How many more outcomes may be unknown before a person must decide.
    #[must_use]
    pub const fn left(self) -> u32 {
        UNKNOWN_OUTCOME_BUDGET.saturating_sub(self.unacknowledged())
    }

    /// Unknown outcomes that no retry has acknowledged.
    #[must_use]
    pub(crate) const fn unacknowledged(self) -> u32 {
        self.orphans.saturating_sub(self.acknowledged)
    }
}

/// The counters in a status; impossible ones read as zero, and [`state`] as inconsistent.
#[must_use]
pub fn attempts(status: &VerificationStatus) -> Attempts {
    let count = |n: i32| u32::try_from(n).unwrap_or(0);
    status.session.as_ref().map_or_else(Attempts::default, |session| Attempts {
        attempt: count(session.attempt),
        orphans: count(session.orphans),
        acknowledged: count(session.acknowledged),
    })
}

/// Whether the status was written for another resource: restored from a backup under a new uid.
#[must_use]
pub fn restored(uid: &str, status: &VerificationStatus) -> bool {
    status.session.as_ref().and_then(|session| session.uid.as_deref()).is_some_and(|written| written != uid)
}

/// A status that was read once, with what follows from its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedStatus<'a> {
    status: &'a VerificationStatus,
    state: State,
    attempts: Attempts,
}

impl<'a> ParsedStatus<'a> {
    /// Reads the status of the resource with that uid. Every status can be read.
    #[must_use]
    pub fn of(uid: &str, status: &'a VerificationStatus) -> Self {
        Self { status, state: state(uid, status), attempts: attempts(status) }
    }

    /// The status itself.
    #[must_use]
    pub const fn status(&self) -> &'a VerificationStatus {
        self.status
    }

    /// The state of the verification.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The counters of the create protocol.
    #[must_use]
    pub const fn attempts(&self) -> Attempts {
        self.attempts
    }
}

/// Reads a status. Total: an id takes precedence over a claim, and an outcome over an id.
fn state(uid: &str, status: &VerificationStatus) -> State {
    if status.settled && status.outcome.is_some() {
        return State::Settled;
    }
    if let Some(contradiction) = contradiction(status) {
        return State::Inconsistent(contradiction);
    }
    if let Some(outcome) = status.outcome {
        return State::Finished(outcome);
    }
    // Another resource's session is followed like an adopted one and polled first; its claims are not ours to retry.
    if restored(uid, status) {
        return State::Fresh;
    }
    if let Some(id) = status.verification_id.as_deref() {
        return match VerificationId::parse(id) {
            Ok(id) => State::Open { id, phase: open_phase(status.phase) },
            Err(_) => State::Inconsistent(Contradiction::IdUnusable),
        };
    }
    match status.session.as_ref().and_then(|session| session.state) {
        None => State::Fresh,
        Some(SessionState::Claimed) => State::Claimed,
        Some(SessionState::NotCreated) => State::Refused,
        Some(SessionState::Unknown) => State::OutcomeUnknown,
        Some(SessionState::Created | SessionState::Adopted) => State::Inconsistent(Contradiction::IdMissing),
    }
}

fn open_phase(phase: Option<Phase>) -> OpenPhase {
    match phase {
        Some(Phase::InProgress) => OpenPhase::InProgress,
        Some(Phase::Processing) => OpenPhase::Processing,
        Some(Phase::InReview) => OpenPhase::InReview,
        None
        | Some(
            Phase::Pending
            | Phase::Creating
            | Phase::AwaitingUser
            | Phase::Storing
            | Phase::Verified
            | Phase::Rejected
            | Phase::Expired
            | Phase::Failed,
        ) => OpenPhase::AwaitingUser,
    }
}

fn contradiction(status: &VerificationStatus) -> Option<Contradiction> {
    let session = status.session.as_ref();
    let has_id = status.verification_id.is_some();
    if status.verification_id.as_deref().is_some_and(|id| VerificationId::parse(id).is_err()) {
        return Some(Contradiction::IdUnusable);
    }
    if has_id && session.and_then(|s| s.portal.as_ref()).is_none() {
        return Some(Contradiction::PortalMissing);
    }
    if status.settled && status.outcome.is_none() {
        return Some(Contradiction::OutcomeMissing);
    }
    let needs_id = match status.outcome {
        Some(Outcome::Verified | Outcome::Rejected | Outcome::Expired) => true,
        Some(Outcome::Failed) => false,
        None => session
            .and_then(|s| s.state)
            .is_some_and(|state| matches!(state, SessionState::Created | SessionState::Adopted)),
    };
    if needs_id && !has_id {
        return Some(Contradiction::IdMissing);
    }
    if session.is_some_and(counters_impossible) {
        return Some(Contradiction::CountersImpossible);
    }
    let shown = |type_| Condition::find(&status.conditions, type_).map(|c| c.status);
    let finished = shown(ConditionType::Finished) == Some(ConditionStatus::True);
    let verified = shown(ConditionType::Verified).filter(|shown| *shown != ConditionStatus::Unknown);
    let against = match (status.outcome, verified) {
        (None, None) => finished,
        (None, Some(_)) => true,
        (Some(_), None) => false,
        (Some(outcome), Some(shown)) => (outcome == Outcome::Verified) != (shown == ConditionStatus::True),
    };
    against.then_some(Contradiction::ConditionsAgainstOutcome)
}

fn counters_impossible(session: &Session) -> bool {
    let claimed = match session.state {
        Some(SessionState::Claimed | SessionState::NotCreated | SessionState::Unknown) => true,
        Some(SessionState::Created | SessionState::Adopted) | None => false,
    };
    session.acknowledged < 0
        || session.orphans < session.acknowledged
        || session.attempt < session.orphans
        || (claimed && session.attempt == 0)
}
