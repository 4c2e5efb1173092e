//! Detects that the API server's state was rolled back: etcd was restored from a backup, and its resourceVersions count
//! from there again. Pure, apart from waiting for a suspicion. Depends on nothing of this crate.
//!
//! A watch from a version that has not been reached again stays silent, and every new object looks older than what is
//! known. Therefore a list of one item is requested now and then beside the watch. A consistent list cannot be older
//! than an earlier response of the same API server; if two lists are, ten seconds apart, the state was rolled back.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// After a list that is older than what is known, the next one is requested after this time.
pub(crate) const LIST_AGAIN: Duration = Duration::from_secs(10);

/// The newest resourceVersion in any response of the API server.
#[derive(Debug, Default)]
pub(crate) struct NewestVersion {
    version: Mutex<Option<u64>>,
    /// Notified when an object was read that is older than its known version.
    suspicion: Notify,
}

impl NewestVersion {
    /// Notes the resourceVersion of a write or of a consistent list. One that is not a number is ignored.
    pub(crate) fn observed(&self, version: &str) {
        if let Ok(version) = version.parse() {
            let mut newest = self.version.lock();
            *newest = (*newest).max(Some(version));
        }
    }

    /// Notes that an object was read that is older than its known version.
    pub(crate) fn suspect_rollback(&self) {
        self.suspicion.notify_one();
    }

    /// Notes that the state was rolled back to that resourceVersion.
    pub(crate) fn reset_to(&self, version: u64) {
        *self.version.lock() = Some(version);
    }

    /// The newest known version; `None` before the first response.
    #[must_use]
    pub(crate) fn get(&self) -> Option<u64> {
        *self.version.lock()
    }

    /// Waits until a rollback is suspected.
    pub(crate) async fn rollback_suspected(&self) {
        self.suspicion.notified().await;
    }
}

/// What a list beside the watch says about a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rollback {
    /// There is none.
    None,
    /// The list is older than what is known; the next one decides.
    Suspected,
    /// The list is the second in a row that is older, at least ten seconds after the first.
    Confirmed,
}

/// Detects a rollback from the lists beside the watch.
#[derive(Debug, Default)]
pub(crate) struct RollbackDetector {
    /// Since when the lists are older than what was known when they were requested.
    older_since: Option<Instant>,
}

impl RollbackDetector {
    /// Checks the version of a list. `known` is what was known before the list was requested.
    pub(crate) fn check(&mut self, now: Instant, known: Option<u64>, version: u64) -> Rollback {
        if known.is_none_or(|known| version >= known) {
            self.older_since = None;
            return Rollback::None;
        }
        let since = *self.older_since.get_or_insert(now);
        if now.saturating_duration_since(since) < LIST_AGAIN {
            return Rollback::Suspected;
        }
        self.older_since = None;
        Rollback::Confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_is_confirmed_by_two_older_lists_ten_seconds_apart() {
        let (mut detector, now) = (RollbackDetector::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(detector.check(now, None, 5), Rollback::None, "nothing was known");
        assert_eq!(detector.check(now, Some(5), 5), Rollback::None);
        assert_eq!(detector.check(now, Some(9), 5), Rollback::Suspected);
        assert_eq!(detector.check(later(9), Some(9), 6), Rollback::Suspected, "too soon to count");
        assert_eq!(detector.check(later(10), Some(9), 6), Rollback::Confirmed);
    }

    #[test]
    fn one_list_from_a_stale_cache_confirms_nothing() {
        let (mut detector, now) = (RollbackDetector::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(detector.check(now, Some(9), 5), Rollback::Suspected);
        assert_eq!(detector.check(later(10), Some(9), 9), Rollback::None);
        assert_eq!(detector.check(later(20), Some(9), 5), Rollback::Suspected, "the count starts again");
    }

    #[test]
    fn only_numbers_are_compared_and_only_the_newest_counts() {
        let newest = NewestVersion::default();
        newest.observed("a9");
        assert_eq!(*newest.version.lock(), None);
        newest.observed("9");
        newest.observed("7");
        assert_eq!(*newest.version.lock(), Some(9));
        newest.reset_to(5);
        newest.observed("6");
        assert_eq!(*newest.version.lock(), Some(6));
    }
}
