//! What stays shown while nothing new is known.

use crate::{
    api::{Condition, ConditionType, Reason, SessionState},
    lifecycle::{
        blocker::Blocker,
        facts::KeyFact,
        overlay::{Overlay, Stall},
    },
};

use super::Draft;

impl Draft<'_> {
    pub(super) fn overlay_before(&self) -> Overlay {
        Overlay::shown_in(&self.before.conditions)
    }

    /// What stays shown while nothing new is known: trouble that only a call can clear.
    pub(super) fn standing_overlay(&self) -> Overlay {
        match self.overlay_before() {
            Overlay::Plain
            | Overlay::Suspended
            | Overlay::Healing
            | Overlay::Stalled(
                Stall::PortalNotAllowed
                | Stall::DestinationNotAllowed
                | Stall::StatusUnreadable
                | Stall::ResourceTooLarge
                | Stall::CreateOutcomeUnknown
                | Stall::EvidenceFailed,
            ) => self.plain_or_healing(),
            Overlay::Blocked(_) if self.has_session() => Overlay::Plain,
            Overlay::Blocked(Blocker::Key(_)) if matches!(self.facts.key, KeyFact::Usable { .. }) => {
                self.plain_or_healing()
            }
            Overlay::Stalled(Stall::SessionNotFound) if !self.has_session() && self.facts.adopt.is_none() => {
                Overlay::Plain
            }
            standing @ (Overlay::Blocked(_)
            | Overlay::Retry
            | Overlay::RateLimited
            | Overlay::Stalled(Stall::Refused(_) | Stall::SessionNotFound)) => standing,
        }
    }

    fn plain_or_healing(&self) -> Overlay {
        if self.state() == Some(SessionState::Unknown) && !self.has_session() {
            Overlay::Healing
        } else {
            Overlay::Plain
        }
    }

    fn state(&self) -> Option<SessionState> {
        self.status.session.as_ref().and_then(|session| session.state)
    }

    pub(super) fn credentials_before(&self) -> Option<Reason> {
        Condition::find(&self.before.conditions, ConditionType::CredentialsReady)
            .and_then(|condition| Reason::from_word(&condition.reason))
    }

    /// A usable key ends what was said of a missing one; whether the portal accepts it is not known yet.
    pub(super) fn credentials_unless_missing(&self) -> Option<Reason> {
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
