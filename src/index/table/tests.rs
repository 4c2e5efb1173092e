//! The index by example and against a model.

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

fn apply(index: &mut Index<u64>, name: &str, uid: &str, version: u64) -> Applied<u64> {
    index.applied(&meta(name, uid, version), |_| version)
}

const UID: &str = "c0ffee00-0000-4000-8000-000000000001";
const OTHER: &str = "c0ffee00-0000-4000-8000-000000000002";

#[test]
fn an_object_is_found_by_half_of_its_uid() {
    let mut index = Index::new();
    for (name, uid) in [("a", UID), ("b", OTHER), ("c", "no UUID")] {
        apply(&mut index, name, uid, 5);
    }
    for (name, uid) in [("a", UID), ("b", OTHER), ("c", "no UUID")] {
        let found = index.find_by_short_uid(Uid::of(uid).short());
        assert!(found.is_some() && found == index.find_by_name("kyc", name), "{name}");
    }
    assert_eq!(index.find_by_short_uid(Uid::of("another").short()), None);
}

#[test]
fn an_object_is_new_when_first_applied_and_then_changed_or_unchanged() {
    let mut index = Index::new();
    let Applied::New(record_id) = apply(&mut index, "a", UID, 5) else {
        panic!("new");
    };
    assert!(matches!(apply(&mut index, "a", UID, 5), Applied::Unchanged(same) if same == record_id));
    assert!(matches!(apply(&mut index, "a", UID, 4), Applied::Stale(same) if same == record_id));
    assert_eq!(index.get(record_id), Some(&5));

    let mut changed = meta("a", UID, 6);
    changed.generation = Some(2);
    changed.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let applied = index.applied(&changed, |before| before.copied().unwrap_or_default() + 10);
    assert!(matches!(applied, Applied::Changed(same) if same == record_id));
    let view = index.view(record_id).unwrap();
    assert_eq!((view.namespace, view.name), ("kyc", "a"));
    assert_eq!((view.deleting, view.settling, *view.payload), (true, false, 15));
}

#[test]
fn the_echo_of_our_own_write_is_unchanged() {
    let mut index = Index::new();
    let record_id = apply(&mut index, "a", UID, 5).record_id();
    assert!(index.wrote(record_id, "8", |payload| *payload = 80));
    assert!(matches!(apply(&mut index, "a", UID, 5), Applied::Unchanged(_) | Applied::Stale(_)));
    assert!(matches!(apply(&mut index, "a", UID, 8), Applied::Unchanged(_)));
    assert_eq!(index.get(record_id), Some(&80));
    assert!(matches!(apply(&mut index, "a", UID, 9), Applied::Changed(_)));
}

#[test]
fn after_a_rollback_older_versions_are_accepted_until_the_next_list_is_complete() {
    let mut index = Index::new();
    let rolled_back = apply(&mut index, "a", UID, 90).record_id();
    let untouched = apply(&mut index, "b", OTHER, 40).record_id();
    apply(&mut index, "c", "gone", 95);
    index.init(None);
    index.accept_rollback();
    assert!(matches!(apply(&mut index, "a", UID, 30), Applied::Changed(same) if same == rolled_back));
    assert!(matches!(apply(&mut index, "b", OTHER, 40), Applied::Unchanged(same) if same == untouched));
    // An object that was created after the restore has the name of one that etcd no longer knows.
    assert!(matches!(apply(&mut index, "c", "new", 50), Applied::Replaced { .. }));
    assert!(index.wrote(rolled_back, "55", |payload| *payload = 55));
    assert_eq!(index.init_done(None).len(), 0);
    assert!(matches!(apply(&mut index, "a", UID, 30), Applied::Stale(_)));
    assert!(matches!(apply(&mut index, "a", UID, 56), Applied::Changed(_)));
}

#[test]
fn lists_of_two_namespaces_that_overlap_remove_only_what_is_missing_in_their_own() {
    let mut index = Index::new();
    let apply = |index: &mut Index<u64>, namespace: &str, uid: &str, version| {
        let namespace = Some(namespace.to_owned());
        index.applied(&ObjectMeta { namespace, ..meta(uid, uid, version) }, |_| version);
    };
    for (namespace, uid) in [("kyc", "a"), ("kyc", "b"), ("hr", "c"), ("hr", "d")] {
        apply(&mut index, namespace, uid, 5);
    }
    index.init(Some("kyc"));
    apply(&mut index, "kyc", "a", 5);
    index.init(Some("hr"));
    apply(&mut index, "hr", "c", 5);
    let removed = |removed: Vec<Removed<u64>>| removed.len();
    assert_eq!(removed(index.init_done(Some("kyc"))), 1);
    assert!(index.find_by_uid("a").is_some() && index.find_by_uid("b").is_none());
    assert!(index.find_by_uid("d").is_some(), "the other list is not complete");
    assert_eq!(removed(index.init_done(Some("hr"))), 1);
    assert!(index.find_by_uid("c").is_some() && index.find_by_uid("d").is_none());
    index.init(Some("empty"));
    assert_eq!(removed(index.init_done(Some("empty"))), 0);
    assert_eq!(index.len(), 2);
}

#[test]
fn after_a_rollback_older_versions_are_accepted_until_each_namespace_was_listed() {
    let mut index = Index::new();
    index.init(Some("kyc"));
    index.init(Some("hr"));
    apply(&mut index, "a", UID, 90);
    index.accept_rollback();
    index.init(Some("hr"));
    index.init_done(Some("hr"));
    assert!(matches!(apply(&mut index, "a", UID, 30), Applied::Changed(_)));
    index.init(Some("kyc"));
    assert!(matches!(apply(&mut index, "a", UID, 30), Applied::Unchanged(_)));
    index.init_done(Some("kyc"));
    assert!(matches!(apply(&mut index, "a", UID, 20), Applied::Stale(_)));
}

#[test]
fn a_namespace_that_is_never_listed_again_keeps_older_versions_out_of_the_others() {
    let mut index = Index::new();
    index.init(Some("forbidden"));
    index.init(Some("kyc"));
    let record_id = apply(&mut index, "a", UID, 90).record_id();
    index.accept_rollback();
    index.init(Some("forbidden"));
    index.init(Some("kyc"));
    assert!(matches!(apply(&mut index, "a", UID, 30), Applied::Changed(_)));
    index.init_done(Some("kyc"));
    assert!(matches!(apply(&mut index, "a", UID, 20), Applied::Stale(_)));
    assert!(!index.wrote(record_id, "20", |payload| *payload = 20));
}

#[test]
fn a_version_is_current_or_outdated() {
    let mut index = Index::new();
    let record_id = apply(&mut index, "a", UID, 5).record_id();
    assert!(
        index.is_current(record_id, "5")
            && !index.is_current(record_id, "4")
            && !index.is_current(record_id, "6")
    );
    assert!(
        index.is_outdated(record_id, "4")
            && !index.is_outdated(record_id, "5")
            && !index.is_outdated(record_id, "6")
    );
    index.remove(record_id);
    assert!(!index.is_current(record_id, "5") && !index.is_outdated(record_id, "4"));
}

#[test]
fn a_write_that_the_watch_has_overtaken_changes_nothing() {
    let mut index = Index::new();
    let record_id = apply(&mut index, "a", UID, 9).record_id();
    assert!(!index.wrote(record_id, "8", |payload| *payload = 80));
    assert_eq!(index.get(record_id), Some(&9));
}

#[test]
fn versions_that_are_not_numbers_are_unchanged_or_changed() {
    let mut index = Index::new();
    let mut object = meta("a", UID, 0);
    object.resource_version = Some("b".to_owned());
    index.applied(&object, |_| 1);
    assert!(matches!(index.applied(&object, |_| 2), Applied::Unchanged(_)));
    object.resource_version = Some("a".to_owned());
    assert!(matches!(index.applied(&object, |_| 3), Applied::Changed(_)));
}

#[test]
fn a_settled_object_that_no_longer_matches_the_selector_is_not_taken_for_deleted() {
    let mut index = Index::new();
    let record_id = apply(&mut index, "a", UID, 5).record_id();
    assert!(index.mark_settling(record_id));
    assert!(index.view(record_id).unwrap().settling);
    let removed = index.deleted(UID).unwrap();
    assert_eq!(removed.reason, RemovalReason::Settled);
    assert_eq!((removed.record_id, removed.payload), (record_id, 5));
    assert_eq!(index.deleted(UID), None);
    assert_eq!(index.namespaces.find("kyc"), None);
}

#[test]
fn an_object_whose_settling_failed_is_taken_for_deleted_again() {
    let mut index = Index::new();
    let record_id = apply(&mut index, "a", UID, 5).record_id();
    assert!(index.mark_settling(record_id));
    assert!(index.unmark_settling(record_id));
    assert_eq!(index.deleted(UID).unwrap().reason, RemovalReason::Deleted);
    assert!(!index.mark_settling(record_id));
    assert!(!index.unmark_settling(record_id));
}

#[test]
fn a_list_removes_what_is_not_in_it() {
    let mut index = Index::new();
    let listed = apply(&mut index, "listed", UID, 1).record_id();
    let unlisted = apply(&mut index, "unlisted", OTHER, 2).record_id();
    let unreadable = apply(&mut index, "unreadable", "third", 3).record_id();
    let settled = apply(&mut index, "settled", "fourth", 4).record_id();
    assert!(index.mark_settling(settled));

    index.init(None);
    apply(&mut index, "unlisted", OTHER, 2);
    index.init(None);
    apply(&mut index, "listed", UID, 1);
    assert_eq!(index.undecodable("third"), Some(unreadable));
    assert_eq!(index.undecodable("unknown"), None);
    let mut swept = index.init_done(None);
    swept.sort_by_key(|removed| removed.record_id);
    let swept: Vec<_> = swept.iter().map(|one| (one.record_id, one.reason)).collect();
    assert_eq!(swept, [(unlisted, RemovalReason::Deleted), (settled, RemovalReason::Settled)]);
    assert!(index.get(listed).is_some());
    assert!(index.get(unreadable).is_some());
    assert!(index.init_done(None).is_empty());
}

#[test]
fn a_stale_list_still_shows_that_an_object_exists() {
    let mut index = Index::new();
    let record_id = apply(&mut index, "a", UID, 5).record_id();
    index.wrote(record_id, "9", |_| {});
    index.init(None);
    assert!(matches!(apply(&mut index, "a", UID, 5), Applied::Stale(_)));
    assert!(index.init_done(None).is_empty());
}

#[test]
fn a_namesake_replaces_the_record_and_the_old_id_finds_nothing() {
    let mut index = Index::new();
    let first = apply(&mut index, "a", UID, 5).record_id();
    let Applied::Replaced { record_id, removed } = apply(&mut index, "a", OTHER, 6) else {
        panic!("replaced");
    };
    assert_eq!((removed.record_id, removed.payload), (first, 5));
    assert_eq!(removed.reason, RemovalReason::Deleted);
    assert_eq!(record_id.index, first.index);
    assert!(record_id.is_newer_than(first));
    assert_eq!(index.get(first), None);
    assert!(index.get_mut(first).is_none());
    assert!(!index.wrote(first, "7", |_| {}));
    assert!(index.remove(first).is_none());
    assert_eq!(index.get(record_id), Some(&6));
    assert_eq!(index.find_by_name("kyc", "a"), Some(record_id));
    assert_eq!(index.find_by_uid(UID), None);
    assert_eq!(index.find_by_uid(OTHER), Some(record_id));
}

#[test]
fn a_deleted_namesake_from_a_stale_list_replaces_nothing() {
    let mut index = Index::new();
    let record_id = apply(&mut index, "a", OTHER, 6).record_id();
    assert!(matches!(apply(&mut index, "a", UID, 5), Applied::Stale(same) if same == record_id));
    assert_eq!(index.find_by_uid(OTHER), Some(record_id));
}

#[test]
fn a_late_deletion_of_a_replaced_object_removes_nothing() {
    let mut index = Index::new();
    apply(&mut index, "a", UID, 5);
    let record_id = apply(&mut index, "a", OTHER, 6).record_id();
    assert_eq!(index.deleted(UID), None);
    assert_eq!(index.get(record_id), Some(&6));
}

#[test]
fn a_record_with_a_payload_of_150_bytes_takes_less_than_300() {
    let mut index = Index::<[u8; 150]>::new();
    for number in 0..100_000 {
        let uid = format!("c0ffee00-0000-4000-8000-{number:012x}");
        index.applied(&meta(&format!("onboarding-{number:08}"), &uid, number), |_| [0; 150]);
    }
    let each = index.memory() / index.len();
    println!("a stored record has {} bytes, in all {each} bytes", size_of::<Record<[u8; 150]>>());
    assert!(each <= 300, "{each}");
}

/// An operation of the model test. Objects have one of four names, and uids count up.
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
    fn the_index_agrees_with_a_naive_map(steps in vec(step(), 1..200)) {
        let mut index = Index::<u64>::new();
        let mut model: HashMap<&str, Known> = HashMap::new();
        let mut removed_ids: Vec<RecordId> = Vec::new();
        for (clock, step) in (1_u64..).zip(steps) {
            match step {
                Step::Create(name) => {
                    let uid = format!("c0ffee00-0000-4000-8000-{clock:012x}");
                    let applied = apply(&mut index, name, &uid, clock);
                    let former = model.insert(name, Known { uid, version: clock, record_id: applied.record_id() });
                    match (applied, former) {
                        (Applied::New(_), None) => {}
                        (Applied::Replaced { record_id: _, removed }, Some(former)) => {
                            prop_assert_eq!(removed.record_id, former.record_id);
                            prop_assert_eq!(removed.payload, former.version);
                            removed_ids.push(former.record_id);
                        }
                        (applied, former) => prop_assert!(false, "{applied:?} after {former:?}"),
                    }
                }
                Step::Change(name) => {
                    if let Some(known) = model.get_mut(name) {
                        known.version = clock;
                        let applied = apply(&mut index, name, &known.uid, clock);
                        prop_assert!(matches!(applied, Applied::Changed(record_id) if record_id == known.record_id));
                    }
                }
                Step::Write(name) => {
                    if let Some(known) = model.get_mut(name) {
                        known.version = clock;
                        prop_assert!(index.wrote(known.record_id, &clock.to_string(), |payload| *payload = clock));
                    }
                }
                Step::Replay(name) => {
                    if let Some(known) = model.get(name) {
                        let applied = apply(&mut index, name, &known.uid, known.version);
                        prop_assert!(matches!(applied, Applied::Unchanged(_)));
                        let applied = apply(&mut index, name, &known.uid, known.version - 1);
                        prop_assert!(matches!(applied, Applied::Stale(_)));
                    }
                }
                Step::Delete(name) => {
                    if let Some(known) = model.remove(name) {
                        let removed = index.deleted(&known.uid).unwrap();
                        prop_assert_eq!(removed.reason, RemovalReason::Deleted);
                        removed_ids.push(known.record_id);
                    }
                }
                Step::Settle(name) => {
                    if let Some(known) = model.remove(name) {
                        prop_assert!(index.mark_settling(known.record_id));
                        let removed = index.deleted(&known.uid).unwrap();
                        prop_assert_eq!(removed.reason, RemovalReason::Settled);
                        removed_ids.push(known.record_id);
                    }
                }
                Step::Relist { missing } => {
                    index.init(None);
                    for (name, known) in &model {
                        if Some(*name) != missing {
                            apply(&mut index, name, &known.uid, known.version);
                        }
                    }
                    let swept = index.init_done(None);
                    let expected = missing.and_then(|name| model.remove(name));
                    prop_assert_eq!(
                        swept.iter().map(|one| one.record_id).collect::<Vec<_>>(),
                        expected.iter().map(|known| known.record_id).collect::<Vec<_>>()
                    );
                    removed_ids.extend(expected.map(|known| known.record_id));
                }
            }
            prop_assert_eq!(index.len(), model.len());
            for (name, known) in &model {
                prop_assert_eq!(index.find_by_name("kyc", name), Some(known.record_id));
                prop_assert_eq!(index.find_by_uid(&known.uid), Some(known.record_id));
                prop_assert_eq!(index.get(known.record_id), Some(&known.version));
            }
            for record_id in &removed_ids {
                prop_assert_eq!(index.get(*record_id), None);
            }
        }
    }
}
