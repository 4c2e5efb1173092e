//! `spec.apiKeySecretRef.previousKey`: sessions that are followed with the key from before a rotation.

use okid_operator::api::Phase;
use okid_sandbox::{Action, Call, Endpoint, Fault, Verdict};
use serde_json::{Value, json};

use crate::harness::evidence::{asking, check, front};
use crate::harness::{Launch, SECRET, VerificationExt as _, World, new_key};

const NEED_PREVIOUS: &str = "okid_previous_key_sessions";

/// A spec that names both keys, merged with these fields.
fn with_both(spec: Value) -> Value {
    let mut whole = json!({"apiKeySecretRef": {"name": SECRET, "previousKey": "apiKeyOld"}});
    let Value::Object(spec) = spec else { panic!("a spec is an object") };
    whole.as_object_mut().unwrap().extend(spec);
    whole
}

/// Rotates the world's key: the portal knows the new one too, and the Secret has both. Returns them, the old one first.
async fn rotate(world: &mut World) -> [String; 2] {
    let (old, new) = (world.key.clone(), new_key());
    world.sandbox().add_key(&new);
    write_keys(world, &new, Some(&old)).await;
    [old, new]
}

/// Writes the Secret with a current key, and a previous one.
async fn write_keys(world: &mut World, current: &str, previous: Option<&str>) {
    // A copy, so that the end of the world checks that the key appears nowhere else.
    world.secret("copy", current).await;
    let mut data = json!({"apiKey": current});
    if let Some(previous) = previous {
        data["apiKeyOld"] = json!(previous);
    }
    world.secret_data(SECRET, data).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rotation_each_session_is_asked_with_the_key_that_created_it() {
    let mut world = World::builder().s3().start().await;
    let alice = world.create_session("alice", with_both(asking(front()))).await;
    let [old, new] = rotate(&mut world).await;
    let before = world.resource_version("alice").await;
    let polls = |world: &World, key: &str| world.sandbox().count_of_key(key, Endpoint::Details);
    // The operator uses a key that it has read for half a minute at most.
    world.operator().until_metric(NEED_PREVIOUS, |sessions| sessions == 1.0).await;
    world.until_polled(&alice, 2).await;
    assert_eq!(world.resource_version("alice").await, before, "nothing is shown or written");
    assert_eq!(polls(&world, &new), 0, "the new key is not tried");

    let bob = world.create_session("bob", with_both(json!({}))).await;
    world.until_polled(&bob, 2).await;
    assert_eq!(world.sandbox().count_of_key(&new, Endpoint::Create), 1);
    assert_eq!(world.operator().metric(NEED_PREVIOUS).await, 1.0);

    // Another process chooses in the same way.
    assert!(world.operator().stop().await.success());
    world.start(Launch::new()).await;
    world.until_polled(&alice, 1).await;
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    let stored = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert!(stored.shows(&["CredentialsReady=True/Accepted", "EvidenceStored=True/Stored"]));
    check(&stored, &world.in_s3(&stored));
    world.operator().until_metric(NEED_PREVIOUS, |sessions| sessions == 0.0).await;
    world.sandbox().finish(&bob, Verdict::Verified).unwrap();
    world.until("bob", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert_eq!((world.creates(), world.sandbox().count_of_key(&old, Endpoint::Create)), (2, 1));
    assert!(polls(&world, &new) >= 2 && polls(&world, &old) >= 4);
    assert!(world.events("alice").await.iter().all(|reason| reason != "KeyRotated"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_empty_previous_key_concerns_only_the_sessions_that_it_created() {
    let mut world = World::new().await;
    // The Secret never had a previous key.
    let alice = world.create_session("alice", with_both(json!({}))).await;
    let (old, new) = (world.key.clone(), new_key());
    world.sandbox().add_key(&new);
    for (previous, name) in [(None, "bob"), (Some(""), "carol")] {
        write_keys(&mut world, &new, previous).await;
        let rotated = world.until("alice", |seen| seen.shows(&["CredentialsReady=False/KeyRotated"])).await;
        assert!(rotated.shows(&["Ready=False/AwaitingUser", "Stalled="]));
        let id = world.create_session(name, with_both(json!({}))).await;
        world.until_polled(&id, 1).await;
        assert!(world.get(name).await.shows(&["CredentialsReady=True/Accepted"]), "{name}");
        assert_eq!(world.operator().metric(NEED_PREVIOUS).await, 0.0);
    }
    assert_eq!(world.sandbox().count_of_key(&new, Endpoint::Create), 2);

    // It is looked for within a minute.
    write_keys(&mut world, &new, Some(&old)).await;
    world.until("alice", |seen| seen.shows(&["CredentialsReady=True/Accepted"])).await;
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_previous_key_that_the_portal_refuses_concerns_only_its_sessions() {
    let mut world = World::new().await;
    world.create_session("alice", with_both(json!({}))).await;
    let [old, _new] = rotate(&mut world).await;
    world.operator().until_metric(NEED_PREVIOUS, |sessions| sessions == 1.0).await;
    let bob = world.create_session("bob", with_both(json!({}))).await;
    world.sandbox().remove_key(&old);
    let rotated = world.until("alice", |seen| seen.shows(&["CredentialsReady=False/KeyRotated"])).await;
    assert!(rotated.shows(&["Ready=False/AwaitingUser", "SessionCreated=True/Created", "Stalled="]));
    world.until_event("alice", "KeyRotated").await;
    world.create_session("carol", with_both(json!({}))).await;
    world.until_polled(&bob, 1).await;
    for name in ["bob", "carol"] {
        assert!(world.get(name).await.shows(&["CredentialsReady=True/Accepted"]), "{name}");
    }
    world.sandbox().add_key(&old);
    world.request_poll("alice").await;
    world.until("alice", |seen| seen.shows(&["CredentialsReady=True/Accepted"])).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_followed_with_the_previous_key_while_the_current_one_is_refused() {
    let mut world = World::new().await;
    let alice = world.create_session("alice", with_both(json!({}))).await;
    let (old, unknown) = (world.key.clone(), new_key());
    write_keys(&mut world, &unknown, Some(&old)).await;
    world.operator().until_metric(NEED_PREVIOUS, |sessions| sessions == 1.0).await;
    world.apply("bob", with_both(json!({}))).await;
    world.until("bob", |seen| seen.shows(&["CredentialsReady=False/KeyRejected"])).await;
    world.until_polled(&alice, 1).await;
    let details = world.sandbox().inject(Fault::new(Call::Details, Action::status(500)).once());
    world.until_portal("a failed poll", |world| world.sandbox().hits(details) == 1).await;
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert!(over.shows(&["CredentialsReady=True/Accepted"]));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_session_counts_as_one_that_may_need_the_previous_key() {
    let mut world = World::new().await;
    let alice = world.create_session("alice", with_both(json!({}))).await;
    world.until_polled(&alice, 1).await;
    world.operator().until_metric(NEED_PREVIOUS, |sessions| sessions == 0.0).await;
    world.patch_spec("alice", json!({"suspend": true})).await;
    world.until("alice", |seen| seen.shows(&["Ready=False/Suspended"])).await;
    let [old, _new] = rotate(&mut world).await;
    world.operator().until_metric(NEED_PREVIOUS, |sessions| sessions == 1.0).await;
    world.patch_spec("alice", json!({"suspend": false})).await;
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.operator().until_metric(NEED_PREVIOUS, |sessions| sessions == 0.0).await;
    assert!(world.sandbox().count_of_key(&old, Endpoint::Details) >= 2, "it was followed with the old key");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_continues_when_its_spec_names_the_previous_key_only_after_the_rotation() {
    let mut world = World::new().await;
    let alice = world.create_session("alice", json!({})).await;
    world.until_polled(&alice, 1).await;
    rotate(&mut world).await;
    world.until("alice", |seen| seen.shows(&["CredentialsReady=False/KeyRotated"])).await;
    world.patch_spec("alice", json!({"apiKeySecretRef": {"previousKey": "apiKeyOld"}})).await;
    world.until("alice", |seen| seen.shows(&["CredentialsReady=True/Accepted"])).await;
    world.operator().until_metric(NEED_PREVIOUS, |sessions| sessions == 1.0).await;
    // Without it again, as before.
    world.patch_spec("alice", json!({"apiKeySecretRef": {"previousKey": null}})).await;
    world.until("alice", |seen| seen.shows(&["CredentialsReady=False/KeyRotated"])).await;
    world.operator().until_metric(NEED_PREVIOUS, |sessions| sessions == 0.0).await;
    // The two entries name the keys the other way around.
    let swapped = json!({"apiKeySecretRef": {"key": "apiKeyOld", "previousKey": "apiKey"}});
    world.patch_spec("alice", swapped).await;
    world.until("alice", |seen| seen.shows(&["CredentialsReady=True/Accepted"])).await;
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert_eq!(world.creates(), 1);
    world.finish().await;
}
