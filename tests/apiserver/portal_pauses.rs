//! A portal that asks for a pause: `Retry-After` with 429 or 503.

use std::time::Duration;

use okid_operator::api::{Phase, SessionState};
use okid_sandbox::{Action, Call, Endpoint, Fault, RetryAfter, Verdict};
use serde_json::json;

use crate::harness::{VerificationExt as _, World};

/// Checks that after a create with Retry-After no create with the same key arrives before that time.
async fn no_create_during_a_pause(after: RetryAfter, at_least: Duration) {
    let world = World::new().await;
    world.sandbox().inject(Fault::new(Call::Create, Action::retry_after(429, after)).once());
    world.apply("alice", json!({})).await;
    world.until_portal("the first create", |world| world.creates() == 1).await;
    world.apply("bob", json!({})).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    world.until("bob", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    let versions = world.versions("alice");
    let refused = versions.iter().find(|seen| seen.state() == Some(SessionState::NotCreated)).unwrap();
    assert!(refused.shows(&[
        "Ready=False/RateLimited",
        "Reconciling=True/RateLimited",
        "SessionCreated=False/Refused"
    ]));
    assert_eq!((refused.session().attempt, refused.session().orphans), (1, 0));
    let creates = world.sandbox().creates();
    assert_eq!(creates.len(), 3);
    for create in &creates[1..] {
        let pause = create.since_start.saturating_sub(creates[0].since_start);
        assert!(pause >= at_least, "{pause:?}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_create_is_sent_during_a_pause_in_seconds() {
    no_create_during_a_pause(RetryAfter::Seconds(6), Duration::from_secs(6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_create_is_sent_during_a_pause_until_a_date() {
    no_create_during_a_pause(RetryAfter::Date(8), Duration::from_secs(6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_shows_in_the_metrics_with_its_duration_and_the_number_waiting() {
    let world = World::new().await;
    let shown = |name: &str, state: &str| {
        let url = world.sandbox().url();
        let portal = url.trim_start_matches("http://");
        format!("okid_portal_{name}{{portal=\"{portal}\",state=\"{state}\"}}")
    };
    assert_eq!(world.operator().metric(&shown("closed_seconds", "paused")).await, 0.0);
    let pause = Action::retry_after(429, RetryAfter::Seconds(600));
    world.sandbox().inject(Fault::new(Call::Create, pause).once());
    world.apply("alice", json!({})).await;
    world.until_portal("the first create", |world| world.creates() == 1).await;
    world.apply("bob", json!({})).await;
    let operator = world.operator();
    operator.until_metric(&shown("closed_seconds", "paused"), |left| (1.0..=600.0).contains(&left)).await;
    operator.until_metric(&shown("waiting", "paused"), |waiting| waiting == 2.0).await;
    for state in ["breaker_open", "key_rejected"] {
        assert_eq!(operator.metric(&shown("closed_seconds", state)).await, 0.0, "{state}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_503_with_retry_after_is_a_pause_and_leaves_no_orphan() {
    let world = World::new().await;
    let busy = Action::retry_after(503, RetryAfter::Seconds(4));
    world.sandbox().inject(Fault::new(Call::Create, busy).once());
    let id = world.create_session("alice", json!({})).await;
    let session = world.get("alice").await.session();
    assert_eq!((session.attempt, session.orphans), (2, 0));
    assert_eq!(world.sandbox().sessions().len(), 1);
    assert_eq!(world.sandbox().sessions()[0].id, id);
    world.until_events("alice", &["RateLimited", "SessionCreated"]).await;
    world.finish().await;
}

/// A Retry-After with a date in the past.
fn date_in_the_past() -> RetryAfter {
    RetryAfter::Text("Mon, 01 Jan 2024 12:00:00 GMT".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_zero_seconds_allows_one_create_in_five_seconds_and_later_fewer() {
    for (status, after) in [(429, RetryAfter::Seconds(0)), (503, date_in_the_past())] {
        let world = World::new().await;
        let busy = Fault::new(Call::Create, Action::retry_after(status, after.clone())).times(2);
        world.sandbox().inject(busy);
        world.create_session("alice", json!({})).await;
        let session = world.get("alice").await.session();
        assert_eq!((session.attempt, session.orphans), (3, 0), "{after:?}");
        let at: Vec<_> = world.sandbox().creates().iter().map(|create| create.since_start).collect();
        let pauses: Vec<_> = at.windows(2).map(|two| two[1].saturating_sub(two[0])).collect();
        assert_eq!(pauses.len(), 2, "{after:?}");
        assert!(pauses[0] >= Duration::from_secs(5) && pauses[1] >= Duration::from_secs(10), "{pauses:?}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_poll_is_sent_during_a_pause_of_zero_seconds() {
    no_poll_during_a_pause(429, RetryAfter::Seconds(0), Duration::from_secs(5)).await;
    no_poll_during_a_pause(503, date_in_the_past(), Duration::from_secs(5)).await;
}

/// Checks that after a poll with Retry-After no poll arrives before that time, and nothing is written.
async fn no_poll_during_a_pause(status: u16, after: RetryAfter, at_least: Duration) {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let before = world.resource_version("alice").await;
    let busy = world.sandbox().inject(Fault::new(Call::Details, Action::retry_after(status, after)).once());
    world.until_portal("the pause", |world| world.sandbox().hits(busy) == 1).await;
    world.until_polled(&id, 2).await;
    let calls = world.sandbox().requests();
    let polls: Vec<_> = calls.iter().filter(|call| call.endpoint == Endpoint::Details).collect();
    let hit = polls.iter().position(|call| call.fault == Some(busy)).unwrap();
    let pause = polls[hit + 1].since_start.saturating_sub(polls[hit].since_start);
    assert!(pause >= at_least, "{pause:?}");
    assert_eq!(world.resource_version("alice").await, before, "a short pause is not written to status");
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_poll_is_sent_during_a_pause_in_seconds() {
    no_poll_during_a_pause(429, RetryAfter::Seconds(6), Duration::from_secs(6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_poll_is_sent_during_a_pause_until_a_date() {
    no_poll_during_a_pause(503, RetryAfter::Date(8), Duration::from_secs(6)).await;
}
