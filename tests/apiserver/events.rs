//! Events are published whatever the names are, and whatever happens to responses.

use http::Method;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use okid_operator::api::Phase;
use okid_operator::permissions::{RUN, Scope};
use okid_sandbox::Verdict;
use serde_json::{Value, json};

use crate::harness::evidence::{asking, front};
use crate::harness::{ApiServerProxy, Launch, Traffic, VerificationExt as _, World, of_scope};
use crate::stores::Fault;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_with_the_longest_names_get_events_too() {
    let world = World::new().await;
    let longest = format!("{}.{}-{}", "a".repeat(180), "b".repeat(54), "c".repeat(17));
    assert_eq!(longest.len(), 253);
    let id = world.create_session(&longest, json!({})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_events(&longest, &["SessionCreated", "Verified"]).await;
    assert_eq!(world.operator().metric("okid_events_dropped_total").await, 0.0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_whose_write_got_no_response_is_reported_once_the_write_is_known() {
    let mut world = World::builder().without_operator().start().await;
    let proxy = ApiServerProxy::start(world.kubeconfig(), world.folder()).await;
    let held = world.folder().join("held");
    let launch = Launch::new().env("KUBECONFIG", proxy.kubeconfig().to_str().expect("a path in UTF-8"));
    world.start(launch.hold_at("BeforeSettling", &held)).await;
    let id = world.create_session("alice", json!({})).await;
    world.until_events("alice", &["SessionCreated"]).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("the hold", |_| held.exists()).await;
    proxy.set(Traffic::RequestsOnly);
    std::fs::remove_file(&held).expect("it is held");
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!(over.phase(), Some(Phase::Verified));
    world.operator().until_metric("okid_reconcile_retries_total", |times| times >= 1.0).await;
    proxy.set(Traffic::Cut);
    proxy.set(Traffic::Open);

    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    let verified = |line: &Value| line["phase"] == "Verified";
    world.operator().until_logged("the verdict", verified).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_left_in_a_terminating_namespace_is_reported_on_the_operators_pod() {
    let mut world = World::builder().s3().without_operator().start().await;
    let home = world.cluster.new_namespace(&world.client).await;
    world.account.grant(Some(&home), &of_scope(RUN, Scope::OwnNamespace)).await;
    let pod = ["--pod-name", "okid-operator-0", "--pod-uid", "the-uid", "--pod-namespace", &home];
    world.start(Launch::new().flags(pod)).await;
    let mut evidence = front();
    evidence["deletionPolicy"] = json!("Delete");
    world.create_and_finish("alice", asking(evidence), Verdict::Verified).await;
    let alice = world.until("alice", |seen| seen.shows(&["EvidenceStored=True/Stored"])).await;
    world.s3().proxy.whenever(Method::DELETE, Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>"));
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    world.delete("alice").await;

    let left =
        |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("Evidence remains"));
    let left = world.operator().until_logged("what is left", left).await;
    assert_eq!((&left["level"], &left["name"]), (&json!("WARN"), &json!("alice")));
    assert_eq!((&left["namespace"], &left["uid"]), (&json!(world.namespace), &json!(alice.metadata.uid)));
    assert_eq!(left["destination"], json!(alice.status_or_default().evidence.expect("it is stored").prefix));
    let orphaned = |value| value == 1.0;
    world.operator().until_metric("okid_evidence_orphaned_total", orphaned).await;
    let published = "okid_events_total{reason=\"EvidenceOrphaned\"}";
    world.operator().until_metric(published, orphaned).await;
    let events: Api<Event> = Api::namespaced(world.client.clone(), &home);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let [event] = events.as_slice() else { panic!("one event on the Pod: {events:#?}") };
    assert_eq!(event.reason.as_deref(), Some("EvidenceOrphaned"));
    let regarding = event.regarding.as_ref().unwrap();
    assert_eq!((regarding.kind.as_deref(), regarding.uid.as_deref()), (Some("Pod"), Some("the-uid")));
    world.finish().await;
}
