//! Which clock counts: the API server's for status and deadlines, the portal's for the expiry of its sessions, and never
//! that of the operator's own machine.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use okid_operator::api::{Phase, Verification};
use okid_sandbox::{Action, Call, Fault, Verdict};
use serde_json::{Value, json};

use crate::harness::{Launch, VerificationExt as _, World};

/// A world whose operator runs on a machine with a clock that is ahead by that many seconds.
async fn skewed(seconds: i64) -> World {
    World::builder().launch(Launch::new().env("OKID_CLOCK_SKEW", seconds.to_string())).start().await
}

fn assert_about(time: Timestamp, expected: Timestamp) {
    assert!(time.duration_since(expected).abs() < SignedDuration::from_mins(2), "{time} {expected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_in_status_and_deadlines_follow_the_api_servers_clock() {
    for skew in [5400, -5400] {
        let world = skewed(skew).await;
        // By the machine's clock one deadline has passed from the start and the other one never passes.
        world.create_session("alice", json!({"activeDeadline": "1h"})).await;
        world.apply("bob", json!({"activeDeadline": "1s"})).await;
        let finished = world.until("bob", |seen| seen.status_or_default().settled).await;
        let alice = world.get("alice").await;
        let created_at =
            |seen: &Verification| seen.metadata.creation_timestamp.as_ref().expect("it was created").0;
        assert_about(finished.status_or_default().finished_at.unwrap(), created_at(&finished));
        let session = alice.session();
        for written in [session.claimed_at, session.created_at] {
            assert_about(written.unwrap(), created_at(&alice));
        }
        for shown in alice.status_or_default().conditions {
            assert_about(shown.last_transition_time, created_at(&alice));
        }
        assert_eq!(alice.status_or_default().outcome, None);
        let measured = world.operator().metric("okid_api_server_clock_skew_seconds").await;
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        let expected = -(skew as f64);
        assert!((measured - expected).abs() < 60.0, "{measured}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expiry_before_the_creation_of_the_session_is_ignored() {
    let world = World::new().await;
    let local_time_as_utc = (Timestamp::now() - SignedDuration::from_mins(90)).to_string();
    let set = Action::set("/expiresAt", json!(local_time_as_utc));
    world.sandbox().inject(Fault::new(Call::Create, set).once().after());
    let id = world.create_session("alice", json!({})).await;
    world.until_event("alice", "ExpiryUnusable").await;
    world.until_polled(&id, 5).await;
    let alive = world.get("alice").await.status_or_default();
    assert_eq!((alive.expires_at, alive.outcome), (None, None));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_expires_by_the_portals_clock_and_not_by_the_machines() {
    let world = skewed(4 * 3600).await;
    let id = world.create_session("alice", json!({})).await;
    world.until_polled(&id, 5).await;
    assert_eq!(
        world.get("alice").await.status_or_default().outcome,
        None,
        "by the machine's clock it expired hours ago"
    );

    world.advance_clock(Duration::from_hours(2));
    let finished = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!(finished.phase(), Some(Phase::Expired));
    world.until_event("alice", "ExpiredByClock").await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_with_a_different_clock_shows_in_a_metric_and_is_logged_once() {
    let world = World::new().await;
    world.sandbox().advance(Duration::from_mins(10));
    let id = world.create_session("alice", json!({})).await;
    world.until_polled(&id, 5).await;
    let host = world.sandbox().url().trim_start_matches("http://").to_owned();
    let skew = format!("okid_portal_clock_skew_seconds{{portal=\"{host}\"}}");
    world.operator().until_metric(&skew, |seconds| (590.0..=610.0).contains(&seconds)).await;
    let reports_skew =
        |line: &&Value| line["portal"] == world.sandbox().url() && line["ahead_seconds"].is_i64();
    let lines = world.operator().log_lines();
    assert_eq!(lines.iter().filter(reports_skew).count(), 1, "{lines:?}");
    world.finish().await;
}
