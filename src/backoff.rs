//! Exponential backoff: how long to wait before another attempt. Pure: chance is an argument. Depends on nothing of
//! this crate.

use std::time::Duration;

/// A wait that doubles with each failure in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
}

impl Backoff {
    /// The wait after the first failure, and the one that no other exceeds.
    pub(crate) const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest }
    }

    /// The wait after a failure that followed that many others.
    pub(crate) fn wait(self, earlier_failures: u32) -> Duration {
        self.shortest.saturating_mul(2_u32.saturating_pow(earlier_failures)).min(self.longest)
    }

    /// The same with jitter: anywhere from the shortest wait up to [`wait`](Self::wait), as the fraction says, from 0
    /// to 1.
    pub(crate) fn jittered(self, earlier_failures: u32, fraction: f64) -> Duration {
        let range = self.wait(earlier_failures).saturating_sub(self.shortest);
        self.shortest + range.mul_f64(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(30));

    #[test]
    fn a_wait_doubles_with_each_failure_up_to_the_longest() {
        let waits = [0, 1, 2, 3, 4, 5, 31, 32, u32::MAX].map(|failures| BACKOFF.wait(failures).as_secs());
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30, 30, 30]);
        let unbounded = Backoff::new(Duration::from_secs(1), Duration::MAX);
        assert_eq!(unbounded.wait(10), Duration::from_secs(1024));
        assert!(unbounded.wait(u32::MAX) >= unbounded.wait(31));
    }

    #[test]
    fn a_wait_with_jitter_lies_between_the_shortest_and_the_one_without() {
        assert_eq!(BACKOFF.jittered(0, 0.5), Duration::from_secs(2));
        assert_eq!(BACKOFF.jittered(2, 0.0), Duration::from_secs(2));
        assert_eq!(BACKOFF.jittered(2, 0.5), Duration::from_secs(5));
        assert_eq!(BACKOFF.jittered(9, 1.0), Duration::from_secs(30));
    }
}
