//! What the operator learns of notifications: how often to poll beside them.

use std::time::Duration;

use okid_operator::api::Phase;
use okid_sandbox::Verdict;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{address, in_review, notify, world};
use crate::harness::{VerificationExt as _, World};

/// The first intervals between polls of a person who has finished are two seconds, give or take a tenth.
const USUAL: Duration = Duration::from_millis(2200);

/// A session whose person has finished, which is announced. Returns its id once status shows that.
async fn finishing(world: &World, address: &str, name: &str) -> String {
    let id = world.create_session(name, json!({"polling": {}})).await;
    for module in ["terms", "document", "liveness", "form_data"] {
        world.sandbox().complete(&id, module).unwrap();
    }
    assert_eq!(notify(address, &id).await, StatusCode::ACCEPTED);
    world.until(name, |seen| seen.phase() == Some(Phase::Processing)).await;
    id
}

/// The shortest time between two of the next three polls of a session.
async fn interval(world: &World, id: &str) -> Duration {
    let known = world.sandbox().requests().len();
    world.until_polled(id, 3).await;
    let polls = world.sandbox().requests().into_iter().skip(known);
    let polls: Vec<_> = polls.filter(|poll| poll.session.as_deref() == Some(id)).collect();
    polls.windows(2).map(|pair| pair[1].since_start.saturating_sub(pair[0].since_start)).min().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announced_verdicts_make_polls_rarer_until_two_come_unannounced() {
    let world = world().await;
    let address = address(world.operator()).await;
    let names = ["alice", "bob", "carol"];
    for (name, id) in names.iter().zip(in_review(&world, &address, &names).await) {
        world.sandbox().decide(&id, Verdict::Verified).unwrap();
        for _ in 0..2 {
            assert_eq!(notify(&address, &id).await, StatusCode::ACCEPTED);
        }
        world.until(name, |seen| seen.phase() == Some(Phase::Verified)).await;
    }
    let [dave, erin] = [finishing(&world, &address, "dave").await, finishing(&world, &address, "erin").await];
    let learned = interval(&world, &dave).await;
    assert!(learned > USUAL, "a poll followed after {learned:?}");

    for (name, id) in [("dave", dave), ("erin", erin)] {
        world.sandbox().decide(&id, Verdict::Verified).unwrap();
        world.until(name, |seen| seen.phase() == Some(Phase::Verified)).await;
    }
    let is_forgotten = |line: &Value| {
        line["message"].as_str().is_some_and(|said| said.starts_with("notifications announce less"))
    };
    world.operator().until_logged("that it polls more often again", is_forgotten).await;
    world.finish().await;
}
