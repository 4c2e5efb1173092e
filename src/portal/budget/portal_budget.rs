//! The budget of one portal, whatever the keys: the namespaces share its rate, its requests in flight, and the number of
//! trials of refused keys.
//!
//! No clock: `now` is an argument. May depend on [`fair_share`](super::fair_share), `requester`, [`settings`](super::settings) and
//! [`waitlist`](super::waitlist).

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    fair_share::FairShares,
    requester::Requester,
    settings::{BudgetSettings, uses_reserve},
    waitlist::Waitlists,
};
use crate::priority::Priority;

/// While too many requests are in flight, the others try again when this many of them are expected to have ended.
const ENDED_BEFORE_RETRY: u32 = 32;
/// Shortest time until then.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(10);
/// Longest time until then.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(500);
/// Longest time between two requests that try again without reading anything, of all namespaces together.
const MAX_RETRY_SPACING: Duration = Duration::from_millis(5);
/// The time between two that read the resource for that, of all namespaces together.
const READING_RETRY_SPACING: Duration = Duration::from_millis(1);
/// Longest waits of urgent and active requests that try again, and of the others, where that reads nothing.
const FREE_RETRY_WAITS: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(1)];
/// Longest wait of requests that try again, where that reads something. Three hundred thousand of them fit in.
const READING_RETRY_WAIT: Duration = Duration::from_mins(5);
/// The time over which the rate is measured at which requests end.
const COMPLETION_WINDOW: Duration = Duration::from_secs(1);
/// A namespace whose keys are refused may try another unproven key once in this time.
const REFUSED_KEY_INTERVAL: Duration = Duration::from_secs(1);
/// The number of refused keys of a namespace that are not delayed.
const REFUSED_KEY_BURST: u32 = 20;

/// The budget of one portal.
#[derive(Debug)]
pub(super) struct PortalBudget {
    shares: Option<FairShares>,
    max_in_flight: usize,
    in_flight: usize,
    /// Namespaces with a request in flight.
    active: usize,
    namespaces: HashMap<u32, NamespaceState>,
    completions: Completions,
}

#[derive(Debug, Default)]
struct NamespaceState {
    in_flight: usize,
    /// How far its refused keys have used up the allowance for trials.
    refused_up_to: Option<Instant>,
    waiting: Option<Waiting>,
}

/// The requests of a namespace that try again because too many are in flight.
#[derive(Debug)]
struct Waiting {
    /// Those that read nothing for it.
    free: Waitlists,
    /// Those that read the resource for it.
    reading: Waitlists,
    /// When the last of them tries again.
    until: Instant,
}

/// How often requests end.
#[derive(Debug)]
struct Completions {
    ended: u32,
    window_began: Instant,
    /// The average time between two ends, as last measured. At most [`MAX_RETRY_DELAY`].
    interval: Duration,
}

impl NamespaceState {
    fn is_idle(&self, now: Instant) -> bool {
        self.in_flight == 0
            && self.refused_up_to.is_none_or(|used| used <= now)
            && self.waiting.as_ref().is_none_or(|waiting| waiting.until <= now)
    }
}

impl Waiting {
    const fn new(now: Instant) -> Self {
        let [urgent, other] = FREE_RETRY_WAITS;
        Self {
            free: Waitlists::within(now, urgent, other),
            reading: Waitlists::within(now, READING_RETRY_WAIT, READING_RETRY_WAIT),
            until: now,
        }
    }
}

impl Completions {
    const fn new(now: Instant) -> Self {
        Self { ended: 0, window_began: now, interval: MAX_RETRY_DELAY }
    }

    fn ended(&mut self, now: Instant) {
        self.measure(now);
        self.ended = self.ended.saturating_add(1);
    }

    fn measure(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.window_began);
        if passed >= COMPLETION_WINDOW {
            self.interval = (passed / self.ended.max(1)).min(MAX_RETRY_DELAY);
            self.ended = 0;
            self.window_began = now;
        }
    }
}

impl PortalBudget {
    pub(super) fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self {
            shares: settings.portal_rate.map(|rate| FairShares::new(rate, settings.burst, now)),
            max_in_flight: settings.max_in_flight.max(1),
            in_flight: 0,
            active: 0,
            namespaces: HashMap::new(),
            completions: Completions::new(now),
        }
    }

    /// Whether there is room for one more request of the namespace, whatever the rate, or when to try again. `is_key_trial`:
    /// the key is not known to be accepted. Consumes nothing.
    pub(super) fn has_room(
        &mut self,
        now: Instant,
        requester: Requester,
        priority: Priority,
        is_key_trial: bool,
    ) -> Result<(), Instant> {
        if is_key_trial && let Some(until) = self.refused_until(now, requester.namespace) {
            return Err(until);
        }
        if self.is_full(requester.namespace) {
            return Err(self.defer(now, requester, priority));
        }
        Ok(())
    }

    /// Admits a request of a namespace for which there [is room](Self::has_room), or says when to try again.
    pub(super) fn admit(&mut self, now: Instant, namespace: u32, priority: Priority) -> Result<(), Instant> {
        if let Some(shares) = &mut self.shares {
            shares.take(now, namespace, priority, uses_reserve(priority))?;
        }
        self.in_flight += 1;
        let state = self.namespaces.entry(namespace).or_default();
        self.active += usize::from(state.in_flight == 0);
        state.in_flight += 1;
        Ok(())
    }

    /// Records that a request ended, or was not sent.
    pub(super) fn ended(&mut self, now: Instant, namespace: u32, key_was_refused: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.completions.ended(now);
        let Some(state) = self.namespaces.get_mut(&namespace) else { return };
        state.in_flight = state.in_flight.saturating_sub(1);
        self.active -= usize::from(state.in_flight == 0);
        if key_was_refused {
            state.refused_up_to =
                Some(state.refused_up_to.map_or(now, |used| used.max(now)) + REFUSED_KEY_INTERVAL);
        }
        if state.is_idle(now) {
            self.namespaces.remove(&namespace);
        }
    }

    /// Records that a request was not sent, and returns its token.
    pub(super) fn abandoned(&mut self, now: Instant, namespace: u32) {
        self.ended(now, namespace, false);
        if let Some(shares) = &mut self.shares {
            shares.restore(namespace);
        }
    }

    /// The factor by which every interval is stretched, at least 1.
    pub(super) fn stretch(&mut self, now: Instant, namespace: u32) -> f64 {
        self.shares.as_mut().map_or(1.0, |shares| shares.stretch(now, namespace))
    }

    /// Removes namespaces without state.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.namespaces.retain(|_, state| !state.is_idle(now));
    }

    /// When a request tries again because too many are in flight: after some of them have ended, and one after another, the
    /// requests of all namespaces together about twice as fast as others end or as the rate admits them. Where each of them
    /// reads the resource again, a thousand in a second.
    fn defer(&mut self, now: Instant, requester: Requester, priority: Priority) -> Instant {
        let Requester { namespace, reads_to_retry } = requester;
        self.completions.measure(now);
        let interval = self.completions.interval;
        let rate_interval = self.shares.as_ref().map_or(Duration::ZERO, FairShares::spacing);
        let (delay, spacing) = if reads_to_retry {
            (MAX_RETRY_DELAY, READING_RETRY_SPACING)
        } else {
            let delay = (interval * ENDED_BEFORE_RETRY).clamp(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
            (delay, (interval.max(rate_interval) / 2).min(MAX_RETRY_SPACING))
        };
        self.namespaces.entry(namespace).or_default();
        let namespaces = u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX);
        let waiting = &mut self.namespaces.entry(namespace).or_default().waiting;
        let waiting = waiting.get_or_insert_with(|| Waiting::new(now));
        let waitlists = if reads_to_retry { &mut waiting.reading } else { &mut waiting.free };
        let again = waitlists.join(priority, now + delay, spacing.saturating_mul(namespaces));
        waiting.until = waiting.until.max(again);
        again
    }

    /// Half of the permits are for any namespace. Of the other half each namespace has an even share and some tolerance,
    /// because the number of its polls in flight varies around the average. A namespace with none in flight gets one on top.
    fn is_full(&self, namespace: u32) -> bool {
        let own = self.namespaces.get(&namespace).map_or(0, |state| state.in_flight);
        let share = self.max_in_flight / self.active.max(1);
        // Four standard deviations of the number of independent arrivals, and half as much again where there are few.
        let share = share + (4 * share.isqrt()).min(share / 2);
        if own == 0 {
            return self.in_flight >= self.max_in_flight.saturating_add(self.max_in_flight / 4);
        }
        self.in_flight >= self.max_in_flight || (own >= share && self.in_flight >= self.max_in_flight / 2)
    }

    fn refused_until(&self, now: Instant, namespace: u32) -> Option<Instant> {
        let used = self.namespaces.get(&namespace)?.refused_up_to?;
        let until = used.checked_sub(REFUSED_KEY_INTERVAL * REFUSED_KEY_BURST)?;
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn free(namespace: u32) -> Requester {
        Requester { namespace, reads_to_retry: false }
    }

    fn admit(
        portal: &mut PortalBudget,
        now: Instant,
        requester: Requester,
        priority: Priority,
        is_key_trial: bool,
    ) -> Result<(), Instant> {
        portal.has_room(now, requester, priority, is_key_trial)?;
        portal.admit(now, requester.namespace, priority)
    }

    fn portal_budget(max_in_flight: usize) -> (PortalBudget, Instant) {
        let now = Instant::now();
        let settings = BudgetSettings { portal_rate: None, max_in_flight, ..BudgetSettings::default() };
        (PortalBudget::new(settings, now), now)
    }

    fn admitted(portal: &mut PortalBudget, now: Instant, namespace: u32, times: usize) -> usize {
        (0..times).filter(|_| admit(portal, now, free(namespace), Priority::Idle, false).is_ok()).count()
    }

    #[test]
    fn an_unresponsive_portal_holds_a_bounded_number_of_requests_for_each_namespace() {
        let (mut portal, now) = portal_budget(10_000);
        assert_eq!(admitted(&mut portal, now, 1, 100_000), 10_000, "a single namespace has all");
        for _ in 0..10_000 {
            portal.ended(now, 1, false);
        }
        assert_eq!(admitted(&mut portal, now, 2, 1), 1);
        assert_eq!(admitted(&mut portal, now, 1, 100_000), 5_280, "half, and some tolerance");
        assert_eq!(admitted(&mut portal, now, 2, 100_000), 4_719, "the rest");
        assert_eq!(admitted(&mut portal, now, 3, 9), 1, "it is full, but a third one gets one");
        portal.ended(now, 1, false);
        portal.ended(now, 1, false);
        assert_eq!(admitted(&mut portal, now, 1, 1), 0, "more than its share of three");
        assert_eq!(admitted(&mut portal, now, 3, 1), 1);
    }

    #[test]
    fn a_hundred_namespaces_that_poll_evenly_are_not_delayed() {
        // As in `bench polls`: 9,000 permits, and on average 62 requests in flight of each namespace.
        let (mut portal, now) = portal_budget(9_000);
        for namespace in 0..100 {
            let busy = if namespace % 2 == 0 { 90 } else { 34 };
            assert_eq!(admitted(&mut portal, now, namespace, busy), busy, "namespace {namespace}");
        }
        assert_eq!(
            admitted(&mut portal, now, 100, 10_000),
            125,
            "one that wants everything gets its share of 101"
        );
    }

    #[test]
    fn requests_to_a_full_portal_try_again_about_as_fast_as_others_end() {
        let (mut portal, mut now) = portal_budget(100);
        assert_eq!(admitted(&mut portal, now, 1, 100), 100);
        for _ in 0..300 {
            now += Duration::from_millis(10);
            portal.ended(now, 1, false);
            assert_eq!(admitted(&mut portal, now, 1, 1), 1);
        }
        let again: Vec<_> = (0..50)
            .filter_map(|_| admit(&mut portal, now, free(1), Priority::Idle, false).err())
            .map(|again| (again - now).as_millis())
            .collect();
        assert_eq!(again.first(), Some(&325), "thirty-two requests end in 320 ms");
        assert_eq!(again.last(), Some(&570), "twice as many come back as end");
    }

    #[test]
    fn an_unresponsive_portal_is_retried_at_most_every_half_second() {
        let (mut portal, start) = portal_budget(100);
        assert_eq!(admitted(&mut portal, start, 1, 100), 100);
        let now = start + Duration::from_secs(2);
        let again: Vec<_> =
            (0..40).filter_map(|_| admit(&mut portal, now, free(1), Priority::Idle, false).err()).collect();
        assert!(again.iter().all(|again| (500..=5_500).contains(&(*again - now).as_millis())), "{again:?}");
        let first = *again.iter().min().unwrap();
        assert!(again.iter().filter(|again| **again == first).count() <= 3, "they are spread: {again:?}");
    }

    #[test]
    fn of_those_that_read_the_resource_to_try_again_a_thousand_come_back_in_a_second() {
        for (namespaces, ends_per_second) in [(1, 5), (1, 5_000), (100, 5_000)] {
            let (mut portal, mut now) = portal_budget(1_000);
            assert_eq!(admitted(&mut portal, now, 1, 1_000), 1_000);
            for _ in 0..3 * ends_per_second {
                now += Duration::from_secs(1) / ends_per_second;
                portal.ended(now, 1, false);
                assert_eq!(admitted(&mut portal, now, 1, 1), 1);
            }
            for namespace in 2..=namespaces {
                assert_eq!(admitted(&mut portal, now, namespace, 1), 1, "each has one in flight");
            }
            let mut in_second = [0; 300];
            for number in 0..20_000 {
                let requester = Requester { namespace: 1 + number % namespaces, reads_to_retry: true };
                let again = admit(&mut portal, now, requester, Priority::Active, false).unwrap_err() - now;
                assert!(again >= Duration::from_millis(500), "{again:?}");
                in_second[usize::try_from(again.as_secs()).unwrap()] += 1;
            }
            assert!(in_second.iter().all(|retries| *retries <= 1_000), "{in_second:?}");
            assert_eq!(in_second.iter().rposition(|retries| *retries > 0), Some(20), "and none comes later");
        }
    }

    #[test]
    fn a_thousand_wrong_keys_of_a_namespace_cost_twenty_requests_and_one_a_second() {
        let (mut portal, start) = portal_budget(100);
        let mut requests = 0;
        for tenth in 0..600 {
            let now = start + Duration::from_millis(100) * tenth;
            while admit(&mut portal, now, free(1), Priority::Create, true).is_ok() {
                requests += 1;
                portal.ended(now, 1, true);
            }
        }
        assert!((70..=85).contains(&requests), "{requests} in a minute");
        let now = start + Duration::from_mins(1);
        assert!(admit(&mut portal, now, free(1), Priority::Create, false).is_ok(), "accepted keys continue");
        assert!(admit(&mut portal, now, free(2), Priority::Create, true).is_ok(), "so do those of others");
    }
}
