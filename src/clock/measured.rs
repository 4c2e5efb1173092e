//! The API server's time and that of each portal. May depend on the system's clock and the log.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    offset::{Dated, Offset},
    steady::steady,
    test_time::{local_skew, time_passed},
};

/// A skew of at least this much is logged.
const LOGGED_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The API server's time, and that of each portal by its URL. Cheap to clone; clones share what is measured.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Measured>);

#[derive(Debug)]
struct Measured {
    /// The system's time at the start.
    started_at: Timestamp,
    started: SignedDuration,
    server: Mutex<RemoteClock>,
    /// At most as many as there are allowed portals.
    portals: Mutex<BTreeMap<Box<str>, RemoteClock>>,
}

/// What is known of another clock.
#[derive(Clone, Copy, Debug, Default)]
struct RemoteClock {
    offset: Offset,
    /// Whether its skew has been logged.
    is_logged: bool,
}

impl Clock {
    /// A clock that starts at the system's time.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self(Arc::new(Measured {
            started_at: Timestamp::now(),
            started: steady(),
            server: Mutex::default(),
            portals: Mutex::default(),
        }))
    }

    /// Now by the API server's clock; by the local one before the first response of the API server.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamp {
        plus(self.local(), self.server_skew().saturating_add(time_passed()))
    }

    /// Now by the portal's clock; nothing before its first successful response with a `Date`.
    #[must_use]
    pub(crate) fn portal_now(&self, portal: &str) -> Option<Timestamp> {
        let ahead = self.0.portals.lock().get(portal)?.offset.ahead()?;
        Some(plus(self.local(), ahead.saturating_add(time_passed())))
    }

    /// Now by the local clock, to measure others by.
    #[must_use]
    pub(crate) fn local(&self) -> Timestamp {
        plus(self.0.started_at, steady().saturating_sub(self.0.started).saturating_add(local_skew()))
    }

    /// Measures the API server's clock by the `Date` of a response.
    pub(crate) fn measure_server(&self, response: Dated) {
        let mut server = self.0.server.lock();
        server.offset = server.offset.after(response);
        let ahead = server.offset.ahead().unwrap_or_default();
        if server.is_first_skew(ahead) {
            tracing::warn!(
                ahead_seconds = ahead.as_secs(),
                "the API server's clock differs from this machine's; status times and deadlines follow the API server's"
            );
        }
    }

    /// Measures a portal's clock by the `Date` of a successful response.
    pub(crate) fn measure_portal(&self, portal: &str, response: Dated) {
        let server = self.server_skew();
        let mut portals = self.0.portals.lock();
        let known = match portals.get_mut(portal) {
            Some(known) => known,
            None => portals.entry(portal.into()).or_default(),
        };
        known.offset = known.offset.after(response);
        let ahead = known.offset.ahead().unwrap_or_default().saturating_sub(server);
        if known.is_first_skew(ahead) {
            tracing::warn!(
                portal,
                ahead_seconds = ahead.as_secs(),
                "the portal's clock differs from the API server's; the expiry of its sessions follows the portal's"
            );
        }
    }

    /// How far the API server's clock is ahead of this machine's.
    #[must_use]
    pub(crate) fn server_skew(&self) -> SignedDuration {
        self.0.server.lock().offset.ahead().unwrap_or_default()
    }

    /// How far a portal's clock is ahead of the API server's, if it was measured.
    #[must_use]
    pub(crate) fn portal_skew(&self, portal: &str) -> Option<SignedDuration> {
        let server = self.server_skew();
        Some(self.0.portals.lock().get(portal)?.offset.ahead()?.saturating_sub(server))
    }

    /// The instant of a time by the API server's clock; now if it has passed.
    #[must_use]
    pub(crate) fn instant(&self, time: Timestamp) -> Instant {
        let ahead = Duration::try_from(time.duration_since(self.now())).unwrap_or_default();
        Instant::now() + ahead.min(Duration::from_hours(24))
    }

    /// The time of an instant that has passed, by the API server's clock.
    pub(crate) fn past_time(&self, instant: Instant) -> Timestamp {
        let ago = SignedDuration::try_from(instant.elapsed()).unwrap_or(SignedDuration::MAX);
        self.now().checked_sub(ago).unwrap_or(Timestamp::MIN)
    }

    /// The time of an instant by the API server's clock; now if it has passed.
    #[must_use]
    pub(crate) fn time(&self, instant: Instant) -> Timestamp {
        let ahead = instant.saturating_duration_since(Instant::now());
        SignedDuration::try_from(ahead).map_or(Timestamp::MAX, |ahead| plus(self.now(), ahead))
    }
}

impl RemoteClock {
    /// Whether this is the first skew that is large enough to log.
    fn is_first_skew(&mut self, ahead: SignedDuration) -> bool {
        let is_first = !self.is_logged && ahead.abs() >= LOGGED_SKEW;
        self.is_logged |= is_first;
        is_first
    }
}

/// A time plus a duration that may be negative, within the range of timestamps.
fn plus(time: Timestamp, by: SignedDuration) -> Timestamp {
    let end = if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    time.checked_add(by).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "https://one.test";
    const TWO: &str = "https://two.test";

    /// A response just now of a clock that far ahead of the local one.
    fn response(clock: &Clock, ahead: SignedDuration) -> Dated {
        let now = clock.local();
        Dated { sent: now, received: now, date: Timestamp::from_second((now + ahead).as_second()).unwrap() }
    }

    fn assert_about(time: Timestamp, expected: Timestamp) {
        assert!(time.duration_since(expected).abs() < SignedDuration::from_secs(30), "{time} {expected}");
    }

    #[test]
    fn now_follows_the_api_server_from_its_first_response() {
        for ahead in [SignedDuration::from_mins(90), -SignedDuration::from_hours(30)] {
            let clock = Clock::start();
            assert_about(clock.now(), clock.local());
            clock.measure_server(response(&clock, ahead));
            assert_about(clock.now(), clock.local() + ahead);
            let in_an_hour = clock.now() + SignedDuration::from_hours(1);
            let wait = clock.instant(in_an_hour).saturating_duration_since(Instant::now());
            assert!((3590..=3600).contains(&wait.as_secs()), "{wait:?}");
            assert_about(clock.time(clock.instant(in_an_hour)), in_an_hour);
        }
    }

    #[test]
    fn each_portal_has_its_own_clock_from_its_first_response() {
        let clock = Clock::start();
        let (server, portal) = (SignedDuration::from_hours(-1), SignedDuration::from_hours(2));
        assert_eq!(clock.portal_now(ONE), None);
        clock.measure_server(response(&clock, server));
        clock.measure_portal(ONE, response(&clock, portal));
        assert_about(clock.portal_now(ONE).unwrap(), clock.local() + portal);
        assert_eq!(clock.portal_now(TWO), None);
        assert_eq!(clock.portal_skew(TWO), None);
        let skew = clock.portal_skew(ONE).unwrap();
        assert!((skew - SignedDuration::from_hours(3)).abs() <= SignedDuration::from_secs(2), "{skew:?}");
    }

    #[test]
    fn a_clock_that_differs_is_logged_once() {
        let mut clock = RemoteClock::default();
        let skews = [5, -59, 60, -61, 3600, 0, 3600].map(SignedDuration::from_secs);
        assert_eq!(
            skews.map(|ahead| clock.is_first_skew(ahead)),
            [false, false, true, false, false, false, false]
        );
    }
}
