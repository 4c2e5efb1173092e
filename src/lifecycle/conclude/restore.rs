//! The conclusion that puts a status right which lost its session: etcd was restored from a backup.

use crate::lifecycle::{event::Event, known::KnownSession, overlay::Overlay, streaks::Streaks};

use super::{Conclusion, Draft, Next};

impl Draft<'_> {
    /// The session is written down again, and asked for at once: what it says now is shown by the next turn.
    pub(super) fn restore(mut self, known: &KnownSession) -> Conclusion {
        known.restore(&self.facts.uid, &mut self.status);
        self.picture.overlay = Overlay::Plain;
        self.picture.credentials = self.credentials_unless_missing();
        self.streaks = Streaks { next: Some(self.facts.now), ..Streaks::default() };
        self.events.push(Event::StatusRestored);
        self.finish(Next::Now)
    }
}
