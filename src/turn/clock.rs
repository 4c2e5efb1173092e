//! The local clock: read once from the system, then carried on by the monotonic clock, so that a jump of the system's
//! clock ends no session and claims nothing twice.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A moment in this process, by both clocks of the system: one stands still while the machine sleeps, the other one may
/// be set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    monotonic: Instant,
    wall: SystemTime,
}

impl Beginning {
    /// Now.
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// When it was, by the clock that never jumps.
    pub(super) const fn instant(&self) -> Instant {
        self.monotonic
    }

    /// Whether more time than that has passed by either clock.
    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        self.monotonic.elapsed() > age || self.wall.elapsed().is_ok_and(|passed| passed > age)
    }
}

/// Wall-clock time that never jumps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    since: Instant,
}

impl Clock {
    /// A clock that begins at the system's time.
    #[must_use]
    pub fn start() -> Self {
        Self { wall: Timestamp::now(), since: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        SignedDuration::try_from(self.since.elapsed())
            .ok()
            .and_then(|passed| self.wall.checked_add(passed.saturating_add(turned())).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// The instant of a time; now, if it lies in the past.
    #[must_use]
    pub fn instant(&self, time: Timestamp) -> Instant {
        let ahead = Duration::try_from(time.duration_since(self.now())).unwrap_or_default();
        Instant::now() + ahead.min(Duration::from_hours(24))
    }

    /// The time of an instant.
    #[must_use]
    pub fn time(&self, instant: Instant) -> Timestamp {
        let ahead = instant.saturating_duration_since(Instant::now());
        SignedDuration::try_from(ahead)
            .ok()
            .and_then(|ahead| self.now().checked_add(ahead).ok())
            .unwrap_or(Timestamp::MAX)
    }
}

/// How far a test has turned the clock forward: by the seconds in the file that the environment variable
/// `OKID_CLOCK_FILE` names.
#[cfg(feature = "crash-points")]
fn turned() -> SignedDuration {
    use std::{env, ffi::OsString, fs, sync::LazyLock};

    static FILE: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("OKID_CLOCK_FILE"));
    let text = FILE.as_ref().and_then(|file| fs::read_to_string(file).ok());
    SignedDuration::from_secs(text.and_then(|text| text.parse().ok()).unwrap_or_default())
}

/// Nobody turns it.
#[cfg(not(feature = "crash-points"))]
const fn turned() -> SignedDuration {
    SignedDuration::ZERO
}
