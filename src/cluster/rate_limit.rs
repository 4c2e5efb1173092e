//! A rate limit with a burst: the generic cell rate algorithm. Pure: the time is an argument. Depends on nothing of
//! this crate.

use std::time::Duration;

use tokio::time::Instant;

/// What was taken lies in the future until it is paid back at one per interval.
#[derive(Debug, Default)]
pub(crate) struct RateLimiter {
    used_until: Option<Instant>,
}

impl RateLimiter {
    /// Takes one, and returns when it may go: at once for up to `burst` in a row, then one per `interval`.
    pub(crate) fn take(&mut self, now: Instant, interval: Duration, burst: u32) -> Instant {
        let used_until = self.used_until.map_or(now, |until| until.max(now)) + interval;
        self.used_until = Some(used_until);
        used_until.checked_sub(interval * burst).map_or(now, |at| at.max(now))
    }

    /// Takes more after the fact.
    pub(crate) fn charge(&mut self, more: Duration) {
        self.used_until = self.used_until.map(|until| until + more);
    }

    /// Whether everything is paid back.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.used_until.is_none_or(|until| until <= now)
    }
}
