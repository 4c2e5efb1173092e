//! What stays shown while nothing new is known.

use super::Draft;
use crate::{
    api::{Condition, ConditionType, Reason, SessionState},
    lifecycle::{
        blocker::Blocker,
        interruption::{Interruption, Stall},
        key_fact::KeyFact,
    },
};

impl Draft<'_> {
    pub(crate) fn interruption_before(&self) -> Interruption {
        Interruption::shown_in(&self.before.conditions)
    }

    /// The error that stays shown because only a call can clear it.
    pub(crate) fn lasting_interruption(&self) -> Interruption {
        match self.interruption_before() {
            Interruption::None
            | Interruption::Suspended
            | Interruption::RetryingCreate
            | Interruption::Stalled(
                Stall::PortalNotAllowed
                | Stall::DestinationNotAllowed
                | Stall::StatusUnreadable
                | Stall::ResourceTooLarge
                | Stall::CreateOutcomeUnknown
                | Stall::EvidenceFailed,
            ) => self.none_or_retrying_create(),
            Interruption::Blocked(_) if self.has_session() => Interruption::None,
            Interruption::Blocked(Blocker::Key(_)) if matches!(self.facts.key, KeyFact::Usable { .. }) => {
                self.none_or_retrying_create()
            }
            Interruption::Stalled(Stall::SessionNotFound)
                if !self.has_session() && self.facts.adopt.is_none() =>
            {
                Interruption::None
            }
            lasting @ (Interruption::Blocked(_)
            | Interruption::Retry
            | Interruption::RateLimited
            | Interruption::Stalled(Stall::Refused(_) | Stall::SessionNotFound)) => lasting,
        }
    }

    fn none_or_retrying_create(&self) -> Interruption {
        if self.state() == Some(SessionState::Unknown) && !self.has_session() {
            Interruption::RetryingCreate
        } else {
            Interruption::None
        }
    }

    fn state(&self) -> Option<SessionState> {
        self.status.session.as_ref().and_then(|session| session.state)
    }

    pub(crate) fn credentials_before(&self) -> Option<Reason> {
        Condition::find(&self.before.conditions, ConditionType::CredentialsReady)
            .and_then(|condition| Reason::from_word(&condition.reason))
    }

    /// A usable key clears the reason for a missing one; whether the portal accepts it is not known yet.
    pub(crate) fn credentials_unless_missing(&self) -> Option<Reason> {
        match (&self.facts.key, self.credentials_before()) {
            (
                KeyFact::Usable { fingerprint: _ },
                Some(
                    Reason::SecretNotFound
                    | Reason::KeyMissing
                    | Reason::KeyEmpty
                    | Reason::KeyMalformed
                    | Reason::SecretForbidden,
                ),
            ) => Some(Reason::NotChecked),
            (_, before) => before,
        }
    }
}
