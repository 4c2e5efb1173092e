//! Where the records of the table lie, under handles that a removed record takes with it. Pure.

use super::{
    chunked_vec::Blocks,
    namespaces::Namespace,
    record_id::RecordId,
    version::{Uid, Version},
};

/// What is kept of one verification.
#[derive(Debug)]
pub(crate) struct Record<R> {
    pub(crate) uid: Uid,
    pub(crate) version: Version,
    pub(crate) generation: i64,
    pub(crate) name: Box<str>,
    pub(crate) namespace: Namespace,
    /// The list in which it was last seen.
    pub(crate) epoch: u32,
    pub(crate) deleting: bool,
    pub(crate) leaving: bool,
    pub(crate) payload: R,
}

/// A place for a record. The tag counts the records that it has held.
#[derive(Debug)]
struct Place<R> {
    tag: u32,
    record: Option<Record<R>>,
}

/// The records, by place.
#[derive(Debug)]
pub(crate) struct Records<R> {
    places: Blocks<Place<R>>,
    /// Places that are free, the last freed first.
    free: Vec<u32>,
    len: usize,
}

impl<R> Records<R> {
    pub(crate) fn new() -> Self {
        Self { places: Blocks::default(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn insert(&mut self, record: Record<R>) -> RecordId {
        self.len += 1;
        if let Some(index) = self.free.pop()
            && let Some(place) = self.place_mut(index)
        {
            place.record = Some(record);
            let tag = place.tag;
            return RecordId { index, tag };
        }
        let place = Place { tag: 0, record: Some(record) };
        // etcd is full long before there are four thousand million objects.
        let index = u32::try_from(self.places.push(place)).unwrap_or(u32::MAX);
        RecordId { index, tag: 0 }
    }

    pub(crate) fn remove(&mut self, record_id: RecordId) -> Option<Record<R>> {
        let place = self.place_mut(record_id.index)?;
        if place.tag != record_id.tag {
            return None;
        }
        let record = place.record.take()?;
        place.tag = place.tag.wrapping_add(1);
        self.free.push(record_id.index);
        self.len -= 1;
        Some(record)
    }

    pub(crate) fn get(&self, record_id: RecordId) -> Option<&Record<R>> {
        let place = self.place(record_id.index)?;
        place.record.as_ref().filter(|_| place.tag == record_id.tag)
    }

    pub(crate) fn get_mut(&mut self, record_id: RecordId) -> Option<&mut Record<R>> {
        let place = self.place_mut(record_id.index)?;
        let tag = place.tag;
        place.record.as_mut().filter(|_| tag == record_id.tag)
    }

    /// The record at a place, whoever it is.
    pub(crate) fn at(&self, index: u32) -> Option<&Record<R>> {
        self.place(index)?.record.as_ref()
    }

    /// The handle to the record at a place.
    pub(crate) fn slot_at(&self, index: u32) -> Option<RecordId> {
        let tag = self.place(index)?.tag;
        Some(RecordId { index, tag })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, &Record<R>)> {
        (0_u32..).zip(self.places.iter()).filter_map(|(index, place)| {
            let tag = place.tag;
            Some((RecordId { index, tag }, place.record.as_ref()?))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes in use, without what lies behind names and payloads.
    pub(crate) fn memory(&self) -> usize {
        self.places.memory() + self.free.capacity() * size_of::<u32>()
    }

    fn place(&self, index: u32) -> Option<&Place<R>> {
        self.places.get(index as usize)
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<R>> {
        self.places.get_mut(index as usize)
    }
}
