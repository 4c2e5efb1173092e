//! Who goes first among those that are due. Pure.
//!
//! A class of work that has a higher priority gets more turns, never all of them: while all five
//! have somebody waiting, of 31 turns 16 are creates, 8 nudges, 4 finishing, 2 active and 1 idle,
//! and what a class does not use goes to the others in the same proportion (stride scheduling:
//! Waldspurger and Weihl, 1995). Inside a class the lanes take turns one by one, so that a portal
//! key with fifty thousand verifications cannot hold up a key with ten. Inside a lane the one that
//! became due first goes first.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::priority::Priority;

/// Nanoseconds since the queue began.
pub(super) type Moment = u64;

/// Those that are due, in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Ready {
    classes: [Class; Priority::ALL.len()],
    /// Where the class that was served last stood: a class that was empty joins here, and does not
    /// catch up on turns that it had no use for.
    pass: u64,
}

/// One priority's lanes.
#[derive(Debug, Default)]
struct Class {
    lanes: HashMap<u32, BTreeSet<(Moment, u32)>>,
    /// Each lane of the map once, the next to be served first.
    rotation: VecDeque<u32>,
    len: usize,
    pass: u64,
}

impl Ready {
    pub(super) fn insert(&mut self, priority: Priority, lane: u32, when: Moment, index: u32) {
        let pass = self.pass;
        let class = self.class_mut(priority);
        if class.len == 0 {
            class.pass = class.pass.max(pass);
        }
        let waiting = class.lanes.entry(lane).or_insert_with(|| {
            class.rotation.push_back(lane);
            BTreeSet::new()
        });
        if waiting.insert((when, index)) {
            class.len += 1;
        }
    }

    pub(super) fn remove(&mut self, priority: Priority, lane: u32, when: Moment, index: u32) {
        let class = self.class_mut(priority);
        // A lane that this empties stays in the rotation until its turn comes: so it is there once.
        if let Some(waiting) = class.lanes.get_mut(&lane)
            && waiting.remove(&(when, index))
        {
            class.len -= 1;
        }
    }

    /// Takes the one whose turn it is.
    pub(super) fn take(&mut self) -> Option<u32> {
        let (priority, _) = Priority::ALL
            .into_iter()
            .zip(&self.classes)
            .filter(|(_, class)| class.len > 0)
            .min_by_key(|(_, class)| class.pass)?;
        let class = self.class_mut(priority);
        let pass = class.pass;
        class.pass += stride(priority);
        let index = class.take();
        self.pass = pass;
        index
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.len == 0)
    }

    /// How many are waiting, by priority.
    pub(super) fn len(&self) -> [usize; Priority::ALL.len()] {
        self.classes.each_ref().map(|class| class.len)
    }

    fn class_mut(&mut self, priority: Priority) -> &mut Class {
        let [create, nudge, finishing, active, idle] = &mut self.classes;
        match priority {
            Priority::Create => create,
            Priority::Nudge => nudge,
            Priority::Finishing => finishing,
            Priority::Active => active,
            Priority::Idle => idle,
        }
    }
}

/// How far a class moves back by taking a turn: the inverse of its share.
const fn stride(priority: Priority) -> u64 {
    match priority {
        Priority::Create => 1,
        Priority::Nudge => 2,
        Priority::Finishing => 4,
        Priority::Active => 8,
        Priority::Idle => 16,
    }
}

impl Class {
    fn take(&mut self) -> Option<u32> {
        while let Some(lane) = self.rotation.pop_front() {
            let first = self.lanes.get_mut(&lane).and_then(BTreeSet::pop_first);
            let Some((_, index)) = first else {
                self.lanes.remove(&lane);
                continue;
            };
            self.len -= 1;
            self.rotation.push_back(lane);
            return Some(index);
        }
        None
    }
}
