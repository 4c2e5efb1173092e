//! Where the records of the table lie, under handles that a removed record takes with it. Pure.

use super::{
    blocks::Blocks,
    namespaces::Namespace,
    slot::Slot,
    version::{Uid, Version},
};

/// What is kept of one verification.
#[derive(Debug)]
pub(super) struct Record<R> {
    pub(super) uid: Uid,
    pub(super) version: Version,
    pub(super) generation: i64,
    pub(super) name: Box<str>,
    pub(super) namespace: Namespace,
    /// The list in which it was last seen.
    pub(super) epoch: u32,
    pub(super) deleting: bool,
    pub(super) leaving: bool,
    pub(super) payload: R,
}

/// A place for a record. The tag counts the records that it has held.
#[derive(Debug)]
struct Place<R> {
    tag: u32,
    record: Option<Record<R>>,
}

/// The records, by place.
#[derive(Debug)]
pub(super) struct Records<R> {
    places: Blocks<Place<R>>,
    /// Places that are free, the last freed first.
    free: Vec<u32>,
    len: usize,
}

impl<R> Records<R> {
    pub(super) fn new() -> Self {
        Self { places: Blocks::default(), free: Vec::new(), len: 0 }
    }

    pub(super) fn insert(&mut self, record: Record<R>) -> Slot {
        self.len += 1;
        if let Some(index) = self.free.pop()
            && let Some(place) = self.place_mut(index)
        {
            place.record = Some(record);
            let tag = place.tag;
            return Slot { index, tag };
        }
        let place = Place { tag: 0, record: Some(record) };
        // etcd is full long before there are four thousand million objects.
        let index = u32::try_from(self.places.push(place)).unwrap_or(u32::MAX);
        Slot { index, tag: 0 }
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Record<R>> {
        let place = self.place_mut(slot.index)?;
        if place.tag != slot.tag {
            return None;
        }
        let record = place.record.take()?;
        place.tag = place.tag.wrapping_add(1);
        self.free.push(slot.index);
        self.len -= 1;
        Some(record)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Record<R>> {
        let place = self.place(slot.index)?;
        place.record.as_ref().filter(|_| place.tag == slot.tag)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Record<R>> {
        let place = self.place_mut(slot.index)?;
        let tag = place.tag;
        place.record.as_mut().filter(|_| tag == slot.tag)
    }

    /// The record at a place, whoever it is.
    pub(super) fn at(&self, index: u32) -> Option<&Record<R>> {
        self.place(index)?.record.as_ref()
    }

    /// The handle to the record at a place.
    pub(super) fn slot_at(&self, index: u32) -> Option<Slot> {
        let tag = self.place(index)?.tag;
        Some(Slot { index, tag })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Record<R>)> {
        (0_u32..).zip(self.places.iter()).filter_map(|(index, place)| {
            let tag = place.tag;
            Some((Slot { index, tag }, place.record.as_ref()?))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes in use, without what lies behind names and payloads.
    pub(super) fn memory(&self) -> usize {
        self.places.memory() + self.free.capacity() * size_of::<u32>()
    }

    fn place(&self, index: u32) -> Option<&Place<R>> {
        self.places.get(index as usize)
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<R>> {
        self.places.get_mut(index as usize)
    }
}
