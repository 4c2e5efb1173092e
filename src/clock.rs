//! Time. Three clocks matter, and none of them is this machine's alone: what is written into status and every deadline
//! go by the API server's, what a portal says of its sessions by that portal's. Both are measured by the `Date` of their
//! answers, as an offset to the local clock, which is read once from the system and then carried on by a clock that
//! never jumps and counts the time that the machine sleeps.
//!
//! Touches the system's clocks and the log.

mod offset;
mod server;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::portal::PortalUrl;
use offset::Offset;

pub use offset::Dated;
pub use server::ServerDates;

/// A clock that is further away than this is worth a warning.
const NOTEWORTHY: SignedDuration = SignedDuration::from_secs(60);

/// Time since some moment before the process began, that of suspension included.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
/// Elsewhere this one counts suspension.
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

fn steady() -> SignedDuration {
    let now = clock_gettime(STEADY);
    SignedDuration::from_secs(now.tv_sec).saturating_add(SignedDuration::from_nanos(now.tv_nsec))
}

/// A moment in this process: by tokio's clock, which may stand still while the machine sleeps, and by one that does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    instant: Instant,
    steady: SignedDuration,
}

impl Stopwatch {
    /// Now.
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), steady: steady() }
    }

    /// When it was, by tokio's clock.
    pub(crate) const fn instant(&self) -> Instant {
        self.instant
    }

    /// Whether more time than that has passed by either clock.
    pub(crate) fn is_older_than(&self, age: Duration) -> bool {
        let slept_through = Duration::try_from(steady().saturating_sub(self.steady)).unwrap_or_default();
        self.instant.elapsed().max(slept_through) > age
    }
}

/// The API server's time, and that of each portal. Cheap to clone; clones share what is measured.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Measured>);

#[derive(Debug)]
struct Measured {
    /// The system's time at the start.
    wall: Timestamp,
    since: SignedDuration,
    server: Mutex<Known>,
    /// As many as there are allowed portals, at most.
    portals: Mutex<BTreeMap<PortalUrl, Known>>,
}

/// What is known of another clock.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    offset: Offset,
    /// Whether the log says that it differs.
    logged: bool,
}

impl Clock {
    /// A clock that begins at the system's time.
    #[must_use]
    pub fn start() -> Self {
        Self(Arc::new(Measured {
            wall: Timestamp::now(),
            since: steady(),
            server: Mutex::default(),
            portals: Mutex::default(),
        }))
    }

    /// Now, by the API server's clock; by the local one until an answer of the API server was read.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        plus(self.local(), self.server_skew().saturating_add(turned()))
    }

    /// Now, by the portal's clock; nothing until a good answer with a `Date` was read.
    #[must_use]
    pub fn portal_now(&self, portal: &PortalUrl) -> Option<Timestamp> {
        let ahead = self.0.portals.lock().get(portal)?.offset.ahead()?;
        Some(plus(self.local(), ahead.saturating_add(turned())))
    }

    /// Now, by the local clock, to measure others by.
    #[must_use]
    pub fn local(&self) -> Timestamp {
        plus(self.0.wall, steady().saturating_sub(self.0.since).saturating_add(skewed()))
    }

    /// Takes the `Date` of an answer of the API server into account.
    pub fn measure_server(&self, answer: Dated) {
        let mut server = self.0.server.lock();
        server.offset = server.offset.after(answer);
        let ahead = server.offset.ahead().unwrap_or_default();
        if server.becomes_noteworthy(ahead) {
            tracing::warn!(
                ahead_seconds = ahead.as_secs(),
                "the API server's clock differs from this machine's; times in status and deadlines go by the API server's"
            );
        }
    }

    /// Takes the `Date` of a good answer of a portal into account.
    pub fn measure_portal(&self, portal: &PortalUrl, answer: Dated) {
        let server = self.server_skew();
        let mut portals = self.0.portals.lock();
        let known = match portals.get_mut(portal) {
            Some(known) => known,
            None => portals.entry(portal.clone()).or_default(),
        };
        known.offset = known.offset.after(answer);
        let ahead = known.offset.ahead().unwrap_or_default().saturating_sub(server);
        if known.becomes_noteworthy(ahead) {
            tracing::warn!(
                portal = portal.host(),
                ahead_seconds = ahead.as_secs(),
                "the portal's clock differs from the API server's; when its sessions expire goes by the portal's"
            );
        }
    }

    /// How far the API server's clock is ahead of this machine's.
    #[must_use]
    pub fn server_skew(&self) -> SignedDuration {
        self.0.server.lock().offset.ahead().unwrap_or_default()
    }

    /// How far the clock of each portal is ahead of the API server's, as far as it was measured.
    #[must_use]
    pub fn portal_skews(&self) -> Vec<(PortalUrl, SignedDuration)> {
        let server = self.server_skew();
        let portals = self.0.portals.lock();
        let ahead = portals.iter().filter_map(|(portal, known)| {
            Some((portal.clone(), known.offset.ahead()?.saturating_sub(server)))
        });
        ahead.collect()
    }

    /// The instant of a time by the API server's clock; now, if it lies in the past.
    #[must_use]
    pub fn instant(&self, time: Timestamp) -> Instant {
        let ahead = Duration::try_from(time.duration_since(self.now())).unwrap_or_default();
        Instant::now() + ahead.min(Duration::from_hours(24))
    }

    /// The time of an instant that has passed, by the API server's clock.
    pub(crate) fn past(&self, instant: Instant) -> Timestamp {
        let ago = SignedDuration::try_from(instant.elapsed()).unwrap_or(SignedDuration::MAX);
        self.now().checked_sub(ago).unwrap_or(Timestamp::MIN)
    }

    /// The time of an instant, by the API server's clock; now, if it lies in the past.
    #[must_use]
    pub fn time(&self, instant: Instant) -> Timestamp {
        let ahead = instant.saturating_duration_since(Instant::now());
        SignedDuration::try_from(ahead).map_or(Timestamp::MAX, |ahead| plus(self.now(), ahead))
    }
}

impl Known {
    /// Whether the difference is worth a line in the log that is not there yet.
    fn becomes_noteworthy(&mut self, ahead: SignedDuration) -> bool {
        let is_new = !self.logged && ahead.abs() >= NOTEWORTHY;
        self.logged |= is_new;
        is_new
    }
}

/// A time later by that, or earlier; at most the end of time.
fn plus(time: Timestamp, by: SignedDuration) -> Timestamp {
    let end = if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    time.checked_add(by).unwrap_or(end)
}

/// How much time a test lets pass for everybody, the API server and the portals included: the seconds in the file that
/// the environment variable `OKID_CLOCK_FILE` names.
#[cfg(feature = "failpoints")]
fn turned() -> SignedDuration {
    use std::{env, ffi::OsString, fs, sync::LazyLock};

    static FILE: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("OKID_CLOCK_FILE"));
    let text = FILE.as_ref().and_then(|file| fs::read_to_string(file).ok());
    SignedDuration::from_secs(text.and_then(|text| text.parse().ok()).unwrap_or_default())
}

/// How wrong a test makes the local clock: ahead by the seconds in the environment variable `OKID_CLOCK_SKEW`, or behind
/// where they are negative.
#[cfg(feature = "failpoints")]
fn skewed() -> SignedDuration {
    use std::{env, sync::LazyLock};

    static SKEW: LazyLock<i64> = LazyLock::new(|| {
        env::var("OKID_CLOCK_SKEW").ok().and_then(|text| text.parse().ok()).unwrap_or_default()
    });
    SignedDuration::from_secs(*SKEW)
}

/// Nobody turns it.
#[cfg(not(feature = "failpoints"))]
const fn turned() -> SignedDuration {
    SignedDuration::ZERO
}

/// Nobody sets it wrong.
#[cfg(not(feature = "failpoints"))]
const fn skewed() -> SignedDuration {
    SignedDuration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portal::AllowedPortals;

    fn portals() -> [PortalUrl; 2] {
        let names = ["https://one.test", "https://two.test"];
        let allowed = AllowedPortals::new(names, false).unwrap();
        names.map(|name| allowed.permit(name).unwrap())
    }

    /// An answer just now, of a clock so far ahead of the local one.
    fn answer(clock: &Clock, ahead: SignedDuration) -> Dated {
        let now = clock.local();
        Dated { sent: now, received: now, date: Timestamp::from_second((now + ahead).as_second()).unwrap() }
    }

    fn assert_about(time: Timestamp, expected: Timestamp) {
        assert!(time.duration_since(expected).abs() < SignedDuration::from_secs(30), "{time} {expected}");
    }

    #[test]
    fn what_is_now_goes_by_the_api_server_as_soon_as_it_has_answered() {
        for ahead in [SignedDuration::from_mins(90), -SignedDuration::from_hours(30)] {
            let clock = Clock::start();
            assert_about(clock.now(), clock.local());
            clock.measure_server(answer(&clock, ahead));
            assert_about(clock.now(), clock.local() + ahead);
            let in_an_hour = clock.now() + SignedDuration::from_hours(1);
            let wait = clock.instant(in_an_hour).saturating_duration_since(Instant::now());
            assert!((3590..=3600).contains(&wait.as_secs()), "{wait:?}");
            assert_about(clock.time(clock.instant(in_an_hour)), in_an_hour);
        }
    }

    #[test]
    fn each_portal_has_its_own_clock_once_it_has_answered() {
        let (clock, [one, two]) = (Clock::start(), portals());
        let (server, portal) = (SignedDuration::from_hours(-1), SignedDuration::from_hours(2));
        assert_eq!(clock.portal_now(&one), None);
        clock.measure_server(answer(&clock, server));
        clock.measure_portal(&one, answer(&clock, portal));
        assert_about(clock.portal_now(&one).unwrap(), clock.local() + portal);
        assert_eq!(clock.portal_now(&two), None);
        let ahead = clock.portal_skews();
        assert_eq!(ahead.len(), 1);
        assert!(
            (ahead[0].1 - SignedDuration::from_hours(3)).abs() <= SignedDuration::from_secs(2),
            "{ahead:?}"
        );
    }

    #[test]
    fn a_clock_that_differs_is_worth_one_line_in_the_log() {
        let mut known = Known::default();
        let said = [5, -59, 60, -61, 3600, 0, 3600].map(SignedDuration::from_secs);
        assert_eq!(
            said.map(|ahead| known.becomes_noteworthy(ahead)),
            [false, false, true, false, false, false, false]
        );
    }
}
