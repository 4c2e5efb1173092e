//! How long and how often something has lasted, and the arithmetic of times. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// Something that lasts, and how often it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since<T> {
    /// What it is.
    pub what: T,
    /// When it was first seen in a row.
    pub since: Timestamp,
    /// How often it was seen in a row.
    pub count: u32,
}

impl<T: Copy + PartialEq> Since<T> {
    /// Counts `what` once more, or starts again if something else lasted before.
    #[must_use]
    pub(crate) fn one_more(before: Option<Self>, what: T, now: Timestamp) -> Self {
        match before {
            Some(before) if before.what == what => Self { count: before.count.saturating_add(1), ..before },
            _ => Self { what, since: now, count: 1 },
        }
    }

    /// Counts `what` once more, but no more than once in each `spacing` since it was first seen.
    #[must_use]
    pub(crate) fn one_more_every(spacing: Duration, before: Option<Self>, what: T, now: Timestamp) -> Self {
        let is_early = |before: &Self| before.what == what && now < before.counts_again_at(spacing);
        before.filter(is_early).unwrap_or_else(|| Self::one_more(before, what, now))
    }

    /// From when on it is counted again, if no more than once in each `spacing`.
    #[must_use]
    pub(crate) fn counts_again_at(&self, spacing: Duration) -> Timestamp {
        later(self.since, spacing.saturating_mul(self.count))
    }

    /// Whether it has lasted at least this long.
    #[must_use]
    pub(crate) fn lasted(&self, now: Timestamp, long: Duration) -> bool {
        elapsed(self.since, now) >= long
    }
}

/// Time from `from` to `to`; zero if that is negative.
pub(crate) fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// `from` plus `by`, at most the latest time.
pub(crate) fn later(from: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by).ok().and_then(|by| from.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}
