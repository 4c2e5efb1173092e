use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

const POSITIONS: u32 = 40;

fn due(when: Nanos) -> Scheduled {
    Scheduled { when, priority: Priority::Idle, fairness_key: FairnessKey::default() }
}

/// The earliest timer, and the state after it.
fn pop(entries: &mut Entries) -> Option<(Nanos, u32)> {
    let (index, due) = entries.first_timer()?;
    entries.set_state(index, EntryState::Ready(due));
    Some((due.when, index))
}

proptest! {
    #[test]
    fn the_timers_are_those_of_what_is_scheduled_in_order(
        steps in vec((0..POSITIONS, proptest::option::weighted(0.7, 0..30_u64)), 1..300),
    ) {
        let (mut entries, mut scheduled) = (Entries::default(), BTreeMap::new());
        for (index, when) in steps {
            if entries.get(index).is_none() {
                entries.insert(index, 0);
            }
            match when {
                Some(when) => {
                    entries.set_state(index, EntryState::Scheduled(due(when)));
                    scheduled.insert(index, when);
                }
                None if index % 2 == 0 => {
                    entries.insert(index, 1);
                    scheduled.remove(&index);
                }
                None => {
                    entries.set_state(index, EntryState::Running(Meanwhile::Scheduled(due(0))));
                    scheduled.remove(&index);
                }
            }
            prop_assert_eq!(entries.timers(), scheduled.len());
            let first = scheduled.iter().map(|(index, when)| (*when, *index)).min();
            prop_assert_eq!(entries.first_timer().map(|(index, due)| (due.when, index)), first);
        }
        let mut expected: Vec<_> = scheduled.into_iter().map(|(index, when)| (when, index)).collect();
        expected.sort_unstable();
        let popped: Vec<_> = std::iter::from_fn(|| pop(&mut entries)).collect();
        prop_assert_eq!(popped, expected);
    }
}

#[test]
fn an_object_takes_32_bytes_and_its_timer_four() {
    assert_eq!(size_of::<Entry>(), 32);
    let mut entries = Entries::default();
    for index in 0..100_000 {
        entries.insert(index, 0);
        entries.set_state(index, EntryState::Scheduled(due(u64::from(index % 1000))));
    }
    let each = entries.memory() / 100_000;
    assert!(each <= 37, "{each}");
}
