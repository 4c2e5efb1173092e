//! A clock that never jumps and includes the time that the machine is suspended. May depend on the system's clocks.

use std::time::Duration;

use jiff::SignedDuration;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Time since boot, suspension included.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
/// On other systems this one includes suspension.
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// The time since some moment before the process started.
pub(super) fn steady() -> SignedDuration {
    let now = clock_gettime(STEADY);
    SignedDuration::from_secs(now.tv_sec).saturating_add(SignedDuration::from_nanos(now.tv_nsec))
}

/// A moment in this process, by tokio's clock, which may stop while the machine is suspended, and by one that does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    instant: Instant,
    steady: SignedDuration,
}

impl Stopwatch {
    /// A stopwatch that starts now.
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), steady: steady() }
    }

    /// The moment by tokio's clock.
    pub(crate) const fn instant(&self) -> Instant {
        self.instant
    }

    /// The time since then, by the clock that says more.
    pub(crate) fn elapsed(&self) -> Duration {
        let by_steady = Duration::try_from(steady().saturating_sub(self.steady)).unwrap_or_default();
        self.instant.elapsed().max(by_steady)
    }

    /// Whether more time than that has passed by either clock.
    pub(crate) fn is_older_than(&self, age: Duration) -> bool {
        self.elapsed() > age
    }
}
