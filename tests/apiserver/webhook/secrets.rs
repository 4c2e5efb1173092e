//! Secrets of webhooks that are rotated, revoked, or missing.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{OTHER_SECRET, SECRET, address, body_of, call, launch, notify, secrets_file, sign, world};
use crate::harness::{World, holds, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_rotated_without_a_restart_and_without_a_gap() {
    let world = world().await;
    let address = address(world.operator()).await;
    let file = secrets_file(world.folder());
    let accepts = async |secret: &str| {
        let body = body_of("ver_unknown");
        let signature = sign(secret, &body);
        call(&address, body, Some(&signature)).await == StatusCode::ACCEPTED
    };
    assert!(accepts(SECRET).await && !accepts(OTHER_SECRET).await);
    let report = |()| format!("the new secret is not accepted:\n{}", world.operator().log_tail());
    std::fs::write(&file, format!("{SECRET}\n{OTHER_SECRET}\n")).unwrap();
    until(async || holds(accepts(OTHER_SECRET).await), report).await;
    assert!(accepts(SECRET).await);
    std::fs::write(&file, OTHER_SECRET).unwrap();
    let report = |()| "the old secret is still accepted".to_owned();
    until(async || holds(!accepts(SECRET).await), report).await;

    // A file that cannot be used changes nothing.
    std::fs::write(&file, "short").unwrap();
    let is_refused =
        |line: &Value| line["error"].as_str().is_some_and(|error| error.contains("not a secret"));
    world.operator().until_logged("the refusal", is_refused).await;
    assert!(accepts(OTHER_SECRET).await);
    let log = world.operator().log();
    assert!(!log.contains(SECRET) && !log.contains(OTHER_SECRET) && !log.contains("ver_unknown"), "{log}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_starts_without_the_secrets_of_a_name_and_an_empty_file_revokes_them() {
    let mut world = World::builder().without_operator().start().await;
    let launch = launch(world.folder());
    let file = secrets_file(world.folder());
    std::fs::remove_file(&file).unwrap();
    world.start(launch).await;
    let address = address(world.operator()).await;
    let id = world.create_session("alice", json!({"polling": {"minInterval": "1h"}})).await;
    let is_warning = |line: &Value| {
        line["message"].as_str().is_some_and(|said| said.starts_with("a webhook has no secrets"))
            && line["cause"].is_string()
    };
    world.operator().until_logged("that there are no secrets", is_warning).await;
    assert_eq!(notify(&address, &id).await, StatusCode::UNAUTHORIZED);
    std::fs::write(&file, SECRET).unwrap();
    let is = async |expected: StatusCode| holds(notify(&address, &id).await == expected);
    until(async || is(StatusCode::ACCEPTED).await, |()| "the secret is not accepted".to_owned()).await;
    world.until_portal("the poll", |world| world.polls_of(&id) == 1).await;
    std::fs::write(&file, "").unwrap();
    until(async || is(StatusCode::UNAUTHORIZED).await, |()| "the secret is still accepted".to_owned()).await;
    world.finish().await;
}
