//! When an event may be published: events yield to status calls, but five a second always go. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// The interval at which an event always goes, whatever else is in flight.
const INTERVAL: Duration = Duration::from_millis(200);
/// For how long an unused interval may be made up for.
const BURST_WINDOW: Duration = Duration::from_secs(1);
/// The most events in flight while nothing else is.
const MOST_WHEN_IDLE: usize = 4;
/// The most events in flight: five a second if the API server takes three seconds for each.
const MOST: usize = 16;
/// Waits after an attempt without a response of the API server.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The same while the process shuts down.
const SHUTDOWN_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));

/// Limits the events in flight.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// When the next one goes, whatever else is in flight.
    next: Instant,
    in_flight: usize,
    paused_until: Option<Instant>,
    failures: u32,
    is_shutting_down: bool,
}

/// Whether an event may be published now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// It may.
    Now,
    /// At this time, or when a call in flight ends.
    At(Instant),
    /// When an event in flight ends.
    Later,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Self { next: now, in_flight: 0, paused_until: None, failures: 0, is_shutting_down: false }
    }

    /// Whether one more may go while that many status calls are in flight; if so, it counts as in flight.
    pub(crate) fn admit(&mut self, now: Instant, status_calls: usize) -> Admit {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Admit::At(until);
        }
        if self.in_flight >= MOST {
            return Admit::Later;
        }
        if self.is_shutting_down || (status_calls == 0 && self.in_flight < MOST_WHEN_IDLE) {
            self.in_flight += 1;
            return Admit::Now;
        }
        if self.next > now {
            return Admit::At(self.next);
        }
        let oldest = now.checked_sub(BURST_WINDOW).unwrap_or(now);
        self.next = self.next.max(oldest) + INTERVAL;
        self.in_flight += 1;
        Admit::Now
    }

    /// One that was in flight has a response, or is to be retried.
    pub(crate) fn ended(&mut self, now: Instant, has_response: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if has_response {
            (self.paused_until, self.failures) = (None, 0);
        } else if self.paused_until.is_none_or(|until| until <= now) {
            let backoff = if self.is_shutting_down { SHUTDOWN_BACKOFF } else { BACKOFF };
            self.paused_until = Some(now + backoff.wait(self.failures));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// The process shuts down: from now on events yield to nothing.
    pub(crate) fn shut_down(&mut self) {
        (self.is_shutting_down, self.paused_until, self.failures) = (true, None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_yield_to_status_calls_but_five_a_second_always_go() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match throttle.admit(now, 1) {
                Admit::Now => {
                    sent += 1;
                    throttle.ended(now, true);
                }
                Admit::At(at) => now = at,
                Admit::Later => panic!("nothing is in flight"),
            }
        }
        assert_eq!(sent, 50);
        assert!((0..100).all(|_| {
            let admitted = throttle.admit(now, 0);
            throttle.ended(now, true);
            admitted == Admit::Now
        }));
    }

    #[test]
    fn five_a_second_go_even_if_each_takes_three_seconds() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let sent = (0..300_u32)
            .filter(|step| {
                let now = start + Duration::from_millis(10) * *step;
                throttle.admit(now, 1) == Admit::Now
            })
            .count();
        assert_eq!(sent, 15);
    }

    #[test]
    fn only_a_few_are_in_flight_at_once() {
        let now = Instant::now();
        let mut throttle = Throttle::new(now);
        assert!((0..MOST_WHEN_IDLE).all(|_| throttle.admit(now, 0) == Admit::Now));
        assert_eq!(throttle.admit(now, 0), Admit::Now, "the one that always goes");
        assert_ne!(throttle.admit(now, 0), Admit::Now);
        let later = now + Duration::from_mins(1);
        let more = std::iter::from_fn(|| (throttle.admit(later, 1) == Admit::Now).then_some(())).count();
        assert!(more < MOST - MOST_WHEN_IDLE, "{more}");
    }

    #[test]
    fn an_api_server_that_does_not_respond_is_tried_less_and_less_often() {
        let mut now = Instant::now();
        let mut throttle = Throttle::new(now);
        let mut waits = Vec::new();
        for _ in 0..7 {
            assert_eq!(throttle.admit(now, 0), Admit::Now);
            throttle.ended(now, false);
            let Admit::At(at) = throttle.admit(now, 0) else { panic!("it is paused") };
            waits.push((at - now).as_secs());
            now = at;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(throttle.admit(now, 0), Admit::Now);
        throttle.ended(now, true);
        assert_eq!(throttle.admit(now, 0), Admit::Now);
    }
}
