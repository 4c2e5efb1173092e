//! A compact record of each live verification: what is known of it from the watch and from our own
//! writes. Touches nothing: no client, no clock, no lock.
//!
//! The table is plain data behind `&mut`. Whoever shares it puts it into a mutex:
//! every operation but [`Index::synced`] (one pass over all records, milliseconds for a hundred
//! thousand) takes about a microsecond, and none of them waits.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    namespaces::Namespaces,
    record_id::RecordId,
    records::{Record, Records},
    version::{Uid, Version},
};

/// The live verifications, by uid and by name. `R` is what a routine look needs to know of one.
#[derive(Debug)]
pub struct Index<R> {
    records: Records<R>,
    by_uid: HashTable<u32>,
    by_name: HashTable<u32>,
    namespaces: Namespaces,
    hasher: RandomState,
    /// Counts the lists. A record that carries another number was not in the last one.
    epoch: u32,
    /// Whether older states are believed until the next list is complete.
    believing: bool,
    name_bytes: usize,
}

/// What an object that was listed or watched means to the table.
#[derive(Debug)]
pub enum Seen<R> {
    /// It was not known.
    New(RecordId),
    /// It was not known, and its name belonged to another object, which is therefore deleted.
    Replaced {
        /// The new record.
        record_id: RecordId,
        /// The record that had the name before.
        removed: Removed<R>,
    },
    /// It changed since it was last seen or written.
    Changed(RecordId),
    /// It is the state that we know already, often the echo of our own write.
    Unchanged(RecordId),
    /// It is older than what we know or wrote, and was left out.
    Stale(RecordId),
}

impl<R> Seen<R> {
    /// The record that stands in the table now.
    #[must_use]
    pub fn record_id(&self) -> RecordId {
        match self {
            Self::New(record_id)
            | Self::Replaced { record_id, removed: _ }
            | Self::Changed(record_id)
            | Self::Unchanged(record_id)
            | Self::Stale(record_id) => *record_id,
        }
    }
}

/// Why a record left the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Its verification was marked with [`Index::leaving`]: it is over, and still exists.
    Settled,
    /// Its verification does not exist any more.
    Deleted,
}

/// A record that left the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Removed<R> {
    /// The handle it had. It leads nowhere now.
    pub record_id: RecordId,
    /// Why it left.
    pub departure: Departure,
    /// What was kept about it.
    pub payload: R,
}

/// One record, to be read.
#[derive(Debug)]
pub struct View<'a, R> {
    /// The namespace of the verification.
    pub namespace: &'a str,
    /// The name of the verification.
    pub name: &'a str,
    /// `metadata.generation` as last seen.
    pub generation: i64,
    /// Whether `metadata.deletionTimestamp` was set.
    pub deleting: bool,
    /// Whether it is marked as about to leave the selector.
    pub leaving: bool,
    /// What is kept about it.
    pub payload: &'a R,
}

impl<R> Default for Index<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Index<R> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            records: Records::new(),
            by_uid: HashTable::new(),
            by_name: HashTable::new(),
            namespaces: Namespaces::default(),
            hasher: RandomState::new(),
            epoch: 0,
            believing: false,
            name_bytes: 0,
        }
    }

    /// Takes in an object that was listed or watched.
    ///
    /// `payload` is called only when the record is new (with `None`) or changed (with what was
    /// kept before). An object without uid or name cannot come from an API server and is kept
    /// under the empty one.
    pub fn seen(&mut self, meta: &ObjectMeta, payload: impl FnOnce(Option<&R>) -> R) -> Seen<R> {
        let uid = Uid::of(meta.uid.as_deref().unwrap_or_default());
        let version = Version::of(meta.resource_version.as_deref().unwrap_or_default());
        let generation = meta.generation.unwrap_or_default();
        let deleting = meta.deletion_timestamp.is_some();
        let (epoch, believing) = (self.epoch, self.believing);

        if let Some(record_id) = self.slot_of_uid_value(uid)
            && let Some(record) = self.records.get_mut(record_id)
        {
            record.epoch = epoch;
            if version == record.version {
                return Seen::Unchanged(record_id);
            }
            if version.is_older_than(record.version) && !believing {
                return Seen::Stale(record_id);
            }
            record.version = version;
            record.generation = generation;
            record.deleting = deleting;
            record.payload = payload(Some(&record.payload));
            return Seen::Changed(record_id);
        }

        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let former = self.slot_of_name(namespace, name);
        if let Some(record_id) = former
            && let Some(record) = self.records.get_mut(record_id)
            && version.is_older_than(record.version)
            && !believing
        {
            // A list from a cache that lags shows the deleted namesake of what we know.
            record.epoch = epoch;
            return Seen::Stale(record_id);
        }
        let removed = former.and_then(|record_id| self.remove_as(record_id, Departure::Deleted));
        let namespace = self.namespaces.intern(namespace);
        let record_id = self.insert(Record {
            uid,
            version,
            generation,
            name: name.into(),
            namespace,
            epoch,
            deleting,
            leaving: false,
            payload: payload(None),
        });
        match removed {
            Some(removed) => Seen::Replaced { record_id, removed },
            None => Seen::New(record_id),
        }
    }

    /// Whether this is the newest state of the object that is known. False when the record is gone.
    #[must_use]
    pub fn is_at(&self, record_id: RecordId, resource_version: &str) -> bool {
        self.records.get(record_id).is_some_and(|record| record.version == Version::of(resource_version))
    }

    /// Whether this state of the object is certain to be older than what is known. False when the record is gone.
    #[must_use]
    pub fn is_past(&self, record_id: RecordId, resource_version: &str) -> bool {
        self.records
            .get(record_id)
            .is_some_and(|record| Version::of(resource_version).is_older_than(record.version))
    }

    /// Believes what is seen from now on until a list is complete, also where it is older than what is known: the API
    /// server's state went back.
    pub fn believe(&mut self) {
        self.believing = true;
    }

    /// Notes that this process wrote the object, so that the watch's echo of the write is
    /// [`Seen::Unchanged`] and anything older [`Seen::Stale`].
    ///
    /// Only for a write that was a compare-and-swap on the resourceVersion of this record: another
    /// write would hide what somebody else changed in between. `change` brings the payload to what
    /// was written. Without effect, and false, when the record is gone or the watch has been
    /// further already.
    pub fn wrote(
        &mut self,
        record_id: RecordId,
        resource_version: &str,
        change: impl FnOnce(&mut R),
    ) -> bool {
        let version = Version::of(resource_version);
        let Some(record) = self.records.get_mut(record_id) else {
            return false;
        };
        if version.is_older_than(record.version) && !self.believing {
            return false;
        }
        record.version = version;
        change(&mut record.payload);
        true
    }

    /// Marks a verification that is about to be settled, **before** the write that does it: once it
    /// is settled the watch reports DELETED, which does not say that the object still exists.
    /// False when the record is gone.
    pub fn leaving(&mut self, record_id: RecordId) -> bool {
        self.mark(record_id, true)
    }

    /// Takes the mark of [`Index::leaving`] back, after a write that is known to have failed. After
    /// a write whose answer was lost the mark stays. False when the record is gone.
    pub fn staying(&mut self, record_id: RecordId) -> bool {
        self.mark(record_id, false)
    }

    /// Removes the object that the watch reported as DELETED. `None` when it is not known.
    pub fn gone(&mut self, uid: &str) -> Option<Removed<R>> {
        let record_id = self.slot_of_uid(uid)?;
        self.remove(record_id)
    }

    /// Removes a record: as settled when it was marked as leaving, as deleted otherwise.
    pub fn remove(&mut self, record_id: RecordId) -> Option<Removed<R>> {
        let leaving = self.records.get(record_id)?.leaving;
        let departure = if leaving { Departure::Settled } else { Departure::Deleted };
        self.remove_as(record_id, departure)
    }

    /// Notes that an object is still there though it could not be read, so that the next
    /// [`Index::synced`] does not take it for deleted. `None` when there is no record of it.
    pub fn still_there(&mut self, uid: &str) -> Option<RecordId> {
        let record_id = self.slot_of_uid(uid)?;
        self.records.get_mut(record_id)?.epoch = self.epoch;
        Some(record_id)
    }

    /// Begins a new list. May be called again before the list is complete.
    pub fn restarted(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Ends a list: what was known and was not in it is removed and returned.
    pub fn synced(&mut self) -> Vec<Removed<R>> {
        self.believing = false;
        let epoch = self.epoch;
        let missing: Vec<RecordId> = self
            .records
            .iter()
            .filter(|(_, record)| record.epoch != epoch)
            .map(|(record_id, _)| record_id)
            .collect();
        missing.into_iter().filter_map(|record_id| self.remove(record_id)).collect()
    }

    /// The record of the object with this name.
    #[must_use]
    pub fn slot_of_name(&self, namespace: &str, name: &str) -> Option<RecordId> {
        let namespace = self.namespaces.find(namespace)?;
        let hash = self.hasher.hash_one((namespace, name));
        let index = self.by_name.find(hash, |&index| {
            self.records
                .at(index)
                .is_some_and(|record| record.namespace == namespace && *record.name == *name)
        })?;
        self.records.slot_at(*index)
    }

    /// The record of the object with this uid.
    #[must_use]
    pub fn slot_of_uid(&self, uid: &str) -> Option<RecordId> {
        self.slot_of_uid_value(Uid::of(uid))
    }

    /// What is known of one verification. `None` when the record is gone.
    #[must_use]
    pub fn view(&self, record_id: RecordId) -> Option<View<'_, R>> {
        let record = self.records.get(record_id)?;
        Some(View {
            namespace: self.namespaces.name(record.namespace),
            name: &record.name,
            generation: record.generation,
            deleting: record.deleting,
            leaving: record.leaving,
            payload: &record.payload,
        })
    }

    /// What is kept about one verification. `None` when the record is gone.
    #[must_use]
    pub fn get(&self, record_id: RecordId) -> Option<&R> {
        self.records.get(record_id).map(|record| &record.payload)
    }

    /// What is kept about one verification, to be changed. `None` when the record is gone.
    pub fn get_mut(&mut self, record_id: RecordId) -> Option<&mut R> {
        self.records.get_mut(record_id).map(|record| &mut record.payload)
    }

    /// Every record, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (RecordId, &R)> {
        self.records.iter().map(|(record_id, record)| (record_id, &record.payload))
    }

    /// How many verifications are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory in use, in bytes: records, indexes, names and namespaces, with their spare
    /// capacity. What a payload keeps on the heap is not in it.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.records.memory()
            + self.by_uid.allocation_size()
            + self.by_name.allocation_size()
            + self.namespaces.memory()
            + self.name_bytes
    }

    fn slot_of_uid_value(&self, uid: Uid) -> Option<RecordId> {
        let hash = self.hasher.hash_one(uid);
        let index = self
            .by_uid
            .find(hash, |&index| self.records.at(index).is_some_and(|record| record.uid == uid))?;
        self.records.slot_at(*index)
    }

    fn mark(&mut self, record_id: RecordId, leaving: bool) -> bool {
        match self.records.get_mut(record_id) {
            Some(record) => {
                record.leaving = leaving;
                true
            }
            None => false,
        }
    }

    fn insert(&mut self, record: Record<R>) -> RecordId {
        let by_uid = self.hasher.hash_one(record.uid);
        let by_name = self.hasher.hash_one((record.namespace, &*record.name));
        self.name_bytes += record.name.len();
        let record_id = self.records.insert(record);
        let (records, hasher) = (&self.records, &self.hasher);
        self.by_uid.insert_unique(by_uid, record_id.index, |&index| {
            records.at(index).map_or(0, |record| hasher.hash_one(record.uid))
        });
        self.by_name.insert_unique(by_name, record_id.index, |&index| {
            records.at(index).map_or(0, |record| hasher.hash_one((record.namespace, &*record.name)))
        });
        record_id
    }

    fn remove_as(&mut self, record_id: RecordId, departure: Departure) -> Option<Removed<R>> {
        let record = self.records.remove(record_id)?;
        let by_uid = self.hasher.hash_one(record.uid);
        if let Ok(entry) = self.by_uid.find_entry(by_uid, |&index| index == record_id.index) {
            entry.remove();
        }
        let by_name = self.hasher.hash_one((record.namespace, &*record.name));
        if let Ok(entry) = self.by_name.find_entry(by_name, |&index| index == record_id.index) {
            entry.remove();
        }
        self.namespaces.release(record.namespace);
        self.name_bytes -= record.name.len();
        Some(Removed { record_id, departure, payload: record.payload })
    }
}

#[cfg(test)]
mod tests;
