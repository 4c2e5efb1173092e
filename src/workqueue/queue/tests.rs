//! The queue by example.

use std::collections::HashMap;

use super::*;
use crate::fairness::FairnessKey;

mod model;

const A: RecordId = RecordId { index: 0, tag: 0 };
const B: RecordId = RecordId { index: 1, tag: 0 };

fn fairness_key(namespace: u32, key: u32) -> FairnessKey {
    FairnessKey { namespace, key }
}

fn due(when: Nanos) -> Scheduled {
    Scheduled { when, priority: Priority::Active, fairness_key: fairness_key(0, 0) }
}

fn urgent(when: Nanos) -> Scheduled {
    Scheduled { priority: Priority::Create, ..due(when) }
}

/// Pops everything that is due at this time, in order.
fn pop_all(queue: &mut Queue, now: Nanos) -> Vec<RecordId> {
    std::iter::from_fn(|| queue.pop_if(now, |_| true)).map(|popped| popped.record_id).collect()
}

#[test]
fn an_object_is_popped_when_it_is_due_and_only_once() {
    let mut queue = Queue::default();
    queue.schedule_at(A, due(10), 0);
    assert_eq!(queue.next(), Some(10));
    assert_eq!(pop_all(&mut queue, 9), []);
    assert_eq!(pop_all(&mut queue, 10), [A]);
    assert_eq!(pop_all(&mut queue, 99), []);
    assert_eq!(queue.in_flight(), 1);
    queue.end(A, Ended::At(due(20)), 12);
    assert_eq!((queue.in_flight(), queue.next()), (0, Some(20)));
}

#[test]
fn schedule_at_replaces_what_was_scheduled_and_schedule_by_only_advances_it() {
    let mut queue = Queue::default();
    queue.schedule_at(A, due(10), 0);
    queue.schedule_at(A, due(30), 0);
    assert_eq!((queue.next(), queue.scheduled()), (Some(30), 1));
    queue.schedule_by(A, due(40), 0);
    assert_eq!((queue.next(), queue.scheduled()), (Some(30), 1));
    queue.schedule_by(A, due(20), 0);
    assert_eq!((queue.next(), queue.scheduled()), (Some(20), 1));
}

#[test]
fn a_due_object_becomes_more_urgent_and_keeps_the_time_since_when_it_is_due() {
    let mut queue = Queue::default();
    queue.schedule_at(A, due(1), 0);
    queue.schedule_at(B, due(2), 0);
    let hog = RecordId { index: 2, tag: 0 };
    queue.schedule_at(hog, due(0), 0);
    assert_eq!(queue.pop_if(5, |_| true).map(|popped| popped.record_id), Some(hog));

    queue.schedule_by(B, urgent(5), 5);
    let popped = queue.pop_if(5, |_| true).unwrap();
    assert_eq!((popped.record_id, popped.scheduled.when), (B, 2));
    queue.schedule_by(A, Scheduled { priority: Priority::Idle, ..due(5) }, 5);
    assert_eq!(queue.pop_if(5, |_| true).map(|popped| popped.scheduled), Some(due(1)));
}

#[test]
fn a_due_object_is_postponed_by_schedule_at_and_not_by_schedule_by() {
    let mut queue = Queue::default();
    queue.schedule_at(A, due(0), 0);
    queue.schedule_at(B, due(0), 0);
    assert_eq!(queue.pop_if(0, |_| true).map(|popped| popped.record_id), Some(A));
    queue.schedule_by(B, due(9), 0);
    assert!(queue.has_ready());
    queue.schedule_at(B, due(9), 0);
    assert!(!queue.has_ready());
    assert_eq!(queue.next(), Some(9));
}

#[test]
fn wake_ups_during_a_reconcile_are_one_more_reconcile_at_once() {
    let mut queue = Queue::default();
    queue.schedule_at(A, due(0), 0);
    assert_eq!(pop_all(&mut queue, 0), [A]);
    queue.schedule_by(A, urgent(3), 3);
    queue.schedule_by(A, urgent(4), 4);
    assert_eq!(pop_all(&mut queue, 5), []);
    queue.end(A, Ended::At(due(100)), 6);
    assert_eq!(pop_all(&mut queue, 6), [A]);
    queue.end(A, Ended::AwaitChange, 7);
    assert_eq!(pop_all(&mut queue, 1000), []);
}

#[test]
fn a_wake_up_follows_a_reconcile_that_awaits_changes_and_not_one_that_is_done() {
    for (ended, follows) in [(Ended::AwaitChange, true), (Ended::Done, false)] {
        let mut queue = Queue::default();
        queue.schedule_at(A, due(0), 0);
        pop_all(&mut queue, 0);
        queue.schedule_by(A, due(3), 3);
        queue.end(A, ended, 4);
        assert_eq!(!pop_all(&mut queue, 4).is_empty(), follows);
    }
}

#[test]
fn removal_works_in_every_state() {
    let mut queue = Queue::default();
    queue.remove(A);
    queue.schedule_at(A, due(5), 0);
    queue.remove(A);
    assert_eq!((queue.scheduled(), queue.next()), (0, None));

    queue.schedule_at(B, due(0), 0);
    queue.schedule_at(A, due(0), 0);
    assert_eq!(queue.pop_if(0, |_| true).map(|popped| popped.record_id), Some(A));
    queue.remove(B);
    assert!(!queue.has_ready());

    // Neither the reconcile nor the wake-up during it counts after the removal.
    queue.schedule_by(A, due(1), 1);
    queue.remove(A);
    queue.end(A, Ended::At(due(2)), 2);
    assert_eq!(pop_all(&mut queue, 99), []);
    assert_eq!(queue.in_flight(), 0);

    // What is scheduled after the removal counts, and there is still one reconcile at a time.
    queue.schedule_at(A, due(100), 100);
    pop_all(&mut queue, 100);
    queue.remove(A);
    queue.schedule_at(A, due(101), 101);
    assert_eq!(pop_all(&mut queue, 102), []);
    queue.end(A, Ended::AwaitChange, 103);
    assert_eq!(pop_all(&mut queue, 103), [A]);
}

#[test]
fn an_object_that_panicked_is_not_reconciled_early_whatever_wakes_it() {
    let mut queue = Queue::default();
    queue.schedule_at(A, due(0), 0);
    pop_all(&mut queue, 0);
    queue.schedule_by(A, urgent(1), 1);
    queue.end(A, Ended::Panicked(due(300)), 2);
    queue.schedule_by(A, urgent(3), 3);
    queue.schedule_at(A, urgent(4), 4);
    queue.remove(A);
    queue.schedule_by(A, urgent(5), 5);
    assert_eq!(pop_all(&mut queue, 299), []);
    assert_eq!(pop_all(&mut queue, 300), [A]);
    assert!(queue.not_before.is_empty());
    queue.end(A, Ended::AwaitChange, 301);
    queue.schedule_by(A, due(302), 302);
    assert_eq!(pop_all(&mut queue, 302), [A]);
}

#[test]
fn a_newer_object_takes_over_a_position_and_the_older_one_is_ignored() {
    let newer = RecordId { index: 0, tag: 1 };
    let mut queue = Queue::default();
    queue.schedule_at(A, due(5), 0);
    queue.schedule_at(newer, due(9), 0);
    assert_eq!((queue.next(), queue.scheduled()), (Some(9), 1));
    queue.schedule_at(A, due(1), 0);
    queue.remove(A);
    assert_eq!((queue.next(), queue.scheduled()), (Some(9), 1));
}

#[test]
fn a_newer_object_does_not_inherit_the_reconcile_of_the_former() {
    let newer = RecordId { index: 0, tag: 1 };
    let mut queue = Queue::default();
    queue.schedule_at(A, due(0), 0);
    pop_all(&mut queue, 0);
    queue.schedule_at(newer, due(1), 1);
    assert_eq!(pop_all(&mut queue, 1), [newer]);
    assert_eq!(queue.in_flight(), 2);
    queue.end(A, Ended::At(due(2)), 2);
    assert_eq!((queue.in_flight(), queue.next()), (1, None));
    queue.end(newer, Ended::At(due(7)), 3);
    assert_eq!((queue.in_flight(), queue.next()), (0, Some(7)));
}

#[test]
fn a_time_in_the_past_does_not_overtake_those_that_wait() {
    let mut queue = Queue::default();
    queue.schedule_at(A, due(10), 0);
    queue.schedule_at(B, due(0), 20);
    assert_eq!(pop_all(&mut queue, 20), [A, B]);
}

#[test]
fn while_all_wait_each_priority_gets_its_share() {
    let mut queue = Queue::default();
    let mut priorities = HashMap::new();
    for (index, priority) in (0..500).zip(Priority::ALL.into_iter().cycle()) {
        let record_id = RecordId { index, tag: 0 };
        priorities.insert(record_id, priority);
        queue.schedule_at(record_id, Scheduled { priority, ..due(0) }, 0);
    }
    let first: Vec<_> = (0..62)
        .filter_map(|_| queue.pop_if(0, |_| true))
        .map(|popped| priorities[&popped.record_id])
        .collect();
    let shares = Priority::ALL.map(|priority| first.iter().filter(|one| **one == priority).count());
    assert_eq!(shares, [32, 16, 8, 4, 2]);
    assert_eq!(first[0], Priority::Create);
}

#[test]
fn a_late_create_is_next_and_does_not_catch_up() {
    let mut queue = Queue::default();
    for index in 0..100 {
        queue.schedule_at(RecordId { index, tag: 0 }, due(0), 0);
    }
    for _ in 0..50 {
        queue.pop_if(0, |_| true);
    }
    for index in 100..200 {
        queue.schedule_at(RecordId { index, tag: 0 }, urgent(0), 0);
    }
    let next: Vec<_> =
        (0..19).filter_map(|_| queue.pop_if(0, |_| true)).map(|popped| popped.scheduled.priority).collect();
    assert_eq!(next[0], Priority::Create);
    let active = next.iter().filter(|one| **one == Priority::Active).count();
    assert_eq!(active, 2);
}

#[test]
fn a_small_key_is_not_delayed_by_a_large_one() {
    let mut queue = Queue::default();
    for index in 0..1000 {
        let fairness_key = fairness_key(0, u32::from(index >= 990));
        queue.schedule_at(RecordId { index, tag: 0 }, Scheduled { fairness_key, ..due(0) }, 0);
    }
    let first: Vec<_> = (0..20)
        .filter_map(|_| queue.pop_if(0, |_| true))
        .map(|popped| popped.scheduled.fairness_key)
        .collect();
    assert_eq!(first.iter().filter(|key| key.key == 1).count(), 10);
}

#[test]
fn a_namespace_with_a_hundred_keys_does_not_delay_one_with_one() {
    let mut queue = Queue::default();
    for index in 0..1000 {
        queue.schedule_at(
            RecordId { index, tag: 0 },
            Scheduled { fairness_key: fairness_key(1, index % 100), ..urgent(0) },
            0,
        );
    }
    queue.schedule_at(
        RecordId { index: 1000, tag: 0 },
        Scheduled { fairness_key: fairness_key(2, 0), ..urgent(1) },
        0,
    );
    let order: Vec<_> = std::iter::from_fn(|| queue.pop_if(1, |_| true))
        .map(|popped| popped.scheduled.fairness_key.namespace)
        .collect();
    assert_eq!(order.iter().position(|namespace| *namespace == 2), Some(1), "the next but one");
}

#[test]
fn the_memory_of_what_is_ready_or_panicked_is_counted_and_given_back() {
    let mut queue = Queue::default();
    queue.schedule_at(A, due(0), 0);
    queue.schedule_at(B, due(0), 0);
    assert_eq!(queue.pop_if(0, |_| true).map(|popped| popped.record_id), Some(A));
    let with_ready = queue.memory();
    assert_eq!(pop_all(&mut queue, 0), [B]);
    let with_neither = queue.memory();
    assert!(with_ready > with_neither);
    queue.end(A, Ended::Panicked(due(300)), 1);
    queue.remove(A);
    assert!(queue.memory() > with_neither);
    queue.schedule_at(RecordId { tag: 1, ..A }, due(2), 2);
    queue.remove(RecordId { tag: 1, ..A });
    assert!(queue.memory() <= with_neither);
}
