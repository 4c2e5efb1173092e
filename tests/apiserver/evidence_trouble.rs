//! What is done to the store, its credentials and the images, and what must come of it. The verdict is final all the
//! while.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use control_plane::process::Signal;
use http::Method;
use okid_operator::api::{Phase, RETRY, Verification};
use okid_sandbox::{Action, Call, Cut, Endpoint, Fault, Huge, Malformed, Verdict};
use serde_json::{Value, json};

use crate::harness::evidence::{STORE_SECRET, asking, check, front, sha256};
use crate::harness::{Launch, Seen, World};
use crate::stores::{Fault as StoreFault, Proxy};

/// What shows while something can still come of it.
const OWED: [&str; 5] = [
    "Ready=False/StoringEvidence",
    "Reconciling=True/StoringEvidence",
    "Stalled=",
    "Finished=True/Verified",
    "Verified=True/Verified",
];

/// What shows when only a person can help.
const FAILED: [&str; 5] = [
    "Ready=False/EvidenceFailed",
    "Reconciling=",
    "Stalled=True/EvidenceFailed",
    "Finished=True/Verified",
    "Verified=True/Verified",
];

const STORED: [&str; 4] = ["Ready=True/Verified", "Reconciling=", "Stalled=", "EvidenceStored=True/Stored"];

const DENIED: &str = "<Error><Code>AccessDenied</Code></Error>";
const NO_BUCKET: &str = "<Error><Code>NoSuchBucket</Code></Error>";

fn is_settled(seen: &Verification) -> bool {
    seen.found().settled
}

fn failed(seen: &Verification, reason: &str) -> bool {
    seen.shows(&FAILED) && seen.condition("EvidenceStored").as_deref() == Some(reason)
}

fn owed(seen: &Verification, reason: &str) -> bool {
    seen.shows(&OWED) && seen.condition("EvidenceStored").as_deref() == Some(reason)
}

/// That every version from the verdict on says Verified and Finished.
fn stays_verified(world: &World, name: &str) {
    let versions = world.versions(name);
    let since = versions.iter().skip_while(|seen| seen.found().outcome.is_none());
    for seen in since {
        assert!(seen.shows(&["Verified=True/Verified", "Finished=True/Verified"]), "{seen:?}");
    }
}

/// The message of the condition `EvidenceStored`.
fn evidence_message(verification: &Verification) -> String {
    let conditions = verification.found().conditions;
    conditions.into_iter().find(|condition| condition.type_ == "EvidenceStored").unwrap().message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_may_not_be_used_are_told_with_their_option_before_a_session_is_made() {
    let world = World::builder().s3().start().await;
    let elsewhere = Proxy::start("127.0.0.1:9".parse().unwrap());
    for (number, (option, value)) in [
        ("aws_endpoint", elsewhere.url()),
        ("aws_acess_key_id", "a-typing-error".to_owned()),
        ("aws_bucket", "another-bucket".to_owned()),
        ("google_bearer_token", "of-another-cloud".to_owned()),
        ("proxy_url", elsewhere.url()),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("person-{number}");
        world.store_secret(json!({ option: value })).await;
        world.apply(&name, asking(front())).await;
        let refused = world
            .until(&name, |seen| {
                seen.shows(&["Stalled=True/DestinationNotAllowed", "Ready=False/DestinationNotAllowed"])
            })
            .await;
        let conditions = refused.found().conditions;
        let stalled = conditions.iter().find(|condition| condition.type_ == "Stalled").unwrap();
        assert!(stalled.message.contains(option), "{}", stalled.message);
        assert!(!stalled.message.contains(&value), "{}", stalled.message);
    }
    assert_eq!((world.creates(), elsewhere.arrived(), world.s3().proxy.arrived()), (0, 0, 0));

    world.store_secret(json!({})).await;
    world.nudge("person-0").await;
    let invited = world.until("person-0", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    world.sandbox().finish(&invited.id().unwrap(), Verdict::Verified).unwrap();
    let over = world.until("person-0", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(elsewhere.arrived(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_comes_after_the_session_and_is_not_allowed_is_never_connected_to() {
    let world = World::builder().s3().start().await;
    let elsewhere = Proxy::start("127.0.0.1:9".parse().unwrap());
    let id = world.invite("alice", asking(front())).await;
    world.store_secret(json!({"aws_endpoint": elsewhere.url()})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let refused = world.until("alice", |seen| failed(seen, "False/DestinationNotAllowed")).await;
    assert_eq!(refused.phase(), Some(Phase::Verified));
    assert!(!is_settled(&refused), "a person may repair it");
    assert!(evidence_message(&refused).contains("aws_endpoint"), "{refused:?}");
    world.until_events("alice", &["EvidenceFailed", "SessionCreated", "Verified"]).await;
    world.store_secret(json!({"aws_acess_key_id": "a-typing-error"})).await;
    world.annotate("alice", RETRY, "another mistake").await;
    let refused = world.until("alice", |seen| failed(seen, "False/StoreSecretInvalid")).await;
    assert!(evidence_message(&refused).contains("aws_acess_key_id"), "{refused:?}");
    assert_eq!((elsewhere.arrived(), world.s3().proxy.arrived()), (0, 0));
    assert_eq!(world.sandbox().count(Endpoint::ImageFront), 0);

    world.store_secret(json!({})).await;
    world.annotate("alice", RETRY, "repaired").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &world.in_s3(&over));
    assert_eq!(elsewhere.arrived(), 0);
    stays_verified(&world, "alice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_come_late_are_found() {
    let world = World::builder().s3().start().await;
    world.delete_secret(STORE_SECRET).await;
    world.judged("alice", asking(front()), Verdict::Verified).await;
    world.until_later("alice", |seen| owed(seen, "False/StoreSecretNotFound")).await;
    assert_eq!(world.s3().proxy.arrived(), 0);

    world.store_secret(json!({})).await;
    world.nudge("alice").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    stays_verified(&world, "alice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_the_store_refuses_are_tried_until_they_are_repaired() {
    let world = World::builder().s3().start().await;
    world.store_secret(json!({"aws_secret_access_key": "wrong"})).await;
    world.judged("alice", asking(front()), Verdict::Verified).await;
    let refused = world.until_later("alice", |seen| owed(seen, "False/StoreAccessDenied")).await;
    assert!(evidence_message(&refused).contains("does not accept the credentials"), "{refused:?}");
    let accepted =
        |world: &World| world.s3().proxy.passed().iter().filter(|passed| passed.status.is_success()).count();
    assert_eq!(accepted(&world), 0);

    world.store_secret(json!({})).await;
    world.nudge("alice").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    stays_verified(&world, "alice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_expire_during_a_batch_are_read_again_in_the_same_turn() {
    let world = World::builder().s3().start().await;
    let expired = "<Error><Code>ExpiredToken</Code></Error>";
    world.s3().proxy.next([StoreFault::HoldAndAnswer(400, expired)]);
    world.judged("alice", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload under way", |world| world.s3().proxy.held() == 1).await;
    // From here on there is no other turn.
    world.operator().signal(Signal::Terminate);
    let stops = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("shutting down"));
    world.operator().until_logged("that it stops", stops).await;
    world.s3().proxy.release();
    assert!(world.operator().wait().await.success());
    let over = world.get("alice").await;
    assert!(is_settled(&over) && over.shows(&STORED), "{over:?}");
    world.finish().await;
}

/// A store that answers so is told of and tried again, until it takes the evidence.
async fn heals(fault: StoreFault, shown: &str) {
    let world = World::builder().s3().start().await;
    world.s3().proxy.always(fault);
    world.judged("alice", asking(front()), Verdict::Verified).await;
    world.until_later("alice", |seen| owed(seen, shown)).await;

    world.s3().proxy.heal();
    let over = world.until_nudged("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    stays_verified(&world, "alice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_made_later_takes_the_evidence() {
    // s3s-fs makes a bucket that is not there.
    heals(StoreFault::Answer(404, NO_BUCKET), "False/BucketNotFound").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_for_an_hour_takes_the_evidence_when_it_is_back() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.go_down().await;
    world.judged("alice", asking(front()), Verdict::Verified).await;
    world.until_later("alice", |seen| owed(seen, "False/StoreUnavailable")).await;
    // The store's trouble is nobody else's.
    world.judged("bob", json!({}), Verdict::Verified).await;
    world.until("bob", is_settled).await;

    world.turn_clock(Duration::from_hours(1));
    let later = world.until_nudged("alice", |seen| seen.found().last_handled_reconcile_at.is_some()).await;
    assert!(owed(&later, "False/StoreUnavailable"), "{later:?}");

    world.s3().proxy.come_back();
    let over = world.until_nudged("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &world.in_s3(&over));
    let shown = world.history("alice", |seen| seen.condition("EvidenceStored"));
    let wanted = ["Unknown/NotStarted", "False/Storing", "False/StoreUnavailable", "True/Stored"];
    assert_eq!(shown.iter().flatten().collect::<Vec<_>>(), wanted, "told once, however often it was tried");
    stays_verified(&world, "alice");
    world.until_events("alice", &["EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_keeps_only_its_own_evidence_waiting() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.next([StoreFault::Hold]);
    world.judged("alice", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload that hangs", |world| world.s3().proxy.held() == 1).await;
    world.judged("bob", asking(front()), Verdict::Verified).await;
    let over = world.until("bob", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert!(owed(&world.get("alice").await, "False/Storing"));

    world.s3().proxy.release();
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &world.in_s3(&over));
    world.finish().await;
}

/// Puts an object where the first one of a verification will go.
fn plant(world: &World, verification: &Verification, bytes: &[u8]) -> PathBuf {
    let folder = world.in_s3(verification);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("front-original.jpg");
    fs::write(&file, bytes).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_are_there_already_and_count_as_stored() {
    let world = World::builder().s3().start().await;
    let id = world.invite("alice", asking(front())).await;
    world.sandbox().finish(&world.invite("model", json!({})).await, Verdict::Verified).unwrap();
    let model = world.sandbox().sessions().into_iter().find(|session| session.id != id).unwrap().id;
    let bytes = world.portal_says(&format!("get-verification-image-front/{model}?image_type=original")).await;
    plant(&world, &world.get("alice").await, &bytes);
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &world.in_s3(&over));
    let refused = |method: Method, status: u16| {
        let passed = world.s3().proxy.passed();
        passed.iter().filter(|passed| passed.method == method && passed.status == status).count()
    };
    assert_eq!(refused(Method::PUT, 412), 2, "it was there, and the manifest is asked about twice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_are_never_overwritten_and_a_person_may_say_when_they_are_gone() {
    let world = World::builder().s3().start().await;
    let id = world.invite("alice", asking(front())).await;
    let file = plant(&world, &world.get("alice").await, b"something else");
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let conflict = world.until("alice", |seen| failed(seen, "False/Conflict")).await;
    assert_eq!(conflict.phase(), Some(Phase::Verified));
    assert!(!is_settled(&conflict));
    let message = evidence_message(&conflict);
    assert!(message.contains("a different object exists at front-original.jpg"), "{message}");
    assert_eq!(fs::read(&file).unwrap(), b"something else");
    world.until_events("alice", &["EvidenceFailed", "SessionCreated", "Verified"]).await;

    // Once more with the object still there, then without.
    world.annotate("alice", RETRY, "first").await;
    let handled = |token: &'static str| {
        move |seen: &Verification| {
            seen.found().last_handled_retry.as_deref() == Some(token) && failed(seen, "False/Conflict")
        }
    };
    world.until("alice", handled("first")).await;
    assert_eq!(fs::read(&file).unwrap(), b"something else");

    fs::remove_file(&file).unwrap();
    world.annotate("alice", RETRY, "second").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &world.in_s3(&over));
    stays_verified(&world, "alice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_whose_answer_was_lost_is_known_again_though_the_next_bytes_are_others() {
    let world = World::builder().s3().start().await;
    let id = world.invite("alice", asking(front())).await;
    let first =
        world.sandbox().inject(Fault::new(Call::Image, answer("image/jpeg", "%PDF-1.7 first")).session(&id));
    // The store keeps it, nobody hears of that, and then it is away.
    world.s3().proxy.next([StoreFault::ResetInstead]);
    world.s3().proxy.always(StoreFault::Answer(503, ""));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_later("alice", |seen| owed(seen, "False/StoreUnavailable")).await;

    world.sandbox().clear(first);
    world.sandbox().inject(Fault::new(Call::Image, answer("image/jpeg", "%PDF-1.7 later")).session(&id));
    world.s3().proxy.heal();
    let over = world.until_nudged("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(
        check(&over, &world.in_s3(&over))["front-original.pdf"],
        b"%PDF-1.7 first",
        "what is there stays"
    );
    assert!(!world.events("alice").await.contains(&"EvidenceFailed".to_owned()));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_waits_for_a_person_is_not_forgotten_by_a_restart() {
    let mut world = World::builder().s3().start().await;
    let id = world.invite("alice", asking(front())).await;
    let file = plant(&world, &world.get("alice").await, b"something else");
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| failed(seen, "False/Conflict")).await;
    assert!(world.operator().stop().await.success());
    let arrived = world.s3().proxy.arrived();

    world.start(Launch::new()).await;
    world.judged("bob", asking(front()), Verdict::Verified).await;
    world.until("bob", is_settled).await;
    assert!(failed(&world.get("alice").await, "False/Conflict"));
    assert_eq!(
        world.s3().proxy.arrived(),
        arrived + 3,
        "bob's image, the trial of the store, and his manifest alone"
    );
    fs::remove_file(&file).unwrap();
    world.annotate("alice", RETRY, "now").await;
    world.until("alice", is_settled).await;
    world.finish().await;
}

/// An answer with that label and those bytes.
fn answer(content_type: &str, body: &str) -> Action {
    answer_with(200, content_type, body)
}

fn answer_with(status: u16, content_type: &str, body: &str) -> Action {
    Action::Respond {
        status,
        headers: BTreeMap::from([("content-type".to_owned(), content_type.to_owned())]),
        body: Some(body.to_owned()),
        retry_after: None,
    }
}

/// Answers in place of an image, none of which may be kept.
fn bad_images() -> BTreeMap<&'static str, Action> {
    BTreeMap::from([
        ("html", answer("text/html", "<html><p>Please sign in</p></html>")),
        ("html-as-jpeg", answer("image/jpeg", "<html><p>Please sign in</p></html>")),
        ("json", answer("application/json", r#"{"error": "not now"}"#)),
        ("svg", answer("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg'/>")),
        ("empty", Action::Malformed(Malformed::Empty)),
        ("wrong-magic", answer("image/jpeg", "GIF89a, says the first word")),
        ("announced-200-mb", Action::Huge(Huge::WrongLength { declared: 200 << 20 })),
        ("endless", Action::Huge(Huge::Endless { bytes: 1 << 30 })),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_image_is_never_stored() {
    let world = World::builder().s3().start().await;
    let mut orders = Vec::new();
    for (name, action) in bad_images() {
        let id = world.invite(name, asking(front())).await;
        orders.push((name, world.sandbox().inject(Fault::new(Call::Image, action).session(&id))));
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
    }
    let all_asked = |world: &World| orders.iter().all(|(_, order)| world.sandbox().hits(*order) >= 1);
    world.until_portal("an answer to each", all_asked).await;
    // Short trouble is not told, and after ten minutes it is given up.
    world.turn_clock(Duration::from_secs(61));
    for (name, _) in &orders {
        world.until_nudged(name, |seen| owed(seen, "False/ImageUnusable")).await;
    }
    for (name, _) in &orders {
        world.until_later(name, |seen| failed(seen, "False/ImageUnusable")).await;
        stays_verified(&world, name);
    }
    assert_eq!(world.s3().proxy.arrived(), 0);
    // Twice the budget for images in flight, and what the process has beside.
    assert!(world.operator().peak_memory() < 256 << 20, "{}", world.operator().peak_memory());

    for (name, order) in orders {
        world.sandbox().clear(order);
        world.annotate(name, RETRY, "it is an image now").await;
        let over = world.until(name, is_settled).await;
        assert!(over.shows(&STORED), "{name}: {over:?}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_of_somebody_on_the_way_loses_no_image() {
    let world = World::builder().s3().start().await;
    let id = world.invite("alice", asking(json!({"images": [{"kind": "Front"}, {"kind": "Back"}]}))).await;
    let gateway = answer_with(404, "text/html", "default backend - 404");
    let order = world.sandbox().inject(Fault::new(Call::Image, gateway).session(&id));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("an answer to each", |world| world.sandbox().hits(order) >= 2).await;
    world.turn_clock(Duration::from_secs(61));
    let waiting = world.until_nudged("alice", |seen| owed(seen, "False/PortalUnavailable")).await;
    assert!(waiting.found().evidence.is_none_or(|evidence| evidence.objects.is_empty()), "{waiting:?}");

    world.sandbox().clear(order);
    let over = world.until_nudged("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(check(&over, &world.in_s3(&over)).len(), 3);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_without_a_body_three_times_in_ten_minutes_is_an_image_that_is_absent() {
    let world = World::builder().s3().start().await;
    let id = world.invite("alice", asking(json!({"images": [{"kind": "Back"}]}))).await;
    let order =
        world.sandbox().inject(Fault::new(Call::Image, answer_with(404, "text/plain", "")).session(&id));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    for times in 1..=3 {
        world.until_portal("the answer", |world| world.sandbox().hits(order) >= times).await;
        assert!(!is_settled(&world.get("alice").await));
        world.turn_clock(Duration::from_secs(200));
        world.nudge("alice").await;
    }
    let over = world.until_nudged("alice", is_settled).await;
    assert!(over.shows(&["Ready=True/Verified", "EvidenceStored=True/NothingToStore"]), "{over:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_under_a_wrong_label_is_stored_with_its_true_type() {
    let world = World::builder().s3().start().await;
    for (name, label) in [("generic", "binary/octet-stream"), ("another", "image/jpeg")] {
        let id = world.invite(name, asking(front())).await;
        world.sandbox().inject(Fault::new(Call::Image, answer(label, "%PDF-1.7")).session(&id));
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
        let over = world.until(name, is_settled).await;
        assert!(over.shows(&STORED), "{label}: {over:?}");
        let object = over.found().evidence.unwrap().objects.remove(0);
        assert_eq!(object.content_type.as_deref(), Some("application/pdf"));
        assert_eq!(check(&over, &world.in_s3(&over))["front-original.pdf"], b"%PDF-1.7");
    }
    let passed = world.s3().proxy.passed();
    let image = passed.iter().find(|passed| passed.path.ends_with("/front-original.pdf")).unwrap();
    assert_eq!(image.asked["content-type"], "application/pdf");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_cut_is_asked_for_again_and_stored_whole() {
    let world = World::builder().s3().start().await;
    let id = world.invite("alice", asking(front())).await;
    world.sandbox().inject(Fault::new(Call::Image, Action::Cut(Cut::MidBody)).after().times(2));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    let whole = world.portal_says(&format!("get-verification-image-front/{id}?image_type=original")).await;
    assert_eq!(sha256(&check(&over, &world.in_s3(&over))["front-original.jpg"]), sha256(&whole));
    let puts = world.s3().proxy.count(&Method::PUT);
    assert_eq!(puts, 3, "two objects, one asked about twice: no part of it ever went to the store");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_may_not_be_written_to_is_told_and_tried_again() {
    heals(StoreFault::Answer(403, DENIED), "False/StoreAccessDenied").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_store_takes_nothing_one_image_at_a_time_finds_out_whether_it_does() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.whenever(Method::PUT, StoreFault::Answer(403, DENIED));
    let images =
        json!([{"kind": "Redacted"}, {"kind": "Redacted", "imageType": "cropped"}, {"kind": "Front"}]);
    world.judged("alice", asking(json!({"images": images})), Verdict::Verified).await;
    // Each is denied, and then the operator looks whether the object is there.
    let tries = |world: &World| world.s3().proxy.arrived() as u64 / 2;
    world.until_portal("two more tries", |world| tries(world) >= 3 + 2).await;
    let calls = world.sandbox().count(Endpoint::Image) + world.sandbox().count(Endpoint::ImageFront);
    // Whose try is under way has its image already.
    assert!((3 + 2..=tries(&world) + 1).contains(&calls), "{calls}");

    world.s3().proxy.heal();
    let over = world.until_nudged("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    world.finish().await;
}
