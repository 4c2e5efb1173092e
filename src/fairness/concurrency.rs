//! How many calls of one namespace may be in flight while other namespaces have calls too. Pure.
//!
//! Calls beyond what a server works on at a time only wait there, and those of a small namespace wait behind them. How
//! many it works on differs from cluster to cluster and is not known, but it shows: beyond it, each further call makes
//! all of them slower. So the limit grows while calls are as fast as they ever were, and shrinks when they become slower,
//! like the congestion window of a TCP connection that goes by delay.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// No namespace has fewer than this, because durations vary without congestion too.
const LEAST: usize = 4;
/// How many calls are compared together: enough that the median does not depend on a few slow ones.
const WINDOW: usize = 40;
/// Calls wait for each other once their median is this many times the best one.
const SLOWER: f64 = 1.3;
/// After the limit shrank it does not grow for this long.
const HELD_FOR: Duration = Duration::from_secs(5);
/// The best median of this long counts, and that of as long before. So a server that became slower for another reason
/// becomes the norm.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);
/// Another namespace counts as having calls if it asked for a permit within this time.
const RECENT: Duration = Duration::from_secs(5);

/// The limit of each namespace while there are others.
#[derive(Debug)]
pub(super) struct Concurrency {
    most: usize,
    current: usize,
    /// Durations of calls of each rank, which may be requests of different kinds.
    ranks: BTreeMap<u8, Durations>,
    calls: usize,
    held_until: Option<Instant>,
    /// Who asked last, and when.
    last: Option<(u32, Instant)>,
    /// Until when several namespaces count as having calls.
    shared_until: Option<Instant>,
}

/// The durations of the calls of one rank, in seconds.
#[derive(Debug, Default)]
struct Durations {
    window: Vec<f64>,
    /// The lowest median of a window, now and in the time before.
    best: (f64, Option<f64>),
    since: Option<Instant>,
}

impl Concurrency {
    /// Limits from [`LEAST`] to `most`; the first is the least.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            current: LEAST.min(most),
            ranks: BTreeMap::new(),
            calls: 0,
            held_until: None,
            last: None,
            shared_until: None,
        }
    }

    /// A namespace asks for a permit.
    pub(super) fn asked(&mut self, namespace: u32, now: Instant) {
        let others = self.last.is_some_and(|(last, at)| last != namespace && now.duration_since(at) < RECENT);
        if others {
            self.shared_until = Some(now + RECENT);
        }
        self.last = Some((namespace, now));
    }

    /// The number of permits that one namespace may hold now.
    pub(super) fn limit(&self, now: Instant) -> usize {
        if self.shared_until.is_some_and(|until| now < until) { self.current } else { self.most }
    }

    /// Notes that a call of that rank took that long.
    pub(super) fn took(&mut self, rank: u8, duration: Duration, now: Instant) {
        let durations = self.ranks.entry(rank).or_default();
        durations.window.push(duration.as_secs_f64());
        self.calls += 1;
        if self.calls < WINDOW {
            return;
        }
        self.calls = 0;
        let compared = self.ranks.values_mut().filter_map(|durations| durations.compare(now));
        let (slower, calls) =
            compared.fold((0.0, 0.0), |(slower, calls), (times, of)| (slower + times * of, calls + of));
        let slower = slower / calls;
        if slower > SLOWER {
            self.current = (self.current / 2).max(LEAST).min(self.most);
            self.held_until = Some(now + HELD_FOR);
        } else if self.held_until.is_none_or(|until| now >= until) {
            self.current = (self.current + 1).min(self.most);
        }
    }
}

impl Durations {
    /// Ends the window, unless it is empty: how many times as long as at best its calls took, and their number.
    fn compare(&mut self, now: Instant) -> Option<(f64, f64)> {
        let calls = self.window.len();
        self.window.sort_by(f64::total_cmp);
        let median = *self.window.get(calls / 2)?;
        self.window.clear();
        match self.since {
            Some(since) if now.duration_since(since) < REMEMBERED_FOR => {
                self.best.0 = self.best.0.min(median);
            }
            Some(_) => (self.best, self.since) = ((median, Some(self.best.0)), Some(now)),
            None => (self.best.0, self.since) = (median, Some(now)),
        }
        let best = self.best.1.map_or(self.best.0, |before| before.min(self.best.0));
        let calls = u32::try_from(calls).map_or(0.0, f64::from);
        Some((median / best.max(f64::MIN_POSITIVE), calls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that works on that many calls at a time, each for that long. Runs rounds in which two namespaces have
    /// calls, and returns the largest limit of the second half.
    fn largest_limit(concurrency: &mut Concurrency, at_once: u32, each: Duration, rounds: usize) -> usize {
        let mut now = Instant::now();
        let mut largest = 0;
        for round in 0..rounds {
            concurrency.asked(1, now);
            concurrency.asked(2, now);
            let limit = concurrency.limit(now);
            let duration =
                each.mul_f64((f64::from(u32::try_from(limit).unwrap()) / f64::from(at_once)).max(1.0));
            now += duration;
            for _ in 0..limit {
                concurrency.took(0, duration, now);
            }
            if round > rounds / 2 {
                largest = largest.max(limit);
            }
        }
        largest
    }

    #[test]
    fn the_limit_grows_to_the_most_where_calls_do_not_delay_each_other() {
        let mut concurrency = Concurrency::new(16);
        assert_eq!(largest_limit(&mut concurrency, 100, Duration::from_millis(10), 400), 16);
    }

    #[test]
    fn the_limit_stays_near_what_the_server_works_on_at_a_time() {
        for at_once in [1, 2, 4, 8] {
            let mut concurrency = Concurrency::new(16);
            let largest = largest_limit(&mut concurrency, at_once, Duration::from_millis(5), 4_000);
            assert!(largest <= usize::try_from(at_once.max(4) * 3 / 2).unwrap(), "{at_once}: {largest}");
        }
    }

    #[test]
    fn a_namespace_alone_has_the_most_whatever_calls_take() {
        let mut concurrency = Concurrency::new(16);
        let now = Instant::now();
        for call in 0..100 {
            concurrency.asked(1, now);
            concurrency.took(0, Duration::from_millis(call), now);
        }
        assert_eq!(concurrency.limit(now), 16);
        concurrency.asked(2, now);
        assert_eq!(concurrency.limit(now), LEAST);
        assert_eq!(concurrency.limit(now + RECENT), 16, "the others have no more calls");
    }

    #[test]
    fn a_server_that_became_slower_is_the_norm_after_two_minutes() {
        let mut concurrency = Concurrency::new(16);
        assert_eq!(largest_limit(&mut concurrency, 100, Duration::from_millis(10), 400), 16);
        assert_eq!(largest_limit(&mut concurrency, 100, Duration::from_millis(200), 4_000), 16);
    }
}
