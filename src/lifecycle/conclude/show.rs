//! Conclusions of steps that call nobody, while it goes on: what is shown, and what a person grants.

use std::time::Duration;

use crate::{
    api::Reason,
    lifecycle::{
        event::Event,
        evidence::EvidenceStanding,
        overlay::{Overlay, Stall},
        past::Past,
        schedule::LONGEST,
        step::Shown,
        streaks::{Streaks, later},
    },
};

use super::{Conclusion, Draft, Next};

/// What may be changed without our being told, such as a Secret, is looked at again after this.
const UNWATCHED: Duration = Duration::from_mins(1);

impl Draft<'_> {
    pub(super) fn show(mut self, shown: Shown) -> Conclusion {
        let hourly = Next::At(later(self.facts.now, LONGEST));
        let soon = Next::At(later(self.facts.now, UNWATCHED));
        self.picture.credentials = self.credentials_unless_missing();
        match shown {
            Shown::StatusUnreadable => {
                self.stall(Stall::StatusUnreadable, Some(Event::StatusUnreadable));
                self.finish_as_it_was(hourly)
            }
            Shown::PortalNotAllowed => {
                self.stall(Stall::PortalNotAllowed, Some(Event::PortalNotAllowed));
                self.finish(hourly)
            }
            Shown::CreateOutcomeUnknown => {
                self.stall(Stall::CreateOutcomeUnknown, None);
                self.finish(Next::Watch)
            }
            Shown::DestinationRefused => {
                self.stall(Stall::DestinationNotAllowed, Some(Event::DestinationNotAllowed));
                self.finish(soon)
            }
            Shown::ResourceTooLarge => {
                self.stall(Stall::ResourceTooLarge, Some(Event::ResourceTooLarge));
                self.finish(Next::Watch)
            }
            Shown::Over => self.finish(Next::Watch),
            Shown::Suspended => {
                self.picture.overlay = Overlay::Suspended;
                self.finish(Next::Watch)
            }
        }
    }

    pub(super) fn stall(&mut self, stall: Stall, event: Option<Event>) {
        self.picture.overlay = Overlay::Stalled(stall);
        // What keeps a session from being created is not shown beside a link.
        let is_about_the_create = matches!(stall, Stall::DestinationNotAllowed | Stall::ResourceTooLarge);
        let is_shown = !(self.has_session() && is_about_the_create);
        if is_shown && self.overlay_before() != self.picture.overlay {
            self.events.extend(event);
        }
    }

    pub(super) fn grant(mut self, token: &str, past: &Past) -> Conclusion {
        self.status.last_handled_retry = Some(token.to_owned());
        if let Some(session) = self.status.session.as_mut() {
            session.forgiven = session.forgiven.max(session.orphans);
        }
        if *past == Past::Lost {
            self.picture.overlay = Overlay::Healing;
        }
        self.picture.credentials = self.credentials_unless_missing();
        if self.picture.evidence == EvidenceStanding::Failed {
            self.picture.evidence = EvidenceStanding::Owed;
            self.picture.evidence_trouble = Some(Reason::Storing);
        }
        self.streaks = Streaks {
            next: Some(self.facts.now),
            last_answer: self.streaks.last_answer,
            last_poll: self.streaks.last_poll,
            still_since: self.streaks.still_since,
            suspended: self.streaks.suspended,
            suspended_for: self.streaks.suspended_for,
            changed_at: self.streaks.changed_at,
            updated_at: self.streaks.updated_at,
            names_modules: self.streaks.names_modules,
            shown_at: self.streaks.shown_at,
            seen: self.streaks.seen,
            ..Streaks::default()
        };
        self.finish(Next::Now)
    }
}
