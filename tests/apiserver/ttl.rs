//! `spec.ttlAfterFinished`: finished verifications that the operator deletes.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use okid_operator::api::{Phase, TTL_IN_GITOPS};
use okid_operator::permissions::{RUN, TTL_AFTER_FINISHED};
use okid_sandbox::Verdict;
use serde_json::{Value, json};

use crate::harness::evidence::{asking, check, files, front};
use crate::harness::{Launch, VerificationExt as _, World, holds, until};
use crate::leader_election::world_with_standby;

const LIVE: &str = "okid_live_verifications";

/// A spec that is deleted this long after its end, merged with these fields.
fn with_ttl(ttl: &str, spec: Value) -> Value {
    let mut whole = json!({"ttlAfterFinished": ttl});
    let Value::Object(spec) = spec else { panic!("a spec is an object") };
    whole.as_object_mut().unwrap().extend(spec);
    whole
}

/// A world whose operator may delete verifications.
pub(crate) async fn new_world() -> World {
    allowed(World::new().await).await
}

/// Lets the operator of this world delete verifications.
async fn allowed(world: World) -> World {
    let permissions: Vec<_> = RUN.iter().chain(TTL_AFTER_FINISHED).collect();
    world.account.grant(Some(&world.namespace), &permissions).await;
    world
}

/// Sets a label, or an annotation.
async fn mark(world: &World, name: &str, metadata: Value) {
    let patch = Patch::Merge(json!({"metadata": metadata}));
    world.api().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_verification_is_deleted_after_its_ttl_whatever_its_outcome() {
    let world = new_world().await;
    for (name, verdict) in [("alice", Verdict::Verified), ("bob", Verdict::Rejected)] {
        world.create_and_finish(name, with_ttl("3s", json!({})), verdict).await;
    }
    world.create_and_finish("carol", with_ttl("0s", json!({})), Verdict::Verified).await;
    for (name, phase) in [("alice", Phase::Verified), ("bob", Phase::Rejected), ("carol", Phase::Verified)] {
        world.until_deleted(name).await;
        let last = world.versions(name).pop().unwrap();
        assert_eq!((last.phase(), last.status_or_default().settled), (Some(phase), false), "{name}");
        let finished = format!("Finished=True/{phase:?}");
        assert!(last.shows(&[&finished, "CleanupReady=True/Scheduled"]), "{name}");
    }
    world.operator().until_metric(LIVE, |live| live == 0.0).await;
    let deleted = "deleted the verification: spec.ttlAfterFinished has passed";
    let are_logged = async || {
        let lines = world.operator().log_lines().into_iter();
        holds(lines.filter(|line| line["message"] == deleted).count() == 3)
    };
    until(are_logged, |()| "the three deletions are not logged".to_owned()).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_with_a_ttl_counts_as_live_until_another_process_deletes_it_in_time() {
    let mut world = new_world().await;
    world.create_and_finish("alice", with_ttl("2h", json!({})), Verdict::Verified).await;
    let alice = world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert!(alice.shows(&["Ready=True/Verified", "Stalled=", "Reconciling=", "CleanupReady=True/Scheduled"]));
    // The API server shows it before the operator has its response.
    world.operator().until_metric(&format!("{LIVE}{{phase=\"Verified\"}}"), |live| live == 1.0).await;
    assert!(world.operator().stop().await.success());

    world.start(Launch::new()).await;
    world.create_and_finish("bob", json!({}), Verdict::Verified).await;
    world.until("bob", |seen| seen.status_or_default().settled).await;
    assert_eq!(world.get("alice").await.metadata.resource_version, alice.metadata.resource_version);
    assert!(world.operator().stop().await.success());

    world.advance_clock(Duration::from_hours(2));
    world.start(Launch::new()).await;
    world.until_deleted("alice").await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_ttl_deletes_earlier_and_without_one_a_verification_is_settled() {
    let world = new_world().await;
    for name in ["alice", "bob"] {
        world.create_and_finish(name, with_ttl("100h", json!({})), Verdict::Verified).await;
        world.until(name, |seen| seen.phase() == Some(Phase::Verified)).await;
    }
    world.patch_spec("alice", json!({"ttlAfterFinished": "1s"})).await;
    world.until_deleted("alice").await;
    world.patch_spec("bob", json!({"ttlAfterFinished": null})).await;
    let bob = world.until("bob", |seen| seen.status_or_default().settled).await;
    assert!(bob.shows(&["CleanupReady=", "Ready=True/Verified"]));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_flux_or_helm_would_bring_back_is_not_deleted_unless_that_is_allowed() {
    let world = new_world().await;
    let marks = [
        ("flux", json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}})),
        ("argo", json!({"annotations": {"argocd.argoproj.io/tracking-id": "apps:okid.io/Verification"}})),
        ("helm", json!({"annotations": {"meta.helm.sh/release-name": "apps"}})),
    ];
    for (name, metadata) in &marks {
        let id = world.create_session(name, with_ttl("0s", json!({}))).await;
        mark(&world, name, metadata.clone()).await;
        world.until(name, |seen| seen.shows(&["CleanupReady=False/ManagedByGitOps"])).await;
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
        let kept = world.until(name, |seen| seen.phase() == Some(Phase::Verified)).await;
        assert!(kept.shows(&["Ready=True/Verified", "Stalled=", "CleanupReady=False/ManagedByGitOps"]));
        world.until_events(name, &["ManagedByGitOps", "SessionCreated", "Verified"]).await;
    }
    // Every chart sets these labels.
    let id = world.create_session("plain", with_ttl("0s", json!({}))).await;
    let labels = json!({"app.kubernetes.io/instance": "apps", "app.kubernetes.io/managed-by": "Helm"});
    mark(&world, "plain", json!({"labels": labels})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_deleted("plain").await;

    for (name, _) in &marks {
        assert!(world.get(name).await.metadata.deletion_timestamp.is_none(), "{name}");
        world.annotate(name, TTL_IN_GITOPS, "allow").await;
        world.until_deleted(name).await;
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_is_stored_first_and_then_stays_or_goes_as_its_policy_says() {
    let world = allowed(World::builder().s3().start().await).await;
    let mut removed = front();
    removed["deletionPolicy"] = json!("Delete");
    for (name, evidence) in [("alice", front()), ("bob", removed)] {
        world.create_and_finish(name, with_ttl("1s", asking(evidence)), Verdict::Verified).await;
        world.until_deleted(name).await;
        let versions = world.versions(name);
        let stored = versions.iter().find(|seen| seen.shows(&["EvidenceStored=True/Stored"])).unwrap();
        if name == "alice" {
            check(stored, &world.in_s3(stored));
        } else {
            assert!(files(&world.in_s3(stored)).is_empty());
        }
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_that_goes_with_its_resource_is_removed_once_its_store_responds_again() {
    let mut world = allowed(World::builder().s3().start().await).await;
    let mut removed = front();
    removed["deletionPolicy"] = json!("Delete");
    world.create_and_finish("alice", with_ttl("1h", asking(removed)), Verdict::Verified).await;
    let alice = world.until("alice", |seen| seen.shows(&["EvidenceStored=True/Stored"])).await;
    world.s3().proxy.go_down().await;
    assert!(world.operator().stop().await.success());
    world.advance_clock(Duration::from_hours(1));
    world.start(Launch::new()).await;
    world.operator().until_logged("the store", |line| line["message"] == "evidence is not removed").await;
    assert!(world.get("alice").await.metadata.deletion_timestamp.is_none());

    world.s3().proxy.come_back();
    world.request_poll("alice").await;
    world.until_deleted("alice").await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    world.until_events("alice", &["EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_another_finalizer_holds_is_requested_once() {
    const DELETES: &str =
        "okid_api_server_request_duration_seconds_count{verb=\"delete\",resource=\"verifications\"}";
    let world = new_world().await;
    let id = world.create_session("alice", with_ttl("1s", json!({}))).await;
    mark(&world, "alice", json!({"finalizers": ["example.com/archive"]})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.metadata.deletion_timestamp.is_some()).await;
    world.create_and_finish("bob", with_ttl("1s", json!({})), Verdict::Verified).await;
    world.until_deleted("bob").await;
    world.operator().until_metric(DELETES, |deletes| deletes == 2.0).await;
    let held = world.get("alice").await;
    assert_eq!(held.metadata.finalizers, Some(vec!["example.com/archive".to_owned()]));
    mark(&world, "alice", json!({"finalizers": []})).await;
    world.until_deleted("alice").await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_deletes_what_is_overdue() {
    let (world, standby) = world_with_standby(|launch| launch).await;
    let mut world = allowed(world).await;
    world.create_and_finish("alice", with_ttl("2h", json!({})), Verdict::Verified).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    standby.until_metric(&format!("{LIVE}{{phase=\"Verified\"}}"), |live| live == 1.0).await;
    // This does not wake the leader.
    world.advance_clock(Duration::from_hours(2));
    assert!(world.operator().stop().await.success());
    world.until_deleted("alice").await;
    standby.until_metric(LIVE, |live| live == 0.0).await;
    world.replace_operator(standby);
    world.finish().await;
}
