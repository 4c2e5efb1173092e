//! Detects that the API server's state was rolled back: etcd was restored from a backup, and its resourceVersions count
//! from there again. Pure, apart from waiting for a suspicion. Depends on nothing of this crate.
//!
//! A watch from a version that has not been reached again stays silent, and every new object looks older than what is
//! known. Therefore a list of one item is requested now and then beside the watch. A consistent list cannot be older
//! than an earlier response of the same API server; if two lists are, ten seconds apart, the state was rolled back.
//!
//! A write of the Lease has a resourceVersion of the same etcd, and makes that list unnecessary as long as it is not older
//! than what is known. An API server may keep Leases in another etcd, so their versions are compared and not taken over. A
//! Lease that is older than it was says for certain that the state of its etcd was rolled back.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// After a list that is older than what is known, the next one is requested after this time.
pub(crate) const LIST_AGAIN: Duration = Duration::from_secs(10);

/// The newest resourceVersions in any response of the API server.
#[derive(Debug, Default)]
pub(crate) struct NewestVersion {
    versions: Mutex<Versions>,
    /// Notified when something was read that is older than its known version.
    suspicion: Notify,
}

#[derive(Debug, Default)]
struct Versions {
    /// Of a verification or of a list of them.
    newest: Option<u64>,
    /// Of the Lease.
    lease: Option<u64>,
    /// Whether the Lease was newer before, and the state was not [reset](NewestVersion::reset_to) since.
    has_gone_back: bool,
    /// When a write of the Lease last had a version that was not older than what was known.
    confirmed: Option<Instant>,
}

impl NewestVersion {
    /// Notes the resourceVersion of a write or of a consistent list. One that is not a number is ignored.
    pub(crate) fn observed(&self, version: &str) {
        if let Ok(version) = version.parse() {
            let newest = &mut self.versions.lock().newest;
            *newest = (*newest).max(Some(version));
        }
    }

    /// Notes the resourceVersion of the Lease that was read.
    pub(crate) fn lease_read(&self, version: &str) {
        if let Ok(version) = version.parse() {
            self.note_lease(version);
        }
    }

    /// Notes the resourceVersion of the Lease that was written. `known` is what was known before the write was sent.
    pub(crate) fn lease_written(&self, known: Option<u64>, version: &str, now: Instant) {
        let Ok(version) = version.parse() else { return };
        if self.note_lease(version) && known.is_none_or(|known| version >= known) {
            self.versions.lock().confirmed = Some(now);
        }
    }

    /// False if the Lease was newer before, now or earlier.
    fn note_lease(&self, version: u64) -> bool {
        let mut versions = self.versions.lock();
        let before = versions.lease.replace(version);
        if before > Some(version) {
            versions.has_gone_back = true;
            versions.confirmed = None;
            self.suspicion.notify_one();
        }
        !versions.has_gone_back
    }

    /// Whether the Lease was newer before: the state was rolled back.
    pub(crate) fn has_gone_back(&self) -> bool {
        self.versions.lock().has_gone_back
    }

    /// Whether a write of the Lease within this time had a version that was not older than what was known.
    pub(crate) fn is_confirmed(&self, within: Duration, now: Instant) -> bool {
        let confirmed = self.versions.lock().confirmed;
        confirmed.is_some_and(|confirmed| now.saturating_duration_since(confirmed) < within)
    }

    /// Notes that something was read that is older than its known version, or that nothing was compared for long.
    pub(crate) fn suspect_rollback(&self) {
        self.suspicion.notify_one();
    }

    /// Notes that the state was rolled back to that resourceVersion.
    pub(crate) fn reset_to(&self, version: u64) {
        let mut versions = self.versions.lock();
        (versions.newest, versions.has_gone_back) = (Some(version), false);
    }

    /// The newest known version; `None` before the first response.
    #[must_use]
    pub(crate) fn get(&self) -> Option<u64> {
        self.versions.lock().newest
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
    use futures::FutureExt as _;

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
        assert_eq!(newest.get(), None);
        newest.observed("9");
        newest.observed("7");
        assert_eq!(newest.get(), Some(9));
        newest.reset_to(5);
        newest.observed("6");
        assert_eq!(newest.get(), Some(6));
    }

    #[test]
    fn a_written_lease_that_is_not_older_than_what_is_known_confirms_the_state() {
        let (newest, now) = (NewestVersion::default(), Instant::now());
        let within = Duration::from_secs(30);
        newest.observed("10");
        newest.lease_written(Some(10), "9", now);
        assert!(!newest.is_confirmed(within, now), "it may be in another etcd");
        newest.lease_written(Some(10), "12", now);
        newest.observed("13");
        assert!(newest.is_confirmed(within, now), "what was written meanwhile does not count");
        assert!(!newest.is_confirmed(within, now + within));
        assert_eq!(newest.get(), Some(13), "its versions are not taken over");
        newest.lease_read("12");
        assert!(newest.is_confirmed(within, now));
    }

    #[test]
    fn a_lease_that_is_older_than_it_was_shows_a_rollback_until_the_next_list() {
        let (newest, now) = (NewestVersion::default(), Instant::now());
        let within = Duration::from_secs(30);
        newest.observed("10");
        newest.lease_written(Some(10), "90", now);
        assert_eq!(newest.suspicion.notified().now_or_never(), None);
        newest.lease_read("50");
        assert_eq!(newest.suspicion.notified().now_or_never(), Some(()));
        assert!(newest.has_gone_back() && !newest.is_confirmed(within, now));
        newest.lease_written(newest.get(), "95", now);
        assert!(newest.has_gone_back() && !newest.is_confirmed(within, now));
        newest.reset_to(52);
        assert!(!newest.has_gone_back());
        newest.lease_written(newest.get(), "97", now);
        assert!(newest.is_confirmed(within, now));
    }
}
