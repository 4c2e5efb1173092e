//! The budget of one portal, whatever the keys: the namespaces share its rate, its requests in flight, and the number of
//! trials of refused keys.
//!
//! No clock: `now` is an argument. May depend on [`fair_share`](super::fair_share) and [`settings`](super::settings).

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    fair_share::FairShares,
    settings::{BudgetSettings, UNLIMITED_SPACING, uses_reserve},
};
use crate::priority::Priority;

/// While too many requests are in flight, the others try again after this at the earliest.
const WHILE_FULL: Duration = Duration::from_millis(500);
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
}

#[derive(Debug, Default)]
struct NamespaceState {
    in_flight: usize,
    /// How far its refused keys have used up the allowance for trials.
    refused_up_to: Option<Instant>,
}

impl PortalBudget {
    pub(super) fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self {
            shares: settings.portal_rate.map(|rate| FairShares::new(rate, settings.burst, now)),
            max_in_flight: settings.max_in_flight.max(1),
            in_flight: 0,
            active: 0,
            namespaces: HashMap::new(),
        }
    }

    /// Admits a request of the namespace, or says when to try again. `is_key_trial`: the key is not known to be accepted.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        namespace: u32,
        priority: Priority,
        is_key_trial: bool,
    ) -> Result<(), Instant> {
        if is_key_trial && let Some(until) = self.refused_until(now, namespace) {
            return Err(until);
        }
        if self.is_full(namespace) {
            let from = now + WHILE_FULL;
            return Err(match &mut self.shares {
                Some(shares) => shares.defer(namespace, priority, from),
                None => from + UNLIMITED_SPACING,
            });
        }
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
        let Some(state) = self.namespaces.get_mut(&namespace) else { return };
        state.in_flight = state.in_flight.saturating_sub(1);
        self.active -= usize::from(state.in_flight == 0);
        if key_was_refused {
            state.refused_up_to =
                Some(state.refused_up_to.map_or(now, |used| used.max(now)) + REFUSED_KEY_INTERVAL);
        }
        if state.in_flight == 0 && state.refused_up_to.is_none_or(|used| used <= now) {
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
        self.namespaces
            .retain(|_, state| state.in_flight > 0 || state.refused_up_to.is_some_and(|used| used > now));
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

    fn portal_budget(max_in_flight: usize) -> (PortalBudget, Instant) {
        let now = Instant::now();
        let settings = BudgetSettings { portal_rate: None, max_in_flight, ..BudgetSettings::default() };
        (PortalBudget::new(settings, now), now)
    }

    fn admitted(portal: &mut PortalBudget, now: Instant, namespace: u32, times: usize) -> usize {
        (0..times).filter(|_| portal.admit(now, namespace, Priority::Idle, false).is_ok()).count()
    }

    #[test]
    fn a_silent_portal_holds_a_bounded_number_of_requests_and_each_namespace_gets_some() {
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
        // As in `bench polls`: 7,500 permits, and on average 62 requests in flight of each namespace.
        let (mut portal, now) = portal_budget(7_500);
        for namespace in 0..100 {
            let busy = if namespace % 2 == 0 { 90 } else { 34 };
            assert_eq!(admitted(&mut portal, now, namespace, busy), busy, "namespace {namespace}");
        }
        assert_eq!(
            admitted(&mut portal, now, 100, 10_000),
            106,
            "one that wants everything gets its share of 101"
        );
    }

    #[test]
    fn a_thousand_wrong_keys_of_a_namespace_cost_twenty_requests_and_one_a_second() {
        let (mut portal, start) = portal_budget(100);
        let mut requests = 0;
        for tenth in 0..600 {
            let now = start + Duration::from_millis(100) * tenth;
            while portal.admit(now, 1, Priority::Create, true).is_ok() {
                requests += 1;
                portal.ended(now, 1, true);
            }
        }
        assert!((70..=85).contains(&requests), "{requests} in a minute");
        let now = start + Duration::from_mins(1);
        assert!(portal.admit(now, 1, Priority::Create, false).is_ok(), "accepted keys continue");
        assert!(portal.admit(now, 2, Priority::Create, true).is_ok(), "so do those of others");
    }
}
