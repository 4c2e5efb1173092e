//! The queue agrees with a naive one, whatever is done to both.

use std::collections::HashMap;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    ScheduleAt(u32, u64, Priority, FairnessKey),
    ScheduleBy(u32, u64, Priority, FairnessKey),
    Remove(u32),
    /// The record is removed and its position reused.
    Replace(u32),
    Pop,
    End(usize, u8, u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let schedule = || (0..6_u32, 0..20_u64, select(Priority::ALL.to_vec()), (0..2_u32, 0..2_u32));
    prop_oneof![
        schedule().prop_map(|(index, delay, priority, key)| Step::ScheduleAt(
            index,
            delay,
            priority,
            fairness_key(key.0, key.1)
        )),
        schedule().prop_map(|(index, delay, priority, key)| Step::ScheduleBy(
            index,
            delay,
            priority,
            fairness_key(key.0, key.1)
        )),
        (0..6_u32).prop_map(Step::Remove),
        (0..6_u32).prop_map(Step::Replace),
        Just(Step::Pop),
        Just(Step::Pop),
        (0..8_usize, 0..4_u8, 0..20_u64).prop_map(|(which, how, delay)| Step::End(which, how, delay)),
        (0..15_u64).prop_map(Step::Wait),
    ]
}

/// What a naive queue knows of one object.
#[derive(Debug, Clone, Copy, Default)]
struct Naive {
    next: Option<Nanos>,
    is_running: bool,
    /// Removed during its reconcile, and not scheduled since.
    is_removed: bool,
    not_before: Nanos,
}

/// A naive queue.
#[derive(Default)]
struct Model {
    objects: HashMap<RecordId, Naive>,
    tags: [u32; 6],
    running: Vec<RecordId>,
    now: Nanos,
}

impl Model {
    fn id(&self, index: u32) -> RecordId {
        RecordId { index, tag: self.tags[index as usize] }
    }

    fn schedule_at(&mut self, record_id: RecordId, when: Nanos) {
        let now = self.now;
        let one = self.objects.entry(record_id).or_default();
        let already_due = !one.is_running && one.next.is_some_and(|next| next <= now);
        let when = when.max(one.not_before);
        // An object that is due and stays so keeps the time since when it is due.
        one.next = Some(if already_due && when <= now { one.next.unwrap() } else { when });
        one.is_removed = false;
    }

    fn schedule_by(&mut self, record_id: RecordId, when: Nanos) {
        let one = self.objects.entry(record_id).or_default();
        let when = when.max(one.not_before);
        one.next = Some(one.next.map_or(when, |next| next.min(when)));
        one.is_removed = false;
    }

    fn remove(&mut self, record_id: RecordId) {
        if let Some(one) = self.objects.get_mut(&record_id) {
            one.next = None;
            one.is_removed = one.is_running;
        }
    }

    /// The removed record, whose position is another one's now.
    fn replace(&mut self, index: u32) -> RecordId {
        let former = self.id(index);
        if let Some(one) = self.objects.get_mut(&former) {
            one.next = None;
            one.is_removed = true;
        }
        self.tags[index as usize] += 1;
        former
    }

    fn due(&self) -> Vec<RecordId> {
        let is_due = |one: &Naive| !one.is_running && one.next.is_some_and(|next| next <= self.now);
        self.objects.iter().filter(|(_, one)| is_due(one)).map(|(record_id, _)| *record_id).collect()
    }

    fn start(&mut self, record_id: RecordId) {
        *self.objects.get_mut(&record_id).unwrap() = Naive { is_running: true, ..Naive::default() };
        self.running.push(record_id);
    }

    /// Ends a reconcile in one of four ways.
    fn end(&mut self, which: usize, how: u8, delay: Nanos) -> (RecordId, Ended) {
        let record_id = self.running.remove(which);
        let one = self.objects.get_mut(&record_id).unwrap();
        let when = self.now + delay;
        one.is_running = false;
        let (ended, next) = match how {
            0 => (Ended::At(due(when)), Some(one.next.map_or(when, |next| next.min(when)))),
            1 => (Ended::AwaitChange, one.next),
            2 => (Ended::Done, None),
            _ => {
                one.not_before = when;
                (Ended::Panicked(due(when)), Some(when))
            }
        };
        one.next = next.filter(|_| !one.is_removed);
        one.is_removed = false;
        (record_id, ended)
    }

    fn scheduled(&self) -> usize {
        self.objects.values().filter(|one| !one.is_running && one.next.is_some()).count()
    }
}

proptest! {
    #[test]
    fn the_queue_agrees_with_a_naive_one(steps in vec(step(), 1..300)) {
        let mut queue = Queue::default();
        let mut model = Model::default();
        for step in steps {
            let now = model.now;
            match step {
                Step::ScheduleAt(index, delay, priority, fairness_key) => {
                    let record_id = model.id(index);
                    model.schedule_at(record_id, now + delay);
                    queue.schedule_at(record_id, Scheduled { when: now + delay, priority, fairness_key }, now);
                }
                Step::ScheduleBy(index, delay, priority, fairness_key) => {
                    let record_id = model.id(index);
                    model.schedule_by(record_id, now + delay);
                    queue.schedule_by(record_id, Scheduled { when: now + delay, priority, fairness_key }, now);
                }
                Step::Remove(index) => {
                    let record_id = model.id(index);
                    model.remove(record_id);
                    queue.remove(record_id);
                }
                Step::Replace(index) => queue.remove(model.replace(index)),
                Step::Pop => {
                    let due = model.due();
                    match queue.pop_if(now, |_| true) {
                        None => prop_assert!(due.is_empty(), "{due:?} are due"),
                        Some(popped) => {
                            prop_assert!(due.contains(&popped.record_id), "{popped:?} not in {due:?}");
                            prop_assert!(popped.scheduled.when <= now);
                            model.start(popped.record_id);
                        }
                    }
                }
                Step::End(which, how, delay) if which < model.running.len() => {
                    let (record_id, ended) = model.end(which, how, delay);
                    queue.end(record_id, ended, now);
                }
                Step::End(..) => continue,
                Step::Wait(passed) => model.now += passed,
            }
            let ready: usize = queue.ready().iter().sum();
            prop_assert_eq!(queue.scheduled() + ready, model.scheduled());
            prop_assert_eq!(queue.in_flight(), model.running.len());
        }
        // Everything that is scheduled is popped in the end.
        prop_assert_eq!(pop_all(&mut queue, Nanos::MAX).len(), model.scheduled());
    }
}
