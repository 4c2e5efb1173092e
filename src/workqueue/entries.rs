//! What the queue knows of each object, and the timers: a binary heap of those that are scheduled, the earliest first.
//! Pure.
//!
//! There may be a hundred thousand timers, and each is set anew with each poll. The heap holds only the positions of the
//! entries, four bytes each. An entry has the time and its place in the heap, so that its timer is found and removed
//! without a search.

use super::ready::Nanos;
use crate::{fairness::FairnessKey, index::ChunkedVec, priority::Priority};

/// When an object is due, how urgent it is, and whose share it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheduled {
    pub(crate) when: Nanos,
    pub(crate) priority: Priority,
    pub(crate) fairness_key: FairnessKey,
}

/// The state of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryState {
    /// It is neither scheduled nor running.
    Idle,
    /// A timer is set for it.
    Scheduled(Scheduled),
    /// It is due and waits for a permit.
    Ready(Scheduled),
    /// It is being reconciled.
    Running(Meanwhile),
}

/// What happened to an object while it was reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meanwhile {
    /// Nothing: the reconcile decides what follows.
    Nothing,
    /// It was scheduled.
    Scheduled(Scheduled),
    /// It was removed.
    Removed,
}

/// An object. Its position is that of its record. The state is stored as separate fields: 32 bytes in all, in place of 40
/// with the enum.
#[derive(Debug)]
struct Entry {
    /// The tag of the record.
    tag: u32,
    /// The place of its timer in the heap, if it is scheduled.
    place: u32,
    when: Nanos,
    fairness_key: FairnessKey,
    priority: Priority,
    kind: Kind,
}

/// The kind of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Idle,
    Scheduled,
    Ready,
    Running,
    RunningAndScheduled,
    RunningAndRemoved,
}

impl Entry {
    fn idle() -> Self {
        Self {
            tag: 0,
            place: 0,
            when: 0,
            fairness_key: FairnessKey::default(),
            priority: Priority::Idle,
            kind: Kind::Idle,
        }
    }

    fn state(&self) -> EntryState {
        let due = Scheduled { when: self.when, priority: self.priority, fairness_key: self.fairness_key };
        match self.kind {
            Kind::Idle => EntryState::Idle,
            Kind::Scheduled => EntryState::Scheduled(due),
            Kind::Ready => EntryState::Ready(due),
            Kind::Running => EntryState::Running(Meanwhile::Nothing),
            Kind::RunningAndScheduled => EntryState::Running(Meanwhile::Scheduled(due)),
            Kind::RunningAndRemoved => EntryState::Running(Meanwhile::Removed),
        }
    }

    fn set_state(&mut self, state: EntryState) {
        let (kind, due) = match state {
            EntryState::Idle => (Kind::Idle, None),
            EntryState::Scheduled(due) => (Kind::Scheduled, Some(due)),
            EntryState::Ready(due) => (Kind::Ready, Some(due)),
            EntryState::Running(Meanwhile::Nothing) => (Kind::Running, None),
            EntryState::Running(Meanwhile::Scheduled(due)) => (Kind::RunningAndScheduled, Some(due)),
            EntryState::Running(Meanwhile::Removed) => (Kind::RunningAndRemoved, None),
        };
        self.kind = kind;
        if let Some(Scheduled { when, priority, fairness_key }) = due {
            (self.when, self.priority, self.fairness_key) = (when, priority, fairness_key);
        }
    }
}

/// The objects by position.
#[derive(Debug, Default)]
pub(super) struct Entries {
    entries: ChunkedVec<Entry>,
    /// The positions of those that are scheduled, as a binary heap.
    timers: ChunkedVec<u32>,
}

impl Entries {
    /// The tag and the state at a position. `None` if there was never an object.
    pub(super) fn get(&self, index: u32) -> Option<(u32, EntryState)> {
        self.entries.get(index as usize).map(|entry| (entry.tag, entry.state()))
    }

    /// Gives a position to an object, which is then neither scheduled nor running. Whatever was there is gone; the caller
    /// takes care of one that was ready.
    pub(super) fn insert(&mut self, index: u32, tag: u32) {
        self.set_state(index, EntryState::Idle);
        while self.entries.len() <= index as usize {
            self.entries.push(Entry::idle());
        }
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.tag = tag;
        }
    }

    /// Changes the state at a position, and sets or removes the timer.
    pub(super) fn set_state(&mut self, index: u32, state: EntryState) {
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return;
        };
        let place = (entry.kind == Kind::Scheduled).then_some(entry.place as usize);
        entry.set_state(state);
        match (place, entry.kind == Kind::Scheduled) {
            (Some(place), true) => self.sift(place),
            (Some(place), false) => self.remove_timer(place),
            (None, true) => {
                let place = self.timers.push(index);
                self.sift(place);
            }
            (None, false) => {}
        }
    }

    /// The earliest timer: the position of its object, and what is due.
    pub(super) fn first_timer(&self) -> Option<(u32, Scheduled)> {
        let index = *self.timers.get(0)?;
        match self.get(index)? {
            (_, EntryState::Scheduled(due)) => Some((index, due)),
            (_, EntryState::Idle | EntryState::Ready(_) | EntryState::Running(_)) => None,
        }
    }

    /// The number of timers.
    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// The bytes in use.
    pub(super) fn memory(&self) -> usize {
        self.entries.memory() + self.timers.memory()
    }

    /// What the timer at a place is ordered by: when it expires, and the position of its object.
    fn timer(&self, place: usize) -> Option<(Nanos, u32)> {
        let index = *self.timers.get(place)?;
        Some((self.entries.get(index as usize)?.when, index))
    }

    fn remove_timer(&mut self, place: usize) {
        let Some(last) = self.timers.pop() else { return };
        if place < self.timers.len() {
            self.put(place, last);
            self.sift(place);
        }
    }

    /// Moves a timer to where it belongs; all others are where they belong.
    fn sift(&mut self, place: usize) {
        let Some(moved) = self.timer(place) else { return };
        let mut place = place;
        while let Some(parent) = place.checked_sub(1).map(|above| above / 2)
            && let Some(other) = self.timer(parent)
            && moved < other
        {
            self.put(place, other.1);
            place = parent;
        }
        while let Some((child, other)) = self.earlier_child(place)
            && other < moved
        {
            self.put(place, other.1);
            place = child;
        }
        self.put(place, moved.1);
    }

    /// The place and the timer of the earlier one of the two below.
    fn earlier_child(&self, place: usize) -> Option<(usize, (Nanos, u32))> {
        let child = |place| Some((place, self.timer(place)?));
        let left = child(2 * place + 1)?;
        Some(child(2 * place + 2).filter(|right| right.1 < left.1).unwrap_or(left))
    }

    fn put(&mut self, place: usize, index: u32) {
        if let Some(timer) = self.timers.get_mut(place) {
            *timer = index;
        }
        if let Some(entry) = self.entries.get_mut(index as usize) {
            // There are no more timers than positions, which are 32 bits.
            entry.place = u32::try_from(place).unwrap_or(u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests;
