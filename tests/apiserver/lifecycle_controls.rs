//! What people do to a verification: suspend, adopt, limit, nudge, delete, and write where they should not.

use std::time::Duration;

use okid_operator::api::{Outcome, Phase, RECONCILE_REQUESTED_AT, SessionState, Verification};
use okid_sandbox::{Action, Call, Endpoint, Fault, RetryAfter, Verdict};
use serde_json::{Value, json};

use crate::harness::{SECRET, Seen as _, World};

/// Looks that come only when somebody asks for them.
fn seldom() -> serde_json::Value {
    json!({"polling": {"minInterval": "1h", "maxInterval": "1h"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_verification_is_not_looked_at_until_it_is_resumed() {
    let world = World::new().await;
    let alice = world.invite("alice", json!({})).await;
    let bob = world.invite("bob", json!({})).await;
    world.patch_spec("alice", json!({"suspend": true})).await;
    let suspended = world.until("alice", |seen| seen.shows(&["Ready=False/Suspended"])).await;
    assert!(suspended.shows(&["Reconciling=", "Stalled=", "Finished=False/Running"]));
    assert_eq!(suspended.phase(), Some(Phase::AwaitingUser));
    let looks = world.looks_at(&alice);
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    world.until_looked_at(&bob, 4).await;
    assert_eq!(world.looks_at(&alice), looks);
    assert_eq!(world.get("alice").await.found().outcome, None);

    world.patch_spec("alice", json!({"suspend": false})).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_that_is_born_suspended_asks_for_no_session_until_it_is_resumed() {
    let world = World::new().await;
    world.apply("alice", json!({"suspend": true, "activeDeadline": "1s"})).await;
    let suspended = world.until("alice", |seen| seen.shows(&["Ready=False/Suspended"])).await;
    assert!(suspended.shows(&["Reconciling=", "Stalled=", "SessionCreated=False/NotYet"]));
    assert_eq!((suspended.phase(), suspended.session().attempt), (Some(Phase::Pending), 0));
    let bob = world.invite("bob", json!({})).await;
    world.until_looked_at(&bob, 2).await;
    assert_eq!(world.creates(), 1, "bob's");
    assert_eq!(world.get("alice").await.found().outcome, None, "nothing ends by the clock while suspended");

    world.patch_spec("alice", json!({"suspend": false, "activeDeadline": "1h"})).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_is_suspended_on_the_way_is_recorded_and_then_nothing_moves() {
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
    let bob = world.invite("bob", json!({})).await;
    world.until_looked_at(&bob, 3).await;
    assert_eq!(world.looks_at(&alice), 0);
    world.patch_spec("alice", json!({"suspend": false})).await;
    world.until_looked_at(&alice, 1).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_arrives_after_the_suspension_waits_for_the_resumption() {
    let world = World::new().await;
    let id = world.invite("alice", json!({})).await;
    let hanging = world.sandbox().inject(Fault::new(Call::Details, Action::Hang).once());
    world.until_portal("a look", |world| world.sandbox().hits(hanging) == 1).await;
    world.patch_spec("alice", json!({"suspend": true})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.sandbox().clear(hanging);
    let suspended = world.until("alice", |seen| seen.shows(&["Ready=False/Suspended"])).await;
    assert_eq!((suspended.phase(), suspended.found().outcome), (Some(Phase::AwaitingUser), None));
    world.patch_spec("alice", json!({"suspend": false})).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_exists_is_adopted_and_followed() {
    let world = World::new().await;
    let id = world.sandbox().seed(1).remove(0);
    world.apply("alice", json!({"adopt": {"verificationId": id}})).await;
    let adopted = world.until("alice", |seen| seen.id().is_some()).await;
    assert_eq!((adopted.id().as_ref(), adopted.state()), (Some(&id), Some(SessionState::Adopted)));
    assert!(adopted.shows(&["SessionCreated=True/Adopted", "CredentialsReady=True/Accepted"]));
    assert_eq!(adopted.phase(), Some(Phase::AwaitingUser));
    assert_eq!(adopted.session().attempt, 0);
    assert!(adopted.found().portal_url.is_some_and(|link| link.ends_with(&id)));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.until_events("alice", &["SessionAdopted", "Verified"]).await;
    assert_eq!(world.creates(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_to_adopt_that_nobody_knows_is_neither_published_nor_replaced() {
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
    world.invite("alice", json!({"activeDeadline": "10m"})).await;
    let nobody = json!({"apiKeySecretRef": {"name": "nobody-made-it"}, "activeDeadline": "10m"});
    world.apply("bob", nobody).await;
    world.until("bob", |seen| seen.shows(&["CredentialsReady=False/SecretNotFound"])).await;
    world.turn_clock(Duration::from_mins(10));
    for name in ["alice", "bob"] {
        let over = world.until(name, |seen| seen.found().settled).await;
        assert!(over.shows(&[
            "Ready=False/Failed",
            "Reconciling=",
            "Stalled=True/DeadlineExceeded",
            "Finished=True/Failed",
            "Verified=False/Failed",
        ]));
        assert_eq!((over.phase(), over.found().outcome), (Some(Phase::Failed), Some(Outcome::Failed)));
        assert!(over.found().finished_at.is_some());
        world.until_event(name, "DeadlineExceeded").await;
    }
    assert!(world.get("alice").await.id().is_some(), "the link was published before");
    assert_eq!(world.creates(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_is_there_at_the_deadline_counts() {
    let world = World::new().await;
    let mut spec = seldom();
    spec["activeDeadline"] = json!("10m");
    let id = world.invite("alice", spec).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.turn_clock(Duration::from_mins(10));
    // It waits for its deadline by a clock that is not turned; this wakes it, and asks for no look.
    world.annotate("alice", "example.com/wakes", "it").await;
    let over = world.until("alice", |seen| seen.found().settled).await;
    assert_eq!(over.phase(), Some(Phase::Verified));
    assert_eq!(world.looks_at(&id), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_is_brought_forward_counts_at_once() {
    let world = World::new().await;
    let id = world.invite("alice", seldom()).await;
    world.patch_spec("alice", json!({"activeDeadline": "1s"})).await;
    let over = world.until("alice", |seen| seen.found().settled).await;
    assert_eq!(over.phase(), Some(Phase::Failed));
    assert_eq!(world.looks_at(&id), 1, "the portal has the last word");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_can_be_deleted_in_every_phase() {
    let world = World::new().await;
    world.apply("pending", json!({"apiKeySecretRef": {"name": "nobody-made-it"}})).await;
    world.until("pending", |seen| seen.shows(&["CredentialsReady=False/SecretNotFound"])).await;
    world.invite("waiting", json!({})).await;
    let begun = world.invite("begun", json!({})).await;
    world.sandbox().open(&begun).unwrap();
    world.until("begun", |seen| seen.phase() == Some(Phase::InProgress)).await;
    let reviewed = world.invite("reviewed", json!({})).await;
    world.sandbox().finish(&reviewed, Verdict::NeedsManualReview).unwrap();
    world.until("reviewed", |seen| seen.phase() == Some(Phase::InReview)).await;
    let validated = world.invite("validated", json!({})).await;
    world.sandbox().set_status(&validated, "validating").unwrap();
    world.until("validated", |seen| seen.phase() == Some(Phase::Processing)).await;
    for (name, verdict) in [("rejected", Verdict::Rejected), ("expired", Verdict::Expired)] {
        let id = world.invite(name, json!({})).await;
        world.sandbox().finish(&id, verdict).unwrap();
    }
    world.apply("failed", json!({"activeDeadline": "1s"})).await;
    for (name, phase) in
        [("rejected", Phase::Rejected), ("expired", Phase::Expired), ("failed", Phase::Failed)]
    {
        let over = world.until(name, |seen| seen.found().settled).await;
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

    // The create that was under way makes a session that belongs to nobody, and that is told.
    world.sandbox().clear(hanging);
    world.operator().until_metric("okid_orphan_sessions_total", |orphans| orphans == 1.0).await;
    for about in [&world.namespace, "creating"] {
        world.until_event(about, "OrphanSession").await;
    }
    let told = |line: &Value| line["message"] == "the portal holds a session that no resource publishes";
    let told = world.operator().until_logged("the orphan", told).await;
    assert_eq!((&told["namespace"], &told["name"]), (&json!(world.namespace), &json!("creating")));
    assert!(world.operator().ready().await);
    world.invite("another", json!({})).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_about_a_deleted_verification_is_not_written_into_its_namesake() {
    let world = World::new().await;
    let first = world.invite("alice", json!({})).await;
    let hanging = world.sandbox().inject(Fault::new(Call::Details, Action::Hang).session(&first));
    world.until_portal("a look", |world| world.sandbox().hits(hanging) == 1).await;
    world.delete("alice").await;
    let second = world.invite("alice", json!({})).await;
    assert_ne!(first, second);
    world.sandbox().finish(&first, Verdict::Rejected).unwrap();
    world.sandbox().clear(hanging);
    let answered = |world: &World| {
        world.sandbox().requests().iter().any(|call| call.fault == Some(hanging) && call.status == Some(200))
    };
    world.until_portal("the answer", answered).await;
    world.until_looked_at(&second, 2).await;
    let seen = world.get("alice").await;
    assert_eq!((seen.id(), seen.phase()), (Some(second), Some(Phase::AwaitingUser)));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_looks_that_find_nothing_new_write_nothing() {
    let world = World::new().await;
    let id = world.invite("alice", json!({})).await;
    world.until_looked_at(&id, 1).await;
    let before = world.resource_version("alice").await;
    let writes = world.operator().metric("okid_status_writes_total").await;
    for _ in 0..5 {
        world.until_looked_at(&id, 10).await;
    }
    assert_eq!(world.resource_version("alice").await, before);
    assert_eq!(world.operator().metric("okid_status_writes_total").await, writes);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_is_forgotten_and_its_deletion_disturbs_nobody() {
    let world = World::new().await;
    let alice = world.invite("alice", json!({})).await;
    let bob = world.invite("bob", json!({})).await;
    world.operator().until_metric("okid_live_verifications", |live| live == 2.0).await;
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.found().settled).await;
    world.operator().until_metric("okid_live_verifications", |live| live == 1.0).await;
    let looks = world.looks_at(&alice);
    world.delete("alice").await;
    world.until_looked_at(&bob, 2).await;
    assert_eq!(world.looks_at(&alice), looks);

    // The name is free for a verification of its own.
    let again = world.invite("alice", json!({})).await;
    assert_ne!(again, alice);
    for id in [&again, &bob] {
        world.sandbox().finish(id, Verdict::Verified).unwrap();
    }
    for name in ["alice", "bob"] {
        world.until(name, |seen| seen.found().settled).await;
    }
    world.operator().until_metric("okid_live_verifications", |live| live == 0.0).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_new_request_to_reconcile_brings_a_look_forward_and_is_echoed() {
    let world = World::new().await;
    let id = world.invite("alice", json!({"polling": {"maxInterval": "1h"}})).await;
    // A review is looked at each minute.
    world.sandbox().finish(&id, Verdict::NeedsManualReview).unwrap();
    world.annotate("alice", RECONCILE_REQUESTED_AT, "to begin with").await;
    world.until("alice", |seen| seen.phase() == Some(Phase::InReview)).await;
    for token in ["first", "second", "third"] {
        let before = world.looks_at(&id);
        world.annotate("alice", RECONCILE_REQUESTED_AT, token).await;
        // The second comes less than a second after the look of the first, and is put off, not dropped.
        let echoed = |seen: &Verification| seen.found().last_handled_reconcile_at.as_deref() == Some(token);
        world.until("alice", echoed).await;
        world.until_portal("the look", |world| world.looks_at(&id) > before).await;
        assert_eq!(world.looks_at(&id), before + 1, "{token}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_reconcile_outlasts_a_pause() {
    let world = World::new().await;
    let alice = world.invite("alice", seldom()).await;
    world.invite("bob", json!({})).await;
    let busy = Action::retry_after(429, RetryAfter::Seconds(6));
    let busy = world.sandbox().inject(Fault::new(Call::Details, busy).once());
    world.until_portal("the pause", |world| world.sandbox().hits(busy) == 1).await;
    world.annotate("alice", RECONCILE_REQUESTED_AT, "now").await;
    let echoed = |seen: &Verification| seen.found().last_handled_reconcile_at.as_deref() == Some("now");
    world.until("alice", echoed).await;
    world.until_portal("a look", |world| world.looks_at(&alice) >= 1).await;
    let calls = world.sandbox().requests();
    let struck = calls.iter().find(|call| call.fault == Some(busy)).unwrap();
    let first =
        calls.iter().find(|call| call.endpoint == Endpoint::Details && call.session.as_ref() == Some(&alice));
    let pause = first.unwrap().since_start.saturating_sub(struck.since_start);
    assert!(pause >= Duration::from_secs(6), "the pause holds for everybody: {pause:?}");
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
    let bob = world.invite("bob", json!({})).await;
    world.until_looked_at(&bob, 2).await;
    assert_eq!(world.creates(), 1, "bob's: nonsense is no reason to ask for a session");

    // A person puts it right.
    world.patch_status("alice", json!({"session": {"state": "NotCreated"}})).await;
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert_eq!(invited.session().attempt, 2);
    assert!(invited.shows(&["Stalled=", "Reconciling=True/AwaitingUser"]));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_writes_into_an_open_status_is_put_right() {
    let world = World::new().await;
    let id = world.invite("alice", json!({})).await;
    let before = world.get("alice").await.found();
    world
        .patch_status(
            "alice",
            json!({"phase": "Verified", "portalUrl": "https://example.com", "conditions": null}),
        )
        .await;
    let righted = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(righted.shows(&["Ready=False/AwaitingUser", "Verified=Unknown/NotFinished"]));
    assert_eq!(righted.found().portal_url, before.portal_url);
    assert_eq!((righted.id(), righted.found().outcome), (Some(id), None));
    world.finish().await;
}
