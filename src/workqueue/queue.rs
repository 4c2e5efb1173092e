//! The state of each object in the work queue: scheduled, ready or running, and what a wake-up does in each of these
//! states. Pure: the time is an argument. Depends on `ready`.

use std::collections::BTreeSet;

use super::ready::{Nanos, Ready};
use crate::{
    fairness::FairnessKey,
    index::{ChunkedVec, RecordId},
    priority::Priority,
};

/// When an object is due, how urgent it is, and whose share it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheduled {
    pub(crate) when: Nanos,
    pub(crate) priority: Priority,
    pub(crate) fairness_key: FairnessKey,
}

/// What the queue knows of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryState {
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
enum Meanwhile {
    /// Nothing: the reconcile decides what follows.
    Nothing,
    /// It was scheduled.
    Scheduled(Scheduled),
    /// It was removed.
    Removed,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    state: EntryState,
    /// It does not run before this, whatever wakes it: the last reconcile panicked.
    not_before: Nanos,
}

/// An object to reconcile now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Popped {
    pub(crate) record_id: RecordId,
    pub(crate) scheduled: Scheduled,
}

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is due again.
    At(Scheduled),
    /// Nothing follows, unless it was scheduled meanwhile.
    AwaitChange,
    /// It is done: a wake-up meanwhile is ignored.
    Done,
    /// It panicked, and is not due before this, whatever wakes it.
    Panicked(Scheduled),
}

/// All objects in the queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: ChunkedVec<Entry>,
    timers: BTreeSet<(Nanos, u32)>,
    ready: Ready,
    in_flight: usize,
}

impl Queue {
    /// Schedules an object for exactly this time and replaces what was scheduled.
    pub(crate) fn schedule_at(&mut self, record_id: RecordId, due: Scheduled, now: Nanos) {
        self.schedule(record_id, due, now, false);
    }

    /// Schedules an object for this time unless it is scheduled earlier. One that is due already keeps its position
    /// unless it becomes more urgent.
    pub(crate) fn schedule_by(&mut self, record_id: RecordId, due: Scheduled, now: Nanos) {
        self.schedule(record_id, due, now, true);
    }

    fn schedule(&mut self, record_id: RecordId, mut due: Scheduled, now: Nanos, only_earlier: bool) {
        let Some(entry) = self.entry(record_id) else {
            return;
        };
        // A time in the past would put the object before those that wait already.
        due.when = due.when.max(now).max(entry.not_before);
        let state = entry.state;
        let index = record_id.index;
        match state {
            EntryState::Idle => self.set_timer(index, due),
            EntryState::Scheduled(known) => {
                if only_earlier && known.when <= due.when {
                    return;
                }
                self.timers.remove(&(known.when, index));
                self.set_timer(index, due);
            }
            EntryState::Ready(known) => {
                if due.when > now {
                    if only_earlier {
                        return;
                    }
                    self.unready(index, known);
                    self.set_timer(index, due);
                    return;
                }
                if only_earlier && known.priority <= due.priority {
                    return;
                }
                // It keeps the time since when it is due, and so its position among those of its priority.
                due.when = known.when;
                self.unready(index, known);
                self.make_ready(index, due);
            }
            EntryState::Running(Meanwhile::Scheduled(known)) if only_earlier && known.when <= due.when => {}
            EntryState::Running(Meanwhile::Nothing | Meanwhile::Scheduled(_) | Meanwhile::Removed) => {
                self.set_state(index, EntryState::Running(Meanwhile::Scheduled(due)));
            }
        }
    }

    /// Removes an object. A reconcile that is running continues, and none follows it.
    pub(crate) fn remove(&mut self, record_id: RecordId) {
        let index = record_id.index;
        let Some(entry) = self.entries.get(index as usize) else {
            return;
        };
        if entry.tag != record_id.tag {
            return;
        }
        match entry.state {
            EntryState::Idle => {}
            EntryState::Scheduled(known) => {
                self.timers.remove(&(known.when, index));
                self.set_state(index, EntryState::Idle);
            }
            EntryState::Ready(known) => {
                self.unready(index, known);
                self.set_state(index, EntryState::Idle);
            }
            EntryState::Running(_) => self.set_state(index, EntryState::Running(Meanwhile::Removed)),
        }
    }

    /// Pops the next due object whose namespace may run one more.
    pub(crate) fn pop_if(&mut self, now: Nanos, may_run: impl Fn(u32) -> bool) -> Option<Popped> {
        while let Some(&(when, index)) = self.timers.first() {
            if when > now {
                break;
            }
            self.timers.pop_first();
            if let Some(EntryState::Scheduled(due)) = self.state(index) {
                self.make_ready(index, due);
            }
        }
        let index = self.ready.pop_if(may_run)?;
        let entry = self.entries.get_mut(index as usize)?;
        let EntryState::Ready(due) = entry.state else {
            return None;
        };
        entry.state = EntryState::Running(Meanwhile::Nothing);
        entry.not_before = 0;
        let tag = entry.tag;
        self.in_flight += 1;
        Some(Popped { record_id: RecordId { index, tag }, scheduled: due })
    }

    /// Notes that a reconcile has ended.
    pub(crate) fn end(&mut self, record_id: RecordId, ended: Ended, now: Nanos) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let index = record_id.index;
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return;
        };
        if entry.tag != record_id.tag {
            // The position now belongs to another object.
            return;
        }
        let EntryState::Running(meanwhile) = entry.state else {
            return;
        };
        entry.state = EntryState::Idle;
        let next = match (ended, meanwhile) {
            (Ended::Panicked(due), _) => {
                entry.not_before = due.when;
                Some(due).filter(|_| meanwhile != Meanwhile::Removed)
            }
            (Ended::Done, _)
            | (Ended::At(_) | Ended::AwaitChange, Meanwhile::Removed)
            | (Ended::AwaitChange, Meanwhile::Nothing) => None,
            (Ended::AwaitChange, Meanwhile::Scheduled(again)) => Some(again),
            (Ended::At(due), Meanwhile::Nothing) => Some(due),
            (Ended::At(due), Meanwhile::Scheduled(again)) => {
                Some(if again.when <= due.when { again } else { due })
            }
        };
        if let Some(mut due) = next {
            due.when = due.when.max(now);
            self.set_timer(index, due);
        }
    }

    /// When the next timer expires.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.timers.first().map(|&(when, _)| when)
    }

    /// The number of objects with a timer.
    pub(crate) fn scheduled(&self) -> usize {
        self.timers.len()
    }

    /// The number of objects that are due and wait for a permit, by priority.
    pub(crate) fn ready(&self) -> [usize; Priority::ALL.len()] {
        self.ready.len()
    }

    /// Whether an object waits for a permit.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The number of reconciles that are running.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The approximate number of bytes in use: a B-tree's nodes are two thirds full.
    pub(crate) fn memory(&self) -> usize {
        let ready: usize = self.ready.len().iter().sum();
        let ordered = (self.timers.len() + ready) * size_of::<(Nanos, u32)>() * 3 / 2;
        self.entries.memory() + ordered
    }

    /// The entry of an object, which takes over the position if it is newer than the object that had it. `None` if the
    /// object is the older one.
    fn entry(&mut self, record_id: RecordId) -> Option<Entry> {
        let position = record_id.index as usize;
        let vacant = Entry { tag: record_id.tag, state: EntryState::Idle, not_before: 0 };
        if position >= self.entries.len() {
            while self.entries.len() < position {
                self.entries.push(Entry { tag: 0, ..vacant });
            }
            self.entries.push(vacant);
            return Some(vacant);
        }
        let entry = *self.entries.get(position)?;
        if entry.tag == record_id.tag {
            return Some(entry);
        }
        let former = RecordId { index: record_id.index, tag: entry.tag };
        if !record_id.is_newer_than(former) {
            return None;
        }
        self.remove(former);
        *self.entries.get_mut(position)? = vacant;
        Some(vacant)
    }

    fn state(&self, index: u32) -> Option<EntryState> {
        self.entries.get(index as usize).map(|entry| entry.state)
    }

    fn set_state(&mut self, index: u32, state: EntryState) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.state = state;
        }
    }

    fn set_timer(&mut self, index: u32, due: Scheduled) {
        self.timers.insert((due.when, index));
        self.set_state(index, EntryState::Scheduled(due));
    }

    fn make_ready(&mut self, index: u32, due: Scheduled) {
        self.ready.insert(due.priority, due.fairness_key, due.when, index);
        self.set_state(index, EntryState::Ready(due));
    }

    fn unready(&mut self, index: u32, due: Scheduled) {
        self.ready.remove(due.priority, due.fairness_key, due.when, index);
    }
}

#[cfg(test)]
mod tests;
