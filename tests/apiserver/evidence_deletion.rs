//! Removal of the evidence when its verification is deleted, and deletion while the store fails.

use std::fs;
use std::time::Duration;

use http::Method;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use okid_operator::api::{EVIDENCE_FINALIZER, Phase, RETRY, Verification};
use okid_sandbox::Verdict;
use serde_json::{Value, json};

use crate::evidence_lifecycle::named_store;
use crate::harness::evidence::{asking, check, files, front};
use crate::harness::{Launch, VerificationExt, World};
use crate::stores::Fault;

/// A finished verification with stored evidence that has the finalizer, so it is not settled.
const STORED: [&str; 4] = ["Ready=True/Verified", "Reconciling=", "Stalled=", "EvidenceStored=True/Stored"];

const DENIED: &str = "<Error><Code>AccessDenied</Code></Error>";
const NO_BUCKET: &str = "<Error><Code>NoSuchBucket</Code></Error>";

fn has_finalizer(seen: &Verification) -> bool {
    seen.finalizers().iter().any(|finalizer| finalizer == EVIDENCE_FINALIZER)
}

/// The evidence of the front image, with `deletionPolicy: Delete`.
fn with_policy_delete() -> Value {
    let mut evidence = front();
    evidence["deletionPolicy"] = json!("Delete");
    asking(evidence)
}

/// A verification whose evidence is stored and will be removed with it.
async fn stored(world: &World, name: &str) -> Verification {
    world.create_and_finish(name, with_policy_delete(), Verdict::Verified).await;
    world.until(name, |seen| seen.shows(&STORED)).await
}

/// Deletes a verification without waiting until it is gone.
async fn start_deletion(world: &World, name: &str) {
    world.api().delete(name, &DeleteParams::default()).await.unwrap();
    let being_deleted = world.until(name, |seen| seen.metadata.deletion_timestamp.is_some()).await;
    assert!(has_finalizer(&being_deleted));
}

/// Waits until a verification that is being deleted is gone.
async fn until_gone(world: &World, name: &str) {
    world.until_deleted(name).await;
    assert!(world.api().get_opt(name).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_evidence_outlives_its_resource_which_never_has_the_finalizer() {
    let world = World::builder().s3().start().await;
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    let stored = check(&over, &world.in_s3(&over));
    world.delete("alice").await;
    assert_eq!(files(&world.in_s3(&over)), stored);

    // During an upload too.
    world.s3().proxy.next([Fault::Hold]);
    world.create_and_finish("bob", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload in flight", |world| world.s3().proxy.held() == 1).await;
    let bob = world.get("bob").await;
    world.delete("bob").await;
    world.s3().proxy.release();
    let is_complete = |world: &World| files(&world.in_s3(&bob)).contains_key("manifest.json");
    world.until_portal("the upload of bob", is_complete).await;
    for name in ["alice", "bob"] {
        assert!(!world.versions(name).iter().any(has_finalizer), "{name}");
    }
    assert_eq!(world.s3().proxy.count(&Method::DELETE), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_finalizer_precedes_the_upload_and_evidence_is_removed_with_its_resource() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.next([Fault::Hold]);
    let id = world.create_session("alice", with_policy_delete()).await;
    assert!(!has_finalizer(&world.get("alice").await), "nothing is stored before the verdict");
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("an upload in flight", |world| world.s3().proxy.held() == 1).await;
    assert!(has_finalizer(&world.get("alice").await));
    world.s3().proxy.release();
    let alice = world.until("alice", |seen| seen.shows(&STORED)).await;
    assert_eq!((alice.phase(), alice.status_or_default().settled), (Some(Phase::Verified), false));
    check(&alice, &world.in_s3(&alice));
    let bob = stored(&world, "bob").await;

    world.delete("alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    check(&bob, &world.in_s3(&bob));
    world.until_events("alice", &["EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_without_evidence_is_deleted_at_once_whatever_its_policy() {
    let world = World::builder().s3().start().await;
    world.create_session("waiting", with_policy_delete()).await;
    world.create_and_finish("rejected", with_policy_delete(), Verdict::Rejected).await;
    world.until("rejected", |seen| seen.status_or_default().settled).await;
    for name in ["waiting", "rejected"] {
        world.delete(name).await;
        assert!(!world.versions(name).iter().any(has_finalizer), "{name}");
    }
    assert_eq!(world.s3().proxy.arrived(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_during_an_upload_leaves_nothing_in_the_store() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.next([Fault::Hold]);
    world.create_and_finish("alice", with_policy_delete(), Verdict::Verified).await;
    world.until_portal("an upload in flight", |world| world.s3().proxy.held() == 1).await;
    let alice = world.get("alice").await;
    start_deletion(&world, "alice").await;
    world.s3().proxy.release();
    until_gone(&world, "alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    assert!(world.s3().proxy.count(&Method::DELETE) >= 1, "it had been stored");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_waits_for_a_store_that_is_down_even_across_a_restart() {
    let mut world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.s3().proxy.go_down().await;
    start_deletion(&world, "alice").await;
    // Errors of the store affect no other verification.
    world.create_and_finish("bob", json!({}), Verdict::Verified).await;
    world.until("bob", |seen| seen.status_or_default().settled).await;
    assert!(world.operator().stop().await.success());
    world.start(Launch::new()).await;
    assert!(has_finalizer(&world.get("alice").await));
    check(&alice, &world.in_s3(&alice));

    world.s3().proxy.come_back();
    until_gone(&world, "alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    world.until_events("alice", &["EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_is_removed_first_and_then_objects_that_only_status_lists() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    // A store whose listing is not up to date.
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
async fn pending_evidence_that_can_no_longer_be_looked_up_is_reported_as_orphaned() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.go_down().await;
    world.create_and_finish("alice", with_policy_delete(), Verdict::Verified).await;
    world.until("alice", has_finalizer).await;
    // An upload before a crash would be in the store without being in status.
    world.store_secret(json!({"aws_bucket": "another"})).await;
    world.delete("alice").await;
    world.until_event("alice", "EvidenceOrphaned").await;
    world.s3().proxy.come_back();
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_ten_minutes_a_deletion_proceeds_without_the_store_and_reports_orphans() {
    let mut world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.s3().proxy.go_down().await;
    start_deletion(&world, "alice").await;
    world.operator().kill();
    world.advance_clock(Duration::from_mins(10));
    world.start(Launch::new()).await;
    until_gone(&world, "alice").await;
    world.until_event("alice", "EvidenceOrphaned").await;
    check(&alice, &world.in_s3(&alice));
    world.s3().proxy.come_back();
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_the_store_refuses_to_delete_are_reported_as_orphaned() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.s3().proxy.whenever(Method::DELETE, Fault::Answer(403, DENIED));
    world.delete("alice").await;
    world.until_event("alice", "EvidenceOrphaned").await;
    check(&alice, &world.in_s3(&alice));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_arrives_after_the_removal_is_removed_by_its_sender() {
    let mut world = World::builder().s3().start().await;
    world.s3().proxy.next([Fault::Hold]);
    world.create_and_finish("alice", with_policy_delete(), Verdict::Verified).await;
    world.until_portal("an upload in flight", |world| world.s3().proxy.held() == 1).await;
    let alice = world.get("alice").await;
    start_deletion(&world, "alice").await;
    // As in a rolling update: the next process finds nothing in the store and releases the resource.
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
    // The object, and the check that the store does not overwrite.
    assert_eq!((proxy.count(&Method::PUT), proxy.count(&Method::DELETE)), (2, 1));
    assert!(files(&world.in_s3(&alice)).is_empty());
    assert!(next.stop().await.success());
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_without_list_permission_remove_what_status_lists_and_report_it() {
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
async fn noncurrent_versions_in_a_versioned_bucket_are_reported() {
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
async fn a_bucket_that_never_existed_delays_no_deletion_and_reports_no_orphan() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.always(Fault::Answer(404, NO_BUCKET));
    world.create_and_finish("alice", with_policy_delete(), Verdict::Verified).await;
    let held = world.until("alice", has_finalizer).await;
    world.until_portal("an upload that was refused", |world| world.s3().proxy.arrived() > 0).await;
    // The clock does not advance to the time limit of ten minutes.
    world.delete("alice").await;
    assert!(files(&world.in_s3(&held)).is_empty());
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_waits_for_a_missing_folder_because_its_volume_may_not_be_mounted() {
    let mut world = World::builder().without_operator().start().await;
    let (folder, launch) = named_store(&world, &json!([world.namespace]));
    fs::remove_dir(&folder).unwrap();
    world.start(launch).await;
    let mut spec = with_policy_delete();
    spec["evidence"]["destination"] = json!({"store": "archive"});
    world.create_and_finish("alice", spec, Verdict::Verified).await;
    world.until("alice", has_finalizer).await;
    start_deletion(&world, "alice").await;
    let is_awaited = |line: &Value| line["message"] == "evidence is not removed";
    world.operator().until_logged("that the removal is retried", is_awaited).await;
    // Each attempt reads the resource; a resource that is gone is not read again.
    let reads = world.operator().metric("okid_verification_reads_total").await;
    world.operator().until_metric("okid_verification_reads_total", |now| now >= reads + 2.0).await;
    assert!(has_finalizer(&world.get("alice").await));

    // A folder without anything in it is the mount point of a volume that is missing.
    fs::create_dir_all(folder.join("lost+found")).unwrap();
    until_gone(&world, "alice").await;
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_vanished_with_stored_evidence_is_reported_after_ten_minutes() {
    let mut world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.s3().proxy.always(Fault::Answer(404, NO_BUCKET));
    start_deletion(&world, "alice").await;
    let before = world.s3().proxy.arrived();
    world.until_portal("a removal that was refused", |world| world.s3().proxy.arrived() > before).await;
    world.operator().kill();
    assert!(has_finalizer(&world.get("alice").await));
    world.advance_clock(Duration::from_mins(10));
    world.start(Launch::new()).await;
    until_gone(&world, "alice").await;
    world.until_event("alice", "EvidenceOrphaned").await;
    check(&alice, &world.in_s3(&alice));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_removals_use_no_more_requests_at_once_than_many_uploads() {
    const AT_ONE_ENDPOINT: usize = 8;
    let world = World::builder().s3().start().await;
    let names: Vec<_> = (0..AT_ONE_ENDPOINT + 3).map(|number| format!("person-{number}")).collect();
    for name in &names {
        stored(&world, name).await;
    }
    world.s3().proxy.whenever(Method::GET, Fault::Hold);
    for name in &names {
        start_deletion(&world, name).await;
    }
    let all = f64::from(u32::try_from(names.len()).unwrap());
    world.operator().until_metric("okid_reconciles_in_flight", |reconciles| reconciles >= all).await;
    world.until_portal("listings", |world| world.s3().proxy.held() >= AT_ONE_ENDPOINT).await;
    world.s3().proxy.heal();
    for name in &names {
        until_gone(&world, name).await;
    }
    assert!(world.s3().proxy.most_at_work() <= AT_ONE_ENDPOINT, "{}", world.s3().proxy.most_at_work());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_day_of_errors_evidence_fails_until_a_person_retries() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.go_down().await;
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Storing)).await;
    world.advance_clock(Duration::from_hours(24));
    let failed = [
        "Ready=False/EvidenceFailed",
        "Stalled=True/EvidenceFailed",
        "EvidenceStored=False/StoreUnavailable",
    ];
    // A process that starts after a day still retries for ten minutes.
    let over = world.until_with_clock("alice", |seen| seen.shows(&failed)).await;
    assert!(over.shows(&["Verified=True/Verified", "Finished=True/Verified"]));
    world.until_event("alice", "EvidenceFailed").await;

    world.s3().proxy.come_back();
    world.annotate("alice", RETRY, "the store is back").await;
    let over = world.until_with_polls("alice", |seen| seen.status_or_default().settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_changed_to_retain_leaves_the_evidence_and_delays_no_deletion() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.patch_spec("alice", json!({"evidence": {"deletionPolicy": "Retain"}})).await;
    world.until("alice", |seen| seen.status_or_default().settled && !has_finalizer(seen)).await;
    world.delete("alice").await;
    check(&alice, &world.in_s3(&alice));
    assert_eq!(world.s3().proxy.count(&Method::DELETE), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_removed_from_the_spec_delays_no_deletion_and_is_reported_as_orphaned() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    world.patch_spec("alice", json!({"evidence": null})).await;
    world.until("alice", |seen| seen.status_or_default().settled && !has_finalizer(seen)).await;
    world.until_event("alice", "EvidenceOrphaned").await;
    world.delete("alice").await;
    check(&alice, &world.in_s3(&alice));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_at_a_former_destination_is_reported_as_orphaned() {
    let world = World::builder().s3().start().await;
    let alice = stored(&world, "alice").await;
    let elsewhere = json!({"evidence": {"destination": {"url": "s3://evidence/elsewhere"}}});
    let changed = world.patch_spec("alice", elsewhere).await;
    let seen =
        |seen: &Verification| seen.status_or_default().observed_generation == changed.metadata.generation;
    world.until("alice", seen).await;
    world.delete("alice").await;
    check(&alice, &world.in_s3(&alice));
    world.until_event("alice", "EvidenceOrphaned").await;
    world.finish().await;
}
