//! Whose clock counts: the API server's for status and deadlines, the portal's for the end of its sessions, and never
//! that of the machine that the operator runs on.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::harness::{Launch, Seen as _, World};

/// A world whose operator runs on a machine whose clock is so many seconds ahead.
async fn skewed(seconds: i64) -> World {
    World::builder().launch(Launch::new().env("OKID_CLOCK_SKEW", seconds.to_string())).start().await
}

fn assert_about(time: Timestamp, expected: Timestamp) {
    assert!(time.duration_since(expected).abs() < SignedDuration::from_mins(2), "{time} {expected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_in_status_and_deadlines_go_by_the_api_servers_clock() {
    for skew in [5400, -5400] {
        let world = skewed(skew).await;
        // By the machine's clock the one deadline is over before it begins, and the other one never comes.
        world.invite("alice", json!({"activeDeadline": "1h"})).await;
        world.apply("bob", json!({"activeDeadline": "1s"})).await;
        let over = world.until("bob", |seen| seen.found().settled).await;
        let alice = world.get("alice").await;
        let born = |seen: &okid_operator::api::Verification| {
            seen.metadata.creation_timestamp.as_ref().expect("it was created").0
        };
        assert_about(over.found().finished_at.unwrap(), born(&over));
        let session = alice.session();
        for written in [session.claimed_at, session.created_at] {
            assert_about(written.unwrap(), born(&alice));
        }
        for shown in alice.found().conditions {
            assert_about(shown.last_transition_time, born(&alice));
        }
        assert_eq!(alice.found().outcome, None);
        let measured = world.operator().metric("okid_api_server_clock_skew_seconds").await;
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        let expected = -(skew as f64);
        assert!((measured - expected).abs() < 60.0, "{measured}");
        world.finish().await;
    }
}
