//! What becomes of the evidence when its verification is deleted, and of the deletion when the store is in trouble.

use std::time::Duration;

use http::Method;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use okid_operator::api::{EVIDENCE_FINALIZER, Phase, RETRY, Verification};
use okid_sandbox::Verdict;
use serde_json::{Value, json};

use crate::harness::evidence::{asking, check, files, front};
use crate::harness::{Launch, Seen, World};
use crate::stores::Fault;

/// What is held by the evidence and finished otherwise: it is not settled, because it is still to be let go.
const STORED: [&str; 4] = ["Ready=True/Verified", "Reconciling=", "Stalled=", "EvidenceStored=True/Stored"];

const DENIED: &str = "<Error><Code>AccessDenied</Code></Error>";

fn is_held(seen: &Verification) -> bool {
    seen.finalizers().iter().any(|finalizer| finalizer == EVIDENCE_FINALIZER)
}

/// The front, removed with the resource.
fn removed_with_it() -> Value {
    let mut evidence = front();
    evidence["deletionPolicy"] = json!("Delete");
    asking(evidence)
}

/// A verification whose evidence is stored, and is to be removed with it.
async fn stored(world: &World, name: &str) -> Verification {
    world.judged(name, removed_with_it(), Verdict::Verified).await;
    world.until(name, |seen| seen.shows(&STORED)).await
}

/// Asks for the deletion, and does not wait for it.
async fn begin_to_delete(world: &World, name: &str) {
    world.api().delete(name, &DeleteParams::default()).await.unwrap();
    let being_deleted = world.until(name, |seen| seen.metadata.deletion_timestamp.is_some()).await;
    assert!(is_held(&being_deleted));
}

/// Waits until a verification whose deletion was asked for is gone.
async fn until_gone(world: &World, name: &str) {
    world.until_deleted(name).await;
    assert!(world.api().get_opt(name).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_evidence_outlives_its_resource_which_is_never_held() {
    let world = World::builder().s3().start().await;
    world.judged("alice", asking(front()), Verdict::Verified).await;
    let over = world.until("alice", |seen| seen.found().settled).await;
    let kept = check(&over, &world.in_s3(&over));
    world.delete("alice").await;
    assert_eq!(files(&world.in_s3(&over)), kept);

    // In the middle of an upload too.
    world.s3().proxy.next([Fault::Hold]);
    world.judged("bob", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload under way", |world| world.s3().proxy.held() == 1).await;
    world.delete("bob").await;
    for name in ["alice", "bob"] {
        assert!(!world.versions(name).iter().any(is_held), "{name}");
    }
    assert_eq!(world.s3().proxy.count(&Method::DELETE), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_is_removed_with_its_resource_which_is_held_before_anything_is_stored() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.next([Fault::Hold]);
    let id = world.invite("alice", removed_with_it()).await;
    assert!(!is_held(&world.get("alice").await), "nothing is stored before the verdict");
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("an upload under way", |world| world.s3().proxy.held() == 1).await;
    assert!(is_held(&world.get("alice").await));
    world.s3().proxy.release();
    let alice = world.until("alice", |seen| seen.shows(&STORED)).await;
    assert_eq!((alice.phase(), alice.found().settled), (Some(Phase::Verified), false));
    check(&alice, &world.in_s3(&alice));
    let bob = stored(&world, "bob").await;

    world.delete("alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    check(&bob, &world.in_s3(&bob));
    world.until_events("alice", &["EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_evidence_is_deleted_at_once_whatever_its_policy() {
    let world = World::builder().s3().start().await;
    world.invite("waiting", removed_with_it()).await;
    world.judged("rejected", removed_with_it(), Verdict::Rejected).await;
    world.until("rejected", |seen| seen.found().settled).await;
    for name in ["waiting", "rejected"] {
        world.delete(name).await;
        assert!(!world.versions(name).iter().any(is_held), "{name}");
    }
    assert_eq!(world.s3().proxy.arrived(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_during_an_upload_leaves_nothing_in_the_store() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.next([Fault::Hold]);
    world.judged("alice", removed_with_it(), Verdict::Verified).await;
    world.until_portal("an upload under way", |world| world.s3().proxy.held() == 1).await;
    let alice = world.get("alice").await;
    begin_to_delete(&world, "alice").await;
    world.s3().proxy.release();
    until_gone(&world, "alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    assert!(world.s3().proxy.count(&Method::DELETE) >= 1, "it had been stored");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_waits_for_a_store_that_is_down_also_over_a_restart() {
    let mut world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.s3().proxy.go_down().await;
    begin_to_delete(&world, "alice").await;
    // The store's trouble is nobody else's.
    world.judged("bob", json!({}), Verdict::Verified).await;
    world.until("bob", |seen| seen.found().settled).await;
    assert!(world.operator().stop().await.success());
    world.start(Launch::new()).await;
    assert!(is_held(&world.get("alice").await));
    check(&alice, &world.in_s3(&alice));

    world.s3().proxy.come_back();
    until_gone(&world, "alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    world.until_events("alice", &["EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_is_removed_first_and_what_status_lists_too_where_the_listing_lacks_it() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    // A store whose listing lags behind.
    let nothing = "<ListBucketResult><Name>evidence</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>\
                   <IsTruncated>false</IsTruncated></ListBucketResult>";
    world.s3().proxy.whenever(Method::GET, Fault::Answer(200, nothing));
    world.delete("alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    let passed = world.s3().proxy.passed();
    let removed = passed.iter().filter(|passed| passed.method == Method::DELETE);
    let names: Vec<_> = removed.map(|passed| passed.path.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["manifest.json", "front-original.jpg"]);
    world.until_events("alice", &["EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_owed_where_nobody_may_look_any_more_is_said_to_be_left() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.go_down().await;
    world.judged("alice", removed_with_it(), Verdict::Verified).await;
    world.until("alice", is_held).await;
    // An upload before a crash would be there, and status would not say so.
    world.store_secret(json!({"aws_bucket": "another"})).await;
    world.delete("alice").await;
    world.until_event("alice", "EvidenceOrphaned").await;
    world.s3().proxy.come_back();
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_ten_minutes_a_deletion_goes_on_without_the_store_and_says_what_is_left() {
    let mut world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.s3().proxy.go_down().await;
    begin_to_delete(&world, "alice").await;
    world.operator().kill();
    world.turn_clock(Duration::from_mins(10));
    world.start(Launch::new()).await;
    until_gone(&world, "alice").await;
    world.until_event("alice", "EvidenceOrphaned").await;
    check(&alice, &world.in_s3(&alice));
    world.s3().proxy.come_back();
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_does_not_let_go_of_is_left_and_said() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.s3().proxy.whenever(Method::DELETE, Fault::Answer(403, DENIED));
    world.delete("alice").await;
    world.until_event("alice", "EvidenceOrphaned").await;
    check(&alice, &world.in_s3(&alice));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_after_the_removal_is_removed_again_by_whoever_sent_it() {
    let mut world = World::builder().s3().start().await;
    world.s3().proxy.next([Fault::Hold]);
    world.judged("alice", removed_with_it(), Verdict::Verified).await;
    world.until_portal("an upload under way", |world| world.s3().proxy.held() == 1).await;
    let alice = world.get("alice").await;
    begin_to_delete(&world, "alice").await;
    // As in a rolling update: the next process finds nothing in the store, and lets go of the resource.
    let next = world.another(Launch::new());
    until_gone(&world, "alice").await;
    assert_eq!(world.s3().proxy.count(&Method::PUT), 0);
    world.s3().proxy.release();
    let proxy = &world.s3().proxy;
    let puts_manifest = || {
        let passed = proxy.passed();
        passed.iter().any(|passed| passed.method == Method::PUT && passed.path.ends_with("manifest.json"))
    };
    world
        .until_portal("a removal, or a manifest", |_| proxy.count(&Method::DELETE) > 0 || puts_manifest())
        .await;
    assert!(!puts_manifest());
    // The object, and the question whether the store overwrites.
    assert_eq!((proxy.count(&Method::PUT), proxy.count(&Method::DELETE)), (2, 1));
    assert!(files(&world.in_s3(&alice)).is_empty());
    assert!(next.stop().await.success());
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_may_not_list_remove_what_status_lists_and_that_is_said() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.s3().proxy.whenever(Method::GET, Fault::Answer(403, DENIED));
    world.delete("alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    world.until_event("alice", "EvidenceOrphaned").await;
    let notes = world.notes("alice", "EvidenceOrphaned").await;
    assert!(notes.iter().all(|note| note.contains("do not permit listing")), "{notes:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_versioned_bucket_keeps_is_said() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.s3().proxy.whenever(Method::DELETE, Fault::Add("x-amz-delete-marker", "true"));
    world.delete("alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    world.until_event("alice", "EvidenceOrphaned").await;
    let notes = world.notes("alice", "EvidenceOrphaned").await;
    assert!(notes.iter().all(|note| note.contains("noncurrent versions")), "{notes:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_never_was_there_holds_no_deletion_up_and_alarms_nobody() {
    let world = World::builder().s3().start().await;
    let missing = Fault::Answer(404, "<Error><Code>NoSuchBucket</Code></Error>");
    world.s3().proxy.always(missing);
    world.judged("alice", removed_with_it(), Verdict::Verified).await;
    let held = world.until("alice", is_held).await;
    world.until_portal("an upload that was refused", |world| world.s3().proxy.arrived() > 0).await;
    // Nobody turns the clock by the ten minutes that trouble may last.
    world.delete("alice").await;
    assert!(files(&world.in_s3(&held)).is_empty());
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_removals_take_no_more_of_a_store_than_many_uploads() {
    const AT_ONE_ENDPOINT: usize = 8;
    let world = World::builder().s3().start().await;
    let names: Vec<_> = (0..AT_ONE_ENDPOINT + 3).map(|number| format!("person-{number}")).collect();
    for name in &names {
        stored(&world, name).await;
    }
    world.s3().proxy.whenever(Method::GET, Fault::Hold);
    for name in &names {
        begin_to_delete(&world, name).await;
    }
    let all = f64::from(u32::try_from(names.len()).unwrap());
    world.operator().until_metric("okid_reconciles_in_flight", |turns| turns >= all).await;
    world.until_portal("listings", |world| world.s3().proxy.held() >= AT_ONE_ENDPOINT).await;
    world.s3().proxy.heal();
    for name in &names {
        until_gone(&world, name).await;
    }
    assert!(world.s3().proxy.most_at_work() <= AT_ONE_ENDPOINT, "{}", world.s3().proxy.most_at_work());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_day_of_trouble_evidence_is_given_up_until_a_person_asks_for_it_again() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.go_down().await;
    world.judged("alice", asking(front()), Verdict::Verified).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Storing)).await;
    world.turn_clock(Duration::from_hours(24));
    let failed = [
        "Ready=False/EvidenceFailed",
        "Stalled=True/EvidenceFailed",
        "EvidenceStored=False/StoreUnavailable",
    ];
    // Whoever comes after a day tries for ten minutes.
    let over = world.until_later("alice", |seen| seen.shows(&failed)).await;
    assert!(over.shows(&["Verified=True/Verified", "Finished=True/Verified"]));
    world.until_event("alice", "EvidenceFailed").await;

    world.s3().proxy.come_back();
    world.annotate("alice", RETRY, "the store is back").await;
    let over = world.until_nudged("alice", |seen| seen.found().settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_becomes_retain_keeps_the_evidence_and_holds_nothing_up() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.patch_spec("alice", json!({"evidence": {"deletionPolicy": "Retain"}})).await;
    world.until("alice", |seen| seen.found().settled && !is_held(seen)).await;
    world.delete("alice").await;
    check(&alice, &world.in_s3(&alice));
    assert_eq!(world.s3().proxy.count(&Method::DELETE), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_are_not_asked_for_any_more_hold_nothing_up_and_are_said_to_be_left() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.patch_spec("alice", json!({"evidence": null})).await;
    world.until("alice", |seen| seen.found().settled && !is_held(seen)).await;
    world.until_event("alice", "EvidenceOrphaned").await;
    world.delete("alice").await;
    check(&alice, &world.in_s3(&alice));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_at_a_destination_that_is_not_named_any_more_is_said_to_be_left() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    let elsewhere = json!({"evidence": {"destination": {"url": "s3://evidence/elsewhere"}}});
    let changed = world.patch_spec("alice", elsewhere).await;
    let seen = |seen: &Verification| seen.found().observed_generation == changed.metadata.generation;
    world.until("alice", seen).await;
    world.delete("alice").await;
    check(&alice, &world.in_s3(&alice));
    world.until_event("alice", "EvidenceOrphaned").await;
    world.finish().await;
}
