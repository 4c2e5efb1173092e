//! The queue, by example and against a model.

use std::collections::HashMap;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const A: RecordId = RecordId { index: 0, tag: 0 };
const B: RecordId = RecordId { index: 1, tag: 0 };

fn fairness_key(namespace: u32, key: u32) -> FairnessKey {
    FairnessKey { namespace, key }
}

fn due(when: Moment) -> Scheduled {
    Scheduled { when, priority: Priority::Active, fairness_key: fairness_key(0, 0) }
}

fn urgent(when: Moment) -> Scheduled {
    Scheduled { priority: Priority::Create, ..due(when) }
}

/// Takes whoever can go at this time, in order.
fn take_all(queue: &mut Queue, now: Moment) -> Vec<RecordId> {
    std::iter::from_fn(|| queue.take_if(now, |_| true)).map(|taken| taken.record_id).collect()
}

#[test]
fn nobody_goes_before_its_time_and_nobody_goes_twice() {
    let mut queue = Queue::default();
    queue.set(A, due(10), 0);
    assert_eq!(queue.next(), Some(10));
    assert_eq!(take_all(&mut queue, 9), []);
    assert_eq!(take_all(&mut queue, 10), [A]);
    assert_eq!(take_all(&mut queue, 99), []);
    assert_eq!(queue.in_flight(), 1);
    queue.end(A, Ended::At(due(20)), 12);
    assert_eq!((queue.in_flight(), queue.next()), (0, Some(20)));
}

#[test]
fn set_replaces_what_was_planned_and_forward_only_brings_it_nearer() {
    let mut queue = Queue::default();
    queue.set(A, due(10), 0);
    queue.set(A, due(30), 0);
    assert_eq!((queue.next(), queue.waiting()), (Some(30), 1));
    queue.forward(A, due(40), 0);
    assert_eq!((queue.next(), queue.waiting()), (Some(30), 1));
    queue.forward(A, due(20), 0);
    assert_eq!((queue.next(), queue.waiting()), (Some(20), 1));
}

#[test]
fn one_that_is_due_becomes_more_urgent_and_keeps_the_time_since_when_it_is_due() {
    let mut queue = Queue::default();
    queue.set(A, due(1), 0);
    queue.set(B, due(2), 0);
    let hog = RecordId { index: 2, tag: 0 };
    queue.set(hog, due(0), 0);
    assert_eq!(queue.take_if(5, |_| true).map(|taken| taken.record_id), Some(hog));

    queue.forward(B, urgent(5), 5);
    let taken = queue.take_if(5, |_| true).unwrap();
    assert_eq!((taken.record_id, taken.due.when), (B, 2));
    queue.forward(A, Scheduled { priority: Priority::Idle, ..due(5) }, 5);
    assert_eq!(queue.take_if(5, |_| true).map(|taken| taken.due), Some(due(1)));
}

#[test]
fn one_that_is_due_can_be_set_to_a_later_time_but_not_forwarded_to_it() {
    let mut queue = Queue::default();
    queue.set(A, due(0), 0);
    queue.set(B, due(0), 0);
    assert_eq!(queue.take_if(0, |_| true).map(|taken| taken.record_id), Some(A));
    queue.forward(B, due(9), 0);
    assert!(queue.has_ready());
    queue.set(B, due(9), 0);
    assert!(!queue.has_ready());
    assert_eq!(queue.next(), Some(9));
}

#[test]
fn wake_ups_during_a_turn_are_one_more_turn_at_once() {
    let mut queue = Queue::default();
    queue.set(A, due(0), 0);
    assert_eq!(take_all(&mut queue, 0), [A]);
    queue.forward(A, urgent(3), 3);
    queue.forward(A, urgent(4), 4);
    assert_eq!(take_all(&mut queue, 5), []);
    queue.end(A, Ended::At(due(100)), 6);
    assert_eq!(take_all(&mut queue, 6), [A]);
    queue.end(A, Ended::AwaitChange, 7);
    assert_eq!(take_all(&mut queue, 1000), []);
}

#[test]
fn a_turn_that_parks_is_followed_by_what_woke_it_and_one_that_is_gone_by_nothing() {
    for (ended, follows) in [(Ended::AwaitChange, true), (Ended::Gone, false)] {
        let mut queue = Queue::default();
        queue.set(A, due(0), 0);
        take_all(&mut queue, 0);
        queue.forward(A, due(3), 3);
        queue.end(A, ended, 4);
        assert_eq!(!take_all(&mut queue, 4).is_empty(), follows);
    }
}

#[test]
fn removal_works_in_every_state() {
    let mut queue = Queue::default();
    queue.remove(A);
    queue.set(A, due(5), 0);
    queue.remove(A);
    assert_eq!((queue.waiting(), queue.next()), (0, None));

    queue.set(B, due(0), 0);
    queue.set(A, due(0), 0);
    assert_eq!(queue.take_if(0, |_| true).map(|taken| taken.record_id), Some(A));
    queue.remove(B);
    assert!(!queue.has_ready());

    // Neither the turn nor what woke it during the turn counts any more.
    queue.forward(A, due(1), 1);
    queue.remove(A);
    queue.end(A, Ended::At(due(2)), 2);
    assert_eq!(take_all(&mut queue, 99), []);
    assert_eq!(queue.in_flight(), 0);

    // What is said after the removal counts, and still one turn at a time.
    queue.set(A, due(100), 100);
    take_all(&mut queue, 100);
    queue.remove(A);
    queue.set(A, due(101), 101);
    assert_eq!(take_all(&mut queue, 102), []);
    queue.end(A, Ended::AwaitChange, 103);
    assert_eq!(take_all(&mut queue, 103), [A]);
}

#[test]
fn one_that_panicked_is_left_alone_whatever_wakes_it() {
    let mut queue = Queue::default();
    queue.set(A, due(0), 0);
    take_all(&mut queue, 0);
    queue.forward(A, urgent(1), 1);
    queue.end(A, Ended::Held(due(300)), 2);
    queue.forward(A, urgent(3), 3);
    queue.set(A, urgent(4), 4);
    queue.remove(A);
    queue.forward(A, urgent(5), 5);
    assert_eq!(take_all(&mut queue, 299), []);
    assert_eq!(take_all(&mut queue, 300), [A]);
    queue.end(A, Ended::AwaitChange, 301);
    queue.forward(A, due(302), 302);
    assert_eq!(take_all(&mut queue, 302), [A]);
}

#[test]
fn a_newer_object_takes_a_place_over_and_an_older_one_is_not_heard() {
    let newer = RecordId { index: 0, tag: 1 };
    let mut queue = Queue::default();
    queue.set(A, due(5), 0);
    queue.set(newer, due(9), 0);
    assert_eq!((queue.next(), queue.waiting()), (Some(9), 1));
    queue.set(A, due(1), 0);
    queue.remove(A);
    assert_eq!((queue.next(), queue.waiting()), (Some(9), 1));
}

#[test]
fn a_newer_object_does_not_inherit_the_turn_of_the_former() {
    let newer = RecordId { index: 0, tag: 1 };
    let mut queue = Queue::default();
    queue.set(A, due(0), 0);
    take_all(&mut queue, 0);
    queue.set(newer, due(1), 1);
    assert_eq!(take_all(&mut queue, 1), [newer]);
    assert_eq!(queue.in_flight(), 2);
    queue.end(A, Ended::At(due(2)), 2);
    assert_eq!((queue.in_flight(), queue.next()), (1, None));
    queue.end(newer, Ended::At(due(7)), 3);
    assert_eq!((queue.in_flight(), queue.next()), (0, Some(7)));
}

#[test]
fn nobody_steps_in_front_by_a_time_in_the_past() {
    let mut queue = Queue::default();
    queue.set(A, due(10), 0);
    queue.set(B, due(0), 20);
    assert_eq!(take_all(&mut queue, 20), [A, B]);
}

#[test]
fn while_all_wait_each_priority_gets_its_share() {
    let mut queue = Queue::default();
    let mut priorities = HashMap::new();
    for (index, priority) in (0..500).zip(Priority::ALL.into_iter().cycle()) {
        let record_id = RecordId { index, tag: 0 };
        priorities.insert(record_id, priority);
        queue.set(record_id, Scheduled { priority, ..due(0) }, 0);
    }
    let first: Vec<_> = (0..62)
        .filter_map(|_| queue.take_if(0, |_| true))
        .map(|taken| priorities[&taken.record_id])
        .collect();
    let shares = Priority::ALL.map(|priority| first.iter().filter(|one| **one == priority).count());
    assert_eq!(shares, [32, 16, 8, 4, 2]);
    assert_eq!(first[0], Priority::Create);
}

#[test]
fn a_create_that_comes_late_is_next_and_catches_up_on_nothing() {
    let mut queue = Queue::default();
    for index in 0..100 {
        queue.set(RecordId { index, tag: 0 }, due(0), 0);
    }
    for _ in 0..50 {
        queue.take_if(0, |_| true);
    }
    for index in 100..200 {
        queue.set(RecordId { index, tag: 0 }, urgent(0), 0);
    }
    let next: Vec<_> =
        (0..19).filter_map(|_| queue.take_if(0, |_| true)).map(|taken| taken.due.priority).collect();
    assert_eq!(next[0], Priority::Create);
    let active = next.iter().filter(|one| **one == Priority::Active).count();
    assert_eq!(active, 2);
}

#[test]
fn a_small_lane_is_not_held_up_by_a_large_one() {
    let mut queue = Queue::default();
    for index in 0..1000 {
        let fairness_key = fairness_key(0, u32::from(index >= 990));
        queue.set(RecordId { index, tag: 0 }, Scheduled { fairness_key, ..due(0) }, 0);
    }
    let first: Vec<_> =
        (0..20).filter_map(|_| queue.take_if(0, |_| true)).map(|taken| taken.due.fairness_key).collect();
    assert_eq!(first.iter().filter(|taken| taken.key == 1).count(), 10);
}

#[test]
fn a_namespace_with_a_hundred_keys_does_not_hold_up_one_with_one() {
    let mut queue = Queue::default();
    for index in 0..1000 {
        queue.set(
            RecordId { index, tag: 0 },
            Scheduled { fairness_key: fairness_key(1, index % 100), ..urgent(0) },
            0,
        );
    }
    queue.set(
        RecordId { index: 1000, tag: 0 },
        Scheduled { fairness_key: fairness_key(2, 0), ..urgent(1) },
        0,
    );
    let order: Vec<_> = std::iter::from_fn(|| queue.take_if(1, |_| true))
        .map(|taken| taken.due.fairness_key.namespace)
        .collect();
    assert_eq!(order.iter().position(|namespace| *namespace == 2), Some(1), "the next but one");
}

#[test]
fn an_entry_takes_less_than_a_hundred_bytes() {
    let mut queue = Queue::default();
    for index in 0..100_000 {
        queue.set(RecordId { index, tag: 0 }, due(u64::from(index)), 0);
    }
    let each = queue.memory() / 100_000;
    println!("an entry is {} bytes, with its timer {each}", size_of::<Entry>());
    assert!(each < 100, "{each}");
}

#[derive(Debug, Clone)]
enum Step {
    Set(u32, u64, Priority, FairnessKey),
    Forward(u32, u64, Priority, FairnessKey),
    Remove(u32),
    /// The record is removed, and the place used again.
    Replace(u32),
    Take,
    End(usize, u8, u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let plan = || (0..6_u32, 0..20_u64, select(Priority::ALL.to_vec()), (0..2_u32, 0..2_u32));
    prop_oneof![
        plan().prop_map(|(index, delay, priority, key)| Step::Set(
            index,
            delay,
            priority,
            fairness_key(key.0, key.1)
        )),
        plan().prop_map(|(index, delay, priority, key)| Step::Forward(
            index,
            delay,
            priority,
            fairness_key(key.0, key.1)
        )),
        (0..6_u32).prop_map(Step::Remove),
        (0..6_u32).prop_map(Step::Replace),
        Just(Step::Take),
        Just(Step::Take),
        (0..8_usize, 0..4_u8, 0..20_u64).prop_map(|(turn, how, delay)| Step::End(turn, how, delay)),
        (0..15_u64).prop_map(Step::Wait),
    ]
}

/// What a naive plan knows of one object.
#[derive(Debug, Clone, Copy, Default)]
struct Naive {
    next: Option<Moment>,
    turn: bool,
    /// Removed during its turn, and not woken since.
    moot: bool,
    held_until: Moment,
}

proptest! {
    #[test]
    fn the_queue_agrees_with_a_naive_plan(steps in vec(step(), 1..300)) {
        let mut queue = Queue::default();
        let mut model: HashMap<RecordId, Naive> = HashMap::new();
        let mut tags = [0_u32; 6];
        let mut reconciler: Vec<RecordId> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Set(index, delay, priority, fairness_key) => {
                    let record_id = RecordId { index, tag: tags[index as usize] };
                    let one = model.entry(record_id).or_default();
                    let already_due = !one.turn && one.next.is_some_and(|next| next <= now);
                    let when = (now + delay).max(one.held_until);
                    // One that is due and stays so keeps the time since when it is, if it was
                    // taken notice of; the times agree in that they have passed.
                    one.next = Some(if already_due && when <= now { one.next.unwrap() } else { when });
                    one.moot = false;
                    queue.set(record_id, Scheduled { when: now + delay, priority, fairness_key }, now);
                }
                Step::Forward(index, delay, priority, fairness_key) => {
                    let record_id = RecordId { index, tag: tags[index as usize] };
                    let one = model.entry(record_id).or_default();
                    let when = (now + delay).max(one.held_until);
                    one.next = Some(one.next.map_or(when, |next| next.min(when)));
                    one.moot = false;
                    queue.forward(record_id, Scheduled { when: now + delay, priority, fairness_key }, now);
                }
                Step::Remove(index) => {
                    let record_id = RecordId { index, tag: tags[index as usize] };
                    if let Some(one) = model.get_mut(&record_id) {
                        one.next = None;
                        one.moot = one.turn;
                    }
                    queue.remove(record_id);
                }
                Step::Replace(index) => {
                    let tag = &mut tags[index as usize];
                    let former = RecordId { index, tag: *tag };
                    if let Some(one) = model.get_mut(&former) {
                        one.next = None;
                        one.moot = true;
                    }
                    queue.remove(former);
                    *tag += 1;
                }
                Step::Take => {
                    let can: Vec<_> = model
                        .iter()
                        .filter(|(_, one)| !one.turn && one.next.is_some_and(|next| next <= now))
                        .map(|(record_id, _)| *record_id)
                        .collect();
                    match queue.take_if(now, |_| true) {
                        None => prop_assert!(can.is_empty(), "{can:?} could go"),
                        Some(taken) => {
                            prop_assert!(can.contains(&taken.record_id), "{taken:?} not in {can:?}");
                            prop_assert!(taken.due.when <= now);
                            let one = model.get_mut(&taken.record_id).unwrap();
                            *one = Naive { turn: true, ..Naive::default() };
                            reconciler.push(taken.record_id);
                        }
                    }
                }
                Step::End(turn, how, delay) => {
                    if turn >= reconciler.len() {
                        continue;
                    }
                    let record_id = reconciler.remove(turn);
                    let one = model.get_mut(&record_id).unwrap();
                    let when = now + delay;
                    one.turn = false;
                    let (ended, next) = match how {
                        0 => (
                            Ended::At(due(when)),
                            Some(one.next.map_or(when, |next| next.min(when))),
                        ),
                        1 => (Ended::AwaitChange, one.next),
                        2 => (Ended::Gone, None),
                        _ => {
                            one.held_until = when;
                            (Ended::Held(due(when)), Some(when))
                        }
                    };
                    one.next = next.filter(|_| !one.moot);
                    one.moot = false;
                    queue.end(record_id, ended, now);
                }
                Step::Wait(passed) => now += passed,
            }
            let planned = model.values().filter(|one| !one.turn && one.next.is_some()).count();
            let ready: usize = queue.ready().iter().sum();
            prop_assert_eq!(queue.waiting() + ready, planned);
            prop_assert_eq!(queue.in_flight(), reconciler.len());
        }
        // Everybody who is planned has a turn in the end.
        let planned = model.values().filter(|one| !one.turn && one.next.is_some()).count();
        prop_assert_eq!(take_all(&mut queue, Moment::MAX).len(), planned);
    }
}
