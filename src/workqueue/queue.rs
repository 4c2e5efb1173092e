//! What a wake-up does with an object in each of its states: scheduled, ready or running. Pure: the time is an argument.
//! Depends on `entries` and `ready`.

use std::collections::BTreeMap;

use super::{
    entries::{Entries, EntryState, Meanwhile, Scheduled},
    ready::{Nanos, Ready},
};
use crate::{index::RecordId, priority::Priority};

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
    entries: Entries,
    ready: Ready,
    in_flight: usize,
    /// Until when the object at a position does not run, whatever wakes it: its last reconcile panicked.
    not_before: BTreeMap<u32, Nanos>,
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
        let Some(state) = self.enter(record_id) else {
            return;
        };
        let index = record_id.index;
        // A time in the past would put the object before those that wait already.
        due.when = due.when.max(now).max(self.not_before.get(&index).copied().unwrap_or_default());
        match state {
            EntryState::Scheduled(known) if only_earlier && known.when <= due.when => {}
            EntryState::Idle | EntryState::Scheduled(_) => self.set_timer(index, due),
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
                self.entries.set_state(index, EntryState::Running(Meanwhile::Scheduled(due)));
            }
        }
    }

    /// Removes an object. A reconcile that is running continues, and none follows it.
    pub(crate) fn remove(&mut self, record_id: RecordId) {
        let index = record_id.index;
        let Some(state) = self.state(record_id) else {
            return;
        };
        let state = match state {
            EntryState::Idle | EntryState::Scheduled(_) => EntryState::Idle,
            EntryState::Ready(known) => {
                self.unready(index, known);
                EntryState::Idle
            }
            EntryState::Running(_) => EntryState::Running(Meanwhile::Removed),
        };
        self.entries.set_state(index, state);
    }

    /// Pops the next due object whose namespace may run one more.
    pub(crate) fn pop_if(&mut self, now: Nanos, may_run: impl Fn(u32) -> bool) -> Option<Popped> {
        while let Some((index, due)) = self.entries.first_timer()
            && due.when <= now
        {
            self.make_ready(index, due);
        }
        let index = self.ready.pop_if(may_run)?;
        let (tag, EntryState::Ready(due)) = self.entries.get(index)? else {
            return None;
        };
        self.entries.set_state(index, EntryState::Running(Meanwhile::Nothing));
        self.not_before.remove(&index);
        self.in_flight += 1;
        Some(Popped { record_id: RecordId { index, tag }, scheduled: due })
    }

    /// Notes that a reconcile has ended.
    pub(crate) fn end(&mut self, record_id: RecordId, ended: Ended, now: Nanos) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let index = record_id.index;
        let Some(EntryState::Running(meanwhile)) = self.state(record_id) else {
            return;
        };
        self.entries.set_state(index, EntryState::Idle);
        let next = match (ended, meanwhile) {
            (Ended::Panicked(due), _) => {
                self.not_before.insert(index, due.when);
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
        self.entries.first_timer().map(|(_, due)| due.when)
    }

    /// The number of objects with a timer.
    pub(crate) fn scheduled(&self) -> usize {
        self.entries.timers()
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

    /// The approximate number of bytes in use.
    pub(crate) fn memory(&self) -> usize {
        let ready: usize = self.ready.len().iter().sum();
        // A B-tree's nodes are two thirds full.
        let in_trees = (ready + self.not_before.len()) * size_of::<(Nanos, u32)>() * 3 / 2;
        self.entries.memory() + in_trees
    }

    /// The state of an object, which takes over the position if it is newer than the object that had it. `None` if the
    /// object is the older one.
    fn enter(&mut self, record_id: RecordId) -> Option<EntryState> {
        let RecordId { index, tag } = record_id;
        if let Some((former, state)) = self.entries.get(index) {
            if former == tag {
                return Some(state);
            }
            let former = RecordId { index, tag: former };
            if !record_id.is_newer_than(former) {
                return None;
            }
            self.remove(former);
            self.not_before.remove(&index);
        }
        self.entries.insert(index, tag);
        Some(EntryState::Idle)
    }

    /// The state of an object; `None` if its position belongs to another one.
    fn state(&self, record_id: RecordId) -> Option<EntryState> {
        self.entries.get(record_id.index).filter(|(tag, _)| *tag == record_id.tag).map(|(_, state)| state)
    }

    fn set_timer(&mut self, index: u32, due: Scheduled) {
        self.entries.set_state(index, EntryState::Scheduled(due));
    }

    fn make_ready(&mut self, index: u32, due: Scheduled) {
        self.ready.insert(due.priority, due.fairness_key, due.when, index);
        self.entries.set_state(index, EntryState::Ready(due));
    }

    fn unready(&mut self, index: u32, due: Scheduled) {
        self.ready.remove(due.priority, due.fairness_key, due.when, index);
    }
}

#[cfg(test)]
mod tests;
