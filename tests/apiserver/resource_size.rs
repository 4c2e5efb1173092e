//! The maximum size of a resource, and how often it is read.

use std::path::PathBuf;

use kube::api::{Patch, PatchParams};
use okid_operator::api::{Phase, Verification};
use okid_sandbox::Verdict;
use serde_json::json;

use crate::harness::{Launch, VerificationExt, World};

/// The maximum size in etcd, in bytes.
const MOST: usize = 1536 * 1024;

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

/// Adds an owner with a name of that many letters; false if the API server refuses it.
async fn grow(world: &World, name: &str, letters: usize) -> bool {
    let owner =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x".repeat(letters), "uid": "no-such-uid"});
    let owners = if letters == 0 { json!(null) } else { json!([owner]) };
    let patch = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
    world.api().patch(name, &PatchParams::default(), &patch).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_too_large_for_a_record_gets_no_session_and_says_so() {
    let mut world = World::builder().without_operator().start().await;
    world.apply("alice", json!({})).await;
    assert!(grow(&world, "alice", MOST - 32 * 1024).await, "it fits without a status");
    world.start(Launch::new()).await;
    let shown = ["Ready=False/ResourceTooLarge", "Stalled=True/ResourceTooLarge", "Reconciling="];
    world.until("alice", |seen| seen.shows(&shown)).await;
    world.until_event("alice", "ResourceTooLarge").await;
    // The object from the watch is measured as a whole, too.
    let request = json!({"metadata": {"annotations": {"okid.io/reconcile-requested-at": "now"}}});
    world.api().patch("alice", &PatchParams::default(), &Patch::Merge(request)).await.unwrap();
    let is_handled =
        |seen: &Verification| seen.status_or_default().last_handled_reconcile_at.as_deref() == Some("now");
    assert!(world.until("alice", is_handled).await.shows(&shown));
    assert_eq!(world.creates(), 0);

    assert!(grow(&world, "alice", 0).await);
    let open = world.until("alice", is_open).await;
    assert!(open.shows(&["Stalled=", "SessionCreated=True/Created"]));
    assert_eq!((world.creates(), open.session().attempt), (1, 1));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_no_longer_fits_does_not_delay_a_shutdown() {
    let mut world = World::builder().without_operator().start().await;
    let held: PathBuf = world.folder().join("held");
    world.start(Launch::new().hold_at("AfterResponse", &held)).await;
    world.apply("alice", json!({})).await;
    world.until_portal("the hold", |_| held.exists()).await;
    let mut letters = MOST;
    while !grow(&world, "alice", letters).await {
        letters -= 64;
    }
    std::fs::remove_file(&held).expect("it is held");
    world.operator().until_metric("okid_status_record_retries_total", |retries| retries >= 1.0).await;

    // If it waited for a response, it would exit with 1 after the whole grace period.
    let status = world.operator().stop().await;
    assert!(status.success(), "{status}");
    world.until_event("alice", "OrphanSession").await;
    assert_eq!((world.creates(), world.get("alice").await.id()), (1, None));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_resource_is_read_about_once_before_its_verdict() {
    const RESOURCES: u16 = 20;
    let world = World::new().await;
    let names: Vec<_> = (0..RESOURCES).map(|number| format!("person-{number}")).collect();
    for name in &names {
        world.apply(name, json!({})).await;
    }
    for name in &names {
        let id = world.until(name, is_open).await.id().unwrap();
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
    }
    for name in &names {
        world.until(name, |seen| seen.status_or_default().settled).await;
    }
    let reads = world.operator().metric("okid_verification_reads_total").await;
    assert!(reads <= 1.5 * f64::from(RESOURCES), "{reads} reads of {RESOURCES} resources");
    world.finish().await;
}
