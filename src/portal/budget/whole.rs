//! How much a portal as a whole may be asked, whatever the keys: namespaces share its rate, its calls under way, and how
//! many keys that it refuses may be tried. No clock: `now` is an argument.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{APART, BudgetSettings, shares::Shares, uses_reserve};
use crate::priority::Priority;

/// While too many calls are under way, those who wait come again after this at the earliest.
const BEHIND_THE_OTHERS: Duration = Duration::from_millis(500);
/// A namespace whose keys are refused tries another unproven key once in this time.
const REFUSED_KEY_EACH: Duration = Duration::from_secs(1);
/// So many refused keys of a namespace cost it nothing.
const REFUSED_KEYS_AT_ONCE: u32 = 20;

/// One portal.
#[derive(Debug)]
pub(super) struct Whole {
    shares: Option<Shares>,
    most_under_way: usize,
    under_way: usize,
    /// Namespaces that have a call under way.
    active: usize,
    /// Calls under way by namespace, and what their refused keys have used up.
    namespaces: HashMap<u32, OfNamespace>,
}

#[derive(Debug, Default)]
struct OfNamespace {
    under_way: usize,
    refused_up_to: Option<Instant>,
}

impl Whole {
    pub(super) fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self {
            shares: settings.portal_rate.map(|rate| Shares::new(rate, settings.burst, now)),
            most_under_way: settings.most_under_way.max(1),
            under_way: 0,
            active: 0,
            namespaces: HashMap::new(),
        }
    }

    /// Whether one more call of that namespace may go out, and if not, when to come again. `tries_key`: the key is not
    /// known to be good.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        namespace: u32,
        priority: Priority,
        tries_key: bool,
    ) -> Result<(), Instant> {
        if tries_key && let Some(until) = self.refused_until(now, namespace) {
            return Err(until);
        }
        if self.is_full(namespace) {
            let from = now + BEHIND_THE_OTHERS;
            return Err(match &mut self.shares {
                Some(shares) => shares.line_up(namespace, priority, from),
                None => from + APART,
            });
        }
        if let Some(shares) = &mut self.shares {
            shares.take(now, namespace, priority, uses_reserve(priority))?;
        }
        self.under_way += 1;
        let of = self.namespaces.entry(namespace).or_default();
        self.active += usize::from(of.under_way == 0);
        of.under_way += 1;
        Ok(())
    }

    /// A call has ended, or did not go out.
    pub(super) fn ended(&mut self, now: Instant, namespace: u32, key_was_refused: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(of) = self.namespaces.get_mut(&namespace) else { return };
        of.under_way = of.under_way.saturating_sub(1);
        self.active -= usize::from(of.under_way == 0);
        if key_was_refused {
            of.refused_up_to = Some(of.refused_up_to.map_or(now, |used| used.max(now)) + REFUSED_KEY_EACH);
        }
        if of.under_way == 0 && of.refused_up_to.is_none_or(|used| used <= now) {
            self.namespaces.remove(&namespace);
        }
    }

    /// Takes the token back of a call that ended before it went out.
    pub(super) fn gave_back(&mut self, now: Instant, namespace: u32) {
        self.ended(now, namespace, false);
        if let Some(shares) = &mut self.shares {
            shares.give_back(namespace);
        }
    }

    /// How much every interval is to be stretched, at least 1.
    pub(super) fn stretch(&mut self, now: Instant, namespace: u32) -> f64 {
        self.shares.as_mut().map_or(1.0, |shares| shares.stretch(now, namespace))
    }

    /// Forgets namespaces that hold nothing.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.namespaces.retain(|_, of| of.under_way > 0 || of.refused_up_to.is_some_and(|used| used > now));
    }

    /// Half of the places are for whoever comes; of the other half each namespace has its part and some play, because as
    /// many polls as an even part under way on average are now more, now less. One that has none under way gets one on top.
    fn is_full(&self, namespace: u32) -> bool {
        let own = self.namespaces.get(&namespace).map_or(0, |of| of.under_way);
        let part = self.most_under_way / self.active.max(1);
        // Four standard deviations of a number that varies as independent arrivals do.
        let part = part + 4 * part.isqrt();
        if own == 0 {
            return self.under_way >= self.most_under_way.saturating_add(self.most_under_way / 4);
        }
        self.under_way >= self.most_under_way || (own >= part && self.under_way >= self.most_under_way / 2)
    }

    fn refused_until(&self, now: Instant, namespace: u32) -> Option<Instant> {
        let used = self.namespaces.get(&namespace)?.refused_up_to?;
        let until = used.checked_sub(REFUSED_KEY_EACH * REFUSED_KEYS_AT_ONCE)?;
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(most_under_way: usize) -> (Whole, Instant) {
        let now = Instant::now();
        let settings = BudgetSettings { portal_rate: None, most_under_way, ..BudgetSettings::default() };
        (Whole::new(settings, now), now)
    }

    fn admitted(whole: &mut Whole, now: Instant, namespace: u32, times: usize) -> usize {
        (0..times).filter(|_| whole.admit(now, namespace, Priority::Idle, false).is_ok()).count()
    }

    #[test]
    fn a_portal_that_does_not_answer_holds_no_more_calls_than_its_part_and_each_namespace_gets_some() {
        let (mut whole, now) = whole(10_000);
        assert_eq!(admitted(&mut whole, now, 1, 100_000), 10_000, "one alone has all");
        for _ in 0..10_000 {
            whole.ended(now, 1, false);
        }
        assert_eq!(admitted(&mut whole, now, 2, 1), 1);
        assert_eq!(admitted(&mut whole, now, 1, 100_000), 5_280, "half, and some play");
        assert_eq!(admitted(&mut whole, now, 2, 100_000), 4_719, "the rest");
        assert_eq!(admitted(&mut whole, now, 3, 9), 1, "it is full, and a third one gets one all the same");
        whole.ended(now, 1, false);
        whole.ended(now, 1, false);
        assert_eq!(admitted(&mut whole, now, 1, 1), 0, "more than its part of three");
        assert_eq!(admitted(&mut whole, now, 3, 1), 1);
    }

    #[test]
    fn a_hundred_namespaces_that_poll_evenly_are_not_held_up_below_the_whole() {
        // As `bench polls`: 7,500 places, and 62 calls under way of each namespace on average, now more and now fewer.
        let (mut whole, now) = whole(7_500);
        for namespace in 0..100 {
            let busy = if namespace % 2 == 0 { 90 } else { 34 };
            assert_eq!(admitted(&mut whole, now, namespace, busy), busy, "namespace {namespace}");
        }
        assert_eq!(
            admitted(&mut whole, now, 100, 10_000),
            106,
            "one that asks for everything gets its part of 101"
        );
    }

    #[test]
    fn a_thousand_wrong_keys_of_one_namespace_cost_twenty_calls_and_one_a_second() {
        let (mut whole, start) = whole(100);
        let mut calls = 0;
        for tenth in 0..600 {
            let now = start + Duration::from_millis(100) * tenth;
            while whole.admit(now, 1, Priority::Create, true).is_ok() {
                calls += 1;
                whole.ended(now, 1, true);
            }
        }
        assert!((70..=85).contains(&calls), "{calls} in a minute");
        let now = start + Duration::from_mins(1);
        assert!(whole.admit(now, 1, Priority::Create, false).is_ok(), "good keys go on");
        assert!(whole.admit(now, 2, Priority::Create, true).is_ok(), "so do those of others");
    }
}
