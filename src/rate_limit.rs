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
    /// Takes one, and returns when it may go: at once for up to `burst` in a row, then one per `interval`. `burst`: at least
    /// one.
    pub(crate) fn take(&mut self, now: Instant, interval: Duration, burst: u32) -> Instant {
        let at = self.next(now, interval * burst.saturating_sub(1));
        self.add(now, interval);
        at
    }

    /// When one more may go, if what goes at once may be paid back for as long as `ahead`.
    pub(crate) fn next(&self, now: Instant, ahead: Duration) -> Instant {
        self.begins_at(now).checked_sub(ahead).map_or(now, |at| at.max(now))
    }

    /// Takes one, whenever it goes.
    pub(crate) fn add(&mut self, now: Instant, interval: Duration) {
        self.used_until = Some(self.begins_at(now) + interval);
    }

    /// Gives one back.
    pub(crate) fn refund(&mut self, interval: Duration) {
        self.used_until = self.used_until.map(|until| until.checked_sub(interval).unwrap_or(until));
    }

    /// Takes more after the fact.
    pub(crate) fn charge(&mut self, more: Duration) {
        self.used_until = self.used_until.map(|until| until + more);
    }

    fn begins_at(&self, now: Instant) -> Instant {
        self.used_until.map_or(now, |until| until.max(now))
    }

    /// Whether everything is paid back.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.used_until.is_none_or(|until| until <= now)
    }
}
