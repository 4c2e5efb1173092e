//! The sandbox's own time: it starts at the real time, can run faster, and can be advanced.
//!
//! Every time that the portal shows (`expiresAt`, `updated_at`, the `Date` header) comes from here. May depend on nothing of
//! this crate; reads the process's monotonic clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

/// A clock that never goes back.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<Reading>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    taken: Instant,
    shown: Timestamp,
    speed: f64,
}

impl Reading {
    fn at(self, instant: Instant) -> Timestamp {
        let real = instant.saturating_duration_since(self.taken);
        let passed = Duration::try_from_secs_f64(real.as_secs_f64() * self.speed).unwrap_or(Duration::MAX);
        later(self.shown, passed)
    }
}

impl Clock {
    /// A clock that shows `start` now and passes `speed` seconds for each real one.
    /// A speed that is negative or not a number counts as 0: the clock stops.
    pub(crate) fn new(start: Timestamp, speed: f64) -> Self {
        Self(Mutex::new(Reading { taken: Instant::now(), shown: start, speed: valid_speed(speed) }))
    }

    /// What the clock shows.
    pub(crate) fn now(&self) -> Timestamp {
        self.reading().at(Instant::now())
    }

    /// Seconds that pass for each real second.
    pub(crate) fn speed(&self) -> f64 {
        self.reading().speed
    }

    /// Changes the speed from now on.
    pub(crate) fn set_speed(&self, speed: f64) {
        self.change(|reading| reading.speed = valid_speed(speed));
    }

    /// Advances the clock.
    pub(crate) fn advance(&self, by: Duration) {
        self.change(|reading| reading.shown = later(reading.shown, by));
    }

    fn reading(&self) -> Reading {
        *self.0.lock()
    }

    fn change(&self, with: impl FnOnce(&mut Reading)) {
        let mut reading = self.0.lock();
        let taken = Instant::now();
        *reading = Reading { taken, shown: reading.at(taken), speed: reading.speed };
        with(&mut reading);
    }
}

/// `from` plus `by`, at most [`Timestamp::MAX`].
pub(crate) fn later(from: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn valid_speed(speed: f64) -> f64 {
    if speed.is_finite() && speed > 0.0 { speed } else { 0.0 }
}

/// Durations in JSON: a whole number of milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_at_double_speed_shows_two_seconds_for_each_real_one() {
        let clock = Clock::new(Timestamp::UNIX_EPOCH, 2.0);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now().as_second(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_speed_preserves_the_time_that_has_passed() {
        let clock = Clock::new(Timestamp::UNIX_EPOCH, 10.0);
        tokio::time::advance(Duration::from_secs(1)).await;
        clock.set_speed(0.0);
        clock.advance(Duration::from_secs(90));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(clock.now().as_second(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_beyond_all_time_stays_at_its_end() {
        let clock = Clock::new(Timestamp::UNIX_EPOCH, f64::NAN);
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
    }
}
