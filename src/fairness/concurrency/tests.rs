//! The limit against simulated servers.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// A server that works on that many calls at a time, and a namespace with calls without end beside a small one.
struct Server {
    at_once: usize,
    now: Instant,
    /// When each worker is free.
    workers: BinaryHeap<Reverse<Instant>>,
    /// When the calls in flight are responded to, and when they began.
    in_flight: BinaryHeap<Reverse<(Instant, Instant)>>,
    random: StdRng,
}

impl Server {
    fn new(at_once: usize) -> Self {
        Self::after(TRIED_AFTER, at_once)
    }

    fn after(start: Duration, at_once: usize) -> Self {
        let now = Instant::now() + start;
        let workers = std::iter::repeat_n(Reverse(now), at_once).collect();
        Self { at_once, now, workers, in_flight: BinaryHeap::new(), random: StdRng::seed_from_u64(1) }
    }

    /// Responds to that many calls, each of which takes as long as the function says of a random number. Returns the
    /// mean limit of the second half.
    fn respond(&mut self, concurrency: &mut Concurrency, calls: u32, takes: impl Fn(f64) -> Duration) -> f64 {
        let mut limits = 0;
        for call in 0..calls {
            concurrency.asked(call % 2, self.now);
            while self.in_flight.len() < concurrency.limit(self.now).unwrap_or(16) {
                let Reverse(free) = self.workers.pop().unwrap();
                let done = free.max(self.now) + takes(self.random.random());
                self.workers.push(Reverse(done));
                self.in_flight.push(Reverse((done, self.now)));
            }
            let Reverse((done, began)) = self.in_flight.pop().unwrap();
            concurrency.responded(began, true, done);
            self.now = done + concurrency.pause(done - began, done).unwrap_or_default();
            if call >= calls / 2 {
                limits += u32::try_from(concurrency.limit(done).unwrap_or(16)).unwrap();
            }
        }
        assert_eq!(self.workers.len(), self.at_once);
        f64::from(limits) / f64::from(calls - calls / 2)
    }
}

const fn milliseconds(milliseconds: u64) -> impl Fn(f64) -> Duration {
    move |_| Duration::from_millis(milliseconds)
}

#[test]
fn the_limit_grows_to_the_most_where_calls_do_not_delay_each_other() {
    for takes in [1, 20, 500] {
        let mut concurrency = Concurrency::new(16);
        let limit = Server::new(100).respond(&mut concurrency, 4_000, milliseconds(takes));
        assert!((13.0..=16.0).contains(&limit), "{takes} ms: {limit}");
    }
}

#[test]
fn calls_that_take_long_are_compared_by_fewer_of_them() {
    let mut concurrency = Concurrency::new(16);
    let mut server = Server::new(100);
    let since = server.now;
    while server.now.duration_since(since) < Duration::from_secs(12) {
        server.respond(&mut concurrency, 2, milliseconds(100));
    }
    assert_eq!(concurrency.found.calls(), 16);
}

#[test]
fn a_call_that_began_under_another_limit_is_not_compared() {
    let since = Instant::now();
    let mut trial = Trial::new(since);
    let now = since + TRIED_FOR;
    let before = since.checked_sub(TRIED_FOR).unwrap();
    assert!((0..CALLS).all(|_| trial.responded(before, now).is_none()));
    assert_eq!((0..CALLS).find_map(|_| trial.responded(since, now)), Some(TRIED_FOR));
}

#[test]
fn the_limit_is_what_the_server_works_on_at_a_time() {
    for at_once in [1, 2, 4, 8] {
        let mut concurrency = Concurrency::new(16);
        let limit = Server::new(at_once).respond(&mut concurrency, 20_000, milliseconds(5));
        let at_once = f64::from(u32::try_from(at_once).unwrap());
        assert!((0.9 * at_once..1.2 * at_once).contains(&limit), "{at_once}: {limit}");
    }
}

#[test]
fn calls_that_are_faster_with_short_pauses_between_are_made_with_pauses() {
    for first in [Limit::LEAST, Limit::LEAST.twice()] {
        for (with_pauses, without, found) in
            [(5, 5, Limit::within(1)), (10, 11, Limit::LEAST), (40, 44, Limit::within(1))]
        {
            let mut concurrency = Concurrency { found: first, current: first, ..Concurrency::new(16) };
            let mut now = Instant::now();
            for call in 0..20_000 {
                concurrency.asked(call % 2, now);
                let began = now;
                now += Duration::from_millis(match concurrency.current {
                    Limit::LEAST => with_pauses,
                    current => without * u64::try_from(current.calls()).unwrap(),
                });
                concurrency.responded(began, true, now);
                now += concurrency.pause(now - began, now).unwrap_or_default();
            }
            assert_eq!(concurrency.found, found, "{with_pauses} ms after a pause, first {first:?}");
        }
    }
}

#[test]
fn no_limit_is_tried_in_the_first_ten_seconds() {
    let mut concurrency = Concurrency::new(16);
    let mut server = Server::after(Duration::ZERO, 100);
    server.respond(&mut concurrency, 4_000, milliseconds(1));
    assert_eq!(concurrency.current, Limit::LEAST);
    server.respond(&mut concurrency, 4_000, milliseconds(1));
    assert!(concurrency.found > Limit::LEAST);
}

#[test]
fn no_pause_is_longer_than_twenty_milliseconds() {
    let mut concurrency = Concurrency::new(16);
    let now = Instant::now();
    concurrency.asked(1, now);
    assert_eq!(concurrency.pause(Duration::from_secs(30), now), None, "alone");
    concurrency.asked(2, now);
    assert_eq!(concurrency.pause(Duration::from_secs(30), now), Some(MAX_PAUSE));
}

#[test]
fn durations_that_vary_without_congestion_leave_a_namespace_most_of_its_calls() {
    let mut concurrency = Concurrency::new(16);
    // A tenth takes twenty times as long.
    let takes = |random| Duration::from_millis(if random < 0.1 { 100 } else { 5 });
    let limit = Server::new(100).respond(&mut concurrency, 100_000, takes);
    assert!(limit > 8.0, "{limit}");
}

#[test]
fn a_server_that_becomes_slower_for_all_calls_changes_no_limit() {
    let mut concurrency = Concurrency::new(16);
    let mut server = Server::new(100);
    server.respond(&mut concurrency, 4_000, milliseconds(1));
    let limit = server.respond(&mut concurrency, 4_000, milliseconds(200));
    assert!(limit > 13.0, "{limit}");
}

#[test]
fn a_server_that_works_on_fewer_calls_than_before_lowers_the_limit() {
    let mut concurrency = Concurrency::new(16);
    let mut server = Server::new(8);
    server.respond(&mut concurrency, 4_000, milliseconds(5));
    assert_eq!(concurrency.found.calls(), 8);
    let mut busy = Server { now: server.now, ..Server::new(2) };
    let limit = busy.respond(&mut concurrency, 40_000, milliseconds(5));
    assert!(limit < 2.4, "{limit}");
}

#[test]
fn a_limit_that_nobody_waits_for_is_not_tried() {
    let mut concurrency = Concurrency::new(16);
    let now = Instant::now();
    for call in 0..1_000 {
        concurrency.asked(call % 2, now);
        concurrency.responded(now, call % 50 != 0, now + Duration::from_millis(u64::from(call)));
    }
    assert_eq!(concurrency.limit(now), Some(1));
}

#[test]
fn a_namespace_alone_has_no_limit_and_teaches_nothing() {
    let mut concurrency = Concurrency::new(16);
    let now = Instant::now();
    for call in 0..1_000 {
        concurrency.asked(1, now);
        concurrency.responded(now, true, now + Duration::from_millis(call));
    }
    assert_eq!(concurrency.limit(now), None);
    let later = now + RECENT;
    concurrency.asked(2, later);
    assert_eq!(concurrency.limit(later), None, "the other had no call for a while");
    concurrency.asked(1, now);
    concurrency.asked(2, now);
    assert_eq!(concurrency.limit(now), Some(1));
    assert_eq!(concurrency.limit(now + RECENT), None, "the others have no more calls");
}
