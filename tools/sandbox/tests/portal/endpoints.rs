//! The flows of the guide, and who may read what.

use okid_sandbox::{Act, Document, Endpoint, Verdict};
use serde_json::{Value, json};

use crate::{KEY, OTHER_KEY, Scene};

#[tokio::test]
async fn a_create_responds_as_the_guide_shows() {
    let scene = Scene::new().await;
    let response = scene.create().await.unwrap();
    assert_eq!(response.status(), 200);
    let response: Value = response.json().await.unwrap();
    let id = response["verificationId"].as_str().unwrap();
    assert!(id.starts_with("ver_"));
    assert_eq!(response["flow"], json!(["terms", "document", "liveness", "form_data"]));
    assert!(response["modules"]["document"].is_object());
    let session = scene.sandbox.session(id).unwrap();
    let expires_at: jiff::Timestamp = response["expiresAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires_at.as_millisecond(), session.expires_at.as_millisecond());
    assert_eq!(session.status, "generated");
}

#[tokio::test]
async fn a_create_may_carry_a_body() {
    let scene = Scene::new().await;
    let request = scene.client.post(scene.url("/api/generate-verification"));
    let response = request.header("X-SDK-Key", KEY).json(&json!({"anything": 1})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(scene.sandbox.creates()[0].body_bytes, Some(14));
    assert_eq!(scene.sandbox.creates()[0].header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn details_show_progress_without_the_terms_and_results_once_there_is_a_verdict() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    scene.sandbox.complete(&id, "terms").unwrap();
    scene.sandbox.act(&id, &Act::Begin("document".into())).unwrap();
    let details: Value = scene.details(&id).await.unwrap().json().await.unwrap();
    assert_eq!(details["verification_id"], json!(id));
    assert_eq!(details["status"]["current"], "in_progress");
    let progress = json!({"document": "in_progress", "liveness": "pending", "form_data": "pending"});
    assert_eq!(details["status"]["progress"], progress);
    assert!(details.get("results").is_none());
    scene.sandbox.finish(&id, Verdict::Verified).unwrap();
    let details: Value = scene.details(&id).await.unwrap().json().await.unwrap();
    assert_eq!(details["status"]["current"], "verified");
    assert!(details["results"]["document"].is_object());
}

#[tokio::test]
async fn a_key_reads_only_the_sessions_it_created() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    scene.sandbox.finish(&id, Verdict::Verified).unwrap();
    for endpoint in ["details", "image", "image-unredacted", "image-front", "image-back"] {
        let path = format!("/api/get-verification-{endpoint}/{id}");
        assert_eq!(scene.read(&path, KEY).await.unwrap().status(), 200, "{endpoint}");
        let refused = scene.read(&path, OTHER_KEY).await.unwrap();
        assert_eq!(refused.status(), 403, "{endpoint}");
        let error: Value = refused.json().await.unwrap();
        assert_eq!(error["error"], "API key does not have access to this verification");
    }
}

#[tokio::test]
async fn an_unknown_or_missing_key_is_refused_with_the_documented_text() {
    let scene = Scene::new().await;
    let refused = scene.create_with("unknown-key").await.unwrap();
    assert_eq!(refused.status(), 401);
    let error: Value = refused.json().await.unwrap();
    assert_eq!(error, json!({"error": "Invalid API key provided", "code": "INVALID_API_KEY"}));
    let bare = scene.client.post(scene.url("/api/generate-verification")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert_eq!(scene.sandbox.session_count(), 0);
    assert_eq!(scene.sandbox.count(Endpoint::Create), 2);
}

#[tokio::test]
async fn a_key_that_is_removed_and_added_again_reads_its_sessions_again() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    assert!(scene.sandbox.remove_key(KEY));
    assert_eq!(scene.details(&id).await.unwrap().status(), 401);
    scene.sandbox.add_key(KEY);
    assert_eq!(scene.details(&id).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_portal_without_a_backend_reports_it() {
    let scene = Scene::new().await;
    scene.sandbox.set_configured(false);
    let refused = scene.create().await.unwrap();
    assert_eq!(refused.status(), 500);
    let error: Value = refused.json().await.unwrap();
    assert_eq!(error["error"], "Server not configured");
}

#[tokio::test]
async fn an_id_that_is_unknown_or_forgotten_is_not_found() {
    let scene = Scene::new().await;
    assert_eq!(scene.details("ver_nothing").await.unwrap().status(), 404);
    let id = scene.created().await;
    assert!(scene.sandbox.forget(&id));
    assert_eq!(scene.details(&id).await.unwrap().status(), 404);
}

#[tokio::test]
async fn images_are_jpegs_of_the_requested_attempt_and_type() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    let image = |query: &str| scene.url(&format!("/api/get-verification-image/{id}{query}"));
    let fetch = async |query: &str| {
        let response = scene.client.get(image(query)).header("X-SDK-Key", KEY).send().await.unwrap();
        (
            response.status().as_u16(),
            response.headers().get("content-type").cloned(),
            response.bytes().await.unwrap(),
        )
    };
    assert_eq!(fetch("").await.0, 404, "before anything was uploaded");
    scene.sandbox.act(&id, &Act::Fail("document".into())).unwrap();
    scene.sandbox.complete(&id, "document").unwrap();
    let (status, content_type, first) = fetch("").await;
    assert_eq!((status, content_type.unwrap().to_str().unwrap()), (200, "image/jpeg"));
    assert!(first.starts_with(&[0xff, 0xd8, 0xff]));
    assert_eq!(fetch("?attempt_index=0&image_type=original").await.2, first);
    assert_ne!(fetch("?attempt_index=1").await.2, first);
    assert_ne!(fetch("?image_type=cropped").await.2, first);
    assert_eq!(fetch("?attempt_index=2").await.0, 404);
    assert_eq!(fetch("?attempt_index=minus").await.0, 400);
    assert_eq!(fetch("?image_type=../etc").await.0, 400);
}

#[tokio::test]
async fn a_passport_has_no_back() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    scene.sandbox.show(&id, Document::Passport).unwrap();
    scene.sandbox.complete(&id, "document").unwrap();
    let front = scene.read(&format!("/api/get-verification-image-front/{id}"), KEY).await.unwrap();
    let back = scene.read(&format!("/api/get-verification-image-back/{id}"), KEY).await.unwrap();
    assert_eq!((front.status().as_u16(), back.status().as_u16()), (200, 404));
}

#[tokio::test]
async fn counters_distinguish_endpoints_keys_sessions_and_connections() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    scene.create_with(OTHER_KEY).await.unwrap();
    scene.details(&id).await.unwrap();
    let sandbox = &scene.sandbox;
    assert_eq!(sandbox.count(Endpoint::Create), 2);
    assert_eq!(sandbox.count_of_key(KEY, Endpoint::Create), 1);
    assert_eq!(sandbox.count_of_key(KEY, Endpoint::Details), 1);
    assert_eq!(sandbox.count_of_key(OTHER_KEY, Endpoint::Details), 0);
    assert_eq!(sandbox.session(&id).unwrap().details_requests, 1);
    assert_eq!(sandbox.counters().endpoints[&Endpoint::Create].statuses[&200], 2);
    let creates = sandbox.creates();
    assert_eq!(creates[0].session.as_deref(), Some(id.as_str()));
    assert_eq!(creates[0].key.as_deref(), Some(KEY));
    assert_eq!(creates[0].header("referer"), None);
    assert!(creates[0].header("host").is_some());
    assert!(!serde_json::to_string(&creates).unwrap().contains(KEY));
    sandbox.reset_counters();
    assert_eq!((sandbox.count(Endpoint::Create), sandbox.session_count()), (0, 2));
}

#[tokio::test]
async fn a_hundred_thousand_sessions_can_be_seeded() {
    let scene = Scene::new().await;
    let ids = scene.sandbox.seed(100_000);
    assert_eq!((ids.len(), scene.sandbox.session_count()), (100_000, 100_000));
    assert_eq!(scene.session_status(&ids[99_999]).await, "generated");
    let foreign = scene.sandbox.seed_for(OTHER_KEY, 1);
    assert_eq!(scene.details(&foreign[0]).await.unwrap().status(), 403);
}
