//! The API key: missing, malformed, rejected, rotated, corrected.

use okid_operator::api::{Phase, SessionState};
use okid_sandbox::{Action, Call, Fault, Verdict};
use serde_json::json;

use crate::harness::evidence::{asking, front};
use crate::harness::{Launch, SECRET, VerificationExt as _, World, new_key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_created_later_is_picked_up() {
    let mut world = World::builder().without_secret().start().await;
    world.apply("alice", json!({})).await;
    let waiting = world.until("alice", |seen| seen.shows(&["CredentialsReady=False/SecretNotFound"])).await;
    assert!(waiting.shows(&["Ready=False/SecretNotFound", "Reconciling=True/SecretNotFound", "Stalled="]));
    assert_eq!((waiting.phase(), waiting.session().attempt), (Some(Phase::Pending), 0));
    assert_eq!(world.creates(), 0);
    let key = world.key.clone();
    world.secret(SECRET, &key).await;
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(invited.shows(&["CredentialsReady=True/Accepted"]));
    assert_eq!(invited.session().attempt, 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_that_wait_for_a_secret_only_read_that_secret_until_it_exists() {
    const READS: &str = "okid_verification_reads_total";
    const SECRETS: &str = "okid_secret_reads_total";
    let mut world = World::builder().without_secret().start().await;
    let names: Vec<_> = (0..20).map(|number| format!("waits-{number}")).collect();
    for name in &names {
        world.apply(name, json!({})).await;
    }
    for name in &names {
        world.until(name, |seen| seen.shows(&["CredentialsReady=False/SecretNotFound"])).await;
    }
    let before = world.operator().metric(SECRETS).await;
    world.operator().until_metric(SECRETS, |reads| reads >= before + 2.0).await;
    let [reads, secrets] = [world.operator().metric(READS).await, world.operator().metric(SECRETS).await];
    world.operator().until_metric(SECRETS, |reads| reads >= secrets + 8.0).await;
    assert_eq!(world.operator().metric(READS).await, reads, "no verification is read");
    let key = world.key.clone();
    world.secret(SECRET, &key).await;
    for name in &names {
        world.until(name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_key_costs_one_call_until_its_secret_is_corrected() {
    let mut world = World::builder().without_secret().start().await;
    world.secret(SECRET, &new_key()).await;
    world.apply("alice", json!({})).await;
    let refused = world.until("alice", |seen| seen.shows(&["CredentialsReady=False/KeyRejected"])).await;
    assert!(refused.shows(&[
        "Ready=False/KeyRejected",
        "Reconciling=True/KeyRejected",
        "SessionCreated=False/Refused"
    ]));
    assert!(refused.shows(&["Stalled="]), "not before the grace period");
    assert_eq!((refused.session().attempt, refused.state()), (1, Some(SessionState::NotCreated)));
    world.until_event("alice", "KeyRejected").await;

    // Others with the same key send no call of their own.
    world.apply("bob", json!({})).await;
    world
        .until("bob", |seen| seen.shows(&["Ready=False/Pending", "CredentialsReady=Unknown/NotChecked"]))
        .await;
    assert_eq!(world.creates(), 1);

    let key = world.key.clone();
    world.secret(SECRET, &key).await;
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(invited.shows(&["CredentialsReady=True/Accepted", "SessionCreated=True/Created"]));
    assert_eq!((invited.session().attempt, invited.session().orphans), (2, 0));
    world.until("bob", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert_eq!(world.creates(), 3);
    world.until_events("alice", &["KeyRejected", "SessionCreated"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_access_is_distinguished_from_an_unknown_key() {
    let world = World::new().await;
    world.sandbox().inject(Fault::new(Call::Create, Action::status(403)));
    world.apply("alice", json!({})).await;
    let refused = world.until("alice", |seen| seen.shows(&["CredentialsReady=False/AccessDenied"])).await;
    assert!(refused.shows(&["Ready=False/AccessDenied", "SessionCreated=False/Refused"]));
    assert_eq!(refused.session().orphans, 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_key_is_refused_before_any_call() {
    let mut world = World::builder().without_secret().start().await;
    let good = world.key.clone();
    let cases = [
        ("empty", String::new(), "KeyEmpty"),
        ("blank", " \n".to_owned(), "KeyEmpty"),
        ("spaced", format!("{} {}", new_key(), new_key()), "KeyMalformed"),
        ("controlled", format!("{}\u{1}", new_key()), "KeyMalformed"),
        ("two-newlines", format!("{}\n\n", new_key()), "KeyMalformed"),
        ("foreign", format!("{}é", new_key()), "KeyMalformed"),
    ];
    for (name, value, reason) in &cases {
        world.secret(name, value).await;
        world.apply(name, json!({"apiKeySecretRef": {"name": name}})).await;
        let shown = format!("CredentialsReady=False/{reason}");
        let seen = world.until(name, |seen| seen.shows(&[&shown])).await;
        let shown = [format!("Ready=False/{reason}"), format!("Reconciling=True/{reason}")];
        assert!(seen.shows(&shown.each_ref().map(String::as_str)), "{name}");
    }
    world.secret_data("other-entry", json!({"somethingElse": "x"})).await;
    world.apply("missing", json!({"apiKeySecretRef": {"name": "other-entry"}})).await;
    world.until("missing", |seen| seen.shows(&["CredentialsReady=False/KeyMissing"])).await;
    assert_eq!(world.creates(), 0);

    for (name, end) in [("newline", "\n"), ("windows", "\r\n")] {
        world.secret(name, &format!("{good}{end}")).await;
        world.create_session(name, json!({"apiKeySecretRef": {"name": name}})).await;
    }
    world.secret_data("entry", json!({"portal-key": good})).await;
    world.create_session("entry", json!({"apiKeySecretRef": {"name": "entry", "key": "portal-key"}})).await;
    assert_eq!(world.creates(), 3);
    let sent = world.sandbox().creates().into_iter().map(|call| call.key);
    assert!(sent.into_iter().all(|key| key.as_deref() == Some(&*good)), "the key is sent unchanged");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_outlives_its_secret() {
    let mut world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    world.delete_secret(SECRET).await;
    let without = world.until("alice", |seen| seen.shows(&["CredentialsReady=False/SecretNotFound"])).await;
    assert!(without.shows(&["Ready=False/AwaitingUser", "SessionCreated=True/Created", "Stalled="]));
    assert_eq!(without.id().as_ref(), Some(&id));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let key = world.key.clone();
    world.secret(SECRET, &key).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert_eq!(world.creates(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_without_access_is_reported_until_the_old_one_returns() {
    let mut world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let (first, second) = (world.key.clone(), new_key());
    world.sandbox().add_key(&second);
    world.secret(SECRET, &second).await;
    let rotated = world.until("alice", |seen| seen.shows(&["CredentialsReady=False/KeyRotated"])).await;
    assert!(rotated.shows(&["Ready=False/AwaitingUser", "SessionCreated=True/Created", "Stalled="]));
    world.until_event("alice", "KeyRotated").await;
    world.secret(SECRET, &first).await;
    world.until("alice", |seen| seen.shows(&["CredentialsReady=True/Accepted"])).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert_eq!(world.creates(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_names_another_secret_is_tried_at_once() {
    let mut world = World::new().await;
    world.secret("refused", &new_key()).await;
    world.apply("alice", json!({"apiKeySecretRef": {"name": "refused"}})).await;
    world.until("alice", |seen| seen.shows(&["CredentialsReady=False/KeyRejected"])).await;
    world.patch_spec("alice", json!({"apiKeySecretRef": {"name": SECRET}})).await;
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(invited.shows(&["CredentialsReady=True/Accepted"]));
    assert_eq!(world.creates(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_rejected_later_leaves_the_session_unharmed() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    world.sandbox().remove_key(&world.key);
    let refused = world.until("alice", |seen| seen.shows(&["CredentialsReady=False/KeyRejected"])).await;
    assert!(refused.shows(&["Ready=False/AwaitingUser", "SessionCreated=True/Created", "Stalled="]));
    assert_eq!((refused.phase(), refused.id()), (Some(Phase::AwaitingUser), Some(id)));
    world.until_events("alice", &["KeyRejected", "SessionCreated"]).await;
    assert_eq!(world.creates(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_create_delays_no_poll_with_the_same_key_and_shows_on_no_open_session() {
    for status in [401, 403] {
        let world = World::new().await;
        let id = world.create_session("alice", json!({})).await;
        let before = world.resource_version("alice").await;
        let refusal = world.sandbox().inject(Fault::new(Call::Create, Action::status(status)));
        world.apply("bob", json!({})).await;
        world.until("bob", |seen| seen.shows(&["SessionCreated=False/Refused"])).await;
        world.until_polled(&id, 3).await;
        assert_eq!(world.resource_version("alice").await, before, "{status}");
        assert_eq!(world.sandbox().hits(refusal), 1, "{status}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_rejected_while_evidence_is_stored_is_reported_and_the_verdict_stays() {
    let mut world = World::builder().s3().start().await;
    let refusal = world.sandbox().inject(Fault::new(Call::Image, Action::status(401)));
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    let refused = world.until("alice", |seen| seen.shows(&["CredentialsReady=False/KeyRejected"])).await;
    assert!(refused.shows(&["Reconciling=True/StoringEvidence", "Stalled=", "Verified=True/Verified"]));
    assert_eq!(refused.phase(), Some(Phase::Storing));
    let calls = world.sandbox().hits(refusal);
    assert!(calls >= 2, "one 401 about one session says nothing of the key");
    world.request_poll("alice").await;
    world.until("alice", |seen| seen.status_or_default().last_handled_reconcile_at.is_some()).await;
    assert_eq!(world.sandbox().hits(refusal), calls);

    world.sandbox().clear(refusal);
    world.operator().kill();
    world.start(Launch::new()).await;
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert!(over.shows(&["CredentialsReady=True/Accepted", "EvidenceStored=True/Stored"]), "{over:?}");
    world.finish().await;
}
