//! Failures of the store and its credentials. The verdict stays final throughout.

use std::collections::BTreeMap;
use std::time::Duration;

use control_plane::process::Signal;
use http::Method;
use okid_operator::api::{Phase, RETRY, Verification};
use okid_sandbox::{Action, Endpoint, Verdict};
use serde_json::{Value, json};

use crate::harness::evidence::{STORE_SECRET, asking, check, front};
use crate::harness::{VerificationExt, World};
use crate::stores::{Fault as StoreFault, Proxy};

/// The conditions while evidence is pending.
const PENDING: [&str; 5] = [
    "Ready=False/StoringEvidence",
    "Reconciling=True/StoringEvidence",
    "Stalled=",
    "Finished=True/Verified",
    "Verified=True/Verified",
];

/// The conditions after the evidence failed.
const FAILED: [&str; 5] = [
    "Ready=False/EvidenceFailed",
    "Reconciling=",
    "Stalled=True/EvidenceFailed",
    "Finished=True/Verified",
    "Verified=True/Verified",
];

pub(crate) const STORED: [&str; 4] =
    ["Ready=True/Verified", "Reconciling=", "Stalled=", "EvidenceStored=True/Stored"];

const DENIED: &str = "<Error><Code>AccessDenied</Code></Error>";
const NO_BUCKET: &str = "<Error><Code>NoSuchBucket</Code></Error>";

pub(crate) fn is_settled(seen: &Verification) -> bool {
    seen.status_or_default().settled
}

pub(crate) fn failed(seen: &Verification, reason: &str) -> bool {
    seen.shows(&FAILED) && seen.condition("EvidenceStored").as_deref() == Some(reason)
}

pub(crate) fn pending(seen: &Verification, reason: &str) -> bool {
    seen.shows(&PENDING) && seen.condition("EvidenceStored").as_deref() == Some(reason)
}

/// Checks that every version from the verdict on is Verified and Finished.
pub(crate) fn stays_verified(world: &World, name: &str) {
    let versions = world.versions(name);
    let since = versions.iter().skip_while(|seen| seen.status_or_default().outcome.is_none());
    for seen in since {
        assert!(seen.shows(&["Verified=True/Verified", "Finished=True/Verified"]), "{seen:?}");
    }
}

/// The message of the condition `EvidenceStored`.
pub(crate) fn evidence_message(verification: &Verification) -> String {
    let conditions = verification.status_or_default().conditions;
    conditions.into_iter().find(|condition| condition.type_ == "EvidenceStored").unwrap().message.into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_store_options_are_reported_by_name_before_a_session_is_created() {
    let world = World::builder().s3().start().await;
    let elsewhere = Proxy::start("127.0.0.1:9".parse().unwrap());
    for (number, (option, value)) in [
        ("aws_endpoint", elsewhere.url()),
        ("aws_acess_key_id", "a-typing-error".to_owned()),
        ("aws_bucket", "another-bucket".to_owned()),
        ("google_bearer_token", "of-another-cloud".to_owned()),
        ("proxy_url", elsewhere.url()),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("person-{number}");
        world.store_secret(json!({ option: value })).await;
        world.apply(&name, asking(front())).await;
        let refused = world
            .until(&name, |seen| {
                seen.shows(&["Stalled=True/DestinationNotAllowed", "Ready=False/DestinationNotAllowed"])
            })
            .await;
        let conditions = refused.status_or_default().conditions;
        let stalled = conditions.iter().find(|condition| condition.type_ == "Stalled").unwrap();
        assert!(stalled.message.contains(option), "{}", stalled.message);
        assert!(!stalled.message.contains(&value), "{}", stalled.message);
    }
    assert_eq!((world.creates(), elsewhere.arrived(), world.s3().proxy.arrived()), (0, 0, 0));

    world.store_secret(json!({})).await;
    world.request_poll("person-0").await;
    let invited = world.until("person-0", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    world.sandbox().finish(&invited.id().unwrap(), Verdict::Verified).unwrap();
    let over = world.until("person-0", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(elsewhere.arrived(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forbidden_endpoint_set_after_the_session_is_never_connected_to() {
    let world = World::builder().s3().start().await;
    let elsewhere = Proxy::start("127.0.0.1:9".parse().unwrap());
    let id = world.create_session("alice", asking(front())).await;
    world.store_secret(json!({"aws_endpoint": elsewhere.url()})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let refused = world.until("alice", |seen| failed(seen, "False/DestinationNotAllowed")).await;
    assert_eq!(refused.phase(), Some(Phase::Verified));
    assert!(!is_settled(&refused), "a person may correct it");
    assert!(evidence_message(&refused).contains("aws_endpoint"), "{refused:?}");
    world.until_events("alice", &["EvidenceFailed", "SessionCreated", "Verified"]).await;
    world.store_secret(json!({"aws_acess_key_id": "a-typing-error"})).await;
    world.annotate("alice", RETRY, "another mistake").await;
    let refused = world.until("alice", |seen| failed(seen, "False/StoreSecretInvalid")).await;
    assert!(evidence_message(&refused).contains("aws_acess_key_id"), "{refused:?}");
    assert_eq!((elsewhere.arrived(), world.s3().proxy.arrived()), (0, 0));
    assert_eq!(world.sandbox().count(Endpoint::ImageFront), 0);

    world.store_secret(json!({})).await;
    world.annotate("alice", RETRY, "repaired").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &world.in_s3(&over));
    assert_eq!(elsewhere.arrived(), 0);
    stays_verified(&world, "alice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_credentials_that_are_created_later_are_picked_up() {
    let world = World::builder().s3().start().await;
    world.delete_secret(STORE_SECRET).await;
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    world.until_with_clock("alice", |seen| pending(seen, "False/StoreSecretNotFound")).await;
    assert_eq!(world.s3().proxy.arrived(), 0);

    world.store_secret(json!({})).await;
    world.request_poll("alice").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    stays_verified(&world, "alice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_credentials_that_are_rejected_are_retried_until_they_are_corrected() {
    let world = World::builder().s3().start().await;
    world.store_secret(json!({"aws_secret_access_key": "wrong"})).await;
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    let refused = world.until_with_clock("alice", |seen| pending(seen, "False/StoreAccessDenied")).await;
    assert!(evidence_message(&refused).contains("does not accept the credentials"), "{refused:?}");
    let accepted =
        |world: &World| world.s3().proxy.passed().iter().filter(|passed| passed.status.is_success()).count();
    assert_eq!(accepted(&world), 0);

    world.store_secret(json!({})).await;
    world.request_poll("alice").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    stays_verified(&world, "alice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_credentials_that_expire_during_a_batch_are_read_again_at_once() {
    let world = World::builder().s3().start().await;
    let expired = "<Error><Code>ExpiredToken</Code></Error>";
    world.s3().proxy.next([StoreFault::HoldAndAnswer(400, expired)]);
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload in flight", |world| world.s3().proxy.held() == 1).await;
    // After the signal there is no further reconcile.
    world.operator().signal(Signal::Terminate);
    let stops = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("shutting down"));
    world.operator().until_logged("that it stops", stops).await;
    world.s3().proxy.release();
    assert!(world.operator().wait().await.success());
    let over = world.get("alice").await;
    assert!(is_settled(&over) && over.shows(&STORED), "{over:?}");
    world.finish().await;
}

/// Checks that a store with this fault is reported and retried until it accepts the evidence.
async fn heals(fault: StoreFault, shown: &str) {
    let world = World::builder().s3().start().await;
    world.s3().proxy.always(fault);
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    world.until_with_clock("alice", |seen| pending(seen, shown)).await;

    world.s3().proxy.heal();
    let over = world.until_with_polls("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    stays_verified(&world, "alice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_is_stored_once_a_missing_bucket_is_created() {
    // s3s-fs creates a missing bucket.
    heals(StoreFault::Answer(404, NO_BUCKET), "False/BucketNotFound").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_is_stored_when_a_store_is_back_after_an_hour() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.go_down().await;
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    world.until_with_clock("alice", |seen| pending(seen, "False/StoreUnavailable")).await;
    // Errors of the store affect no other verification.
    world.create_and_finish("bob", json!({}), Verdict::Verified).await;
    world.until("bob", is_settled).await;

    world.advance_clock(Duration::from_hours(1));
    let later = world
        .until_with_polls("alice", |seen| seen.status_or_default().last_handled_reconcile_at.is_some())
        .await;
    assert!(pending(&later, "False/StoreUnavailable"), "{later:?}");

    world.s3().proxy.come_back();
    let over = world.until_with_polls("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &world.in_s3(&over));
    let shown = world.distinct_values("alice", |seen| seen.condition("EvidenceStored"));
    let wanted = ["Unknown/NotStarted", "False/Storing", "False/StoreUnavailable", "True/Stored"];
    assert_eq!(
        shown.iter().flatten().collect::<Vec<_>>(),
        wanted,
        "reported once, however often it was retried"
    );
    stays_verified(&world, "alice");
    world.until_events("alice", &["EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_delays_only_its_own_evidence() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.next([StoreFault::Hold]);
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload that hangs", |world| world.s3().proxy.held() == 1).await;
    world.create_and_finish("bob", asking(front()), Verdict::Verified).await;
    let over = world.until("bob", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert!(pending(&world.get("alice").await, "False/Storing"));

    world.s3().proxy.release();
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &world.in_s3(&over));
    world.finish().await;
}

/// A response with that content type and body.
pub(crate) fn response(content_type: &str, body: &str) -> Action {
    response_with(200, content_type, body)
}

pub(crate) fn response_with(status: u16, content_type: &str, body: &str) -> Action {
    Action::Respond {
        status,
        headers: BTreeMap::from([("content-type".to_owned(), content_type.to_owned())]),
        body: Some(body.to_owned()),
        retry_after: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_denies_writes_is_reported_and_retried() {
    heals(StoreFault::Answer(403, DENIED), "False/StoreAccessDenied").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_store_refuses_everything_only_one_image_at_a_time_is_tried() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.whenever(Method::PUT, StoreFault::Answer(403, DENIED));
    let images =
        json!([{"kind": "Redacted"}, {"kind": "Redacted", "imageType": "cropped"}, {"kind": "Front"}]);
    world.create_and_finish("alice", asking(json!({"images": images})), Verdict::Verified).await;
    // After each denied write the operator checks whether the object exists.
    let attempts = |world: &World| world.s3().proxy.arrived() as u64 / 2;
    world.until_portal("two more attempts", |world| attempts(world) >= 3 + 2).await;
    let calls = world.sandbox().count(Endpoint::Image) + world.sandbox().count(Endpoint::ImageFront);
    // The attempt in flight already has its image.
    assert!((3 + 2..=attempts(&world) + 1).contains(&calls), "{calls}");

    world.s3().proxy.heal();
    let over = world.until_with_polls("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    world.finish().await;
}
