//! When each is due, who is having a turn, and what happens to a wake-up in each of these states.
//! Pure: the time is an argument.

use std::collections::BTreeSet;

use super::ready::{Moment, Ready};
use crate::{
    fairness::FairnessKey,
    index::{Blocks, RecordId},
    priority::Priority,
};

/// When, how urgently, and among whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheduled {
    pub(crate) when: Moment,
    pub(crate) priority: Priority,
    pub(crate) fairness_key: FairnessKey,
}

/// Where an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryState {
    /// Nowhere: nothing is planned and no turn is under way.
    Absent,
    /// Among the timers.
    Waiting(Scheduled),
    /// Scheduled, and waiting for a slot.
    Ready(Scheduled),
    /// Having its turn.
    DueReconcile(After),
}

/// What happened to an object during its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Nothing: what follows is for the turn to say.
    AsItSays,
    /// It was woken.
    Again(Scheduled),
    /// It was removed.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    state: EntryState,
    /// Not before this, whatever anybody says: the last turn panicked.
    held_until: Moment,
}

/// A turn to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) record_id: RecordId,
    pub(crate) due: Scheduled,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is due again.
    At(Scheduled),
    /// Nothing more is planned, unless it was woken meanwhile.
    AwaitChange,
    /// It does not exist any more: a wake-up meanwhile is moot.
    Gone,
    /// It panicked, and is not due before this, whatever anybody says.
    Held(Scheduled),
}

/// All that is planned.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: Blocks<Entry>,
    timers: BTreeSet<(Moment, u32)>,
    ready: Ready,
    in_flight: usize,
}

impl Queue {
    /// Plans the next turn at exactly this time, in place of what was planned.
    pub(crate) fn set(&mut self, record_id: RecordId, due: Scheduled, now: Moment) {
        self.plan(record_id, due, now, false);
    }

    /// Plans the next turn at this time, if it is not planned earlier already. What is due already
    /// keeps its place, unless it becomes more urgent.
    pub(crate) fn forward(&mut self, record_id: RecordId, due: Scheduled, now: Moment) {
        self.plan(record_id, due, now, true);
    }

    fn plan(&mut self, record_id: RecordId, mut due: Scheduled, now: Moment, only_forward: bool) {
        let Some(entry) = self.entry(record_id) else {
            return;
        };
        // Nobody is due in the past: else one could step in front of those who wait already.
        due.when = due.when.max(now).max(entry.held_until);
        let state = entry.state;
        let index = record_id.index;
        match state {
            EntryState::Absent => self.wait(index, due),
            EntryState::Waiting(planned) => {
                if only_forward && planned.when <= due.when {
                    return;
                }
                self.timers.remove(&(planned.when, index));
                self.wait(index, due);
            }
            EntryState::Ready(planned) => {
                if due.when > now {
                    if only_forward {
                        return;
                    }
                    self.unready(index, planned);
                    self.wait(index, due);
                    return;
                }
                if only_forward && planned.priority <= due.priority {
                    return;
                }
                // It keeps the time since which it is due, and so its place among its equals.
                due.when = planned.when;
                self.unready(index, planned);
                self.enter(index, due);
            }
            EntryState::DueReconcile(After::Again(planned)) if only_forward && planned.when <= due.when => {}
            EntryState::DueReconcile(After::AsItSays | After::Again(_) | After::Nothing) => {
                self.put(index, EntryState::DueReconcile(After::Again(due)));
            }
        }
    }

    /// Forgets what is planned. A turn that is under way goes on, and nothing follows it.
    pub(crate) fn remove(&mut self, record_id: RecordId) {
        let index = record_id.index;
        let Some(entry) = self.entries.get(index as usize) else {
            return;
        };
        if entry.tag != record_id.tag {
            return;
        }
        match entry.state {
            EntryState::Absent => {}
            EntryState::Waiting(planned) => {
                self.timers.remove(&(planned.when, index));
                self.put(index, EntryState::Absent);
            }
            EntryState::Ready(planned) => {
                self.unready(index, planned);
                self.put(index, EntryState::Absent);
            }
            EntryState::DueReconcile(_) => self.put(index, EntryState::DueReconcile(After::Nothing)),
        }
    }

    /// Takes the next turn, if anybody is due by now of a namespace that may have one.
    pub(crate) fn take_if(&mut self, now: Moment, may_have_turn: impl Fn(u32) -> bool) -> Option<Taken> {
        while let Some(&(when, index)) = self.timers.first() {
            if when > now {
                break;
            }
            self.timers.pop_first();
            if let Some(EntryState::Waiting(due)) = self.state(index) {
                self.enter(index, due);
            }
        }
        let index = self.ready.take_if(may_have_turn)?;
        let entry = self.entries.get_mut(index as usize)?;
        let EntryState::Ready(due) = entry.state else {
            return None;
        };
        entry.state = EntryState::DueReconcile(After::AsItSays);
        entry.held_until = 0;
        let tag = entry.tag;
        self.in_flight += 1;
        Some(Taken { record_id: RecordId { index, tag }, due })
    }

    /// Notes that a turn has ended.
    pub(crate) fn end(&mut self, record_id: RecordId, ended: Ended, now: Moment) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let index = record_id.index;
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return;
        };
        if entry.tag != record_id.tag {
            // The place belongs to another object by now.
            return;
        }
        let EntryState::DueReconcile(after) = entry.state else {
            return;
        };
        entry.state = EntryState::Absent;
        let next = match (ended, after) {
            (Ended::Held(due), _) => {
                entry.held_until = due.when;
                Some(due).filter(|_| after != After::Nothing)
            }
            (Ended::Gone, _)
            | (Ended::At(_) | Ended::AwaitChange, After::Nothing)
            | (Ended::AwaitChange, After::AsItSays) => None,
            (Ended::AwaitChange, After::Again(again)) => Some(again),
            (Ended::At(due), After::AsItSays) => Some(due),
            (Ended::At(due), After::Again(again)) => Some(if again.when <= due.when { again } else { due }),
        };
        if let Some(mut due) = next {
            due.when = due.when.max(now);
            self.wait(index, due);
        }
    }

    /// When the next timer ends.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.timers.first().map(|&(when, _)| when)
    }

    /// How many wait for their time.
    pub(crate) fn waiting(&self) -> usize {
        self.timers.len()
    }

    /// How many are due and wait for a slot, by priority.
    pub(crate) fn ready(&self) -> [usize; Priority::ALL.len()] {
        self.ready.len()
    }

    /// Whether somebody waits for a slot.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many turns are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes in use, about: a B-tree's nodes are two thirds full.
    pub(crate) fn memory(&self) -> usize {
        let ready: usize = self.ready.len().iter().sum();
        let ordered = (self.timers.len() + ready) * size_of::<(Moment, u32)>() * 3 / 2;
        self.entries.memory() + ordered
    }

    /// The entry of an object, which takes the place over when it is newer than who had it.
    /// `None` when the object is the one that was there before.
    fn entry(&mut self, record_id: RecordId) -> Option<Entry> {
        let place = record_id.index as usize;
        let vacant = Entry { tag: record_id.tag, state: EntryState::Absent, held_until: 0 };
        if place >= self.entries.len() {
            while self.entries.len() < place {
                self.entries.push(Entry { tag: 0, ..vacant });
            }
            self.entries.push(vacant);
            return Some(vacant);
        }
        let entry = *self.entries.get(place)?;
        if entry.tag == record_id.tag {
            return Some(entry);
        }
        let former = RecordId { index: record_id.index, tag: entry.tag };
        if !record_id.is_newer_than(former) {
            return None;
        }
        self.remove(former);
        *self.entries.get_mut(place)? = vacant;
        Some(vacant)
    }

    fn state(&self, index: u32) -> Option<EntryState> {
        self.entries.get(index as usize).map(|entry| entry.state)
    }

    fn put(&mut self, index: u32, state: EntryState) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.state = state;
        }
    }

    fn wait(&mut self, index: u32, due: Scheduled) {
        self.timers.insert((due.when, index));
        self.put(index, EntryState::Waiting(due));
    }

    fn enter(&mut self, index: u32, due: Scheduled) {
        self.ready.insert(due.priority, due.fairness_key, due.when, index);
        self.put(index, EntryState::Ready(due));
    }

    fn unready(&mut self, index: u32, due: Scheduled) {
        self.ready.remove(due.priority, due.fairness_key, due.when, index);
    }
}

#[cfg(test)]
mod tests;
