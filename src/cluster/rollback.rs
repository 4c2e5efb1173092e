//! Notices that the API server's state went back: etcd was restored from a backup, and its resourceVersions count from
//! there again. Pure, but for who waits for a suspicion.
//!
//! A watch from a version that was not reached again is silent, and every new object looks older than what is known. So a
//! list of one item is asked for beside the watch. A consistent list cannot be older than what an earlier answer told of
//! the same API server; where two of them are, ten seconds apart, its state went back.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// How long after a list that is older than what is known the next one is asked for.
pub const LIST_AGAIN: Duration = Duration::from_secs(10);

/// The newest resourceVersion that an answer of the API server is known to have reached.
#[derive(Debug, Default)]
pub struct NewestVersion {
    version: Mutex<Option<u64>>,
    /// Woken when something was read that is older than what is known of it.
    suspicion: Notify,
}

impl NewestVersion {
    /// An answer to a write, or a consistent list, has that resourceVersion. One that is no number says nothing.
    pub fn reached(&self, version: &str) {
        if let Ok(version) = version.parse() {
            let mut newest = self.version.lock();
            *newest = (*newest).max(Some(version));
        }
    }

    /// Something was read that is older than what is known of it.
    pub fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// The state went back: from here on everything counts from that resourceVersion.
    pub fn went_back_to(&self, version: u64) {
        *self.version.lock() = Some(version);
    }

    /// What is known now; nothing before the first answer.
    #[must_use]
    pub fn known(&self) -> Option<u64> {
        *self.version.lock()
    }

    /// Waits until something was read that is older than what is known of it.
    pub async fn suspected(&self) {
        self.suspicion.notified().await;
    }
}

/// What a list beside the watch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing new.
    Onward,
    /// It is older than what is known; the next one decides.
    Older,
    /// It is the second in a row, and ten seconds later: the state went back.
    WentBack,
}

/// The lists beside the watch, as far as they matter.
#[derive(Debug, Default)]
pub struct Lists {
    /// Since when they are older than what was known then.
    older_since: Option<Instant>,
}

impl Lists {
    /// Takes in a list of that version. `known` is what was known before it was asked for.
    pub fn listed(&mut self, now: Instant, known: Option<u64>, version: u64) -> Said {
        if known.is_none_or(|known| version >= known) {
            self.older_since = None;
            return Said::Onward;
        }
        let since = *self.older_since.get_or_insert(now);
        if now.saturating_duration_since(since) < LIST_AGAIN {
            return Said::Older;
        }
        self.older_since = None;
        Said::WentBack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_went_back_only_by_two_older_lists_ten_seconds_apart() {
        let (mut lists, now) = (Lists::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(lists.listed(now, None, 5), Said::Onward, "nothing was known");
        assert_eq!(lists.listed(now, Some(5), 5), Said::Onward);
        assert_eq!(lists.listed(now, Some(9), 5), Said::Older);
        assert_eq!(lists.listed(later(9), Some(9), 6), Said::Older, "too soon to count");
        assert_eq!(lists.listed(later(10), Some(9), 6), Said::WentBack);
    }

    #[test]
    fn one_list_that_lags_behind_says_nothing() {
        let (mut lists, now) = (Lists::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(lists.listed(now, Some(9), 5), Said::Older);
        assert_eq!(lists.listed(later(10), Some(9), 9), Said::Onward);
        assert_eq!(lists.listed(later(20), Some(9), 5), Said::Older, "it begins anew");
    }

    #[test]
    fn only_numbers_are_compared_and_only_the_newest_counts() {
        let newest = NewestVersion::default();
        newest.reached("a9");
        assert_eq!(*newest.version.lock(), None);
        newest.reached("9");
        newest.reached("7");
        assert_eq!(*newest.version.lock(), Some(9));
        newest.went_back_to(5);
        newest.reached("6");
        assert_eq!(*newest.version.lock(), Some(6));
    }
}
