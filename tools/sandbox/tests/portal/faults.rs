//! Every kind of fault that is a response.

use std::time::Duration;

use okid_sandbox::{Action, Call, Edit, Endpoint, Fault, Huge, Malformed, RetryAfter, Verdict};
use serde_json::{Value, json};

use crate::{KEY, OTHER_KEY, Scene};

async fn create_with_fault(scene: &Scene, action: Action) -> reqwest::Response {
    scene.sandbox.inject(Fault::new(Call::Create, action).once());
    scene.create().await.unwrap()
}

#[tokio::test]
async fn a_status_has_its_documented_error_and_a_fault_for_one_request_ends() {
    let scene = Scene::new().await;
    for (status, error) in [
        (400, "Invalid request"),
        (401, "Invalid API key provided"),
        (403, "API key does not have access to this verification"),
        (404, "Verification not found"),
        (429, "Too many requests"),
        (503, "Internal server error"),
    ] {
        let response = create_with_fault(&scene, Action::status(status)).await;
        assert_eq!(response.status(), status);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"], error);
    }
    assert_eq!(scene.sandbox.session_count(), 0);
    assert_eq!(scene.create().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_gateway_responds_in_place_of_the_portal() {
    let scene = Scene::new().await;
    for (action, status, content_type, text) in [
        (json!({"gateway": "challenge"}), 403, "text/html; charset=UTF-8", "Just a moment..."),
        (json!({"gateway": {"empty": {"status": 404}}}), 404, "text/plain", ""),
        (json!({"gateway": "nginx502"}), 502, "text/html", "<center>nginx</center>"),
        (json!({"gateway": "forbidden"}), 403, "application/json", r#"{"message":"Forbidden"}"#),
        (
            json!({"gateway": "no_route"}),
            404,
            "application/json; charset=utf-8",
            r#"{"message":"no Route matched with those values"}"#,
        ),
    ] {
        let response = create_with_fault(&scene, serde_json::from_value(action).unwrap()).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], content_type);
        let body = response.text().await.unwrap();
        assert!(body.contains(text) && (text.is_empty() == body.is_empty()), "{body}");
    }
    assert_eq!(scene.sandbox.session_count(), 0);
}

#[tokio::test]
async fn a_fault_after_processing_leaves_a_real_session_behind() {
    let scene = Scene::new().await;
    let fault = Fault::new(Call::Create, Action::status(502)).times(2).after();
    let fault = scene.sandbox.inject(fault);
    for _ in 0..2 {
        assert_eq!(scene.create().await.unwrap().status(), 502);
    }
    assert_eq!((scene.sandbox.session_count(), scene.sandbox.hits(fault)), (2, 2));
    let orphan = scene.sandbox.creates()[0].session.clone().unwrap();
    assert_eq!(scene.session_status(&orphan).await, "generated");
}

#[tokio::test]
async fn an_invented_response_names_a_session_that_does_not_exist() {
    let scene = Scene::new().await;
    let response = create_with_fault(&scene, Action::set("/flow", json!(["terms"]))).await;
    let response: Value = response.json().await.unwrap();
    assert_eq!(response["flow"], json!(["terms"]));
    assert_eq!(scene.sandbox.session_count(), 0);
    assert_eq!(scene.sandbox.creates()[0].session, None);
    let id = response["verificationId"].as_str().unwrap();
    assert_eq!(scene.details(id).await.unwrap().status(), 404);
}

#[tokio::test]
async fn retry_after_can_be_seconds_a_date_or_nonsense() {
    let scene = Scene::new().await;
    scene.sandbox.set_speed(0.0);
    let header = async |after| {
        let response = create_with_fault(&scene, Action::retry_after(429, after)).await;
        response.headers()["retry-after"].to_str().unwrap().to_owned()
    };
    assert_eq!(header(RetryAfter::Seconds(7)).await, "7");
    assert_eq!(header(RetryAfter::Text("soon".into())).await, "soon");
    let date = httpdate::parse_http_date(&header(RetryAfter::Date(60)).await).unwrap();
    let left = jiff::Timestamp::try_from(date).unwrap().as_second() - scene.sandbox.now().as_second();
    assert_eq!(left, 60);
}

#[tokio::test]
async fn a_fault_can_be_limited_to_one_key_or_one_session() {
    let scene = Scene::new().await;
    let (first, second) = (scene.created().await, scene.created().await);
    let sandbox = &scene.sandbox;
    sandbox.inject(Fault::new(Call::Create, Action::status(429)).key(KEY));
    sandbox.inject(Fault::new(Call::Details, Action::status(500)).session(&first));
    assert_eq!(scene.create().await.unwrap().status(), 429);
    assert_eq!(scene.create_with(OTHER_KEY).await.unwrap().status(), 200);
    assert_eq!(scene.details(&first).await.unwrap().status(), 500);
    assert_eq!(scene.details(&second).await.unwrap().status(), 200);
    sandbox.clear_faults();
    assert_eq!(scene.create().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_redirect_points_to_the_given_location() {
    let scene = Scene::new().await;
    for status in [301, 302, 307, 308] {
        let response = create_with_fault(&scene, Action::redirect(status, "http://127.0.0.1:1/steal")).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["location"], "http://127.0.0.1:1/steal");
    }
    assert_eq!(scene.sandbox.count(Endpoint::Create), 4);
}

#[tokio::test]
async fn malformed_bodies_are_not_the_documented_json() {
    let scene = Scene::new().await;
    let forms = [
        Malformed::Empty,
        Malformed::Html,
        Malformed::Truncated,
        Malformed::Bom,
        Malformed::TrailingGarbage,
        Malformed::Nan,
        Malformed::NotUtf8,
        Malformed::Nested { depth: 10_000 },
    ];
    for form in forms {
        let response = create_with_fault(&scene, Action::Malformed(form)).await;
        assert_eq!(response.status(), 200, "{form:?}");
        let body = response.bytes().await.unwrap();
        assert!(serde_json::from_slice::<Value>(&body).is_err(), "{form:?}");
    }
    let twice =
        create_with_fault(&scene, Action::Malformed(Malformed::DuplicateKeys)).await.text().await.unwrap();
    assert_eq!(twice.matches("\"verificationId\"").count(), 2);
}

#[tokio::test]
async fn an_id_can_be_anything() {
    let scene = Scene::new().await;
    let id = async |action| {
        let response: Value = create_with_fault(&scene, action).await.json().await.unwrap();
        response.get("verificationId").cloned()
    };
    let another = scene.created().await;
    let values =
        ["".into(), "../".into(), "a\r\nb".into(), 7.into(), Value::Null, "п👩‍🚀".into(), another.into()];
    for value in values {
        assert_eq!(id(Action::set("/verificationId", value.clone())).await, Some(value));
    }
    assert_eq!(id(Action::remove("/verificationId")).await, None);
    let long = id(Action::fill("/verificationId", 10_240)).await.unwrap();
    assert_eq!(long.as_str().unwrap().len(), 10_240);
}

#[tokio::test]
async fn details_can_have_another_id_and_any_status() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    let statuses: [Value; 5] =
        ["VERIFIED".into(), Value::Null, 3.into(), "".into(), "a".repeat(1 << 20).into()];
    for status in statuses {
        let fault = Fault::new(Call::Details, Action::set("/status/current", status.clone())).once();
        scene.sandbox.inject(fault);
        assert_eq!(scene.session_status(&id).await, status);
    }
    let edits = vec![
        Edit::Set { at: "/verification_id".into(), value: "ver_wrong".into() },
        Edit::Crowd { at: "/status/progress".into(), entries: 10_000 },
        Edit::Nest { at: "/results".into(), depth: 100 },
    ];
    scene.sandbox.inject(Fault::new(Call::Details, Action::Edit(edits)).once());
    let details: Value = scene.details(&id).await.unwrap().json().await.unwrap();
    assert_eq!(details["verification_id"], "ver_wrong");
    assert_eq!(details["status"]["progress"].as_object().unwrap().len(), 10_000);
    assert!(details["results"][0][0][0].is_array());
    scene.sandbox.set_status(&id, "junk").unwrap();
    assert_eq!(scene.session_status(&id).await, "junk");
    scene.sandbox.decide(&id, Verdict::Rejected).unwrap();
    assert_eq!(scene.session_status(&id).await, "rejected");
}

#[tokio::test]
async fn an_image_can_be_html() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    scene.sandbox.complete(&id, "document").unwrap();
    scene.sandbox.inject(Fault::new(Call::Image, Action::Malformed(Malformed::Html)).once());
    let response = scene.read(&format!("/api/get-verification-image-back/{id}"), KEY).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert!(response.text().await.unwrap().starts_with("<!DOCTYPE html>"));
}

#[tokio::test]
async fn headers_and_bodies_can_be_huge() {
    let scene = Scene::new().await;
    let endless = Action::Huge(Huge::Endless { bytes: 3_000_000 });
    let body = create_with_fault(&scene, endless).await.bytes().await.unwrap();
    assert!(body.starts_with(br#"{"verificationId":"aaa"#));
    assert!(body.len() > 3_000_000);
    let header = create_with_fault(&scene, Action::Huge(Huge::Header { bytes: 100_000 })).await;
    assert_eq!(header.headers()["x-filler"].len(), 100_000);
}

#[tokio::test]
async fn a_delayed_request_is_processed_after_the_delay() {
    let scene = Scene::new().await;
    let delay = Duration::from_millis(20);
    scene.sandbox.inject(Fault::new(Call::Create, Action::Pass).once().delay(delay));
    assert_eq!(scene.create().await.unwrap().status(), 200);
    assert_eq!(scene.sandbox.session_count(), 1);
}

#[test]
fn a_fault_has_the_documented_json() {
    let parsed: Fault = serde_json::from_value(json!({
        "call": "create", "times": 1, "moment": "after", "action": {"cut": "before_headers"}
    }))
    .unwrap();
    let built = Fault::new(Call::Create, Action::Cut(okid_sandbox::Cut::BeforeHeaders)).once().after();
    assert_eq!(parsed, built);
    for action in [
        json!("hang"),
        json!({"respond": {"status": 429, "retry_after": {"seconds": 5}}}),
        json!({"redirect": {"status": 307, "location": "http://127.0.0.1:1/"}}),
        json!({"drip": {}}),
        json!({"huge": {"endless": {"bytes": 1_073_741_824}}}),
        json!({"malformed": {"nested": {"depth": 10_000}}}),
        json!({"edit": [{"set": {"at": "/verificationId", "value": "../"}}]}),
        json!({"raw": {"text": "HTTP/1.1 103 Early Hints\r\n\r\n", "times": 1000}}),
    ] {
        let fault = json!({"call": "any", "action": action});
        let read: Fault = serde_json::from_value(fault).unwrap();
        let again: Fault = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
        assert_eq!(read, again);
    }
    assert!(
        serde_json::from_value::<Fault>(json!({"call": "create", "action": "hang", "tmies": 1})).is_err()
    );
}
