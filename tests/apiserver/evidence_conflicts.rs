//! Objects that are in the store already, under the keys of a verification.

use std::fs;
use std::path::PathBuf;

use http::Method;
use okid_operator::api::{Phase, RETRY, Verification};
use okid_sandbox::{Call, Fault, Verdict};
use serde_json::json;

use crate::evidence_failures::{
    STORED, evidence_message, failed, is_settled, pending, response, stays_verified,
};
use crate::harness::evidence::{asking, check, front};
use crate::harness::{Launch, VerificationExt, World};
use crate::stores::Fault as StoreFault;

/// Writes an object under the key of a verification's first object.
fn plant(world: &World, verification: &Verification, bytes: &[u8]) -> PathBuf {
    let folder = world.in_s3(verification);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("front-original.jpg");
    fs::write(&file, bytes).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identical_bytes_that_already_exist_count_as_stored() {
    let world = World::builder().s3().start().await;
    let id = world.create_session("alice", asking(front())).await;
    world.sandbox().finish(&world.create_session("model", json!({})).await, Verdict::Verified).unwrap();
    let model = world.sandbox().sessions().into_iter().find(|session| session.id != id).unwrap().id;
    let bytes =
        world.portal_response(&format!("get-verification-image-front/{model}?image_type=original")).await;
    plant(&world, &world.get("alice").await, &bytes);
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &world.in_s3(&over));
    let refused = |method: Method, status: u16| {
        let passed = world.s3().proxy.passed();
        passed.iter().filter(|passed| passed.method == method && passed.status == status).count()
    };
    assert_eq!(refused(Method::PUT, 412), 2, "the object existed, and the manifest is sent twice");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn different_bytes_are_never_overwritten_and_a_retry_stores_once_they_are_gone() {
    let world = World::builder().s3().start().await;
    let id = world.create_session("alice", asking(front())).await;
    let file = plant(&world, &world.get("alice").await, b"something else");
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let conflict = world.until("alice", |seen| failed(seen, "False/Conflict")).await;
    assert_eq!(conflict.phase(), Some(Phase::Verified));
    assert!(!is_settled(&conflict));
    let message = evidence_message(&conflict);
    assert!(message.contains("a different object exists at front-original.jpg"), "{message}");
    assert_eq!(fs::read(&file).unwrap(), b"something else");
    world.until_events("alice", &["EvidenceFailed", "SessionCreated", "Verified"]).await;

    // Retry once with the object and once without it.
    world.annotate("alice", RETRY, "first").await;
    let handled = |token: &'static str| {
        move |seen: &Verification| {
            seen.status_or_default().last_handled_retry.as_deref() == Some(token)
                && failed(seen, "False/Conflict")
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
async fn an_object_whose_response_was_lost_is_recognized_although_the_bytes_changed() {
    let world = World::builder().s3().start().await;
    // The process remembers what it has put, also where the object does not prove it.
    for (name, has_proof) in [("alice", true), ("bob", false)] {
        let id = world.create_session(name, asking(front())).await;
        let first = world
            .sandbox()
            .inject(Fault::new(Call::Image, response("image/jpeg", "%PDF-1.7 first")).session(&id));
        // The store stores the object, its response is lost, and then it is unavailable.
        world.s3().proxy.next([StoreFault::ResetInstead]);
        world.s3().proxy.always(StoreFault::Answer(503, ""));
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
        world.until_with_clock(name, |seen| pending(seen, "False/StoreUnavailable")).await;

        if !has_proof {
            world.s3().forget_attributes();
        }
        world.sandbox().clear(first);
        world
            .sandbox()
            .inject(Fault::new(Call::Image, response("image/jpeg", "%PDF-1.7 later")).session(&id));
        world.s3().proxy.heal();
        let over = world.until_with_polls(name, is_settled).await;
        assert!(over.shows(&STORED), "{over:?}");
        assert_eq!(
            check(&over, &world.in_s3(&over))["front-original.pdf"],
            b"%PDF-1.7 first",
            "what is there stays"
        );
        assert!(!world.events(name).await.contains(&"EvidenceFailed".to_owned()));
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_waits_for_a_person_survives_a_restart() {
    let mut world = World::builder().s3().start().await;
    let id = world.create_session("alice", asking(front())).await;
    let file = plant(&world, &world.get("alice").await, b"something else");
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| failed(seen, "False/Conflict")).await;
    assert!(world.operator().stop().await.success());
    let arrived = world.s3().proxy.arrived();

    world.start(Launch::new()).await;
    world.create_and_finish("bob", asking(front()), Verdict::Verified).await;
    world.until("bob", is_settled).await;
    assert!(failed(&world.get("alice").await, "False/Conflict"));
    assert_eq!(
        world.s3().proxy.arrived(),
        arrived + 3,
        "bob's image, the check of conditional writes, and his manifest alone"
    );
    fs::remove_file(&file).unwrap();
    world.annotate("alice", RETRY, "now").await;
    world.until("alice", is_settled).await;
    world.finish().await;
}
