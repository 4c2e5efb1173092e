//! A cache of the entries of Secrets that were requested: for half a minute at most, in bounded memory. Pure: the time
//! is an argument.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use crate::{
    api::SecretKeyRef,
    lifecycle::{KeyFault, MISSING_KEY_CHECKED_EVERY},
    portal::{ApiKey, InvalidKey},
};

/// How long a key is used. A rotated key is picked up after this at the latest.
const KEY_TTL: Duration = Duration::from_secs(29);
/// A Secret that is created is found within this.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// How long a missing key counts as missing: a reconcile that waits for it may get the absence that another one found.
const ABSENCE_TTL: Duration = FOUND_WITHIN.saturating_sub(MISSING_KEY_CHECKED_EVERY);
/// An entry that was not requested in this time is removed. Longer than any wait between two polls.
const REQUEST_TTL: Duration = Duration::from_mins(20);
/// The most bytes in the cache, names included.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// The approximate bytes of an entry without its name and value.
const ENTRY_BYTES: usize = 256;

/// The Secret could not be read, and it is unknown whether it exists.
#[derive(Debug, Clone, thiserror::Error)]
#[error("read the Secret that holds the API key")]
pub(crate) struct ReadSecret;

/// A key, or why there is none, or that it is unknown.
pub(crate) type KeyLookup = Result<Result<Arc<ApiKey>, KeyFault>, ReadSecret>;
/// The data of a Secret, or why there is none, or that it is unknown.
pub(crate) type SecretData = Result<Result<BTreeMap<String, Vec<u8>>, KeyFault>, ReadSecret>;

/// The cached Secrets by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    namespaces: HashMap<String, CachedNamespace>,
    /// Which Secrets were read and when, the oldest first.
    reads: VecDeque<(Instant, String, String)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct CachedNamespace {
    secrets: HashMap<String, CachedSecret>,
    bytes: usize,
}

/// The requested entries of one Secret.
#[derive(Debug, Default)]
struct CachedSecret {
    /// Held while it is read.
    read_lock: Arc<Mutex<()>>,
    entries: HashMap<String, CachedEntry>,
}

#[derive(Debug)]
struct CachedEntry {
    requested_at: Instant,
    result: Option<(Instant, KeyLookup)>,
    bytes: usize,
}

impl CachedEntry {
    fn usable(&self, now: Instant) -> Option<&KeyLookup> {
        let (read_at, result) = self.result.as_ref()?;
        let ttl = match result {
            Ok(Ok(_)) => KEY_TTL,
            Ok(Err(_)) | Err(ReadSecret) => ABSENCE_TTL,
        };
        (now.saturating_duration_since(*read_at) < ttl).then_some(result)
    }
}

impl Cache {
    /// What is known of an entry. If nothing is, the next read of its Secret caches it, and the returned lock is to be
    /// held while reading.
    pub(crate) fn find(
        &mut self,
        namespace: &str,
        at: &SecretKeyRef,
        now: Instant,
    ) -> Result<KeyLookup, Arc<Mutex<()>>> {
        let SecretKeyRef { name, key: entry } = at;
        // Names are copied only if they are new.
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), CachedNamespace::default());
        }
        let Some(cached) = self.namespaces.get_mut(namespace) else { return Err(Arc::default()) };
        if !cached.secrets.contains_key(name) {
            cached.secrets.insert(name.to_owned(), CachedSecret::default());
        }
        let Some(secret) = cached.secrets.get_mut(name) else { return Err(Arc::default()) };
        if let Some(known) = secret.entries.get_mut(entry) {
            known.requested_at = now;
            return known.usable(now).cloned().ok_or_else(|| Arc::clone(&secret.read_lock));
        }
        let bytes = ENTRY_BYTES + entry.len();
        secret.entries.insert(entry.to_owned(), CachedEntry { requested_at: now, result: None, bytes });
        let read_lock = Arc::clone(&secret.read_lock);
        cached.bytes += bytes;
        self.bytes += bytes;
        self.evict((namespace, name));
        Err(read_lock)
    }

    /// Caches the requested entries of a Secret that was read, and returns the result for the one at `at`.
    pub(crate) fn insert(
        &mut self,
        namespace: &str,
        at: &SecretKeyRef,
        data: &SecretData,
        now: Instant,
    ) -> KeyLookup {
        let SecretKeyRef { name, key: entry } = at;
        let Some(cached) = self.namespaces.get_mut(namespace) else { return find_key(data, entry) };
        let Some(secret) = cached.secrets.get_mut(name) else { return find_key(data, entry) };
        let before: usize = secret.entries.values().map(|entry| entry.bytes).sum();
        secret.entries.retain(|_, entry| now.saturating_duration_since(entry.requested_at) < REQUEST_TTL);
        for (name, entry) in &mut secret.entries {
            let result = find_key(data, name);
            let value =
                result.as_ref().ok().and_then(|found| found.as_ref().ok()).map_or(0, |key| key.bytes());
            entry.bytes = ENTRY_BYTES + name.len() + value;
            entry.result = Some((now, result));
        }
        let after: usize = secret.entries.values().map(|entry| entry.bytes).sum();
        cached.bytes = cached.bytes + after - before;
        self.bytes = self.bytes + after - before;
        let result = secret.entries.get(entry).and_then(|entry| entry.result.clone());
        self.reads.push_back((now, namespace.to_owned(), name.to_owned()));
        self.evict((namespace, name));
        result.map_or_else(|| find_key(data, entry), |(_, result)| result)
    }

    /// Removes values that have expired.
    pub(crate) fn expire_values(&mut self, now: Instant) {
        while let Some((read_at, _, _)) = self.reads.front() {
            if now.saturating_duration_since(*read_at) < KEY_TTL {
                return;
            }
            let Some((_, namespace, name)) = self.reads.pop_front() else { return };
            let Some(cached) = self.namespaces.get_mut(&namespace) else { continue };
            let Some(secret) = cached.secrets.get_mut(&name) else { continue };
            for (name, entry) in &mut secret.entries {
                let has_expired = entry
                    .result
                    .as_ref()
                    .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= KEY_TTL);
                if has_expired {
                    let without_value = ENTRY_BYTES + name.len();
                    cached.bytes -= entry.bytes - without_value;
                    self.bytes -= entry.bytes - without_value;
                    entry.bytes = without_value;
                    entry.result = None;
                }
            }
        }
    }

    /// Removes entries that are no longer requested.
    pub(crate) fn expire_entries(&mut self, now: Instant) {
        self.namespaces.retain(|_, cached| {
            cached.secrets.retain(|_, secret| {
                secret
                    .entries
                    .retain(|_, entry| now.saturating_duration_since(entry.requested_at) < REQUEST_TTL);
                !secret.entries.is_empty() || Arc::strong_count(&secret.read_lock) > 1
            });
            cached.bytes = cached
                .secrets
                .values()
                .flat_map(|secret| secret.entries.values())
                .map(|entry| entry.bytes)
                .sum();
            !cached.secrets.is_empty()
        });
        self.bytes = self.namespaces.values().map(|cached| cached.bytes).sum();
    }

    /// Whether the cache is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.reads.is_empty()
    }

    /// The approximate bytes in the cache.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Evicts entries while there are too many bytes: of the namespace with the most bytes everything but the Secret
    /// that was just requested. That namespace then reads more often, and no other does.
    fn evict(&mut self, spared: (&str, &str)) {
        while self.bytes > MOST_BYTES {
            let largest = self.namespaces.iter_mut().max_by_key(|(_, cached)| cached.bytes);
            let Some((namespace, cached)) = largest else { return };
            let spared = Some(spared.1).filter(|_| namespace == spared.0);
            cached.secrets.retain(|name, _| Some(name.as_str()) == spared);
            let after = cached
                .secrets
                .values()
                .flat_map(|secret| secret.entries.values())
                .map(|entry| entry.bytes)
                .sum();
            if cached.bytes == after {
                // One Secret alone is too large: its entries are not cached.
                cached.secrets.clear();
                self.bytes -= cached.bytes;
                cached.bytes = 0;
                continue;
            }
            self.bytes -= cached.bytes - after;
            cached.bytes = after;
        }
    }
}

/// The key in an entry of a Secret that was read.
fn find_key(data: &SecretData, entry: &str) -> KeyLookup {
    let data = match data {
        Ok(Ok(data)) => data,
        Ok(Err(fault)) => return Ok(Err(*fault)),
        Err(unread) => return Err(unread.clone()),
    };
    Ok(match data.get(entry) {
        None => Err(KeyFault::KeyMissing),
        Some(value) => ApiKey::parse(value).map(Arc::new).map_err(|shape| match shape {
            InvalidKey::Empty => KeyFault::KeyEmpty,
            InvalidKey::Malformed => KeyFault::KeyMalformed,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, entry: &str) -> SecretKeyRef {
        SecretKeyRef { name: name.to_owned(), key: entry.to_owned() }
    }

    fn secret(entries: &[(&str, usize)]) -> BTreeMap<String, Vec<u8>> {
        entries.iter().map(|(name, bytes)| ((*name).to_owned(), vec![b'k'; *bytes])).collect()
    }

    #[test]
    fn only_requested_entries_are_cached_until_they_expire() {
        let now = Instant::now();
        let mut cache = Cache::default();
        assert!(cache.find("team", &at("okid", "a"), now).is_err());
        let data = Ok(Ok(secret(&[("a", 10), ("b", 4_000), ("c", 4_000)])));
        assert!(cache.insert("team", &at("okid", "a"), &data, now).unwrap().is_ok());
        assert!(cache.bytes() < 1_000, "{}", cache.bytes());
        assert!(cache.find("team", &at("okid", "a"), now + KEY_TTL / 2).is_ok());
        assert!(cache.find("team", &at("okid", "b"), now).is_err());
        cache.insert("team", &at("okid", "b"), &data, now).unwrap().unwrap();
        for entry in ["a", "b"] {
            assert!(cache.find("team", &at("okid", entry), now).is_ok(), "{entry}");
        }
        assert!(cache.find("team", &at("okid", "a"), now + KEY_TTL).is_err());
    }

    #[test]
    fn the_cache_is_bounded_and_the_largest_namespace_is_evicted() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for (namespace, secrets) in [("small", 3), ("large", 10_000)] {
            for number in 0..secrets {
                let name = number.to_string();
                assert!(cache.find(namespace, &at(&name, "apiKey"), now).is_err());
                let found =
                    cache.insert(namespace, &at(&name, "apiKey"), &Ok(Ok(secret(&[("apiKey", 4_000)]))), now);
                assert!(found.unwrap().is_ok(), "{namespace} {name}");
                assert!(cache.bytes() <= MOST_BYTES);
                assert!(cache.find(namespace, &at(&name, "apiKey"), now).is_ok(), "{namespace} {name}");
            }
        }
        assert!((0..3).all(|number| cache.find("small", &at(&number.to_string(), "apiKey"), now).is_ok()));
    }

    #[test]
    fn entries_that_are_no_longer_requested_are_removed() {
        let now = Instant::now();
        let mut cache = Cache::default();
        let _ = cache.find("team", &at("okid", "a"), now);
        cache.insert("team", &at("okid", "a"), &Ok(Ok(secret(&[("a", 10)]))), now).unwrap().unwrap();
        cache.expire_values(now + KEY_TTL);
        assert!(!cache.is_empty(), "the request is remembered");
        cache.expire_entries(now + REQUEST_TTL);
        assert!(cache.is_empty());
        assert_eq!(cache.bytes(), 0);
    }
}
