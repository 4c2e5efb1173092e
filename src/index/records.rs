//! The storage of the index: records by position, under ids that end with their record. Pure.

use super::{
    chunked_vec::ChunkedVec,
    namespaces::NamespaceId,
    record_id::RecordId,
    version::{Uid, Version},
};

/// What the index knows of one verification.
#[derive(Debug)]
pub(crate) struct Record<R> {
    pub(crate) uid: Uid,
    pub(crate) version: Version,
    pub(crate) name: Box<str>,
    pub(crate) namespace: NamespaceId,
    /// The last list that contained it.
    pub(crate) epoch: u32,
    pub(crate) deleting: bool,
    pub(crate) settling: bool,
    pub(crate) payload: R,
}

/// A position for a record. The tag counts the records that it has held.
#[derive(Debug)]
struct Cell<R> {
    tag: u32,
    record: Option<Record<R>>,
}

/// The records by position.
#[derive(Debug)]
pub(crate) struct Records<R> {
    cells: ChunkedVec<Cell<R>>,
    /// Positions without a record, the last freed first.
    free: Vec<u32>,
    len: usize,
}

impl<R> Records<R> {
    pub(crate) fn new() -> Self {
        Self { cells: ChunkedVec::default(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn insert(&mut self, record: Record<R>) -> RecordId {
        self.len += 1;
        if let Some(index) = self.free.pop()
            && let Some(cell) = self.cell_mut(index)
        {
            cell.record = Some(record);
            let tag = cell.tag;
            return RecordId { index, tag };
        }
        let cell = Cell { tag: 0, record: Some(record) };
        // etcd is full long before there are four thousand million objects.
        let index = u32::try_from(self.cells.push(cell)).unwrap_or(u32::MAX);
        RecordId { index, tag: 0 }
    }

    pub(crate) fn remove(&mut self, record_id: RecordId) -> Option<Record<R>> {
        let cell = self.cell_mut(record_id.index)?;
        if cell.tag != record_id.tag {
            return None;
        }
        let record = cell.record.take()?;
        cell.tag = cell.tag.wrapping_add(1);
        self.free.push(record_id.index);
        self.len -= 1;
        Some(record)
    }

    pub(crate) fn get(&self, record_id: RecordId) -> Option<&Record<R>> {
        let cell = self.cell(record_id.index)?;
        cell.record.as_ref().filter(|_| cell.tag == record_id.tag)
    }

    pub(crate) fn get_mut(&mut self, record_id: RecordId) -> Option<&mut Record<R>> {
        let cell = self.cell_mut(record_id.index)?;
        let tag = cell.tag;
        cell.record.as_mut().filter(|_| tag == record_id.tag)
    }

    /// The record at a position, whatever its id.
    pub(crate) fn at(&self, index: u32) -> Option<&Record<R>> {
        self.cell(index)?.record.as_ref()
    }

    /// The id of the record at a position.
    pub(crate) fn id_at(&self, index: u32) -> Option<RecordId> {
        let tag = self.cell(index)?.tag;
        Some(RecordId { index, tag })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, &Record<R>)> {
        (0_u32..).zip(self.cells.iter()).filter_map(|(index, cell)| {
            let tag = cell.tag;
            Some((RecordId { index, tag }, cell.record.as_ref()?))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes in use, without what names and payloads own on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.cells.memory() + self.free.capacity() * size_of::<u32>()
    }

    fn cell(&self, index: u32) -> Option<&Cell<R>> {
        self.cells.get(index as usize)
    }

    fn cell_mut(&mut self, index: u32) -> Option<&mut Cell<R>> {
        self.cells.get_mut(index as usize)
    }
}
