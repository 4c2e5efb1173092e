//! A check from apply to the verdict.

use std::time::Duration;

use okid_operator::api::{Outcome, Phase, SessionState, Verification};
use okid_sandbox::Verdict;
use serde_json::json;

use crate::harness::{Launch, VerificationExt as _, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_completes_the_check_is_verified() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let invited = world.get("alice").await;
    assert_eq!(world.sandbox().sessions()[0].id, id);
    assert!(invited.shows(&[
        "Ready=False/AwaitingUser",
        "Reconciling=True/AwaitingUser",
        "Stalled=",
        "CredentialsReady=True/Accepted",
        "SessionCreated=True/Created",
        "Finished=False/Running",
        "Verified=Unknown/NotFinished",
    ]));
    let session = invited.session();
    assert_eq!((session.attempt, session.orphans, session.state), (1, 0, Some(SessionState::Created)));
    assert_eq!(session.uid, invited.metadata.uid);
    assert_eq!(
        session.portal.as_deref().map(|portal| portal.trim_end_matches('/')),
        Some(&*world.sandbox().url())
    );
    let found = invited.status_or_default();
    assert_eq!(found.flow, ["terms", "document", "liveness", "form_data"]);
    let promised = world.sandbox().sessions()[0].expires_at;
    assert_eq!(found.expires_at.unwrap().as_second(), promised.as_second());

    world.sandbox().open(&id).unwrap();
    let begun = world.until("alice", |seen| seen.phase() == Some(Phase::InProgress)).await;
    assert!(begun.shows(&[
        "Ready=False/InProgress",
        "Reconciling=True/InProgress",
        "Verified=Unknown/NotFinished"
    ]));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert!(over.shows(&[
        "Ready=True/Verified",
        "Reconciling=",
        "Stalled=",
        "Finished=True/Verified",
        "Verified=True/Verified",
    ]));
    assert_eq!(
        (over.phase(), over.status_or_default().outcome),
        (Some(Phase::Verified), Some(Outcome::Verified))
    );
    assert!(over.status_or_default().finished_at.is_some());
    assert_eq!(over.id().unwrap(), id);
    assert_eq!(
        world.distinct_values("alice", Verification::phase),
        [
            None,
            Some(Phase::Creating),
            Some(Phase::AwaitingUser),
            Some(Phase::InProgress),
            Some(Phase::Verified)
        ]
    );
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_is_rejected_is_not_verified() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    world.sandbox().finish(&id, Verdict::Rejected).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert!(over.shows(&[
        "Ready=False/Rejected",
        "Reconciling=",
        "Stalled=True/Rejected",
        "Finished=True/Rejected",
        "Verified=False/Rejected",
    ]));
    assert_eq!(
        (over.phase(), over.status_or_default().outcome),
        (Some(Phase::Rejected), Some(Outcome::Rejected))
    );
    world.until_event("alice", "Rejected").await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_portal_reports_as_expired_is_finished() {
    let world = World::new().await;
    world.create_session("alice", json!({})).await;
    world.sandbox().advance(Duration::from_mins(61));
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert!(over.shows(&[
        "Ready=False/Expired",
        "Stalled=True/Expired",
        "Finished=True/Expired",
        "Verified=False/Expired",
    ]));
    assert_eq!(
        (over.phase(), over.status_or_default().outcome),
        (Some(Phase::Expired), Some(Outcome::Expired))
    );
    world.until_event("alice", "Expired").await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phase_follows_the_portal_into_processing_and_review() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    for module in ["terms", "document", "liveness", "form_data"] {
        world.sandbox().complete(&id, module).unwrap();
    }
    let given = world.until("alice", |seen| seen.phase() == Some(Phase::Processing)).await;
    assert!(given.shows(&["Ready=False/InProgress", "Reconciling=True/InProgress"]));
    world.sandbox().decide(&id, Verdict::NeedsManualReview).unwrap();
    let reviewed = world.until("alice", |seen| seen.phase() == Some(Phase::InReview)).await;
    assert!(reviewed.shows(&["Ready=False/InReview", "Reconciling=True/InReview", "Finished=False/Running"]));
    assert_eq!(reviewed.status_or_default().portal_status.as_deref(), Some("needs_manual_review"));
    world.sandbox().decide(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_follows_the_mode_even_after_an_edit() {
    let world = World::new().await;
    let alice = world.create_session("alice", json!({})).await;
    let bob = world.create_session("bob", json!({"mode": "Select"})).await;
    let direct = |id: &str| Some(format!("{}/?verification_id={id}", world.sandbox().url()));
    let select = |id: &str| Some(format!("{}/?verification_id={id}&mode=select", world.sandbox().url()));
    assert_eq!(world.get("alice").await.status_or_default().portal_url, direct(&alice));
    assert_eq!(world.get("bob").await.status_or_default().portal_url, select(&bob));

    world.patch_spec("alice", json!({"mode": "Select"})).await;
    world.until("alice", |seen| seen.status_or_default().portal_url == select(&alice)).await;
    world.patch_spec("alice", json!({"mode": "Direct"})).await;
    let edited = world.until("alice", |seen| seen.status_or_default().portal_url == direct(&alice)).await;
    assert_eq!(edited.status_or_default().observed_generation, Some(3));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_shown_by_module_and_as_a_summary() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    world.sandbox().complete(&id, "terms").unwrap();
    world.sandbox().complete(&id, "document").unwrap();
    let first = world
        .until("alice", |seen| seen.status_or_default().progress_summary.as_deref() == Some("1/3"))
        .await;
    let progress = first.status_or_default().progress;
    assert_eq!(progress.get("document").map(String::as_str), Some("completed"));
    assert_eq!(progress.get("liveness").map(String::as_str), Some("pending"));
    assert_eq!(progress.get("terms"), None, "the portal does not report on terms");
    world.sandbox().complete(&id, "liveness").unwrap();
    let second = world
        .until("alice", |seen| seen.status_or_default().progress_summary.as_deref() == Some("2/3"))
        .await;
    assert_eq!(second.status_or_default().progress.get("liveness").map(String::as_str), Some("completed"));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!(over.status_or_default().progress_summary.as_deref(), Some("3/3"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_ready_when_session_created_ready_is_true_from_the_link_on() {
    let world = World::new().await;
    let spec = json!({"readyWhen": "SessionCreated"});
    let id = world.create_session("alice", spec).await;
    let invited = world.get("alice").await;
    assert!(invited.shows(&[
        "Ready=True/SessionCreated",
        "Reconciling=",
        "Stalled=",
        "Finished=False/Running"
    ]));
    world.sandbox().finish(&id, Verdict::Rejected).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert!(over.shows(&["Ready=True/Finished", "Reconciling=", "Stalled=", "Verified=False/Rejected"]));

    let ready = world.distinct_values("alice", |seen| seen.condition("Ready"));
    let expected = [None, Some("False/CreatingSession"), Some("True/SessionCreated"), Some("True/Finished")];
    assert_eq!(ready.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_operator_starts_status_is_behind_the_generation() {
    let mut world = World::builder().without_operator().start().await;
    let applied = world.apply("alice", json!({})).await;
    assert_eq!(applied.status_or_default().observed_generation, Some(-1));
    assert!(applied.status_or_default().conditions.is_empty());
    world.start(Launch::new()).await;
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert_eq!(invited.status_or_default().observed_generation, invited.metadata.generation);
    world.finish().await;
}
