//! The index: what is known of each live verification from the watch and from our own writes. Pure: no client, no
//! clock, no lock.
//!
//! It is plain data behind `&mut`, and is shared behind a mutex: every operation takes about a microsecond and none
//! waits, except [`Index::init_done`], which passes once over all records (milliseconds for a hundred thousand).

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    applied::{Applied, RemovalReason, Removed},
    namespaces::Namespaces,
    record_id::RecordId,
    records::{Record, Records},
    version::{ShortUid, Uid, Version},
};

/// The live verifications by uid and by name. `R` is what the caller stores with each.
#[derive(Debug)]
pub(crate) struct Index<R> {
    records: Records<R>,
    by_uid: HashTable<u32>,
    by_name: HashTable<u32>,
    namespaces: Namespaces,
    hasher: RandomState,
    /// The number of the list that began last. A record carries the number at the time when it was last listed or changed.
    epoch: u32,
    lists: Vec<List>,
    name_bytes: usize,
}

/// What is listed and watched together.
#[derive(Debug)]
struct List {
    /// The namespace; `None` for all.
    namespace: Option<Box<str>>,
    /// The epoch that began with the last list. A record of this namespace from before was not in it.
    epoch: u32,
    /// Whether older versions are accepted until the next list is complete.
    accepts_rollback: bool,
}

/// One record to read.
#[derive(Debug)]
pub(crate) struct View<'a, R> {
    /// The uid of the verification.
    pub uid: Uid,
    /// The namespace of the verification.
    pub namespace: &'a str,
    /// The name of the verification.
    pub name: &'a str,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Whether it is marked as about to be settled.
    pub settling: bool,
    /// What the caller stored with it.
    pub payload: &'a R,
}

impl<R> Default for Index<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Index<R> {
    /// An empty index.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            records: Records::new(),
            by_uid: HashTable::new(),
            by_name: HashTable::new(),
            namespaces: Namespaces::default(),
            hasher: RandomState::new(),
            epoch: 0,
            lists: Vec::new(),
            name_bytes: 0,
        }
    }

    /// Applies an object that was listed or watched.
    ///
    /// `payload` is called only if the record is new (with `None`) or changed (with the previous payload). An object
    /// without uid or name cannot come from an API server and is stored under the empty one.
    pub(crate) fn applied(&mut self, meta: &ObjectMeta, payload: impl FnOnce(Option<&R>) -> R) -> Applied<R> {
        let uid = Uid::of(meta.uid.as_deref().unwrap_or_default());
        let version = Version::of(meta.resource_version.as_deref().unwrap_or_default());
        let deleting = meta.deletion_timestamp.is_some();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let (epoch, accepts_rollback) = (self.epoch, self.accepts_rollback(namespace));

        if let Some(record_id) = self.find_uid(uid)
            && let Some(record) = self.records.get_mut(record_id)
        {
            record.epoch = epoch;
            if version == record.version {
                return Applied::Unchanged(record_id);
            }
            if version.is_older_than(record.version) && !accepts_rollback {
                return Applied::Stale(record_id);
            }
            record.version = version;
            record.deleting = deleting;
            record.payload = payload(Some(&record.payload));
            return Applied::Changed(record_id);
        }

        let name = meta.name.as_deref().unwrap_or_default();
        let former = self.find_by_name(namespace, name);
        if let Some(record_id) = former
            && let Some(record) = self.records.get_mut(record_id)
            && version.is_older_than(record.version)
            && !accepts_rollback
        {
            // A list from a stale cache shows the deleted namesake of the object that we know.
            record.epoch = epoch;
            return Applied::Stale(record_id);
        }
        let removed = former.and_then(|record_id| self.remove_as(record_id, RemovalReason::Deleted));
        let namespace = self.namespaces.intern(namespace);
        let record_id = self.insert(Record {
            uid,
            version,
            name: name.into(),
            namespace,
            epoch,
            deleting,
            settling: false,
            payload: payload(None),
        });
        match removed {
            Some(removed) => Applied::Replaced { record_id, removed },
            None => Applied::New(record_id),
        }
    }

    /// Whether this is the newest known version of the object. False without a record.
    #[must_use]
    pub(crate) fn is_current(&self, record_id: RecordId, resource_version: &str) -> bool {
        self.records.get(record_id).is_some_and(|record| record.version == Version::of(resource_version))
    }

    /// Whether this version of the object is certain to be older than the known one. False without a record.
    #[must_use]
    pub(crate) fn is_outdated(&self, record_id: RecordId, resource_version: &str) -> bool {
        self.records
            .get(record_id)
            .is_some_and(|record| Version::of(resource_version).is_older_than(record.version))
    }

    /// Accepts versions that are older than the known ones until their namespace was listed again: the API server's state
    /// was rolled back.
    pub(crate) fn accept_rollback(&mut self) {
        for list in &mut self.lists {
            list.accepts_rollback = true;
        }
    }

    fn accepts_rollback(&self, namespace: &str) -> bool {
        let is_of = |list: &List| list.namespace.as_deref().is_none_or(|listed| listed == namespace);
        self.lists.iter().any(|list| list.accepts_rollback && is_of(list))
    }

    /// Notes that this process wrote the object, so that the watch's echo of the write is [`Applied::Unchanged`] and
    /// anything older [`Applied::Stale`].
    ///
    /// Only for a compare-and-swap on the resourceVersion of this record: any other write would hide what somebody else
    /// changed in between. `change` updates the payload to what was written. Does nothing and returns false if there is
    /// no record, or if the watch has brought a newer version already.
    pub(crate) fn wrote(
        &mut self,
        record_id: RecordId,
        resource_version: &str,
        change: impl FnOnce(&mut R),
    ) -> bool {
        let version = Version::of(resource_version);
        let Some(namespace) =
            self.records.get(record_id).map(|record| self.namespaces.name(record.namespace))
        else {
            return false;
        };
        let accepts_rollback = self.accepts_rollback(namespace);
        let Some(record) = self.records.get_mut(record_id) else {
            return false;
        };
        if version.is_older_than(record.version) && !accepts_rollback {
            return false;
        }
        record.version = version;
        change(&mut record.payload);
        true
    }

    /// Marks a verification that is about to be settled, **before** the write that settles it: afterwards the watch
    /// reports DELETED, because the selector no longer matches, though the object still exists. False without a record.
    pub(crate) fn mark_settling(&mut self, record_id: RecordId) -> bool {
        self.mark(record_id, true)
    }

    /// Removes the mark of [`Index::mark_settling`] after a write that is known to have failed. After a write with an
    /// unknown outcome the mark stays. False without a record.
    pub(crate) fn unmark_settling(&mut self, record_id: RecordId) -> bool {
        self.mark(record_id, false)
    }

    /// Removes the object that the watch reported as DELETED. `None` if it is not known.
    pub(crate) fn deleted(&mut self, uid: &str) -> Option<Removed<R>> {
        let record_id = self.find_by_uid(uid)?;
        self.remove(record_id)
    }

    /// Removes a record: as settled if it was marked as settling, as deleted otherwise.
    pub(crate) fn remove(&mut self, record_id: RecordId) -> Option<Removed<R>> {
        let settling = self.records.get(record_id)?.settling;
        let reason = if settling { RemovalReason::Settled } else { RemovalReason::Deleted };
        self.remove_as(record_id, reason)
    }

    /// Notes that a list contained an object that could not be decoded, so that the next [`Index::init_done`] does not
    /// take it for deleted. `None` if there is no record of it.
    pub(crate) fn undecodable(&mut self, uid: &str) -> Option<RecordId> {
        let record_id = self.find_by_uid(uid)?;
        self.records.get_mut(record_id)?.epoch = self.epoch;
        Some(record_id)
    }

    /// The list of a namespace begins, or of all. May be called again before it is complete, and while others are not.
    pub(crate) fn init(&mut self, namespace: Option<&str>) {
        self.epoch = self.epoch.saturating_add(1);
        let epoch = self.epoch;
        let list = self.lists.iter_mut().find(|list| list.namespace.as_deref() == namespace);
        if let Some(list) = list {
            list.epoch = epoch;
        } else {
            let namespace = namespace.map(Into::into);
            self.lists.push(List { namespace, epoch, accepts_rollback: false });
        }
    }

    /// The list of a namespace is complete, or of all: removes and returns the records that were not in it.
    pub(crate) fn init_done(&mut self, namespace: Option<&str>) -> Vec<Removed<R>> {
        let list = self.lists.iter_mut().find(|list| list.namespace.as_deref() == namespace);
        let Some(list) = list else { return Vec::new() };
        list.accepts_rollback = false;
        let epoch = list.epoch;
        let number = namespace.map(|name| self.namespaces.find(name));
        let missing: Vec<RecordId> = self
            .records
            .iter()
            .filter(|(_, record)| record.epoch < epoch)
            .filter(|(_, record)| number.is_none_or(|number| number == Some(record.namespace)))
            .map(|(record_id, _)| record_id)
            .collect();
        missing.into_iter().filter_map(|record_id| self.remove(record_id)).collect()
    }

    /// The record of the object with this name.
    #[must_use]
    pub(crate) fn find_by_name(&self, namespace: &str, name: &str) -> Option<RecordId> {
        let namespace = self.namespaces.find(namespace)?;
        let hash = self.hasher.hash_one((namespace, name));
        let index = self.by_name.find(hash, |&index| {
            self.records
                .at(index)
                .is_some_and(|record| record.namespace == namespace && *record.name == *name)
        })?;
        self.records.id_at(*index)
    }

    /// The record of the object with this uid.
    #[must_use]
    pub(crate) fn find_by_uid(&self, uid: &str) -> Option<RecordId> {
        self.find_uid(Uid::of(uid))
    }

    /// The record of the object with this uid, as the holder of a session is known.
    #[must_use]
    pub(crate) fn find_by_short_uid(&self, uid: ShortUid) -> Option<RecordId> {
        self.find_by(uid, |of| of.short() == uid)
    }

    /// One record to read. `None` if it was removed.
    #[must_use]
    pub(crate) fn view(&self, record_id: RecordId) -> Option<View<'_, R>> {
        let record = self.records.get(record_id)?;
        Some(View {
            uid: record.uid,
            namespace: self.namespaces.name(record.namespace),
            name: &record.name,
            deleting: record.deleting,
            settling: record.settling,
            payload: &record.payload,
        })
    }

    /// The payload of a record. `None` if it was removed.
    #[cfg(test)]
    pub(crate) fn get(&self, record_id: RecordId) -> Option<&R> {
        self.records.get(record_id).map(|record| &record.payload)
    }

    /// The payload of a record, to change it. `None` if it was removed.
    pub(crate) fn get_mut(&mut self, record_id: RecordId) -> Option<&mut R> {
        self.records.get_mut(record_id).map(|record| &mut record.payload)
    }

    /// Every record, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, &R)> {
        self.records.iter().map(|(record_id, record)| (record_id, &record.payload))
    }

    /// The number of records.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The memory in use in bytes: records, hash tables, names and namespaces, with their spare capacity, but not what
    /// payloads own on the heap.
    #[must_use]
    pub(crate) fn memory(&self) -> usize {
        self.records.memory()
            + self.by_uid.allocation_size()
            + self.by_name.allocation_size()
            + self.namespaces.memory()
            + self.name_bytes
    }

    fn find_uid(&self, uid: Uid) -> Option<RecordId> {
        self.find_by(uid.short(), |of| of == uid)
    }

    fn find_by(&self, uid: ShortUid, is_it: impl Fn(Uid) -> bool) -> Option<RecordId> {
        let hash = self.hasher.hash_one(uid);
        let index = self
            .by_uid
            .find(hash, |&index| self.records.at(index).is_some_and(|record| is_it(record.uid)))?;
        self.records.id_at(*index)
    }

    fn mark(&mut self, record_id: RecordId, settling: bool) -> bool {
        match self.records.get_mut(record_id) {
            Some(record) => {
                record.settling = settling;
                true
            }
            None => false,
        }
    }

    fn insert(&mut self, record: Record<R>) -> RecordId {
        let by_uid = self.hasher.hash_one(record.uid.short());
        let by_name = self.hasher.hash_one((record.namespace, &*record.name));
        self.name_bytes += record.name.len();
        let record_id = self.records.insert(record);
        let (records, hasher) = (&self.records, &self.hasher);
        self.by_uid.insert_unique(by_uid, record_id.index, |&index| {
            records.at(index).map_or(0, |record| hasher.hash_one(record.uid.short()))
        });
        self.by_name.insert_unique(by_name, record_id.index, |&index| {
            records.at(index).map_or(0, |record| hasher.hash_one((record.namespace, &*record.name)))
        });
        record_id
    }

    fn remove_as(&mut self, record_id: RecordId, reason: RemovalReason) -> Option<Removed<R>> {
        let record = self.records.remove(record_id)?;
        let by_uid = self.hasher.hash_one(record.uid.short());
        if let Ok(entry) = self.by_uid.find_entry(by_uid, |&index| index == record_id.index) {
            entry.remove();
        }
        let by_name = self.hasher.hash_one((record.namespace, &*record.name));
        if let Ok(entry) = self.by_name.find_entry(by_name, |&index| index == record_id.index) {
            entry.remove();
        }
        self.namespaces.release(record.namespace);
        self.name_bytes -= record.name.len();
        Some(Removed { record_id, reason, payload: record.payload })
    }
}

#[cfg(test)]
mod tests;
