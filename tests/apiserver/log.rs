//! What the log says, and what it does not.

use okid_operator::api::Phase;
use okid_sandbox::{Action, Call, Fault, Verdict};
use serde_json::{Value, json};

use crate::harness::{SECRET, VerificationExt as _, World};
use crate::process::says;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_of_the_log_is_changed_while_the_operator_runs() {
    let world = World::new().await;
    let operator = world.operator();
    let changes =
        || operator.log_lines().iter().filter(|line| says(line, "the verification changed")).count();
    world.create_session("alice", json!({})).await;
    operator.until_logged("the session", |line| line["name"] == "alice").await;
    let before = changes();
    assert_eq!(operator.put("/log-filter", "okid_operator=error").await.status(), 200);
    let is_announced = |line: &Value| line["filter"] == "okid_operator=error" && line["level"] == "WARN";
    operator.until_logged("the change that silences the log", is_announced).await;
    let bob = world.create_session("bob", json!({})).await;
    // The API server shows the session before the operator reports it; the operator polls after that.
    world.until_polled(&bob, 1).await;
    let refused = operator.put("/log-filter", "okid=loudest").await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().starts_with("write a level such as info"));
    assert_eq!(operator.put("/log-filter", "info\n").await.status(), 200);
    operator.until_logged("the change", |line| line["filter"] == "info").await;
    assert_eq!(changes(), before, "bob's session is not in the log");
    world.create_session("carol", json!({})).await;
    operator.until_logged("the session", |line| line["name"] == "carol").await;
    assert!(!operator.log().contains("\"name\":\"bob\""), "{}", operator.log());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_one_line_for_a_change_and_none_for_a_poll() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    world.until_polled(&id, 1).await;
    let before = world.operator().log_lines().len();
    world.until_polled(&id, 5).await;
    assert_eq!(world.operator().log_lines().len(), before);
    world.sandbox().open(&id).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::InProgress)).await;
    world.sandbox().decide(&id, Verdict::Rejected).unwrap();
    world.until("alice", |seen| seen.status_or_default().settled).await;
    let rejected = |line: &Value| line["reason"] == "Rejected";
    world.operator().until_logged("the verdict", rejected).await;

    let lines = world.operator().log_lines();
    assert_eq!(lines.len(), world.operator().log().lines().count(), "every line is JSON");
    let changes: Vec<_> = lines.iter().filter(|line| says(line, "the verification changed")).collect();
    for change in &changes {
        assert_eq!((&change["level"], &change["name"]), (&json!("INFO"), &json!("alice")));
        assert_eq!(change["namespace"], world.namespace.as_str());
    }
    let phases: Vec<_> = changes.iter().map(|line| line["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["AwaitingUser", "InProgress", "Rejected"]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_shows_a_new_reason_although_the_phase_is_unchanged() {
    let mut world = World::builder().without_secret().start().await;
    world.apply("alice", json!({})).await;
    world.until("alice", |seen| seen.shows(&["Reconciling=True/SecretNotFound"])).await;
    world.sandbox().inject(Fault::new(Call::Create, Action::status(404)));
    world.secret(SECRET, &world.key.clone()).await;
    let retries = ["Ready=False/PortalMisconfigured", "Reconciling=True/PortalMisconfigured"];
    world.until("alice", |seen| seen.shows(&retries)).await;
    let is_retrying = |line: &Value| line["reconciling"] == "PortalMisconfigured";
    let line = world.operator().until_logged("that it is retrying", is_retrying).await;
    assert_eq!((&line["phase"], &line["reason"]), (&json!("Pending"), &json!("PortalMisconfigured")));
    assert_eq!((&line["level"], &line["stalled"]), (&json!("INFO"), &Value::Null));
    world.finish().await;
}
