//! Images that cannot be stored, or not as they come from the portal. The verdict stays final throughout.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use okid_operator::api::RETRY;
use okid_sandbox::{Action, Call, Cut, Fault, Huge, Malformed, Verdict};
use serde_json::json;

use crate::evidence_failures::{
    STORED, failed, is_settled, pending, response, response_with, stays_verified,
};
use crate::harness::evidence::{asking, check, front, sha256};
use crate::harness::{VerificationExt as _, World};

/// Responses in place of an image, none of which may be stored.
fn bad_images() -> BTreeMap<&'static str, Action> {
    BTreeMap::from([
        ("html", response("text/html", "<html><p>Please sign in</p></html>")),
        ("html-as-jpeg", response("image/jpeg", "<html><p>Please sign in</p></html>")),
        ("json", response("application/json", r#"{"error": "not now"}"#)),
        ("svg", response("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg'/>")),
        ("empty", Action::Malformed(Malformed::Empty)),
        ("wrong-magic", response("image/jpeg", "GIF89a, by its first bytes")),
        ("announced-200-mb", Action::Huge(Huge::WrongLength { declared: 200 << 20 })),
        ("endless", Action::Huge(Huge::Endless { bytes: 1 << 30 })),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_is_no_image_is_never_stored() {
    let world = World::builder().s3().start().await;
    let mut faults = Vec::new();
    for (name, action) in bad_images() {
        let id = world.create_session(name, asking(front())).await;
        faults.push((name, world.sandbox().inject(Fault::new(Call::Image, action).session(&id))));
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
    }
    let all_requested = |world: &World| faults.iter().all(|(_, fault)| world.sandbox().hits(*fault) >= 1);
    world.until_portal("a response to each", all_requested).await;
    // Errors of less than a minute are not reported, and after ten minutes the evidence fails.
    world.advance_clock(Duration::from_secs(61));
    for (name, _) in &faults {
        world.until_with_polls(name, |seen| pending(seen, "False/ImageUnusable")).await;
    }
    for (name, _) in &faults {
        world.until_with_clock(name, |seen| failed(seen, "False/ImageUnusable")).await;
        stays_verified(&world, name);
    }
    assert_eq!(world.s3().proxy.arrived(), 0);
    // Twice the budget for images in flight, plus what the process needs otherwise.
    assert!(world.operator().peak_memory() < 256 << 20, "{}", world.operator().peak_memory());

    for (name, fault) in faults {
        world.sandbox().clear(fault);
        world.annotate(name, RETRY, "it is an image now").await;
        let over = world.until(name, is_settled).await;
        assert!(over.shows(&STORED), "{name}: {over:?}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_of_an_intermediary_loses_no_image() {
    let world = World::builder().s3().start().await;
    let id =
        world.create_session("alice", asking(json!({"images": [{"kind": "Front"}, {"kind": "Back"}]}))).await;
    let gateway = response_with(404, "text/html", "default backend - 404");
    let fault = world.sandbox().inject(Fault::new(Call::Image, gateway).session(&id));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("a response to each", |world| world.sandbox().hits(fault) >= 2).await;
    world.advance_clock(Duration::from_secs(61));
    let waiting = world.until_with_polls("alice", |seen| pending(seen, "False/PortalUnavailable")).await;
    assert!(
        waiting.status_or_default().evidence.is_none_or(|evidence| evidence.objects.is_empty()),
        "{waiting:?}"
    );

    world.sandbox().clear(fault);
    let over = world.until_with_polls("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(check(&over, &world.in_s3(&over)).len(), 3);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_404s_without_a_body_over_ten_minutes_make_an_image_absent() {
    let world = World::builder().s3().start().await;
    let id = world.create_session("alice", asking(json!({"images": [{"kind": "Back"}]}))).await;
    let fault =
        world.sandbox().inject(Fault::new(Call::Image, response_with(404, "text/plain", "")).session(&id));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    for times in 1..=3 {
        world.until_portal("the response", |world| world.sandbox().hits(fault) >= times).await;
        assert!(!is_settled(&world.get("alice").await));
        world.advance_clock(Duration::from_secs(200));
        world.request_poll("alice").await;
    }
    let over = world.until_with_polls("alice", is_settled).await;
    assert!(over.shows(&["Ready=True/Verified", "EvidenceStored=True/NothingToStore"]), "{over:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_with_a_wrong_content_type_is_stored_with_its_true_type() {
    let world = World::builder().s3().start().await;
    for (name, label) in [("generic", "binary/octet-stream"), ("another", "image/jpeg")] {
        let id = world.create_session(name, asking(front())).await;
        world.sandbox().inject(Fault::new(Call::Image, response(label, "%PDF-1.7")).session(&id));
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
        let over = world.until(name, is_settled).await;
        assert!(over.shows(&STORED), "{label}: {over:?}");
        let object = over.status_or_default().evidence.unwrap().objects.remove(0);
        assert_eq!(object.content_type.as_deref(), Some("application/pdf"));
        assert_eq!(check(&over, &world.in_s3(&over))["front-original.pdf"], b"%PDF-1.7");
    }
    let passed = world.s3().proxy.passed();
    let image = passed.iter().find(|passed| passed.path.ends_with("/front-original.pdf")).unwrap();
    assert_eq!(image.asked["content-type"], "application/pdf");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_image_is_requested_again_and_stored_whole() {
    let world = World::builder().s3().start().await;
    let id = world.create_session("alice", asking(front())).await;
    world.sandbox().inject(Fault::new(Call::Image, Action::Cut(Cut::MidBody)).after().times(2));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    let whole =
        world.portal_response(&format!("get-verification-image-front/{id}?image_type=original")).await;
    assert_eq!(sha256(&check(&over, &world.in_s3(&over))["front-original.jpg"]), sha256(&whole));
    let puts = world.s3().proxy.count(&Method::PUT);
    assert_eq!(puts, 3, "two objects, one of them sent twice; no partial image ever reached the store");
    world.finish().await;
}
