//! Whether this process may act as the leader at this moment. Shared with whoever acts. May depend on `clock`.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::clock::Stopwatch;

/// The leadership of this process. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(Option<Arc<Elected>>);

#[derive(Debug)]
struct Elected {
    /// Without a renewal for this long, the leadership is lost.
    renew_deadline: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Standby,
    /// Measures from when the last renewal was sent.
    Leading(Stopwatch),
    /// Final, so that work which was skipped without the leadership need not be remembered.
    Lost,
}

impl Leadership {
    /// The leadership of a process without an election, which always leads.
    pub(crate) const fn unconditional() -> Self {
        Self(None)
    }

    /// A leadership that is lost.
    #[cfg(test)]
    pub(crate) fn lost() -> Self {
        let leadership = Self::standby(Duration::ZERO);
        leadership.give_up();
        leadership
    }

    /// The leadership of a standby. Each renewal will last for `renew_deadline`.
    pub(super) fn standby(renew_deadline: Duration) -> Self {
        Self(Some(Arc::new(Elected { renew_deadline, state: Mutex::new(State::Standby) })))
    }

    /// Whether this process may act. Once the last renewal is older than the renew deadline, it may never act again.
    pub(crate) fn is_current(&self) -> bool {
        let Some(elected) = &self.0 else { return true };
        let mut state = elected.state.lock();
        if let State::Leading(renewed) = *state
            && renewed.elapsed() >= elected.renew_deadline
        {
            *state = State::Lost;
        }
        matches!(*state, State::Leading(_))
    }

    /// Records that a request which was sent at `sent` acquired or renewed the Lease. Changes nothing if the leadership is lost.
    pub(super) fn renewed(&self, sent: Stopwatch) {
        // A renewal that comes too late must not revive it.
        let was_leading = self.is_current();
        let Some(elected) = &self.0 else { return };
        let mut state = elected.state.lock();
        if was_leading || matches!(*state, State::Standby) {
            *state = State::Leading(sent);
        }
    }

    /// Ends the leadership for good: this process releases it, or another one has it.
    pub(super) fn give_up(&self) {
        if let Some(elected) = &self.0 {
            *elected.state.lock() = State::Lost;
        }
    }

    /// How long the last renewal still lasts.
    pub(super) fn remaining(&self) -> Duration {
        let Some(elected) = &self.0 else { return Duration::MAX };
        match *elected.state.lock() {
            State::Leading(renewed) => elected.renew_deadline.saturating_sub(renewed.elapsed()),
            State::Standby | State::Lost => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_leadership_lasts_for_the_renew_deadline_from_when_its_renewal_was_sent() {
        let leadership = Leadership::standby(DEADLINE);
        assert!(!leadership.is_current());
        let sent = Stopwatch::now();
        advance(Duration::from_secs(4)).await;
        leadership.renewed(sent);
        assert!(leadership.is_current());
        assert!(leadership.remaining() <= Duration::from_secs(6));
        advance(Duration::from_millis(5_900)).await;
        assert!(leadership.is_current());
        advance(Duration::from_millis(100)).await;
        assert!(!leadership.is_current());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leadership_that_is_lost_does_not_come_back() {
        let leadership = Leadership::standby(DEADLINE);
        leadership.renewed(Stopwatch::now());
        advance(DEADLINE).await;
        leadership.renewed(Stopwatch::now());
        assert!(!leadership.is_current(), "the renewal came when the leadership had expired");

        let leadership = Leadership::standby(DEADLINE);
        leadership.renewed(Stopwatch::now());
        let shared = leadership.clone();
        leadership.give_up();
        leadership.renewed(Stopwatch::now());
        assert!(!shared.is_current() && shared.remaining().is_zero());
    }

    #[test]
    fn a_process_without_an_election_always_leads() {
        let leadership = Leadership::unconditional();
        leadership.give_up();
        assert!(leadership.is_current());
    }
}
