//! What the operator learns of notifications: how often to poll beside them.

use std::time::Duration;

use futures::future::join_all;
use okid_operator::api::Phase;
use okid_sandbox::Verdict;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{address, in_review, notify, world};
use crate::harness::{VerificationExt as _, World, new_key};

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

/// When the last poll of a session arrived.
fn polled_at(world: &World, id: &str) -> Duration {
    let requests = world.sandbox().requests();
    let last = requests.iter().rev().find(|request| request.session.as_deref() == Some(id));
    last.unwrap().since_start
}

/// Notifies about a session, and waits for its poll.
async fn announce(world: &World, address: &str, id: &str) {
    let before = world.polls_of(id);
    assert_eq!(notify(address, id).await, StatusCode::ACCEPTED);
    world.until_portal("the requested poll", |world| world.polls_of(id) > before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_progress_is_announced_a_notification_of_another_session_puts_a_poll_off() {
    let mut world = world().await;
    let key = new_key();
    world.sandbox().add_key(&key);
    world.secret("other", &key).await;
    let address = address(world.operator()).await;
    let names = ["alice", "bob", "carol"];
    for (name, id) in names.iter().zip(in_review(&world, &address, &names).await) {
        world.sandbox().decide(&id, Verdict::Verified).unwrap();
        announce(&world, &address, &id).await;
        world.until(name, |seen| seen.phase() == Some(Phase::Verified)).await;
    }
    let names: Vec<_> = (0..9).map(|number| format!("person-{number}")).collect();
    let ids = join_all(names.iter().map(|name| world.create_session(name, json!({"polling": {}})))).await;
    for id in &ids {
        announce(&world, &address, id).await;
    }
    let (last, others) = ids.split_last().unwrap();
    let (watched, others) = others.split_last().unwrap();
    // Each session may be polled three times at once.
    for module in ["terms", "document"] {
        // A change is one that a later second of the portal's clock shows.
        world.sandbox().advance(Duration::from_secs(1));
        for id in others {
            world.sandbox().complete(id, module).unwrap();
            announce(&world, &address, id).await;
        }
    }

    // Of another key, where nothing is announced: it shows when three seconds have passed.
    let clock = json!({
        "apiKeySecretRef": {"name": "other"}, "polling": {"minInterval": "3s", "maxInterval": "3s"},
    });
    let clock = world.create_session("clock", clock).await;
    announce(&world, &address, &clock).await;
    world.sandbox().advance(Duration::from_secs(1));
    world.sandbox().complete(watched, "document").unwrap();
    announce(&world, &address, watched).await;
    world.until_polled(&clock, 1).await;
    world.sandbox().complete(last, "terms").unwrap();
    announce(&world, &address, last).await;
    let announced = polled_at(&world, last);
    world.until_polled(watched, 1).await;
    let waited = polled_at(&world, watched).saturating_sub(announced);
    // The usual interval is five seconds, give or take half of one.
    assert!(waited > Duration::from_millis(3500), "polled {waited:?} after the notification");
    world.finish().await;
}
