//! A token bucket with a reserve, a rate that halves and recovers, and a measure of demand.
//!
//! No clock: `now` is an argument. May depend on nothing of this crate.

use std::time::Duration;

use tokio::time::Instant;

/// Share of the rate that only urgent requests may use.
const RESERVE: f64 = 0.2;
/// Share of the full rate that is restored each second after it was halved.
const RECOVERY: f64 = 0.05;
/// Lowest rate, in requests per second.
const MIN_RATE: f64 = 1.0;
/// The time over which demand is measured.
pub(super) const DEMAND_WINDOW: Duration = Duration::from_secs(10);

/// Tokens for requests.
#[derive(Debug)]
pub(super) struct TokenBucket {
    full_rate: f64,
    rate: f64,
    burst: f64,
    shared: f64,
    reserved: f64,
    filled_at: Instant,
    requested: u32,
    window_began: Instant,
    stretch: f64,
}

impl TokenBucket {
    /// A full bucket: `rate` requests per second, and at most the tokens of `burst` at once.
    pub(super) fn new(rate: f64, burst: Duration, now: Instant) -> Self {
        let rate = rate.max(MIN_RATE);
        let burst = (rate * burst.as_secs_f64()).max(1.0);
        Self {
            full_rate: rate,
            rate,
            burst,
            shared: burst,
            reserved: (burst * RESERVE).max(1.0),
            filled_at: now,
            requested: 0,
            window_began: now,
            stretch: 1.0,
        }
    }

    /// Takes a token if there is one and `is_allowed`. Counts as demand either way.
    pub(super) fn take(&mut self, now: Instant, is_urgent: bool, is_allowed: bool) -> bool {
        self.refill(now);
        self.measure(now);
        self.requested = self.requested.saturating_add(1);
        let tokens = if self.shared < 1.0 && is_urgent { &mut self.reserved } else { &mut self.shared };
        let is_taken = is_allowed && *tokens >= 1.0;
        if is_taken {
            *tokens -= 1.0;
        }
        is_taken
    }

    /// Returns a token that led to no request, which is no demand either: the request asks again.
    pub(super) fn restore(&mut self) {
        self.requested = self.requested.saturating_sub(1);
        self.shared = (self.shared + 1.0).min(self.burst);
    }

    /// Tokens for requests that are not urgent.
    pub(super) fn available(&mut self, now: Instant) -> f64 {
        self.refill(now);
        self.shared
    }

    /// Most tokens that accumulate.
    pub(super) const fn burst(&self) -> f64 {
        self.burst
    }

    /// The time between two requests at the full rate.
    pub(super) fn spacing(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.full_rate)
    }

    /// Halves the rate, because the portal asked for fewer requests.
    pub(super) fn halve(&mut self, now: Instant) {
        self.refill(now);
        self.rate = (self.rate / 2.0).max(MIN_RATE);
        self.shared = 0.0;
    }

    /// The factor by which every interval is stretched: demand over rate, at least 1.
    pub(super) fn stretch(&mut self, now: Instant) -> f64 {
        self.measure(now);
        self.stretch
    }

    /// The current rate, in requests per second.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.rate = (self.rate + RECOVERY * self.full_rate * passed).min(self.full_rate);
        self.shared = (self.shared + self.rate * (1.0 - RESERVE) * passed).min(self.burst);
        self.reserved = (self.reserved + self.rate * RESERVE * passed).min((self.burst * RESERVE).max(1.0));
    }

    /// The measured requests were stretched already, so the full demand is their rate times the stretch.
    fn measure(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.window_began);
        if passed < DEMAND_WINDOW {
            return;
        }
        let requested_rate = f64::from(self.requested) / passed.as_secs_f64();
        self.stretch = (requested_rate * self.stretch / self.rate).clamp(1.0, 1000.0);
        self.requested = 0;
        self.window_began = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_more_is_admitted_than_rate_times_time_and_burst(
            rate in 1.0..200.0_f64,
            requests in proptest::collection::vec((0_u64..300, any::<bool>()), 1..300),
        ) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(rate, Duration::from_millis(200), start);
            let burst = (rate * 0.2).max(1.0);
            let mut now = start;
            let mut admitted = 0.0;
            for (wait, urgent) in requests {
                now += Duration::from_millis(wait);
                if bucket.take(now, urgent, true) {
                    admitted += 1.0;
                }
                let most = rate * (now - start).as_secs_f64() + burst + (burst * RESERVE).max(1.0);
                prop_assert!(admitted <= most + 1e-6, "{admitted} of at most {most}");
            }
        }
    }

    #[test]
    fn requests_that_are_not_urgent_never_use_the_reserve() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(50.0, Duration::from_millis(200), now);
        while bucket.take(now, false, true) {}
        assert!(bucket.take(now, true, true));
    }

    #[test]
    fn a_halved_rate_recovers_by_a_twentieth_each_second() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(100.0, Duration::from_millis(200), now);
        bucket.halve(now);
        bucket.refill(now + Duration::from_secs(4));
        assert!((bucket.rate() - 70.0).abs() < 1e-9);
        bucket.refill(now + Duration::from_mins(1));
        assert!((bucket.rate() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn twice_the_demand_stretches_twice() {
        let mut now = Instant::now();
        let mut bucket = TokenBucket::new(10.0, Duration::from_millis(200), now);
        for _ in 0..201 {
            bucket.take(now, false, true);
            now += Duration::from_millis(50);
        }
        assert!((bucket.stretch(now) - 2.0).abs() < 0.1, "{}", bucket.stretch(now));
    }
}
