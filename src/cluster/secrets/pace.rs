//! How fast Secrets are read: of each namespace, and each by itself. Pure: the time is an argument.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// A namespace reads one more Secret in this time.
const OF_NAMESPACE: Duration = Duration::from_millis(20);
/// How many a namespace reads at once.
const AT_ONCE_OF_NAMESPACE: u32 = 100;
/// A Secret of so many bytes counts as one more read.
const LARGE: usize = 64 * 1024;
/// The same Secret is read again, for entries that the last read did not keep, once in this time.
const OF_SECRET: Duration = Duration::from_secs(1);
/// How often the same Secret is read at once.
const AT_ONCE_OF_SECRET: u32 = 3;

/// When who may read next.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    namespaces: HashMap<String, OfNamespace>,
}

#[derive(Debug, Default)]
struct OfNamespace {
    pace: Pace,
    secrets: HashMap<String, Pace>,
}

/// One pace: the generic cell rate algorithm. What was used up lies in the future.
#[derive(Debug, Default)]
struct Pace {
    used_up_to: Option<Instant>,
}

impl Pace {
    /// Takes one place, and says when it comes.
    fn take(&mut self, now: Instant, each: Duration, at_once: u32) -> Instant {
        let from = self.used_up_to.map_or(now, |used| used.max(now));
        let used = from + each;
        self.used_up_to = Some(used);
        used.checked_sub(each * at_once).map_or(now, |place| place.max(now))
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.used_up_to.is_none_or(|used| used <= now)
    }
}

impl Paces {
    /// When one more Secret of this namespace may be read.
    pub(crate) fn read(&mut self, namespace: &str, now: Instant) -> Instant {
        self.of(namespace).pace.take(now, OF_NAMESPACE, AT_ONCE_OF_NAMESPACE)
    }

    /// When this Secret may be read again.
    pub(crate) fn read_again(&mut self, namespace: &str, name: &str, now: Instant) -> Instant {
        let secrets = &mut self.of(namespace).secrets;
        if !secrets.contains_key(name) {
            secrets.insert(name.to_owned(), Pace::default());
        }
        secrets.get_mut(name).map_or(now, |pace| pace.take(now, OF_SECRET, AT_ONCE_OF_SECRET))
    }

    /// What was read had that many bytes.
    pub(crate) fn was_large(&mut self, namespace: &str, bytes: usize) {
        let more = u32::try_from(bytes / LARGE).unwrap_or(u32::MAX);
        let pace = &mut self.of(namespace).pace;
        pace.used_up_to = pace.used_up_to.map(|used| used + OF_NAMESPACE * more);
    }

    /// Forgets those who are as fast as they can be.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.namespaces.retain(|_, of| {
            of.secrets.retain(|_, pace| !pace.is_idle(now));
            !of.secrets.is_empty() || !of.pace.is_idle(now)
        });
    }

    fn of(&mut self, namespace: &str) -> &mut OfNamespace {
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), OfNamespace::default());
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
        let mut paces = Paces::default();
        let waits: Vec<_> = (0..1_000).map(|_| paces.read("large", now) - now).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 100);
        assert_eq!(waits[999], Duration::from_secs(18));
        assert_eq!(paces.read("small", now), now, "another one does not wait");
    }

    #[test]
    fn large_secrets_are_read_three_times_a_second() {
        let mut now = Instant::now();
        let mut paces = Paces::default();
        let begun = now;
        for _ in 0..100 {
            now = paces.read("team", now);
            paces.was_large("team", 1024 * 1024);
        }
        let seconds = now.duration_since(begun).as_secs();
        assert!((30..=36).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_secret_whose_entries_are_asked_for_one_by_one_is_read_once_a_second() {
        let now = Instant::now();
        let mut paces = Paces::default();
        let waits: Vec<_> = (0..5).map(|_| paces.read_again("team", "okid", now) - now).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2].map(Duration::from_secs));
        paces.forget(now + Duration::from_mins(1));
        assert!(paces.namespaces.is_empty());
    }
}
