//! The table, by example and against a model.

use std::collections::HashMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn meta(name: &str, uid: &str, version: u64) -> ObjectMeta {
    ObjectMeta {
        namespace: Some("kyc".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        resource_version: Some(version.to_string()),
        generation: Some(1),
        ..ObjectMeta::default()
    }
}

fn see(table: &mut Index<u64>, name: &str, uid: &str, version: u64) -> Seen<u64> {
    table.seen(&meta(name, uid, version), |_| version)
}

const UID: &str = "c0ffee00-0000-4000-8000-000000000001";
const OTHER: &str = "c0ffee00-0000-4000-8000-000000000002";

#[test]
fn what_is_seen_first_is_new_and_then_changed_or_not() {
    let mut table = Index::new();
    let Seen::New(record_id) = see(&mut table, "a", UID, 5) else {
        panic!("new");
    };
    assert!(matches!(see(&mut table, "a", UID, 5), Seen::Unchanged(same) if same == record_id));
    assert!(matches!(see(&mut table, "a", UID, 4), Seen::Stale(same) if same == record_id));
    assert_eq!(table.get(record_id), Some(&5));

    let mut changed = meta("a", UID, 6);
    changed.generation = Some(2);
    changed.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let seen = table.seen(&changed, |before| before.copied().unwrap_or_default() + 10);
    assert!(matches!(seen, Seen::Changed(same) if same == record_id));
    let view = table.view(record_id).unwrap();
    assert_eq!((view.namespace, view.name, view.generation), ("kyc", "a", 2));
    assert_eq!((view.deleting, view.leaving, *view.payload), (true, false, 15));
}

#[test]
fn the_echo_of_an_own_write_is_no_change() {
    let mut table = Index::new();
    let record_id = see(&mut table, "a", UID, 5).record_id();
    assert!(table.wrote(record_id, "8", |payload| *payload = 80));
    assert!(matches!(see(&mut table, "a", UID, 5), Seen::Unchanged(_) | Seen::Stale(_)));
    assert!(matches!(see(&mut table, "a", UID, 8), Seen::Unchanged(_)));
    assert_eq!(table.get(record_id), Some(&80));
    assert!(matches!(see(&mut table, "a", UID, 9), Seen::Changed(_)));
}

#[test]
fn after_the_state_went_back_the_next_list_is_believed_and_then_older_is_stale_again() {
    let mut table = Index::new();
    let rolled_back = see(&mut table, "a", UID, 90).record_id();
    let untouched = see(&mut table, "b", OTHER, 40).record_id();
    see(&mut table, "c", "gone", 95);
    table.restarted();
    table.believe();
    assert!(matches!(see(&mut table, "a", UID, 30), Seen::Changed(same) if same == rolled_back));
    assert!(matches!(see(&mut table, "b", OTHER, 40), Seen::Unchanged(same) if same == untouched));
    // What was created since the restore has the name of what it does not know.
    assert!(matches!(see(&mut table, "c", "new", 50), Seen::Replaced { .. }));
    assert!(table.wrote(rolled_back, "55", |payload| *payload = 55));
    assert_eq!(table.synced().len(), 0);
    assert!(matches!(see(&mut table, "a", UID, 30), Seen::Stale(_)));
    assert!(matches!(see(&mut table, "a", UID, 56), Seen::Changed(_)));
}

#[test]
fn a_state_is_the_newest_that_is_known_or_older() {
    let mut table = Index::new();
    let record_id = see(&mut table, "a", UID, 5).record_id();
    assert!(table.is_at(record_id, "5") && !table.is_at(record_id, "4") && !table.is_at(record_id, "6"));
    assert!(
        table.is_past(record_id, "4") && !table.is_past(record_id, "5") && !table.is_past(record_id, "6")
    );
    table.remove(record_id);
    assert!(!table.is_at(record_id, "5") && !table.is_past(record_id, "4"));
}

#[test]
fn a_write_that_the_watch_has_overtaken_changes_nothing() {
    let mut table = Index::new();
    let record_id = see(&mut table, "a", UID, 9).record_id();
    assert!(!table.wrote(record_id, "8", |payload| *payload = 80));
    assert_eq!(table.get(record_id), Some(&9));
}

#[test]
fn versions_that_are_not_numbers_are_equal_or_changed() {
    let mut table = Index::new();
    let mut object = meta("a", UID, 0);
    object.resource_version = Some("b".to_owned());
    table.seen(&object, |_| 1);
    assert!(matches!(table.seen(&object, |_| 2), Seen::Unchanged(_)));
    object.resource_version = Some("a".to_owned());
    assert!(matches!(table.seen(&object, |_| 3), Seen::Changed(_)));
}

#[test]
fn a_settled_one_that_leaves_the_selector_is_not_taken_for_deleted() {
    let mut table = Index::new();
    let record_id = see(&mut table, "a", UID, 5).record_id();
    assert!(table.leaving(record_id));
    assert!(table.view(record_id).unwrap().leaving);
    let removed = table.gone(UID).unwrap();
    assert_eq!(removed.departure, Departure::Settled);
    assert_eq!((removed.record_id, removed.payload), (record_id, 5));
    assert_eq!(table.gone(UID), None);
    assert_eq!(table.namespaces.find("kyc"), None);
}

#[test]
fn one_whose_settling_failed_is_taken_for_deleted_again() {
    let mut table = Index::new();
    let record_id = see(&mut table, "a", UID, 5).record_id();
    assert!(table.leaving(record_id));
    assert!(table.staying(record_id));
    assert_eq!(table.gone(UID).unwrap().departure, Departure::Deleted);
    assert!(!table.leaving(record_id));
    assert!(!table.staying(record_id));
}

#[test]
fn a_list_sweeps_what_is_not_in_it() {
    let mut table = Index::new();
    let kept = see(&mut table, "kept", UID, 1).record_id();
    let dropped = see(&mut table, "dropped", OTHER, 2).record_id();
    let unreadable = see(&mut table, "unreadable", "third", 3).record_id();
    let settled = see(&mut table, "settled", "fourth", 4).record_id();
    assert!(table.leaving(settled));

    table.restarted();
    see(&mut table, "dropped", OTHER, 2);
    table.restarted();
    see(&mut table, "kept", UID, 1);
    assert_eq!(table.still_there("third"), Some(unreadable));
    assert_eq!(table.still_there("unknown"), None);
    let mut swept = table.synced();
    swept.sort_by_key(|removed| removed.record_id);
    let swept: Vec<_> = swept.iter().map(|one| (one.record_id, one.departure)).collect();
    assert_eq!(swept, [(dropped, Departure::Deleted), (settled, Departure::Settled)]);
    assert!(table.get(kept).is_some());
    assert!(table.get(unreadable).is_some());
    assert!(table.synced().is_empty());
}

#[test]
fn a_stale_list_still_shows_that_an_object_is_there() {
    let mut table = Index::new();
    let record_id = see(&mut table, "a", UID, 5).record_id();
    table.wrote(record_id, "9", |_| {});
    table.restarted();
    assert!(matches!(see(&mut table, "a", UID, 5), Seen::Stale(_)));
    assert!(table.synced().is_empty());
}

#[test]
fn a_namesake_replaces_the_record_and_its_handle_leads_nowhere() {
    let mut table = Index::new();
    let first = see(&mut table, "a", UID, 5).record_id();
    let Seen::Replaced { record_id, removed } = see(&mut table, "a", OTHER, 6) else {
        panic!("replaced");
    };
    assert_eq!((removed.record_id, removed.payload), (first, 5));
    assert_eq!(removed.departure, Departure::Deleted);
    assert_eq!(record_id.index, first.index);
    assert!(record_id.is_newer_than(first));
    assert_eq!(table.get(first), None);
    assert!(table.get_mut(first).is_none());
    assert!(!table.wrote(first, "7", |_| {}));
    assert!(table.remove(first).is_none());
    assert_eq!(table.get(record_id), Some(&6));
    assert_eq!(table.slot_of_name("kyc", "a"), Some(record_id));
    assert_eq!(table.slot_of_uid(UID), None);
    assert_eq!(table.slot_of_uid(OTHER), Some(record_id));
}

#[test]
fn a_deleted_namesake_from_a_stale_list_replaces_nothing() {
    let mut table = Index::new();
    let record_id = see(&mut table, "a", OTHER, 6).record_id();
    assert!(matches!(see(&mut table, "a", UID, 5), Seen::Stale(same) if same == record_id));
    assert_eq!(table.slot_of_uid(OTHER), Some(record_id));
}

#[test]
fn a_late_deletion_of_a_replaced_object_removes_nothing() {
    let mut table = Index::new();
    see(&mut table, "a", UID, 5);
    let record_id = see(&mut table, "a", OTHER, 6).record_id();
    assert_eq!(table.gone(UID), None);
    assert_eq!(table.get(record_id), Some(&6));
}

#[test]
fn a_record_with_a_payload_of_150_bytes_takes_less_than_300() {
    let mut table = Index::<[u8; 150]>::new();
    for number in 0..100_000 {
        let uid = format!("c0ffee00-0000-4000-8000-{number:012x}");
        table.seen(&meta(&format!("onboarding-{number:08}"), &uid, number), |_| [0; 150]);
    }
    let each = table.memory() / table.len();
    println!("a place is {} bytes, a record in all {each} bytes", size_of::<Record<[u8; 150]>>());
    assert!(each <= 300, "{each}");
}

/// What is done to the table in the model test. Objects are one of four names, uids count up.
#[derive(Debug, Clone)]
enum Step {
    Create(&'static str),
    Change(&'static str),
    Delete(&'static str),
    Settle(&'static str),
    Write(&'static str),
    Replay(&'static str),
    Relist { missing: Option<&'static str> },
}

fn step() -> impl Strategy<Value = Step> {
    let name = || select(vec!["a", "b", "c", "d"]);
    prop_oneof![
        name().prop_map(Step::Create),
        name().prop_map(Step::Change),
        name().prop_map(Step::Delete),
        name().prop_map(Step::Settle),
        name().prop_map(Step::Write),
        name().prop_map(Step::Replay),
        proptest::option::of(name()).prop_map(|missing| Step::Relist { missing }),
    ]
}

#[derive(Debug, Clone)]
struct Known {
    uid: String,
    version: u64,
    record_id: RecordId,
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_naive_map(steps in vec(step(), 1..200)) {
        let mut table = Index::<u64>::new();
        let mut model: HashMap<&str, Known> = HashMap::new();
        let mut dead: Vec<RecordId> = Vec::new();
        for (clock, step) in (1_u64..).zip(steps) {
            match step {
                Step::Create(name) => {
                    let uid = format!("c0ffee00-0000-4000-8000-{clock:012x}");
                    let seen = see(&mut table, name, &uid, clock);
                    let former = model.insert(name, Known { uid, version: clock, record_id: seen.record_id() });
                    match (seen, former) {
                        (Seen::New(_), None) => {}
                        (Seen::Replaced { record_id: _, removed }, Some(former)) => {
                            prop_assert_eq!(removed.record_id, former.record_id);
                            prop_assert_eq!(removed.payload, former.version);
                            dead.push(former.record_id);
                        }
                        (seen, former) => prop_assert!(false, "{seen:?} after {former:?}"),
                    }
                }
                Step::Change(name) => {
                    if let Some(known) = model.get_mut(name) {
                        known.version = clock;
                        let seen = see(&mut table, name, &known.uid, clock);
                        prop_assert!(matches!(seen, Seen::Changed(record_id) if record_id == known.record_id));
                    }
                }
                Step::Write(name) => {
                    if let Some(known) = model.get_mut(name) {
                        known.version = clock;
                        prop_assert!(table.wrote(known.record_id, &clock.to_string(), |kept| *kept = clock));
                    }
                }
                Step::Replay(name) => {
                    if let Some(known) = model.get(name) {
                        let seen = see(&mut table, name, &known.uid, known.version);
                        prop_assert!(matches!(seen, Seen::Unchanged(_)));
                        let seen = see(&mut table, name, &known.uid, known.version - 1);
                        prop_assert!(matches!(seen, Seen::Stale(_)));
                    }
                }
                Step::Delete(name) => {
                    if let Some(known) = model.remove(name) {
                        let removed = table.gone(&known.uid).unwrap();
                        prop_assert_eq!(removed.departure, Departure::Deleted);
                        dead.push(known.record_id);
                    }
                }
                Step::Settle(name) => {
                    if let Some(known) = model.remove(name) {
                        prop_assert!(table.leaving(known.record_id));
                        let removed = table.gone(&known.uid).unwrap();
                        prop_assert_eq!(removed.departure, Departure::Settled);
                        dead.push(known.record_id);
                    }
                }
                Step::Relist { missing } => {
                    table.restarted();
                    for (name, known) in &model {
                        if Some(*name) != missing {
                            see(&mut table, name, &known.uid, known.version);
                        }
                    }
                    let swept = table.synced();
                    let expected = missing.and_then(|name| model.remove(name));
                    prop_assert_eq!(
                        swept.iter().map(|one| one.record_id).collect::<Vec<_>>(),
                        expected.iter().map(|known| known.record_id).collect::<Vec<_>>()
                    );
                    dead.extend(expected.map(|known| known.record_id));
                }
            }
            prop_assert_eq!(table.len(), model.len());
            for (name, known) in &model {
                prop_assert_eq!(table.slot_of_name("kyc", name), Some(known.record_id));
                prop_assert_eq!(table.slot_of_uid(&known.uid), Some(known.record_id));
                prop_assert_eq!(table.get(known.record_id), Some(&known.version));
            }
            for record_id in &dead {
                prop_assert_eq!(table.get(*record_id), None);
            }
        }
    }
}
