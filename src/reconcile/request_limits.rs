//! How many polls notifications may request for the sessions of one namespace and key: a part of the key's rate, so that
//! the others are polled as planned, whatever is announced. State only: the time is an argument. May depend on `fairness` and
//! `rate_limit`.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{fairness::FairnessKey, rate_limit::RateLimiter};

/// Urgent polls may use one part in this many of the key's rate.
const URGENT_PART: u32 = 3;
/// The others may use one part in this many, so that both together use half.
const OTHER_PART: u32 = 6;
/// For how long a key that was quiet may exceed its part.
const BURST: Duration = Duration::from_secs(5);
/// The longest wait. Whatever would have to wait for longer is left to the schedule.
const LONGEST: Duration = Duration::from_mins(1);

/// The limits by namespace and key.
#[derive(Debug)]
pub(super) struct RequestLimits {
    /// The time between two requests at the rate of a key; zero, if there is no limit.
    spacing: Duration,
    used: HashMap<FairnessKey, Used>,
}

/// What is used of the parts of a key.
#[derive(Debug, Default)]
struct Used {
    urgent: RateLimiter,
    other: RateLimiter,
}

impl RequestLimits {
    /// Limits that follow from the time between two requests at the rate of a key; none, if that is zero.
    pub(super) fn new(spacing: Duration) -> Self {
        Self { spacing, used: HashMap::new() }
    }

    /// From when one more poll may be sent. `None` if it is left to the schedule, because too many were requested before.
    pub(super) fn take(&mut self, key: FairnessKey, is_urgent: bool, now: Instant) -> Option<Instant> {
        if self.spacing.is_zero() {
            return Some(now);
        }
        let used = self.used.entry(key).or_default();
        let (used, part) =
            if is_urgent { (&mut used.urgent, URGENT_PART) } else { (&mut used.other, OTHER_PART) };
        let from = used.next(now, BURST);
        if from > now + LONGEST {
            return None;
        }
        used.add(now, self.spacing * part);
        Some(from)
    }

    /// Forgets the keys that have used up nothing.
    pub(super) fn drop_unused(&mut self, now: Instant) {
        self.used.retain(|_, used| !(used.urgent.is_idle(now) && used.other.is_idle(now)));
        self.used.shrink_to(2 * self.used.len());
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.used.capacity() * (size_of::<(FairnessKey, Used)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: FairnessKey = FairnessKey { namespace: 1, key: 1 };
    const OTHER: FairnessKey = FairnessKey { namespace: 1, key: 2 };
    /// Fifty requests per second.
    const SPACING: Duration = Duration::from_millis(20);

    /// Requests a thousand polls per second for ten minutes, and returns how many may be sent in that time.
    fn flood(limits: &mut RequestLimits, is_urgent: bool, begun: Instant) -> usize {
        let end = begun + Duration::from_mins(10);
        let times = (0..600_000).map(|number| begun + Duration::from_millis(1) * number);
        times.filter_map(|now| limits.take(ONE, is_urgent, now)).filter(|from| *from < end).count()
    }

    #[test]
    fn requested_polls_use_half_of_the_rate_of_their_key_whatever_is_announced() {
        let (mut limits, begun) = (RequestLimits::new(SPACING), Instant::now());
        // Of thirty thousand at the full rate, and what may be sent at once.
        assert_eq!(flood(&mut limits, false, begun), 5_000 + 42);
        assert_eq!(limits.take(ONE, true, begun), Some(begun), "urgent ones do not wait for the others");
        let (mut limits, begun) = (RequestLimits::new(SPACING), Instant::now());
        assert_eq!(flood(&mut limits, true, begun), 10_000 + 84);
        assert_eq!(limits.take(OTHER, true, begun), Some(begun), "another key of the same namespace");
    }

    #[test]
    fn after_a_flood_the_next_poll_waits_for_no_longer_than_a_minute() {
        let (mut limits, begun) = (RequestLimits::new(SPACING), Instant::now());
        flood(&mut limits, false, begun);
        let end = begun + Duration::from_mins(10);
        assert_eq!(limits.take(ONE, false, end), None);
        let later = end + Duration::from_secs(1);
        let waits = limits.take(ONE, false, later).map(|from| from - later);
        assert!(waits.is_some_and(|waits| waits > LONGEST * 9 / 10 && waits <= LONGEST), "{waits:?}");
        limits.drop_unused(later);
        assert_eq!(limits.used.len(), 1);
        limits.drop_unused(later + LONGEST + BURST * 2);
        assert!(limits.used.is_empty());
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let (mut limits, now) = (RequestLimits::new(Duration::ZERO), Instant::now());
        assert!((0..10_000).all(|_| limits.take(ONE, false, now) == Some(now)));
        assert!(limits.used.is_empty());
    }
}
