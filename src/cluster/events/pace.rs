//! When an event may be published: events give way to calls about status, but five a second always go. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// One event goes after this, whatever else is under way.
const EVERY: Duration = Duration::from_millis(200);
/// What was not used of that is kept for this long.
const KEPT: Duration = Duration::from_secs(1);
/// Events under way at once while nothing else is.
const IDLE: usize = 4;
/// Events under way at once at most: five a second, where the API server takes three seconds for each.
const MOST: usize = 16;
/// Waits after an attempt that the API server did not answer.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The same while the process shuts down.
const BACKOFF_AT_SHUTDOWN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));

/// What is known of the events under way.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the next one goes whatever else is under way.
    next: Instant,
    under_way: usize,
    paused: Option<Instant>,
    failures: u32,
    is_ending: bool,
}

/// Whether an event may be published now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// It may.
    Go,
    /// At that time, or when something that is under way ends.
    At(Instant),
    /// When an event that is under way ends.
    Later,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { next: now, under_way: 0, paused: None, failures: 0, is_ending: false }
    }

    /// Whether one more may go while so many calls about status are under way; if so, it is under way.
    pub(crate) fn may_go(&mut self, now: Instant, calls: usize) -> May {
        if let Some(until) = self.paused.filter(|until| *until > now) {
            return May::At(until);
        }
        if self.under_way >= MOST {
            return May::Later;
        }
        if self.is_ending || (calls == 0 && self.under_way < IDLE) {
            self.under_way += 1;
            return May::Go;
        }
        if self.next > now {
            return May::At(self.next);
        }
        let oldest = now.checked_sub(KEPT).unwrap_or(now);
        self.next = self.next.max(oldest) + EVERY;
        self.under_way += 1;
        May::Go
    }

    /// One that was under way had an answer, or is to be tried again.
    pub(crate) fn ended(&mut self, now: Instant, was_answered: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        if was_answered {
            (self.paused, self.failures) = (None, 0);
        } else if self.paused.is_none_or(|until| until <= now) {
            let backoff = if self.is_ending { BACKOFF_AT_SHUTDOWN } else { BACKOFF };
            self.paused = Some(now + backoff.wait(self.failures));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// The process ends: nothing else matters any more.
    pub(crate) fn ending(&mut self) {
        (self.is_ending, self.paused, self.failures) = (true, None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_give_way_to_status_and_five_a_second_go_all_the_same() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match pace.may_go(now, 1) {
                May::Go => {
                    sent += 1;
                    pace.ended(now, true);
                }
                May::At(at) => now = at,
                May::Later => panic!("nothing is under way"),
            }
        }
        assert_eq!(sent, 50);
        assert!((0..100).all(|_| {
            let may = pace.may_go(now, 0);
            pace.ended(now, true);
            may == May::Go
        }));
    }

    #[test]
    fn five_a_second_go_though_each_takes_three_seconds() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let sent = (0..300_u32)
            .filter(|step| {
                let now = start + Duration::from_millis(10) * *step;
                pace.may_go(now, 1) == May::Go
            })
            .count();
        assert_eq!(sent, 15);
    }

    #[test]
    fn only_a_few_are_under_way_at_once() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert!((0..IDLE).all(|_| pace.may_go(now, 0) == May::Go));
        assert_eq!(pace.may_go(now, 0), May::Go, "the one that always goes");
        assert_ne!(pace.may_go(now, 0), May::Go);
        let later = now + Duration::from_mins(1);
        let more = std::iter::from_fn(|| (pace.may_go(later, 1) == May::Go).then_some(())).count();
        assert!(more < MOST - IDLE, "{more}");
    }

    #[test]
    fn an_api_server_that_gives_no_answer_is_tried_less_and_less_often() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut waits = Vec::new();
        for _ in 0..7 {
            assert_eq!(pace.may_go(now, 0), May::Go);
            pace.ended(now, false);
            let May::At(at) = pace.may_go(now, 0) else { panic!("it is paused") };
            waits.push((at - now).as_secs());
            now = at;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pace.may_go(now, 0), May::Go);
        pace.ended(now, true);
        assert_eq!(pace.may_go(now, 0), May::Go);
    }
}
