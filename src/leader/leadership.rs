//! Whether this process may act as the leader at this moment. Shared with whoever acts. May depend on `clock`.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::clock::Stopwatch;

/// The leadership of this process. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(Option<Arc<Elected>>);

#[derive(Debug)]
struct Elected {
    /// A leadership that was not renewed for this long is lost.
    renew_deadline: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    StandingBy,
    /// Since the last renewal was sent.
    Leading(Stopwatch),
    /// It does not come back, so that what was not begun for want of it need not be remembered.
    Lost,
}

impl Leadership {
    /// The leadership of a process that is alone.
    pub(crate) const fn unconditional() -> Self {
        Self(None)
    }

    /// The leadership of a process that stands by. Each renewal lasts for that long.
    pub(super) fn standing_by(renew_deadline: Duration) -> Self {
        Self(Some(Arc::new(Elected { renew_deadline, state: Mutex::new(State::StandingBy) })))
    }

    /// Whether this process may act. Once a renewal is too old, it may never again.
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

    /// The Lease was acquired or renewed by a request that was sent then. Changes nothing if the leadership is lost.
    pub(super) fn renewed(&self, sent: Stopwatch) {
        // A renewal that comes too late must not revive it.
        let was_leading = self.is_current();
        let Some(elected) = &self.0 else { return };
        let mut state = elected.state.lock();
        if was_leading || matches!(*state, State::StandingBy) {
            *state = State::Leading(sent);
        }
    }

    /// The leadership is given up, or another process has it.
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
            State::StandingBy | State::Lost => Duration::ZERO,
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
        let leadership = Leadership::standing_by(DEADLINE);
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
        let leadership = Leadership::standing_by(DEADLINE);
        leadership.renewed(Stopwatch::now());
        advance(DEADLINE).await;
        leadership.renewed(Stopwatch::now());
        assert!(!leadership.is_current(), "the renewal came when the leadership had expired");

        let leadership = Leadership::standing_by(DEADLINE);
        leadership.renewed(Stopwatch::now());
        let shared = leadership.clone();
        leadership.give_up();
        leadership.renewed(Stopwatch::now());
        assert!(!shared.is_current() && shared.remaining().is_zero());
    }

    #[test]
    fn a_process_that_is_alone_always_leads() {
        let leadership = Leadership::unconditional();
        leadership.give_up();
        assert!(leadership.is_current());
    }
}
