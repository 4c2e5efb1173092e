//! How many calls of one namespace may be in flight while other namespaces have calls too. Pure.
//!
//! Calls beyond what a server works on at a time only wait there, and those of a small namespace wait behind them. How
//! many it works on differs from cluster to cluster and is not known, but it can be tried: where each call takes longer
//! while twice as many are in flight, the second half only waits. That also holds for one call after the other: where it
//! takes less long with pauses between, the server is busy with what the calls cause, and calls of others wait for that.
//! Two limits are compared with each other at a time, and not with the best of the past, because durations change without
//! congestion too.

use std::time::Duration;

use tokio::time::Instant;

/// A limit is tried for so many calls, or for [`TRIED_FOR`] if they take longer and [`FEWEST_CALLS`] are over.
const CALLS: u32 = 200;
const TRIED_FOR: Duration = Duration::from_secs(1);
const FEWEST_CALLS: u32 = 20;
/// Twice the limit is of use if a call takes at most this many times as long with it: then there are at least 1.7 times
/// as many calls per second.
const SLOWER: f64 = 1.15;
/// As [`SLOWER`], of one call after the other compared with pauses between, where these are as long as the calls. No call
/// waits for another one then, so that a difference that is not chance is what the server still does for the call before.
const SLOWER_WITHOUT_PAUSES: f64 = 1.05;
/// The time before the first series of trials.
const TRIED_AFTER: Duration = Duration::from_secs(10);
/// The time between two series of trials.
const RETRIED_AFTER: Duration = Duration::from_secs(5);
/// Another namespace counts as having calls if it asked for a permit within this time.
const RECENT: Duration = Duration::from_secs(5);

/// Longest pause after a call. What a server still does after it is over by then.
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// How many calls may be in flight: a power of two, by its exponent. Half a call is one that is followed by a pause as long
/// as itself, or of [`MAX_PAUSE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Limit(i8);

/// The limit of each namespace while there are others.
#[derive(Debug)]
pub(super) struct Concurrency {
    most: Limit,
    /// The limit that was of use so far.
    found: Limit,
    /// The limit that is in force.
    current: Limit,
    step: Step,
    trial: Trial,
    /// Who asked last, and when.
    last: Option<(u32, Instant)>,
    /// Until when several namespaces count as having calls.
    shared_until: Option<Instant>,
}

/// What is tried. The durations are means.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The limit that was of use so far, to compare others with it.
    Known,
    /// Twice that limit, with which a call takes so long.
    Twice(Duration),
    /// Half that limit, with which a call takes so long.
    Half(Duration),
    /// Nothing until then.
    Wait(Instant),
}

/// How long calls take under one limit.
#[derive(Debug)]
struct Trial {
    since: Instant,
    calls: u32,
    total: Duration,
}

impl Limit {
    const LEAST: Self = Self(-1);

    /// The largest that allows no more than so many calls; at least one call.
    fn within(calls: usize) -> Self {
        Self(calls.checked_ilog2().and_then(|exponent| i8::try_from(exponent).ok()).unwrap_or_default())
    }

    const fn twice(self) -> Self {
        Self(self.0 + 1)
    }

    const fn half(self) -> Self {
        Self(self.0 - 1)
    }

    /// How many times as long a call may take with twice this limit, with which it takes so long on average.
    fn tolerated(self, mean: Duration) -> f64 {
        if self == Self::LEAST && mean <= MAX_PAUSE { SLOWER_WITHOUT_PAUSES } else { SLOWER }
    }

    fn calls(self) -> usize {
        u32::try_from(self.0).map_or(1, |exponent| 1 << exponent)
    }
}

impl Concurrency {
    /// Limits from half a call to `most` calls, beginning with the least. None is tried at first, because the calls of a start
    /// say little of later ones.
    pub(super) fn new(most: usize) -> Self {
        let now = Instant::now();
        Self {
            most: Limit::within(most),
            found: Limit::LEAST,
            current: Limit::LEAST,
            step: Step::Wait(now + TRIED_AFTER),
            trial: Trial::new(now),
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

    /// The number of permits that one namespace may hold now; none while there is only one namespace.
    pub(super) fn limit(&self, now: Instant) -> Option<usize> {
        self.is_shared(now).then(|| self.current.calls())
    }

    /// How long a namespace whose call took so long makes no other one in its place, if it has many that wait.
    pub(super) fn pause(&self, took: Duration, now: Instant) -> Option<Duration> {
        (self.is_shared(now) && self.current == Limit::LEAST).then(|| took.min(MAX_PAUSE))
    }

    fn is_shared(&self, now: Instant) -> bool {
        self.shared_until.is_some_and(|until| now < until)
    }

    /// A call that began then was responded to, while others waited for a permit or none did.
    pub(super) fn responded(&mut self, began: Instant, others_wait: bool, now: Instant) {
        if let Step::Wait(until) = self.step {
            if now < until {
                return;
            }
            self.begin(Step::Known, self.found, now);
        }
        // A limit that nobody waits for delays nobody.
        if !others_wait || !self.is_shared(now) {
            return self.begin(Step::Known, self.found, now);
        }
        let Some(mean) = self.trial.responded(began, now) else { return };
        match self.step {
            Step::Known => self.try_twice(mean, now),
            Step::Twice(of_found) if mean <= of_found.mul_f64(self.found.tolerated(of_found)) => {
                self.found = self.current;
                self.try_twice(mean, now);
            }
            Step::Twice(of_found) => self.try_half(of_found, now),
            Step::Half(of_found) if of_found > mean.mul_f64(self.current.tolerated(mean)) => {
                self.found = self.current;
                self.try_half(mean, now);
            }
            Step::Half(_) | Step::Wait(_) => self.wait(now),
        }
    }

    fn try_twice(&mut self, mean: Duration, now: Instant) {
        if self.found < self.most {
            self.begin(Step::Twice(mean), self.found.twice(), now);
        } else {
            self.try_half(mean, now);
        }
    }

    fn try_half(&mut self, mean: Duration, now: Instant) {
        if self.found > Limit::LEAST {
            self.begin(Step::Half(mean), self.found.half(), now);
        } else {
            self.wait(now);
        }
    }

    fn wait(&mut self, now: Instant) {
        self.begin(Step::Wait(now + RETRIED_AFTER), self.found, now);
    }

    fn begin(&mut self, step: Step, limit: Limit, now: Instant) {
        self.step = step;
        self.current = limit;
        self.trial = Trial::new(now);
    }
}

impl Trial {
    const fn new(since: Instant) -> Self {
        Self { since, calls: 0, total: Duration::ZERO }
    }

    /// The mean, once there were enough calls.
    fn responded(&mut self, began: Instant, now: Instant) -> Option<Duration> {
        // Earlier ones were in flight together with those of another limit.
        if began < self.since {
            return None;
        }
        self.calls += 1;
        self.total += now.duration_since(began);
        let is_long = self.calls >= FEWEST_CALLS && now.duration_since(self.since) >= TRIED_FOR;
        (self.calls >= CALLS || is_long).then(|| self.total / self.calls)
    }
}

#[cfg(test)]
mod tests;
