//! What interrupts the regular course of a phase: errors, pauses, and decisions that a person must make. Pure.

use super::blocker::Blocker;
use crate::api::{Condition, ConditionType, Reason};

/// What interrupts the regular course of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interruption {
    /// Nothing.
    None,
    /// Something prevents the session from being created; the operator retries.
    Blocked(Blocker),
    /// Requests about the session fail; the operator retries.
    Retry,
    /// The portal asked for a pause.
    RateLimited,
    /// The response to a create was lost; the operator retries.
    RetryingCreate,
    /// Waiting will not help.
    Stalled(Stall),
    /// `spec.suspend` is true.
    Suspended,
}

/// Why waiting will not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stall {
    /// The portal refuses, and only a person can change that.
    Refused(Blocker),
    /// The portal is not allowed.
    PortalNotAllowed,
    /// The destination of the evidence may not be used.
    DestinationNotAllowed,
    /// A person must decide what to do about lost responses.
    CreateOutcomeUnknown,
    /// The portal does not know the session.
    SessionNotFound,
    /// The resource is too large to record a session.
    ResourceTooLarge,
    /// The status contradicts itself.
    StatusUnreadable,
    /// The evidence stays incomplete unless a person acts.
    EvidenceFailed,
}

impl Stall {
    /// All stalls except the portal's refusals.
    const OWN: [Self; 7] = [
        Self::PortalNotAllowed,
        Self::DestinationNotAllowed,
        Self::CreateOutcomeUnknown,
        Self::SessionNotFound,
        Self::ResourceTooLarge,
        Self::StatusUnreadable,
        Self::EvidenceFailed,
    ];

    /// The reason of the condition Stalled.
    #[must_use]
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Refused(blocker) => blocker.reason(),
            Self::PortalNotAllowed => Reason::PortalNotAllowed,
            Self::DestinationNotAllowed => Reason::DestinationNotAllowed,
            Self::CreateOutcomeUnknown => Reason::CreateOutcomeUnknown,
            Self::SessionNotFound => Reason::SessionNotFound,
            Self::ResourceTooLarge => Reason::ResourceTooLarge,
            Self::StatusUnreadable => Reason::StatusUnreadable,
            Self::EvidenceFailed => Reason::EvidenceFailed,
        }
    }

    /// Whether it is shown even if `readyWhen: SessionCreated` is satisfied.
    pub(crate) const fn spoils_a_published_link(self) -> bool {
        match self {
            Self::PortalNotAllowed
            | Self::SessionNotFound
            | Self::StatusUnreadable
            | Self::EvidenceFailed => true,
            Self::Refused(_)
            | Self::DestinationNotAllowed
            | Self::ResourceTooLarge
            | Self::CreateOutcomeUnknown => false,
        }
    }

    fn shown_as(reason: Reason, message: &str) -> Option<Self> {
        let own = Self::OWN.into_iter().find(|stall| stall.reason() == reason);
        let refused = || {
            Blocker::shown_as(reason, message)
                .filter(|blocker| blocker.blocker_kind().is_some())
                .map(Self::Refused)
        };
        own.or_else(refused)
    }
}

impl Interruption {
    /// The interruption that these conditions show.
    #[must_use]
    pub(crate) fn shown_in(conditions: &[Condition]) -> Self {
        let shown = |type_| {
            let condition = Condition::find(conditions, type_)?;
            Some((Reason::from_word(&condition.reason)?, &*condition.message))
        };
        if let Some((reason, message)) = shown(ConditionType::Stalled) {
            return Stall::shown_as(reason, message).map_or(Self::None, Self::Stalled);
        }
        let reconciling = shown(ConditionType::Reconciling);
        match reconciling.map(|(reason, _)| reason) {
            Some(Reason::ProgressingWithRetry) => return Self::Retry,
            Some(Reason::RateLimited) => return Self::RateLimited,
            Some(Reason::CreateOutcomeUnknown) => return Self::RetryingCreate,
            _ => {}
        }
        if shown(ConditionType::Ready).is_some_and(|(reason, _)| reason == Reason::Suspended) {
            return Self::Suspended;
        }
        reconciling
            .and_then(|(reason, message)| Blocker::shown_as(reason, message))
            .map_or(Self::None, Self::Blocked)
    }

    /// The blocker that it shows, if any.
    #[must_use]
    pub(crate) const fn blocker(self) -> Option<Blocker> {
        match self {
            Self::Blocked(blocker) | Self::Stalled(Stall::Refused(blocker)) => Some(blocker),
            Self::None
            | Self::Retry
            | Self::RateLimited
            | Self::RetryingCreate
            | Self::Suspended
            | Self::Stalled(
                Stall::PortalNotAllowed
                | Stall::DestinationNotAllowed
                | Stall::CreateOutcomeUnknown
                | Stall::SessionNotFound
                | Stall::ResourceTooLarge
                | Stall::StatusUnreadable
                | Stall::EvidenceFailed,
            ) => None,
        }
    }
}
