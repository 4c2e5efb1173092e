//! Two circuit breakers: one for looks, one for creates. No clock: `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::line::Line;
use crate::backoff::Backoff;

/// Looks are judged over two halves of this.
const WINDOW: Duration = Duration::from_secs(20);
/// Fewer failures than this open nothing.
const FEWEST_FAILURES: u32 = 5;
/// While open, one look goes out in this time.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Nobody is sent away for longer than this.
const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// While creates wait, a call without effect finds out this often whether the portal answers at all.
const PING_EVERY: Duration = Duration::from_secs(30);
/// While one create probes, the others come again after this.
const BEHIND_A_PROBE: Duration = Duration::from_secs(5);

/// The breaker for looks: open after more than half of them failed, closed by one success.
#[derive(Debug)]
pub(super) struct PollBreaker {
    halves: [(u32, u32); 2],
    half_began: Instant,
    open: bool,
    next_probe: Instant,
    /// Those who wait for their turn to probe.
    line: Line,
}

impl PollBreaker {
    pub(super) const fn new(now: Instant) -> Self {
        let line = Line::new(now, LONGEST_WAIT);
        Self { halves: [(0, 0); 2], half_began: now, open: false, next_probe: now, line }
    }

    /// Lets a look through, or says when to come again.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        if !self.open {
            return Ok(());
        }
        if self.next_probe <= now {
            // Who comes back a little late takes nothing from the one after.
            self.next_probe = (self.next_probe + PROBE_EVERY).max(now + PROBE_EVERY / 2);
            return Ok(());
        }
        Err(self.line.place(now, PROBE_EVERY))
    }

    pub(super) fn succeeded(&mut self, now: Instant) {
        if self.open {
            *self = Self::new(now);
        }
        self.turn_over(now);
        self.halves[0].0 += 1;
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.turn_over(now);
        self.halves[0].1 += 1;
        let (good, bad) = (self.halves[0].0 + self.halves[1].0, self.halves[0].1 + self.halves[1].1);
        if !self.open && bad >= FEWEST_FAILURES && bad > good {
            self.open = true;
            self.next_probe = now + PROBE_EVERY;
        }
    }

    /// When the next look finds out how it is, while most of them fail.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.open.then_some(self.next_probe)
    }

    fn turn_over(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.half_began);
        if passed >= WINDOW {
            self.halves = [(0, 0); 2];
            self.half_began = now;
        } else if passed >= WINDOW / 2 {
            self.halves = [(0, 0), self.halves[0]];
            self.half_began = now;
        }
    }
}

/// What a failed create says of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Its answer was lost: another try may strand another session.
    Lost,
    /// It made nothing: another try costs nothing.
    Harmless,
}

impl Failure {
    const fn waits(self) -> (Duration, Duration) {
        match self {
            Self::Lost => (Duration::from_mins(1), Duration::from_mins(10)),
            Self::Harmless => (Duration::from_secs(5), Duration::from_mins(5)),
        }
    }
}

/// The breaker for creates: after one failure they go one at a time, with longer and longer waits, until one succeeds.
/// Nobody else even claims, so an outage strands nobody.
#[derive(Debug, Default)]
pub(super) struct CreateBreaker {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    failure: Failure,
    failures: u32,
    failed_at: Instant,
    next: Instant,
    probing: bool,
    /// When to ask next whether the portal answers at all.
    next_ping: Instant,
    /// When the last one comes of those who were told to come and ask.
    pings: Option<Instant>,
    /// Whether the portal gave no answer to another call since the failure.
    silent: bool,
}

impl CreateBreaker {
    /// Lets a create through, or says when to come again. `Ok(true)` is a probe: it must be reported or given back.
    pub(super) fn admit(&mut self, now: Instant) -> Result<bool, Instant> {
        let Some(open) = &mut self.open else { return Ok(false) };
        if open.probing {
            return Err(now + BEHIND_A_PROBE);
        }
        if now < open.next {
            // Some of those who wait come earlier, one after the other, to ask whether the portal answers at all: of one
            // alone the resource may be deleted before.
            let ping = open.pings.map_or(open.next_ping, |last| last + PING_EVERY).max(now);
            if ping >= open.next {
                return Err(open.next);
            }
            open.pings = Some(ping);
            return Err(ping);
        }
        open.probing = true;
        Ok(true)
    }

    /// Whether one create finds out for the others.
    pub(super) fn is_probed(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.probing)
    }

    /// Whether this opened the way for the others.
    pub(super) const fn succeeded(&mut self) -> bool {
        self.open.take().is_some()
    }

    /// Whether a call without effect shall find out now if the portal answers; if so, nobody else may for a while.
    pub(super) fn ping(&mut self, now: Instant) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| open.next_ping <= now && now < open.next) else {
            return false;
        };
        open.next_ping = now + PING_EVERY;
        true
    }

    /// A probe ended without an answer about the portal.
    pub(super) const fn gave_back(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    pub(super) fn failed(&mut self, now: Instant, failure: Failure, probe: bool) {
        let before = match &self.open {
            // Those that were under way when it opened say nothing new.
            Some(open) if !probe => (open.failures, open.probing),
            Some(open) => (open.failures.saturating_add(1), false),
            None => (0, false),
        };
        let (failures, probing) = before;
        let (least, most) = failure.waits();
        let wait = Backoff::new(least, most).wait(failures);
        self.open = Some(Open {
            failure,
            failures,
            failed_at: now,
            next: now + wait,
            probing,
            next_ping: now + PING_EVERY,
            pings: None,
            silent: false,
        });
    }

    /// Another call was not answered: when one is, that is news.
    pub(super) const fn portal_is_silent(&mut self) {
        if let Some(open) = &mut self.open {
            open.silent = true;
        }
    }

    /// Another call was answered. If the portal was silent before, it is back, and the next probe need not wait longer
    /// than the shortest wait. A portal that answered all along and yet fails to create says nothing new by it.
    pub(super) fn portal_answers(&mut self, now: Instant) {
        if let Some(open) = self.open.as_mut().filter(|open| open.silent) {
            let (least, _) = open.failure.waits();
            open.next = open.next.min((open.failed_at + least).max(now));
        }
    }

    /// When the next create finds out how it is, while they fail.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_outage_of_an_hour_makes_a_handful_of_creates() {
        let start = Instant::now();
        let mut breaker = CreateBreaker::default();
        breaker.failed(start, Failure::Lost, false);
        let mut now = start;
        let mut creates = 1;
        while now < start + Duration::from_hours(1) {
            match breaker.admit(now) {
                Ok(probe) => {
                    creates += 1;
                    breaker.failed(now, Failure::Lost, probe);
                }
                Err(until) => {
                    assert!(until > now);
                    now = until;
                }
            }
        }
        assert!(creates <= 10, "{creates}");
    }

    #[test]
    fn one_create_at_a_time_probes_and_its_success_lets_all_through() {
        let now = Instant::now();
        let mut breaker = CreateBreaker::default();
        assert_eq!(breaker.admit(now), Ok(false));
        breaker.failed(now, Failure::Harmless, false);
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.admit(later), Ok(true));
        assert_eq!(breaker.admit(later), Err(later + BEHIND_A_PROBE));
        breaker.succeeded();
        assert_eq!(breaker.admit(later), Ok(false));
    }

    #[test]
    fn a_portal_that_is_back_brings_the_next_create_forward_but_not_below_the_shortest_wait() {
        let now = Instant::now();
        let mut breaker = CreateBreaker::default();
        for probe in [false, true, true] {
            breaker.failed(now, Failure::Lost, probe);
        }
        breaker.portal_answers(now + Duration::from_secs(1));
        assert!(breaker.admit(now + Duration::from_mins(3)).is_err(), "it was never silent");
        breaker.portal_is_silent();
        breaker.portal_answers(now + Duration::from_secs(1));
        assert!(breaker.admit(now + Duration::from_secs(59)).is_err());
        assert_eq!(breaker.admit(now + Duration::from_mins(1)), Ok(true));
    }

    #[test]
    fn a_ping_goes_out_each_half_minute_while_creates_wait_and_never_while_they_go() {
        let start = Instant::now();
        let mut breaker = CreateBreaker::default();
        assert!(!breaker.ping(start));
        for probe in [false, true, true, true] {
            breaker.failed(start, Failure::Lost, probe);
        }
        for number in 1..16 {
            let told = Err(start + PING_EVERY * number);
            assert_eq!(breaker.admit(start), told, "one after the other is told to come and ping");
        }
        assert_eq!(breaker.admit(start), Err(start + Duration::from_mins(8)));
        let pings = (0..480).filter(|second| breaker.ping(start + Duration::from_secs(*second))).count();
        assert_eq!(pings, 15);
        assert!(!breaker.ping(start + Duration::from_mins(8)), "a create may try by itself");
        breaker.succeeded();
        assert!(!breaker.ping(start + Duration::from_mins(10)));
    }

    #[test]
    fn a_ping_goes_out_though_whoever_was_to_send_it_never_comes() {
        let start = Instant::now();
        let mut breaker = CreateBreaker::default();
        for probe in [false, true, true, true] {
            breaker.failed(start, Failure::Lost, probe);
        }
        let told: Vec<_> = (0..10).map(|_| breaker.admit(start).unwrap_err()).collect();
        for gone in 0..5 {
            let next = told[gone + 1..].iter().min().unwrap();
            assert!(*next <= start + PING_EVERY * u32::try_from(gone + 2).unwrap(), "{gone} are gone");
        }
        assert!(breaker.ping(told[5]));
    }

    #[test]
    fn looks_are_let_through_one_a_second_while_most_of_them_fail() {
        let now = Instant::now();
        let mut breaker = PollBreaker::new(now);
        for _ in 0..5 {
            breaker.failed(now);
        }
        assert!(breaker.open_until().is_some());
        let first = breaker.admit(now).unwrap_err();
        let second = breaker.admit(now).unwrap_err();
        assert_eq!(second - first, PROBE_EVERY);
        breaker.succeeded(now);
        assert!(breaker.admit(now).is_ok());
    }

    #[test]
    fn while_looks_fail_one_goes_each_second_whoever_waits_and_comes_back_in_time() {
        for waiting in [1, 2, 50, 1_000] {
            let start = Instant::now();
            let mut breaker = PollBreaker::new(start);
            for _ in 0..FEWEST_FAILURES {
                breaker.failed(start);
            }
            let mut plan: BTreeSet<_> = (0..waiting).map(|id| (start, id)).collect();
            let (mut gone, mut sent_away) = (0, 0);
            while let Some((now, id)) = plan.pop_first() {
                if now >= start + Duration::from_mins(10) {
                    break;
                }
                // Who was let go fails, and comes again after its own wait.
                let again = match breaker.admit(now) {
                    Ok(()) => {
                        gone += 1;
                        breaker.failed(now);
                        now + Duration::from_secs(10)
                    }
                    Err(until) => {
                        sent_away += 1;
                        assert!(until > now && until <= now + LONGEST_WAIT);
                        until
                    }
                };
                plan.insert((again, id));
            }
            let most = 10 * 60;
            assert!(((most - 10).min(waiting * 50)..=most).contains(&gone), "{gone} looks of {waiting}");
            assert!(sent_away <= most + waiting * 12, "{sent_away} of {waiting} sent away");
        }
    }

    #[test]
    fn old_failures_are_forgotten() {
        let now = Instant::now();
        let mut breaker = PollBreaker::new(now);
        for _ in 0..4 {
            breaker.failed(now);
        }
        breaker.failed(now + WINDOW);
        assert!(breaker.open_until().is_none());
    }
}
