//! Notifications whose poll was answered while the API server did not respond.

use okid_operator::api::Phase;
use okid_sandbox::Verdict;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{address, launch, notify};
use crate::harness::{ApiServerProxy, Traffic, VerificationExt as _, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requested_poll_whose_reconcile_ends_early_is_sent_again() {
    let mut world = World::builder().without_operator().start().await;
    let proxy = ApiServerProxy::start(world.kubeconfig(), world.folder()).await;
    let launch = launch(world.folder());
    world.start(launch.env("KUBECONFIG", proxy.kubeconfig().to_str().expect("a path in UTF-8"))).await;
    let address = address(world.operator()).await;
    let mut ids = Vec::new();
    // In review, the schedule polls after a minute, or after the maximum.
    for (name, polling) in [("alice", json!({})), ("bob", json!({"maxInterval": "40s"}))] {
        let id = world.create_session(name, json!({"polling": polling})).await;
        world.sandbox().decide(&id, Verdict::NeedsManualReview).unwrap();
        assert_eq!(notify(&address, &id).await, StatusCode::ACCEPTED);
        // The API server shows it before the operator has its response, without which it would poll again.
        let is_known = |line: &Value| line["name"] == name && line["phase"] == "InReview";
        world.operator().until_logged("that it is in review", is_known).await;
        ids.push(id);
    }
    let [alice, bob] = [&ids[0], &ids[1]].map(|id| world.polls_of(id));
    world.sandbox().decide(&ids[0], Verdict::Verified).unwrap();
    proxy.set(Traffic::Cut);
    assert_eq!(notify(&address, &ids[0]).await, StatusCode::ACCEPTED);
    world.until_portal("the requested poll", |world| world.polls_of(&ids[0]) > alice).await;
    world.operator().until_metric("okid_reconcile_retries_total", |times| times >= 1.0).await;
    proxy.set(Traffic::Open);
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert_eq!(world.polls_of(&ids[1]), bob, "the schedule has polled the other session first");
    world.finish().await;
}
