//! An operator with fewer permissions than the list in the code has: without those for Leases it works alone, and a missing
//! permission affects only what it is for.

mod replicas;

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use okid_operator::api::{EVIDENCE_FINALIZER, Phase, RECONCILE_REQUESTED_AT, RETRY, Verification};
use okid_operator::permissions::{RELEASE_FINALIZERS, RUN, Scope, TTL_AFTER_FINISHED};
use okid_sandbox::{Action, Call, Endpoint, Fault, Verdict};
use serde_json::{Value, json};

use crate::harness::evidence::{asking, check, files, front};
use crate::harness::{Launch, Operator, Permission, VerificationExt as _, World};
use crate::stores::Fault as StoreFault;

/// The permissions of an operator without leader election.
fn minimal() -> Vec<Permission> {
    RUN.iter().filter(|permission| !permission.is_for_leader_election()).collect()
}

/// Those without a resource.
fn without(resource: &str) -> Vec<Permission> {
    minimal().into_iter().filter(|permission| permission.resource != resource).collect()
}

/// Those without one verb on Verifications.
fn all_but(verb: &str) -> Vec<Permission> {
    let is_it = |permission: &Permission| (permission.resource, permission.verb) == ("verifications", verb);
    minimal().into_iter().filter(|permission| !is_it(permission)).collect()
}

/// A world without an operator, for an account with these permissions.
async fn prepare(permissions: &[Permission]) -> World {
    let world = World::builder().without_operator().s3().start().await;
    grant(&world, permissions).await;
    world
}

/// A world with an operator that has these permissions.
async fn start(permissions: &[Permission]) -> World {
    let mut world = prepare(permissions).await;
    world.start(Launch::new()).await;
    world
}

/// Grants the account of a world exactly these permissions. They are in effect when this returns.
async fn grant(world: &World, permissions: &[Permission]) {
    world.account.grant(Some(&world.namespace), permissions).await;
}

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

/// Finishes a check from apply to the verdict.
async fn finishes(world: &World, name: &str) {
    let id = world.create_session(name, json!({})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until(name, |seen| seen.status_or_default().settled).await;
    assert_eq!(over.phase(), Some(Phase::Verified));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_minimal_role_suffices_from_apply_to_verdict() {
    let world = start(&minimal()).await;
    finishes(&world, "alice").await;
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    assert_eq!(world.operator().metric("okid_events_dropped_total").await, 0.0);
    world.finish().await;
}

/// Evidence that is removed with its resource.
fn with_policy_delete() -> Value {
    let mut evidence = front();
    evidence["deletionPolicy"] = json!("Delete");
    asking(evidence)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_minimal_role_suffices_for_evidence_and_its_removal() {
    let world = start(&minimal()).await;
    world.create_and_finish("alice", with_policy_delete(), Verdict::Verified).await;
    let stored = world.until("alice", |seen| seen.shows(&["EvidenceStored=True/Stored"])).await;
    check(&stored, &world.in_s3(&stored));
    world.delete("alice").await;
    assert!(files(&world.in_s3(&stored)).is_empty());
    assert_eq!(world.operator().metric("okid_reconcile_retries_total").await, 0.0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_for_the_finalizer_evidence_with_policy_delete_is_not_stored() {
    let world = start(&all_but("patch")).await;
    world.create_and_finish("alice", with_policy_delete(), Verdict::Verified).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Storing)).await;
    // Evidence that is not removed with its resource needs no finalizer.
    world.create_and_finish("bob", asking(front()), Verdict::Verified).await;
    world.until("bob", |seen| seen.status_or_default().settled).await;
    assert_eq!(world.sandbox().count(Endpoint::ImageFront), 1, "for bob");
    let refused = ["EvidenceStored=False/FinalizerDenied", "Reconciling=True/StoringEvidence"];
    let alice = world.until_with_clock("alice", |seen| seen.shows(&refused)).await;
    let conditions = alice.status_or_default().conditions;
    let stored = conditions.iter().find(|condition| condition.type_ == "EvidenceStored").unwrap();
    assert!(stored.message.contains("okid.io/evidence"), "{}", stored.message);

    world.advance_clock(Duration::from_hours(24));
    let failed =
        ["EvidenceStored=False/FinalizerDenied", "Stalled=True/EvidenceFailed", "Verified=True/Verified"];
    let alice = world.until_with_clock("alice", |seen| seen.shows(&failed)).await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    world.until_event("alice", "EvidenceFailed").await;

    grant(&world, &minimal()).await;
    world.annotate("alice", RETRY, "granted").await;
    let stored = world.until_with_polls("alice", |seen| seen.shows(&["EvidenceStored=True/Stored"])).await;
    check(&stored, &world.in_s3(&stored));
    until_logged_once(&world, ("verifications", "patch"), &["alice"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_delete_a_ttl_is_shown_as_forbidden_and_logged_once() {
    let world = start(&minimal()).await;
    let names = ["alice", "bob"];
    for name in names {
        world.create_and_finish(name, json!({"ttlAfterFinished": "0s"}), Verdict::Verified).await;
        let refused = world.until(name, |seen| seen.shows(&["CleanupReady=False/DeletionForbidden"])).await;
        assert!(refused.shows(&["Ready=True/Verified", "Reconciling=", "Stalled="]));
    }
    // Each request tries once more.
    for name in names {
        world.request_poll(name).await;
        let handled = |seen: &Verification| {
            let requested = seen.annotations().get(RECONCILE_REQUESTED_AT).cloned();
            requested.is_some() && seen.status_or_default().last_handled_reconcile_at == requested
        };
        let refused = world.until(name, handled).await;
        assert!(refused.shows(&["CleanupReady=False/DeletionForbidden"]));
    }

    let all: Vec<_> = minimal().into_iter().chain(TTL_AFTER_FINISHED).collect();
    grant(&world, &all).await;
    for name in names {
        world.request_poll(name).await;
        world.until_deleted(name).await;
    }
    until_logged_once(&world, ("verifications", "delete"), &names).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_evidence_that_cannot_be_recorded_is_requested_once_and_recorded_later() {
    let world = start(&minimal()).await;
    world.s3().proxy.next([StoreFault::Hold]);
    let id = world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload in flight", |world| world.s3().proxy.held() == 1).await;
    grant(&world, &without("verifications/status")).await;
    world.s3().proxy.release();
    let repeated = world.operator().metric("okid_reconcile_retries_total").await;
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= repeated + 3.0).await;
    let requests =
        |world: &World| (world.sandbox().session(&id).unwrap().image_requests, world.s3().proxy.arrived());
    assert_eq!(
        requests(&world),
        (1, 3),
        "the image, the image again as the check of conditional writes, the manifest"
    );

    grant(&world, &minimal()).await;
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    check(&over, &world.in_s3(&over));
    assert_eq!(requests(&world), (1, 3));
    world.until_event("alice", "EvidenceStored").await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_read_secrets_it_reports_that_and_recovers_once_granted() {
    let world = start(&without("secrets")).await;
    world.apply("alice", json!({})).await;
    let waiting = [
        "CredentialsReady=False/SecretForbidden",
        "Ready=False/SecretForbidden",
        "Reconciling=True/SecretForbidden",
        "Stalled=",
    ];
    world.until("alice", |seen| seen.shows(&waiting)).await;
    assert_eq!(world.creates(), 0);

    grant(&world, &minimal()).await;
    world.until("alice", |seen| is_open(seen) && seen.shows(&["CredentialsReady=True/Accepted"])).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_write_events_everything_else_works() {
    let world = start(&without("events")).await;
    finishes(&world, "alice").await;
    world.operator().until_metric("okid_events_dropped_total", |value| value == 2.0).await;
    world.until_events("alice", &[]).await;
    world.finish().await;
}

/// Waits until the log says that a refused call works again, and checks that the refusal was logged once.
async fn until_logged_once(world: &World, (resource, verb): (&str, &str), names: &[&str]) {
    let about = |line: &Value| line["verb"] == verb && line["resource"] == resource;
    let again = |line: &Value| about(line) && line["level"] == "INFO";
    world.operator().until_logged("that it works again", again).await;
    let lines: Vec<_> = world.operator().log_lines().into_iter().filter(about).collect();
    let [refused, _again] = lines.as_slice() else { panic!("not one refusal and one recovery: {lines:#?}") };
    assert_eq!((&refused["level"], &refused["code"]), (&json!("WARN"), &json!(403)), "{refused}");
    assert_eq!((&refused["reason"], &refused["namespace"]), (&json!("Forbidden"), &json!(world.namespace)));
    assert!(names.contains(&refused["name"].as_str().unwrap()), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_write_status_it_logs_once_and_calls_no_portal() {
    let world = start(&without("verifications/status")).await;
    world.apply("alice", json!({})).await;
    world.apply("bob", json!({})).await;
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= 4.0).await;
    assert_eq!(world.creates(), 0);
    assert_eq!(world.get("alice").await.status_or_default().observed_generation, Some(-1));

    grant(&world, &minimal()).await;
    for name in ["alice", "bob"] {
        assert_eq!(world.until(name, is_open).await.session().attempt, 1);
    }
    assert_eq!(world.creates(), 2);
    until_logged_once(&world, ("verifications/status", "patch"), &["alice", "bob"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_permission_to_write_status_stops_everything_until_it_is_restored() {
    let world = start(&minimal()).await;
    let id = world.create_session("alice", json!({})).await;
    grant(&world, &without("verifications/status")).await;
    let repeated = world.operator().metric("okid_reconcile_retries_total").await;
    world.apply("bob", json!({})).await;
    world.sandbox().finish(&id, Verdict::Rejected).unwrap();
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= repeated + 2.0).await;
    assert_eq!(world.creates(), 1);
    assert_eq!(world.get("alice").await.phase(), Some(Phase::AwaitingUser));

    grant(&world, &minimal()).await;
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id()), (Some(Phase::Rejected), Some(id)));
    world.until("bob", is_open).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_may_not_be_written_is_retried_with_backoff_until_it_may() {
    let world = start(&minimal()).await;
    let hang = world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("a create", |world| world.sandbox().hits(hang) == 1).await;
    grant(&world, &without("verifications/status")).await;
    world.sandbox().clear(hang);
    world.operator().until_metric("okid_status_record_retries_total", |value| value >= 4.0).await;
    let writes = world.operator().metric("okid_status_writes_total").await;
    let retries = world.operator().metric("okid_status_record_retries_total").await;
    // The claim, one write before each pause, and perhaps one in flight.
    assert!(writes <= retries + 2.0, "{writes} writes, {retries} retries");

    grant(&world, &minimal()).await;
    let open = world.until("alice", is_open).await;
    assert_eq!(open.id(), Some(world.sandbox().sessions()[0].id.clone()));
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 1, 0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_read_verifications_it_logs_once_and_calls_no_portal() {
    let mut world = prepare(&all_but("get")).await;
    // What the first list returns is read again before its first reconcile.
    world.apply("alice", json!({})).await;
    world.start(Launch::new()).await;
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= 2.0).await;
    assert_eq!(world.creates(), 0);

    grant(&world, &minimal()).await;
    world.until("alice", is_open).await;
    until_logged_once(&world, ("verifications", "get"), &["alice"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_may_not_watch_is_not_ready_and_says_why() {
    let mut world = prepare(&all_but("watch")).await;
    let operator = world.another(Launch::new());
    operator.until_metric("okid_watch_interruptions_total", |value| value >= 3.0).await;
    let refused = |line: &Value| line["level"] == "WARN" && line["code"] == 403;
    let lines: Vec<_> = operator.log_lines().into_iter().filter(refused).collect();
    let [line] = lines.as_slice() else { panic!("it is not logged once: {lines:#?}") };
    assert_eq!((&line["action"], &line["reason"]), (&json!("start a watch"), &json!("Forbidden")));
    let response = operator.ask("/readyz").await;
    assert!(!response.status().is_success());
    let body = response.text().await.unwrap();
    let waits = "waiting for the first list of verifications; tried to start a watch: 403 Forbidden\n";
    assert_eq!(body, waits);

    grant(&world, &minimal()).await;
    operator.until_watching().await;
    assert!(operator.ready().await);
    assert!(operator.stop().await.success());
    world.finish().await;
}
