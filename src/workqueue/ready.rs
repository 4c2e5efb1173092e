//! Who goes first among those that are due. Pure.
//!
//! A class of work that has a higher priority gets more turns, never all of them: while all five
//! have somebody waiting, of 31 turns 16 are creates, 8 nudges, 4 finishing, 2 active and 1 idle,
//! and what a class does not use goes to the others in the same proportion (stride scheduling:
//! Waldspurger and Weihl, 1995). Inside a class the namespaces take turns one by one, and inside a
//! namespace its keys, so that a portal key with fifty thousand verifications cannot hold up a key
//! with ten, and a namespace with a hundred keys not one with one. Of one key the one that became
//! due first goes first. A namespace that may have no turn now is passed over.

use crate::{
    fairness::{FairQueue, FairnessKey},
    priority::Priority,
};

/// Nanoseconds since the queue began.
pub(crate) type Moment = u64;

/// Those that are due, in the order of their turns.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    classes: [Class; Priority::ALL.len()],
    /// Where the class that was served last stood: a class that was empty joins here, and does not
    /// catch up on turns that it had no use for.
    pass: u64,
}

/// Those of one priority.
#[derive(Debug, Default)]
struct Class {
    waiting: FairQueue<(Moment, u32)>,
    pass: u64,
}

impl Ready {
    pub(crate) fn insert(&mut self, priority: Priority, fairness_key: FairnessKey, when: Moment, index: u32) {
        let pass = self.pass;
        let class = self.class_mut(priority);
        if class.waiting.is_empty() {
            class.pass = class.pass.max(pass);
        }
        class.waiting.insert(fairness_key, (when, index));
    }

    pub(crate) fn remove(&mut self, priority: Priority, fairness_key: FairnessKey, when: Moment, index: u32) {
        self.class_mut(priority).waiting.remove(fairness_key, &(when, index));
    }

    /// Takes the one whose turn it is among the namespaces that may have one now.
    pub(crate) fn take_if(&mut self, may_have_turn: impl Fn(u32) -> bool) -> Option<u32> {
        let mut passed_over = [None; Priority::ALL.len()];
        for over in 0..Priority::ALL.len() {
            let (priority, _) = Priority::ALL
                .into_iter()
                .zip(&self.classes)
                .filter(|(priority, class)| {
                    !class.waiting.is_empty() && !passed_over.contains(&Some(*priority))
                })
                .min_by_key(|(_, class)| class.pass)?;
            let class = self.class_mut(priority);
            let pass = class.pass;
            if let Some((_, (_, index))) = class.waiting.take_if(&may_have_turn) {
                class.pass += stride(priority);
                // As one that was empty, a class of which nobody may have a turn does not catch up on it.
                for priority in passed_over.into_iter().flatten() {
                    let class = self.class_mut(priority);
                    class.pass = class.pass.max(pass);
                }
                self.pass = pass;
                return Some(index);
            }
            *passed_over.get_mut(over)? = Some(priority);
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.waiting.is_empty())
    }

    /// How many are waiting, by priority.
    pub(crate) fn len(&self) -> [usize; Priority::ALL.len()] {
        self.classes.each_ref().map(|class| class.waiting.len())
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
