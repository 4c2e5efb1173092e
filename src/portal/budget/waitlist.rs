//! Spreads deferred requests over time, so that they come back one after another.
//!
//! No clock: times are arguments. May depend on [`priority`](crate::priority).

use std::time::Duration;

use tokio::time::Instant;

use crate::priority::Priority;

/// Longest wait of urgent and active requests.
const SHORT: Duration = Duration::from_secs(10);
/// Longest wait of the others.
const LONG: Duration = Duration::from_mins(5);

/// A waitlist for each priority, so that urgent requests do not wait behind ten thousand new sessions.
#[derive(Debug)]
pub(super) struct Waitlists {
    create: Waitlist,
    requested: Waitlist,
    finishing: Waitlist,
    active: Waitlist,
    idle: Waitlist,
}

impl Waitlists {
    /// Empty waitlists.
    pub(super) const fn new(now: Instant) -> Self {
        Self::within(now, SHORT, LONG)
    }

    /// Empty waitlists on which no request waits for longer than `urgent`, or `other` if it is not urgent and not active.
    pub(super) const fn within(now: Instant, urgent: Duration, other: Duration) -> Self {
        Self {
            create: Waitlist::new(now, other),
            requested: Waitlist::new(now, urgent),
            finishing: Waitlist::new(now, urgent),
            active: Waitlist::new(now, urgent),
            idle: Waitlist::new(now, other),
        }
    }

    /// When to try again: after `from`, and `spacing` after the previous request.
    pub(super) fn join(&mut self, priority: Priority, from: Instant, spacing: Duration) -> Instant {
        let waitlist = match priority {
            Priority::Create => &mut self.create,
            Priority::Requested => &mut self.requested,
            Priority::Finishing => &mut self.finishing,
            Priority::Active => &mut self.active,
            Priority::Idle => &mut self.idle,
        };
        waitlist.join(from, spacing)
    }
}

/// Deferred requests, of which only the time of the last is stored.
#[derive(Debug)]
pub(super) struct Waitlist {
    last: Instant,
    max_wait: Duration,
}

impl Waitlist {
    /// An empty waitlist on which no request waits for longer than `max_wait`.
    pub(super) const fn new(now: Instant, max_wait: Duration) -> Self {
        Self { last: now, max_wait }
    }

    /// When to try again: after `from`, and `spacing` after the previous request. When the waitlist is full, it starts over,
    /// so that the further requests are spread as evenly.
    pub(super) fn join(&mut self, from: Instant, spacing: Duration) -> Instant {
        let next = self.last.max(from) + spacing;
        self.last = if next <= from + self.max_wait { next } else { from + spacing };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: Duration = Duration::from_millis(20);

    #[test]
    fn the_first_deferred_request_comes_back_first() {
        let now = Instant::now();
        let mut waitlist = Waitlist::new(now, LONG);
        let times: Vec<_> = (0..100).map(|_| waitlist.join(now, SPACING)).collect();
        assert_eq!(times[..2], [now + SPACING, now + 2 * SPACING]);
        assert!(times.is_sorted());
    }

    #[test]
    fn a_full_waitlist_spreads_the_others_over_its_whole_length() {
        let now = Instant::now();
        let mut waitlist = Waitlist::new(now, SHORT);
        let mut in_second = [0; 11];
        for _ in 0..10_000 {
            let time = waitlist.join(now, SPACING);
            assert!(time > now && time <= now + SHORT);
            in_second[usize::try_from((time - now).as_secs()).unwrap()] += 1;
        }
        assert!(in_second.into_iter().all(|times| times <= 1_000), "{in_second:?}");
    }

    #[test]
    fn urgent_requests_do_not_wait_behind_others() {
        let now = Instant::now();
        let mut waitlists = Waitlists::new(now);
        for _ in 0..10_000 {
            waitlists.join(Priority::Create, now, SPACING);
        }
        assert_eq!(waitlists.join(Priority::Requested, now, SPACING), now + SPACING);
    }
}
