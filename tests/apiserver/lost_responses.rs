//! The response to a create was lost, and a person resolves that; or the resource was deleted meanwhile.

use okid_operator::api::{Phase, SessionState, Verification};
use okid_sandbox::{Action, Call, Cut, Fault, Verdict};
use serde_json::json;

use crate::harness::{Launch, VerificationExt as _, World};

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

fn is_held(seen: &Verification) -> bool {
    seen.shows(&["Stalled=True/CreateOutcomeUnknown"])
}

/// The portal creates a session, and its response does not arrive.
fn lose_the_response() -> Fault {
    Fault::new(Call::Create, Action::Cut(Cut::BeforeHeaders)).after()
}

/// A resource that waits for a person, because the response to its only create was lost.
async fn held() -> World {
    let world = World::new().await;
    world.sandbox().inject(lose_the_response().once());
    world.apply("alice", json!({"onUnknownOutcome": "Hold"})).await;
    let held = world.until("alice", is_held).await;
    assert_eq!((held.session().attempt, held.session().orphans), (1, 1));
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_token_acknowledges_a_held_create_and_starts_a_new_attempt() {
    let world = held().await;
    world.annotate("alice", "okid.io/retry", "asked okID, 2026-01-01").await;
    let open = world.until("alice", is_open).await;
    assert_eq!(open.status_or_default().last_handled_retry.as_deref(), Some("asked okID, 2026-01-01"));
    let session = open.session();
    assert_eq!((session.attempt, session.orphans, session.acknowledged), (2, 1, 1));
    assert!(open.shows(&["Ready=False/AwaitingUser", "Stalled=", "SessionCreated=True/Created"]));
    assert_eq!(world.creates(), 2);
    assert_eq!(open.id(), world.sandbox().sessions().last().map(|session| session.id.clone()));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_create_continues_with_the_session_that_a_person_names() {
    let world = held().await;
    let orphan = world.sandbox().sessions()[0].id.clone();
    world.patch_spec("alice", json!({"adopt": {"verificationId": orphan}})).await;
    let adopted = world.until("alice", is_open).await;
    assert_eq!(adopted.id().as_ref(), Some(&orphan));
    assert_eq!(adopted.state(), Some(SessionState::Adopted));
    assert!(adopted.shows(&["SessionCreated=True/Adopted", "CredentialsReady=True/Accepted", "Stalled="]));
    world.until_event("alice", "SessionAdopted").await;

    world.sandbox().finish(&orphan, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id()), (Some(Phase::Verified), Some(orphan)));
    assert_eq!((world.creates(), over.session().attempt), (1, 1));
    world.finish().await;
}

/// A resource after that many lost responses, the last of them at that time; no operator has seen it.
async fn lost(responses: u32, last_at: jiff::Timestamp) -> World {
    let world = World::builder().without_operator().start().await;
    let uid = world.apply("alice", json!({})).await.metadata.uid.unwrap();
    let session = json!({
        "attempt": responses, "orphans": responses, "state": "Unknown", "uid": uid, "claimedAt": last_at.to_string(),
        "holder": "earlier/0", "portal": world.sandbox().url(),
    });
    world
        .patch_status("alice", json!({"observedGeneration": 1, "phase": "Creating", "session": session}))
        .await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_third_lost_response_waits_for_a_person_until_a_retry_token() {
    let mut world = lost(2, "2026-01-01T12:00:00Z".parse().unwrap()).await;
    world.sandbox().inject(lose_the_response().once());
    world.start(Launch::new()).await;
    let held = world.until("alice", is_held).await;
    assert_eq!((held.session().attempt, held.session().orphans), (3, 3));
    assert_eq!(world.creates(), 1);
    world.until_event("alice", "CreateOutcomeUnknown").await;

    world.annotate("alice", "okid.io/retry", "1").await;
    let open = world.until("alice", is_open).await;
    let session = open.session();
    assert_eq!((session.attempt, session.orphans, session.acknowledged), (4, 3, 3));
    assert_eq!(world.creates(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naming_the_session_skips_the_hour_after_the_third_lost_response() {
    let mut world = lost(3, jiff::Timestamp::now()).await;
    let orphan = world.sandbox().seed(1).remove(0);
    world.start(Launch::new()).await;
    world.patch_spec("alice", json!({"adopt": {"verificationId": orphan}})).await;
    let adopted = world.until("alice", is_open).await;
    assert_eq!((adopted.id(), adopted.session().attempt), (Some(orphan), 3));
    assert_eq!(world.creates(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_recreated_during_a_create_never_gets_the_old_response() {
    let world = World::new().await;
    // Until a key has worked once, its calls are sent one at a time.
    world.create_session("first", json!({})).await;
    let hang = || world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    let (old, new) = (hang(), hang());
    world.apply("alice", json!({})).await;
    world.until_portal("a create that hangs", |world| world.sandbox().hits(old) == 1).await;
    world.delete("alice").await;
    world.apply("alice", json!({})).await;
    world.until_portal("another create that hangs", |world| world.sandbox().hits(new) == 1).await;

    // The old response comes first and finds a claim that is not its own.
    world.sandbox().clear(old);
    world.until_event(&world.namespace, "OrphanSession").await;
    world.operator().until_metric("okid_orphan_sessions_total", |value| value == 1.0).await;
    assert_eq!(world.get("alice").await.state(), Some(SessionState::Claimed));

    world.sandbox().clear(new);
    let open = world.until("alice", is_open).await;
    let sessions = world.sandbox().sessions();
    assert_eq!((open.id(), open.session().attempt), (Some(sessions[2].id.clone()), 1));
    assert!(world.versions("alice").iter().all(|seen| seen.id().as_ref() != Some(&sessions[1].id)));
    assert_eq!(world.creates(), 3);
    world.finish().await;
}
