//! How fast Secrets are read: a rate limit for each namespace and for each Secret. Pure: the time is an argument.
//! Depends on `rate_limit`.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::rate_limit::RateLimiter;

/// The interval between two reads of a namespace.
const NAMESPACE_INTERVAL: Duration = Duration::from_millis(20);
/// How many reads of a namespace go at once.
const NAMESPACE_BURST: u32 = 100;
/// A Secret counts as one more read for each of these bytes.
const LARGE: usize = 64 * 1024;
/// The interval between two reads of the same Secret, for entries that the previous read did not cache.
const SECRET_INTERVAL: Duration = Duration::from_secs(1);
/// How many reads of the same Secret go at once.
const SECRET_BURST: u32 = 3;

/// The rate limits of all namespaces.
#[derive(Debug, Default)]
pub(crate) struct RateLimits {
    namespaces: HashMap<String, NamespaceLimits>,
}

#[derive(Debug, Default)]
struct NamespaceLimits {
    all: RateLimiter,
    secrets: HashMap<String, RateLimiter>,
}

impl RateLimits {
    /// When one more Secret of this namespace may be read.
    pub(crate) fn read(&mut self, namespace: &str, now: Instant) -> Instant {
        self.namespace(namespace).all.take(now, NAMESPACE_INTERVAL, NAMESPACE_BURST)
    }

    /// When this Secret may be read again.
    pub(crate) fn read_again(&mut self, namespace: &str, name: &str, now: Instant) -> Instant {
        let secrets = &mut self.namespace(namespace).secrets;
        if !secrets.contains_key(name) {
            secrets.insert(name.to_owned(), RateLimiter::default());
        }
        secrets.get_mut(name).map_or(now, |limit| limit.take(now, SECRET_INTERVAL, SECRET_BURST))
    }

    /// A Secret that was read had that many bytes.
    pub(crate) fn charge_bytes(&mut self, namespace: &str, bytes: usize) {
        let more = u32::try_from(bytes / LARGE).unwrap_or(u32::MAX);
        self.namespace(namespace).all.charge(NAMESPACE_INTERVAL * more);
    }

    /// Removes the limits that do not delay anything.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.namespaces.retain(|_, limits| {
            limits.secrets.retain(|_, limit| !limit.is_idle(now));
            !limits.secrets.is_empty() || !limits.all.is_idle(now)
        });
    }

    fn namespace(&mut self, namespace: &str) -> &mut NamespaceLimits {
        // Names are copied only if they are new.
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), NamespaceLimits::default());
        }
        self.namespaces.entry(namespace.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_with_a_thousand_secrets_reads_a_hundred_at_once_and_fifty_a_second() {
        let now = Instant::now();
        let mut limits = RateLimits::default();
        let waits: Vec<_> = (0..1_000).map(|_| limits.read("large", now) - now).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 100);
        assert_eq!(waits[999], Duration::from_secs(18));
        assert_eq!(limits.read("small", now), now, "another namespace does not wait");
    }

    #[test]
    fn large_secrets_are_read_three_times_a_second() {
        let mut now = Instant::now();
        let mut limits = RateLimits::default();
        let begun = now;
        for _ in 0..100 {
            now = limits.read("team", now);
            limits.charge_bytes("team", 1024 * 1024);
        }
        let seconds = now.duration_since(begun).as_secs();
        assert!((30..=36).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_secret_whose_entries_are_requested_one_by_one_is_read_once_a_second() {
        let now = Instant::now();
        let mut limits = RateLimits::default();
        let waits: Vec<_> = (0..5).map(|_| limits.read_again("team", "okid", now) - now).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2].map(Duration::from_secs));
        limits.sweep(now + Duration::from_mins(1));
        assert!(limits.namespaces.is_empty());
    }
}
