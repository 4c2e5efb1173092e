//! A token bucket with a reserve, a rate that halves and recovers, and a measure of demand. No clock: `now` is an
//! argument.

use std::time::Duration;

use tokio::time::Instant;

/// Share of the rate that only urgent calls may use.
const RESERVE: f64 = 0.2;
/// How much of the full rate comes back each second after it was halved.
const RECOVERY: f64 = 0.05;
/// The rate never falls below this, in calls per second.
const SLOWEST: f64 = 1.0;
/// The time over which demand is measured.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Tokens for calls.
#[derive(Debug)]
pub(super) struct Bucket {
    full_rate: f64,
    rate: f64,
    burst: f64,
    shared: f64,
    reserved: f64,
    filled_at: Instant,
    asked: u32,
    window_began: Instant,
    stretch: f64,
}

impl Bucket {
    /// A full bucket: `rate` calls per second, and what comes in `burst` of it at once.
    pub(super) fn new(rate: f64, burst: Duration, now: Instant) -> Self {
        let rate = rate.max(SLOWEST);
        let burst = (rate * burst.as_secs_f64()).max(1.0);
        Self {
            full_rate: rate,
            rate,
            burst,
            shared: burst,
            reserved: (burst * RESERVE).max(1.0),
            filled_at: now,
            asked: 0,
            window_began: now,
            stretch: 1.0,
        }
    }

    /// Takes a token, if there is one and whoever asks may have it; that it was asked for counts as demand either way.
    pub(super) fn take(&mut self, now: Instant, urgent: bool, may: bool) -> bool {
        self.fill(now);
        self.measure(now);
        self.asked = self.asked.saturating_add(1);
        let tokens = if self.shared < 1.0 && urgent { &mut self.reserved } else { &mut self.shared };
        let has_one = may && *tokens >= 1.0;
        if has_one {
            *tokens -= 1.0;
        }
        has_one
    }

    /// Puts a token back that led to no call.
    pub(super) fn give_back(&mut self) {
        self.shared = (self.shared + 1.0).min(self.burst);
    }

    /// Tokens that are there for calls that are not urgent.
    pub(super) fn level(&mut self, now: Instant) -> f64 {
        self.fill(now);
        self.shared
    }

    /// Most tokens that gather.
    pub(super) const fn burst(&self) -> f64 {
        self.burst
    }

    /// How far apart calls go out at the full rate.
    pub(super) fn apart(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.full_rate)
    }

    /// Halves the rate: the portal asked for fewer calls.
    pub(super) fn halve(&mut self, now: Instant) {
        self.fill(now);
        self.rate = (self.rate / 2.0).max(SLOWEST);
        self.shared = 0.0;
    }

    /// Demand over rate, at least 1: how much every interval is to be stretched.
    pub(super) fn stretch(&mut self, now: Instant) -> f64 {
        self.measure(now);
        self.stretch
    }

    /// Calls per second now.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.rate = (self.rate + RECOVERY * self.full_rate * passed).min(self.full_rate);
        self.shared = (self.shared + self.rate * (1.0 - RESERVE) * passed).min(self.burst);
        self.reserved = (self.reserved + self.rate * RESERVE * passed).min((self.burst * RESERVE).max(1.0));
    }

    /// What is asked for now was stretched already, so the whole demand is that times the stretch.
    fn measure(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.window_began);
        if passed < WINDOW {
            return;
        }
        let asked_rate = f64::from(self.asked) / passed.as_secs_f64();
        self.stretch = (asked_rate * self.stretch / self.rate).clamp(1.0, 1000.0);
        self.asked = 0;
        self.window_began = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_more_passes_than_rate_times_time_and_burst(
            rate in 1.0..200.0_f64,
            asks in proptest::collection::vec((0_u64..300, any::<bool>()), 1..300),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(rate, Duration::from_millis(200), start);
            let burst = (rate * 0.2).max(1.0);
            let mut now = start;
            let mut passed = 0.0;
            for (wait, urgent) in asks {
                now += Duration::from_millis(wait);
                if bucket.take(now, urgent, true) {
                    passed += 1.0;
                }
                let most = rate * (now - start).as_secs_f64() + burst + (burst * RESERVE).max(1.0);
                prop_assert!(passed <= most + 1e-6, "{passed} of at most {most}");
            }
        }
    }

    #[test]
    fn the_reserve_is_never_eaten_by_calls_that_are_not_urgent() {
        let now = Instant::now();
        let mut bucket = Bucket::new(50.0, Duration::from_millis(200), now);
        while bucket.take(now, false, true) {}
        assert!(bucket.take(now, true, true));
    }

    #[test]
    fn a_halved_rate_recovers_a_twentieth_each_second() {
        let now = Instant::now();
        let mut bucket = Bucket::new(100.0, Duration::from_millis(200), now);
        bucket.halve(now);
        bucket.fill(now + Duration::from_secs(4));
        assert!((bucket.rate() - 70.0).abs() < 1e-9);
        bucket.fill(now + Duration::from_mins(1));
        assert!((bucket.rate() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn twice_the_demand_stretches_twice() {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(10.0, Duration::from_millis(200), now);
        for _ in 0..201 {
            bucket.take(now, false, true);
            now += Duration::from_millis(50);
        }
        assert!((bucket.stretch(now) - 2.0).abs() < 0.1, "{}", bucket.stretch(now));
    }
}
