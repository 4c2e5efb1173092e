//! The order of the objects that are due. Pure.
//!
//! A class of work with a higher priority gets more reconciles, never all: while all five classes have objects waiting,
//! of 31 reconciles 16 are creates, 8 requested, 4 finishing, 2 active and 1 idle, and what a class does not use goes
//! to the others in the same proportion (stride scheduling: Waldspurger and Weihl, 1995). Inside a class the namespaces
//! are served round robin, and inside a namespace its keys, so that a portal key with fifty thousand verifications
//! cannot hold up a key with ten, nor a namespace with a hundred keys one with a single key. Of one key the object that
//! became due first goes first. A namespace that may run no more now is skipped.

use crate::{
    fairness::{FairQueue, FairnessKey},
    priority::Priority,
};

/// Nanoseconds since the work queue was created.
pub(crate) type Nanos = u64;

/// The objects that are due, in the order in which they are reconciled.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    classes: [PriorityLevel; Priority::ALL.len()],
    /// The pass of the class that was served last: a class that was empty joins here, and does not catch up on
    /// reconciles that it did not use.
    pass: u64,
}

/// The objects of one priority.
#[derive(Debug, Default)]
struct PriorityLevel {
    waiting: FairQueue<(Nanos, u32)>,
    pass: u64,
}

impl Ready {
    pub(crate) fn insert(&mut self, priority: Priority, fairness_key: FairnessKey, when: Nanos, index: u32) {
        let pass = self.pass;
        let class = self.class_mut(priority);
        if class.waiting.is_empty() {
            class.pass = class.pass.max(pass);
        }
        class.waiting.insert(fairness_key, (when, index));
    }

    pub(crate) fn remove(&mut self, priority: Priority, fairness_key: FairnessKey, when: Nanos, index: u32) {
        self.class_mut(priority).waiting.remove(fairness_key, &(when, index));
    }

    /// Pops the next object among the namespaces that may run one more now.
    pub(crate) fn pop_if(&mut self, may_run: impl Fn(u32) -> bool) -> Option<u32> {
        let mut skipped = [None; Priority::ALL.len()];
        for round in 0..Priority::ALL.len() {
            let (priority, _) = Priority::ALL
                .into_iter()
                .zip(&self.classes)
                .filter(|(priority, class)| !class.waiting.is_empty() && !skipped.contains(&Some(*priority)))
                .min_by_key(|(_, class)| class.pass)?;
            let class = self.class_mut(priority);
            let pass = class.pass;
            if let Some((_, (_, index))) = class.waiting.pop_if(&may_run) {
                class.pass += stride(priority);
                // A class whose namespaces may all not run does not catch up, like one that was empty.
                for priority in skipped.into_iter().flatten() {
                    let class = self.class_mut(priority);
                    class.pass = class.pass.max(pass);
                }
                self.pass = pass;
                return Some(index);
            }
            *skipped.get_mut(round)? = Some(priority);
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.waiting.is_empty())
    }

    /// The number of objects, by priority.
    pub(crate) fn len(&self) -> [usize; Priority::ALL.len()] {
        self.classes.each_ref().map(|class| class.waiting.len())
    }

    fn class_mut(&mut self, priority: Priority) -> &mut PriorityLevel {
        let [create, requested, finishing, active, idle] = &mut self.classes;
        match priority {
            Priority::Create => create,
            Priority::Requested => requested,
            Priority::Finishing => finishing,
            Priority::Active => active,
            Priority::Idle => idle,
        }
    }
}

/// How far a class moves back with each reconcile: the inverse of its share.
const fn stride(priority: Priority) -> u64 {
    match priority {
        Priority::Create => 1,
        Priority::Requested => 2,
        Priority::Finishing => 4,
        Priority::Active => 8,
        Priority::Idle => 16,
    }
}
