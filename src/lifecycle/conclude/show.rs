//! Conclusions of transitions that show a state, and of a retry that a person requests.

use std::time::Duration;

use super::{Conclusion, Draft, Requeue};
use crate::{
    api::Reason,
    lifecycle::{
        event::Event,
        evidence::EvidenceState,
        interruption::{Interruption, Stall},
        local_state::LocalState,
        schedule::LONGEST,
        since::later,
        state::State,
        step::Shown,
    },
};

/// Secrets and other objects that are not watched are checked again after this time.
const UNWATCHED: Duration = Duration::from_mins(1);

impl Draft<'_> {
    pub(super) fn show(mut self, shown: Shown) -> Conclusion {
        let hourly = Requeue::At(later(self.facts.now, LONGEST));
        let soon = Requeue::At(later(self.facts.now, UNWATCHED));
        self.inputs.credentials = self.credentials_unless_missing();
        match shown {
            Shown::StatusUnreadable => {
                self.stall(Stall::StatusUnreadable, Some(Event::StatusUnreadable));
                self.finish_unpublished(hourly)
            }
            Shown::PortalNotAllowed => {
                self.stall(Stall::PortalNotAllowed, Some(Event::PortalNotAllowed));
                self.finish(hourly)
            }
            Shown::CreateOutcomeUnknown => {
                self.stall(Stall::CreateOutcomeUnknown, None);
                self.finish(Requeue::AwaitChange)
            }
            Shown::DestinationRefused => {
                self.stall(Stall::DestinationNotAllowed, Some(Event::DestinationNotAllowed));
                self.finish(soon)
            }
            Shown::ResourceTooLarge => {
                self.stall(Stall::ResourceTooLarge, Some(Event::ResourceTooLarge));
                self.finish(Requeue::AwaitChange)
            }
            Shown::Finished => self.finish(Requeue::AwaitChange),
            Shown::Suspended => {
                self.inputs.interruption = Interruption::Suspended;
                self.finish(Requeue::AwaitChange)
            }
        }
    }

    pub(super) fn stall(&mut self, stall: Stall, event: Option<Event>) {
        self.inputs.interruption = Interruption::Stalled(stall);
        // A blocker is not shown beside a link.
        let is_about_the_create = matches!(stall, Stall::DestinationNotAllowed | Stall::ResourceTooLarge);
        let is_shown = !(self.has_session() && is_about_the_create);
        if is_shown && self.interruption_before() != self.inputs.interruption {
            self.events.extend(event);
        }
    }

    pub(super) fn retry(mut self, token: &str, state: &State) -> Conclusion {
        self.status.last_handled_retry = Some(token.to_owned());
        if let Some(session) = self.status.session.as_mut() {
            session.acknowledged = session.acknowledged.max(session.orphans);
        }
        if *state == State::OutcomeUnknown {
            self.inputs.interruption = Interruption::RetryingCreate;
        }
        self.inputs.credentials = self.credentials_unless_missing();
        if self.inputs.evidence == EvidenceState::Failed {
            self.inputs.evidence = EvidenceState::Pending;
            self.inputs.evidence_reason = Some(Reason::Storing);
        }
        self.local_state = LocalState {
            next: Some(self.facts.now),
            last_answer: self.local_state.last_answer,
            last_poll: self.local_state.last_poll,
            still_since: self.local_state.still_since,
            suspended: self.local_state.suspended,
            suspended_for: self.local_state.suspended_for,
            changed_at: self.local_state.changed_at,
            updated_at: self.local_state.updated_at,
            names_modules: self.local_state.names_modules,
            shown_at: self.local_state.shown_at,
            seen: self.local_state.seen,
            ..LocalState::default()
        };
        self.finish(Requeue::Now)
    }
}
