//! What is kept of Secrets: the entries that somebody asked for, for half a minute at most, in bounded memory. Pure: the
//! time is an argument.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use super::ReadSecret;
use crate::{
    lifecycle::{KEY_SOUGHT_EVERY, KeyFault},
    portal::{ApiKey, InvalidKey},
};

/// How long a key is used. A rotated key is used after this at the latest.
const USED: Duration = Duration::from_secs(29);
/// A Secret that appears is found within this.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// How long a missing key is taken for missing: who looks for it may meet the absence that another one found.
const ABSENCE_USED: Duration = FOUND_WITHIN.saturating_sub(KEY_SOUGHT_EVERY);
/// An entry that nobody asked for in this time is not kept with the next read of its Secret. Longer than any wait between
/// two polls.
const ASKED_FOR: Duration = Duration::from_mins(20);
/// Most bytes that are kept, names included.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// What an entry takes beside its name and its value, about.
const ENTRY_BYTES: usize = 256;

/// A key, why there is none, or that nobody knows.
pub(crate) type Found = Result<Result<Arc<ApiKey>, KeyFault>, ReadSecret>;
/// What is in a Secret, or why there is nothing.
pub(crate) type Data = Result<Result<BTreeMap<String, Vec<u8>>, KeyFault>, ReadSecret>;

/// Secrets by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    namespaces: HashMap<String, OfNamespace>,
    /// What was read, and when, in that order.
    read: VecDeque<(Instant, String, String)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct OfNamespace {
    secrets: HashMap<String, Kept>,
    bytes: usize,
}

/// What is kept of one Secret.
#[derive(Debug, Default)]
struct Kept {
    /// Held by who reads it.
    reads: Arc<Mutex<()>>,
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    asked_at: Instant,
    found: Option<(Instant, Found)>,
    bytes: usize,
}

impl Entry {
    fn usable(&self, now: Instant) -> Option<&Found> {
        let (read_at, found) = self.found.as_ref()?;
        let long = match found {
            Ok(Ok(_)) => USED,
            Ok(Err(_)) | Err(ReadSecret) => ABSENCE_USED,
        };
        (now.saturating_duration_since(*read_at) < long).then_some(found)
    }
}

impl Cache {
    /// What is known of an entry; if nothing, the next read of its Secret keeps it, and this is to be held by who reads.
    pub(crate) fn find(
        &mut self,
        namespace: &str,
        name: &str,
        entry: &str,
        now: Instant,
    ) -> Result<Found, Arc<Mutex<()>>> {
        // Names are copied only where they are new.
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), OfNamespace::default());
        }
        let Some(of) = self.namespaces.get_mut(namespace) else { return Err(Arc::default()) };
        if !of.secrets.contains_key(name) {
            of.secrets.insert(name.to_owned(), Kept::default());
        }
        let Some(kept) = of.secrets.get_mut(name) else { return Err(Arc::default()) };
        if let Some(known) = kept.entries.get_mut(entry) {
            known.asked_at = now;
            return known.usable(now).cloned().ok_or_else(|| Arc::clone(&kept.reads));
        }
        let bytes = ENTRY_BYTES + entry.len();
        kept.entries.insert(entry.to_owned(), Entry { asked_at: now, found: None, bytes });
        let reads = Arc::clone(&kept.reads);
        of.bytes += bytes;
        self.bytes += bytes;
        self.make_room((namespace, name));
        Err(reads)
    }

    /// Keeps what was read of a Secret, as far as it was asked for, and returns what that is for `entry`.
    pub(crate) fn keep(
        &mut self,
        namespace: &str,
        name: &str,
        entry: &str,
        data: &Data,
        now: Instant,
    ) -> Found {
        let Some(of) = self.namespaces.get_mut(namespace) else { return judge(data, entry) };
        let Some(kept) = of.secrets.get_mut(name) else { return judge(data, entry) };
        let before: usize = kept.entries.values().map(|entry| entry.bytes).sum();
        kept.entries.retain(|_, entry| now.saturating_duration_since(entry.asked_at) < ASKED_FOR);
        for (name, entry) in &mut kept.entries {
            let found = judge(data, name);
            let value =
                found.as_ref().ok().and_then(|found| found.as_ref().ok()).map_or(0, |key| key.bytes());
            entry.bytes = ENTRY_BYTES + name.len() + value;
            entry.found = Some((now, found));
        }
        let after: usize = kept.entries.values().map(|entry| entry.bytes).sum();
        of.bytes = of.bytes + after - before;
        self.bytes = self.bytes + after - before;
        let found = kept.entries.get(entry).and_then(|entry| entry.found.clone());
        self.read.push_back((now, namespace.to_owned(), name.to_owned()));
        self.make_room((namespace, name));
        found.map_or_else(|| judge(data, entry), |(_, found)| found)
    }

    /// Forgets values that are no longer used.
    pub(crate) fn forget_values(&mut self, now: Instant) {
        while let Some((read_at, _, _)) = self.read.front() {
            if now.saturating_duration_since(*read_at) < USED {
                return;
            }
            let Some((_, namespace, name)) = self.read.pop_front() else { return };
            let Some(of) = self.namespaces.get_mut(&namespace) else { continue };
            let Some(kept) = of.secrets.get_mut(&name) else { continue };
            for (name, entry) in &mut kept.entries {
                let is_over =
                    entry.found.as_ref().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= USED);
                if is_over {
                    let without_value = ENTRY_BYTES + name.len();
                    of.bytes -= entry.bytes - without_value;
                    self.bytes -= entry.bytes - without_value;
                    entry.bytes = without_value;
                    entry.found = None;
                }
            }
        }
    }

    /// Forgets what nobody asks for any more.
    pub(crate) fn forget_names(&mut self, now: Instant) {
        self.namespaces.retain(|_, of| {
            of.secrets.retain(|_, kept| {
                kept.entries.retain(|_, entry| now.saturating_duration_since(entry.asked_at) < ASKED_FOR);
                !kept.entries.is_empty() || Arc::strong_count(&kept.reads) > 1
            });
            of.bytes =
                of.secrets.values().flat_map(|kept| kept.entries.values()).map(|entry| entry.bytes).sum();
            !of.secrets.is_empty()
        });
        self.bytes = self.namespaces.values().map(|of| of.bytes).sum();
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.read.is_empty()
    }

    /// Bytes that are kept, about.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Too much is kept: the namespace that has most of it keeps nothing but what it has just come for. It reads more
    /// often then; nobody else does.
    fn make_room(&mut self, but_for: (&str, &str)) {
        while self.bytes > MOST_BYTES {
            let largest = self.namespaces.iter_mut().max_by_key(|(_, of)| of.bytes);
            let Some((namespace, of)) = largest else { return };
            let spared = Some(but_for.1).filter(|_| namespace == but_for.0);
            of.secrets.retain(|name, _| Some(name.as_str()) == spared);
            let after =
                of.secrets.values().flat_map(|kept| kept.entries.values()).map(|entry| entry.bytes).sum();
            if of.bytes == after {
                // One Secret alone is too much: its entries are kept no longer than they are waited for.
                of.secrets.clear();
                self.bytes -= of.bytes;
                of.bytes = 0;
                continue;
            }
            self.bytes -= of.bytes - after;
            of.bytes = after;
        }
    }
}

/// The key in an entry of what was read.
fn judge(data: &Data, entry: &str) -> Found {
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

    fn secret(entries: &[(&str, usize)]) -> BTreeMap<String, Vec<u8>> {
        entries.iter().map(|(name, bytes)| ((*name).to_owned(), vec![b'k'; *bytes])).collect()
    }

    #[test]
    fn only_entries_that_somebody_asked_for_are_kept_and_are_found_until_they_are_old() {
        let now = Instant::now();
        let mut cache = Cache::default();
        assert!(cache.find("team", "okid", "a", now).is_err());
        let data = Ok(Ok(secret(&[("a", 10), ("b", 4_000), ("c", 4_000)])));
        assert!(cache.keep("team", "okid", "a", &data, now).unwrap().is_ok());
        assert!(cache.bytes() < 1_000, "{}", cache.bytes());
        assert!(cache.find("team", "okid", "a", now + USED / 2).is_ok());
        assert!(cache.find("team", "okid", "b", now).is_err());
        cache.keep("team", "okid", "b", &data, now).unwrap().unwrap();
        for entry in ["a", "b"] {
            assert!(cache.find("team", "okid", entry, now).is_ok(), "{entry}");
        }
        assert!(cache.find("team", "okid", "a", now + USED).is_err());
    }

    #[test]
    fn no_more_than_sixteen_mebibytes_are_kept_and_who_keeps_most_makes_room() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for (namespace, secrets) in [("small", 3), ("large", 10_000)] {
            for number in 0..secrets {
                let name = number.to_string();
                assert!(cache.find(namespace, &name, "apiKey", now).is_err());
                let found =
                    cache.keep(namespace, &name, "apiKey", &Ok(Ok(secret(&[("apiKey", 4_000)]))), now);
                assert!(found.unwrap().is_ok(), "{namespace} {name}");
                assert!(cache.bytes() <= MOST_BYTES);
                assert!(cache.find(namespace, &name, "apiKey", now).is_ok(), "{namespace} {name}");
            }
        }
        assert!((0..3).all(|number| cache.find("small", &number.to_string(), "apiKey", now).is_ok()));
    }

    #[test]
    fn nothing_stays_of_what_nobody_asks_for_any_more() {
        let now = Instant::now();
        let mut cache = Cache::default();
        let _ = cache.find("team", "okid", "a", now);
        cache.keep("team", "okid", "a", &Ok(Ok(secret(&[("a", 10)]))), now).unwrap().unwrap();
        cache.forget_values(now + USED);
        assert!(!cache.is_empty(), "that it was asked for is known");
        cache.forget_names(now + ASKED_FOR);
        assert!(cache.is_empty());
        assert_eq!(cache.bytes(), 0);
    }
}
