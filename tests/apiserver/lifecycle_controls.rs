//! What users do to a verification: suspend, adopt, set a deadline, request polls, delete, and write where they should
//! not.

use std::time::Duration;

use okid_operator::api::{Outcome, Phase, RECONCILE_REQUESTED_AT, SessionState, Verification};
use okid_sandbox::{Action, Call, Endpoint, Fault, RetryAfter, Verdict};
use serde_json::{Value, json};

use crate::harness::{SECRET, VerificationExt as _, World};

/// Polls that are sent only on request.
fn polls_on_request() -> serde_json::Value {
    json!({"polling": {"minInterval": "1h", "maxInterval": "1h"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_verification_is_not_polled_until_it_is_resumed() {
    let world = World::new().await;
    let alice = world.create_session("alice", json!({})).await;
    let bob = world.create_session("bob", json!({})).await;
    world.patch_spec("alice", json!({"suspend": true})).await;
    let suspended = world.until("alice", |seen| seen.shows(&["Ready=False/Suspended"])).await;
    assert!(suspended.shows(&["Reconciling=", "Stalled=", "Finished=False/Running"]));
    assert_eq!(suspended.phase(), Some(Phase::AwaitingUser));
    let polls = world.polls_of(&alice);
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    world.until_polled(&bob, 4).await;
    assert_eq!(world.polls_of(&alice), polls);
    assert_eq!(world.get("alice").await.status_or_default().outcome, None);

    world.patch_spec("alice", json!({"suspend": false})).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_created_suspended_creates_no_session_until_it_is_resumed() {
    let world = World::new().await;
    world.apply("alice", json!({"suspend": true, "activeDeadline": "1s"})).await;
    let suspended = world.until("alice", |seen| seen.shows(&["Ready=False/Suspended"])).await;
    assert!(suspended.shows(&["Reconciling=", "Stalled=", "SessionCreated=False/NotYet"]));
    assert_eq!((suspended.phase(), suspended.session().attempt), (Some(Phase::Pending), 0));
    let bob = world.create_session("bob", json!({})).await;
    world.until_polled(&bob, 2).await;
    assert_eq!(world.creates(), 1, "bob's");
    assert_eq!(
        world.get("alice").await.status_or_default().outcome,
        None,
        "nothing ends by the clock while suspended"
    );

    world.patch_spec("alice", json!({"suspend": false, "activeDeadline": "1h"})).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_in_flight_when_suspended_is_recorded_and_then_nothing_happens() {
    let world = World::new().await;
    let hanging = world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once());
    world.apply("alice", json!({})).await;
    world.until_portal("the create", |world| world.sandbox().hits(hanging) == 1).await;
    world.patch_spec("alice", json!({"suspend": true})).await;
    world.sandbox().clear(hanging);
    let suspended = world.until("alice", |seen| seen.shows(&["Ready=False/Suspended"])).await;
    assert_eq!(suspended.state(), Some(SessionState::Created));
    assert_eq!(suspended.phase(), Some(Phase::AwaitingUser));
    let alice = suspended.id().unwrap();
    let bob = world.create_session("bob", json!({})).await;
    world.until_polled(&bob, 3).await;
    assert_eq!(world.polls_of(&alice), 0);
    world.patch_spec("alice", json!({"suspend": false})).await;
    world.until_polled(&alice, 1).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_reached_while_suspended_is_seen_after_resuming() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let hanging = world.sandbox().inject(Fault::new(Call::Details, Action::Hang).once());
    world.until_portal("a poll", |world| world.sandbox().hits(hanging) == 1).await;
    world.patch_spec("alice", json!({"suspend": true})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.sandbox().clear(hanging);
    let suspended = world.until("alice", |seen| seen.shows(&["Ready=False/Suspended"])).await;
    assert_eq!((suspended.phase(), suspended.status_or_default().outcome), (Some(Phase::AwaitingUser), None));
    world.patch_spec("alice", json!({"suspend": false})).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_session_is_adopted_and_followed() {
    let world = World::new().await;
    let id = world.sandbox().seed(1).remove(0);
    world.apply("alice", json!({"adopt": {"verificationId": id}})).await;
    let adopted = world.until("alice", |seen| seen.id().is_some()).await;
    assert_eq!((adopted.id().as_ref(), adopted.state()), (Some(&id), Some(SessionState::Adopted)));
    assert!(adopted.shows(&["SessionCreated=True/Adopted", "CredentialsReady=True/Accepted"]));
    assert_eq!(adopted.phase(), Some(Phase::AwaitingUser));
    assert_eq!(adopted.session().attempt, 0);
    assert!(adopted.status_or_default().portal_url.is_some_and(|link| link.ends_with(&id)));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.until_events("alice", &["SessionAdopted", "Verified"]).await;
    assert_eq!(world.creates(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_id_to_adopt_is_neither_published_nor_replaced() {
    let world = World::new().await;
    world.apply("alice", json!({"adopt": {"verificationId": "ver_ofNobodyAtAll"}})).await;
    let lost = world.until("alice", |seen| seen.shows(&["Stalled=True/SessionNotFound"])).await;
    assert!(lost.shows(&["Ready=False/SessionNotFound", "Reconciling=", "SessionCreated=False/NotYet"]));
    assert_eq!((lost.id(), lost.phase()), (None, Some(Phase::Pending)));
    world.until_event("alice", "SessionNotFound").await;
    assert_eq!(world.creates(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_a_verification_with_and_without_a_session() {
    let world = World::new().await;
    world.create_session("alice", json!({"activeDeadline": "10m"})).await;
    let without_secret = json!({"apiKeySecretRef": {"name": "missing"}, "activeDeadline": "10m"});
    world.apply("bob", without_secret).await;
    world.until("bob", |seen| seen.shows(&["CredentialsReady=False/SecretNotFound"])).await;
    world.advance_clock(Duration::from_mins(10));
    for name in ["alice", "bob"] {
        let over = world.until(name, |seen| seen.status_or_default().settled).await;
        assert!(over.shows(&[
            "Ready=False/Failed",
            "Reconciling=",
            "Stalled=True/DeadlineExceeded",
            "Finished=True/Failed",
            "Verified=False/Failed",
        ]));
        assert_eq!(
            (over.phase(), over.status_or_default().outcome),
            (Some(Phase::Failed), Some(Outcome::Failed))
        );
        assert!(over.status_or_default().finished_at.is_some());
        world.until_event(name, "DeadlineExceeded").await;
    }
    assert!(world.get("alice").await.id().is_some(), "the link was published before");
    assert_eq!(world.creates(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_the_portal_has_at_the_deadline_counts() {
    let world = World::new().await;
    let mut spec = polls_on_request();
    spec["activeDeadline"] = json!("10m");
    let id = world.create_session("alice", spec).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.advance_clock(Duration::from_mins(10));
    // It waits for its deadline by a clock that does not advance; this wakes it and requests no poll.
    world.annotate("alice", "example.com/wakes", "it").await;
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!(over.phase(), Some(Phase::Verified));
    assert_eq!(world.polls_of(&id), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortened_deadline_applies_at_once() {
    let world = World::new().await;
    let id = world.create_session("alice", polls_on_request()).await;
    world.patch_spec("alice", json!({"activeDeadline": "1s"})).await;
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!(over.phase(), Some(Phase::Failed));
    assert_eq!(world.polls_of(&id), 1, "the portal is polled once more");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_can_be_deleted_in_every_phase() {
    let world = World::new().await;
    world.apply("pending", json!({"apiKeySecretRef": {"name": "missing"}})).await;
    world.until("pending", |seen| seen.shows(&["CredentialsReady=False/SecretNotFound"])).await;
    world.create_session("waiting", json!({})).await;
    let begun = world.create_session("begun", json!({})).await;
    world.sandbox().open(&begun).unwrap();
    world.until("begun", |seen| seen.phase() == Some(Phase::InProgress)).await;
    let reviewed = world.create_session("reviewed", json!({})).await;
    world.sandbox().finish(&reviewed, Verdict::NeedsManualReview).unwrap();
    world.until("reviewed", |seen| seen.phase() == Some(Phase::InReview)).await;
    let validated = world.create_session("validated", json!({})).await;
    world.sandbox().set_status(&validated, "validating").unwrap();
    world.until("validated", |seen| seen.phase() == Some(Phase::Processing)).await;
    for (name, verdict) in [("rejected", Verdict::Rejected), ("expired", Verdict::Expired)] {
        let id = world.create_session(name, json!({})).await;
        world.sandbox().finish(&id, verdict).unwrap();
    }
    world.apply("failed", json!({"activeDeadline": "1s"})).await;
    for (name, phase) in
        [("rejected", Phase::Rejected), ("expired", Phase::Expired), ("failed", Phase::Failed)]
    {
        let over = world.until(name, |seen| seen.status_or_default().settled).await;
        assert_eq!(over.phase(), Some(phase));
    }
    let hanging = world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once());
    world.apply("creating", json!({})).await;
    world.until("creating", |seen| seen.phase() == Some(Phase::Creating)).await;
    world.until_portal("the create", |world| world.sandbox().hits(hanging) == 1).await;

    let names =
        ["pending", "waiting", "begun", "validated", "reviewed", "rejected", "expired", "failed", "creating"];
    for name in names {
        assert_eq!(world.get(name).await.metadata.finalizers, None);
        world.delete(name).await;
        assert!(world.api().get_opt(name).await.unwrap().is_none());
    }
    world.operator().until_metric("okid_live_verifications", |live| live == 0.0).await;

    // The create in flight leaves a session without a resource, which is reported.
    world.sandbox().clear(hanging);
    world.operator().until_metric("okid_orphan_sessions_total", |orphans| orphans == 1.0).await;
    for about in [&world.namespace, "creating"] {
        world.until_event(about, "OrphanSession").await;
    }
    let is_orphan = |line: &Value| line["message"] == "the portal holds a session that no resource publishes";
    let line = world.operator().until_logged("the orphan", is_orphan).await;
    assert_eq!((&line["namespace"], &line["name"]), (&json!(world.namespace), &json!("creating")));
    assert!(world.operator().ready().await);
    world.create_session("another", json!({})).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_about_a_deleted_verification_is_not_written_into_its_namesake() {
    let world = World::new().await;
    let first = world.create_session("alice", json!({})).await;
    let hanging = world.sandbox().inject(Fault::new(Call::Details, Action::Hang).session(&first));
    world.until_portal("a poll", |world| world.sandbox().hits(hanging) == 1).await;
    world.delete("alice").await;
    let second = world.create_session("alice", json!({})).await;
    assert_ne!(first, second);
    world.sandbox().finish(&first, Verdict::Rejected).unwrap();
    world.sandbox().clear(hanging);
    let has_responded = |world: &World| {
        world.sandbox().requests().iter().any(|call| call.fault == Some(hanging) && call.status == Some(200))
    };
    world.until_portal("the response", has_responded).await;
    world.until_polled(&second, 2).await;
    let seen = world.get("alice").await;
    assert_eq!((seen.id(), seen.phase()), (Some(second), Some(Phase::AwaitingUser)));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_polls_without_news_write_nothing() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    world.until_polled(&id, 1).await;
    let before = world.resource_version("alice").await;
    let writes = world.operator().metric("okid_status_writes_total").await;
    for _ in 0..5 {
        world.until_polled(&id, 10).await;
    }
    assert_eq!(world.resource_version("alice").await, before);
    assert_eq!(world.operator().metric("okid_status_writes_total").await, writes);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_verification_leaves_memory_and_its_deletion_affects_no_other() {
    let world = World::new().await;
    let alice = world.create_session("alice", json!({})).await;
    let bob = world.create_session("bob", json!({})).await;
    world.operator().until_metric("okid_live_verifications", |live| live == 2.0).await;
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.status_or_default().settled).await;
    world.operator().until_metric("okid_live_verifications", |live| live == 1.0).await;
    let polls = world.polls_of(&alice);
    world.delete("alice").await;
    world.until_polled(&bob, 2).await;
    assert_eq!(world.polls_of(&alice), polls);

    // Another verification may use the name.
    let again = world.create_session("alice", json!({})).await;
    assert_ne!(again, alice);
    for id in [&again, &bob] {
        world.sandbox().finish(id, Verdict::Verified).unwrap();
    }
    for name in ["alice", "bob"] {
        world.until(name, |seen| seen.status_or_default().settled).await;
    }
    world.operator().until_metric("okid_live_verifications", |live| live == 0.0).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_new_reconcile_request_causes_one_poll_and_is_echoed() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({"polling": {"maxInterval": "1h"}})).await;
    // A review is polled each minute.
    world.sandbox().finish(&id, Verdict::NeedsManualReview).unwrap();
    world.annotate("alice", RECONCILE_REQUESTED_AT, "to begin with").await;
    world.until("alice", |seen| seen.phase() == Some(Phase::InReview)).await;
    for token in ["first", "second", "third"] {
        let before = world.polls_of(&id);
        world.annotate("alice", RECONCILE_REQUESTED_AT, token).await;
        // The second request comes less than a second after the poll of the first. It is delayed, not dropped.
        let echoed = |seen: &Verification| {
            seen.status_or_default().last_handled_reconcile_at.as_deref() == Some(token)
        };
        world.until("alice", echoed).await;
        world.until_portal("the poll", |world| world.polls_of(&id) > before).await;
        assert_eq!(world.polls_of(&id), before + 1, "{token}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconcile_request_outlasts_a_pause() {
    let world = World::new().await;
    let alice = world.create_session("alice", polls_on_request()).await;
    world.create_session("bob", json!({})).await;
    let busy = Action::retry_after(429, RetryAfter::Seconds(6));
    let busy = world.sandbox().inject(Fault::new(Call::Details, busy).once());
    world.until_portal("the pause", |world| world.sandbox().hits(busy) == 1).await;
    world.annotate("alice", RECONCILE_REQUESTED_AT, "now").await;
    let echoed =
        |seen: &Verification| seen.status_or_default().last_handled_reconcile_at.as_deref() == Some("now");
    world.until("alice", echoed).await;
    world.until_portal("a poll", |world| world.polls_of(&alice) >= 1).await;
    let calls = world.sandbox().requests();
    let hit = calls.iter().find(|call| call.fault == Some(busy)).unwrap();
    let first =
        calls.iter().find(|call| call.endpoint == Endpoint::Details && call.session.as_ref() == Some(&alice));
    let pause = first.unwrap().since_start.saturating_sub(hit.since_start);
    assert!(pause >= Duration::from_secs(6), "the pause applies to every resource: {pause:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_contradicts_itself_is_left_to_a_person() {
    let mut world = World::builder().without_secret().start().await;
    world.apply("alice", json!({})).await;
    world.until("alice", |seen| seen.shows(&["CredentialsReady=False/SecretNotFound"])).await;
    world.patch_status("alice", json!({"session": {"attempt": 1, "state": "Created"}})).await;
    let unreadable = world.until("alice", |seen| seen.shows(&["Stalled=True/StatusUnreadable"])).await;
    assert!(unreadable.shows(&["Reconciling=", "Finished=False/Running", "Verified=Unknown/NotFinished"]));
    world.until_event("alice", "StatusUnreadable").await;

    let key = world.key.clone();
    world.secret(SECRET, &key).await;
    let bob = world.create_session("bob", json!({})).await;
    world.until_polled(&bob, 2).await;
    assert_eq!(world.creates(), 1, "bob's: a contradictory status creates no session");

    // A person corrects it.
    world.patch_status("alice", json!({"session": {"state": "NotCreated"}})).await;
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert_eq!(invited.session().attempt, 2);
    assert!(invited.shows(&["Stalled=", "Reconciling=True/AwaitingUser"]));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_write_to_an_open_status_is_corrected() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let before = world.get("alice").await.status_or_default();
    world
        .patch_status(
            "alice",
            json!({"phase": "Verified", "portalUrl": "https://example.com", "conditions": null}),
        )
        .await;
    let righted = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(righted.shows(&["Ready=False/AwaitingUser", "Verified=Unknown/NotFinished"]));
    assert_eq!(righted.status_or_default().portal_url, before.portal_url);
    assert_eq!((righted.id(), righted.status_or_default().outcome), (Some(id), None));
    world.finish().await;
}
