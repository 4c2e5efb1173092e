//! Restores a status that lost its session because etcd was restored from a backup.

use super::{Conclusion, Draft, Requeue};
use crate::lifecycle::{
    event::Event, interruption::Interruption, known_session::KnownSession, local_state::LocalState,
};

impl Draft<'_> {
    /// The session is recorded again and polled at once; the next reconcile shows its state.
    pub(super) fn restore(mut self, known: &KnownSession) -> Conclusion {
        known.restore(&self.facts.uid, &mut self.status);
        self.inputs.interruption = Interruption::None;
        self.inputs.credentials = self.credentials_unless_missing();
        self.local_state = LocalState { next: Some(self.facts.now), ..LocalState::default() };
        self.events.push(Event::StatusRestored);
        self.finish(Requeue::Now)
    }
}
