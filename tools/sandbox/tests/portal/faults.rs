//! Every family of faults that is an answer.

use std::time::Duration;

use okid_sandbox::{Action, Call, Edit, Endpoint, Fault, Huge, Malformed, RetryAfter, Verdict};
use serde_json::{Value, json};

use crate::{KEY, OTHER_KEY, Scene};

async fn strikes(scene: &Scene, action: Action) -> reqwest::Response {
    scene.sandbox.order(Fault::new(Call::Create, action).once());
    scene.create().await.unwrap()
}

#[tokio::test]
async fn a_status_comes_with_its_documented_error_and_then_no_more() {
    let scene = Scene::new().await;
    for (status, error) in [
        (400, "Invalid request"),
        (401, "Invalid API key provided"),
        (403, "API key does not have access to this verification"),
        (404, "Verification not found"),
        (429, "Too many requests"),
        (503, "Internal server error"),
    ] {
        let answer = strikes(&scene, Action::status(status)).await;
        assert_eq!(answer.status(), status);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"], error);
    }
    assert_eq!(scene.sandbox.session_count(), 0);
    assert_eq!(scene.create().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_gateway_answers_in_the_portals_place() {
    let scene = Scene::new().await;
    for (order, status, form, text) in [
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
        let answer = strikes(&scene, serde_json::from_value(order).unwrap()).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], form);
        let body = answer.text().await.unwrap();
        assert!(body.contains(text) && (text.is_empty() == body.is_empty()), "{body}");
    }
    assert_eq!(scene.sandbox.session_count(), 0);
}

#[tokio::test]
async fn a_fault_after_processing_leaves_a_real_session_behind() {
    let scene = Scene::new().await;
    let fault = Fault::new(Call::Create, Action::status(502)).times(2).after();
    let ordered = scene.sandbox.order(fault);
    for _ in 0..2 {
        assert_eq!(scene.create().await.unwrap().status(), 502);
    }
    assert_eq!((scene.sandbox.session_count(), scene.sandbox.hits(ordered)), (2, 2));
    let orphan = scene.sandbox.creates()[0].session.clone().unwrap();
    assert_eq!(scene.status_word(&orphan).await, "generated");
}

#[tokio::test]
async fn an_invented_answer_names_a_session_that_is_not_there() {
    let scene = Scene::new().await;
    let answer = strikes(&scene, Action::set("/flow", json!(["terms"]))).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["flow"], json!(["terms"]));
    assert_eq!(scene.sandbox.session_count(), 0);
    assert_eq!(scene.sandbox.creates()[0].session, None);
    let id = answer["verificationId"].as_str().unwrap();
    assert_eq!(scene.details(id).await.unwrap().status(), 404);
}

#[tokio::test]
async fn retry_after_comes_as_seconds_as_a_date_and_as_nonsense() {
    let scene = Scene::new().await;
    scene.sandbox.set_speed(0.0);
    let header = async |after| {
        let answer = strikes(&scene, Action::retry_after(429, after)).await;
        answer.headers()["retry-after"].to_str().unwrap().to_owned()
    };
    assert_eq!(header(RetryAfter::Seconds(7)).await, "7");
    assert_eq!(header(RetryAfter::Text("soon".into())).await, "soon");
    let date = httpdate::parse_http_date(&header(RetryAfter::Date(60)).await).unwrap();
    let left = jiff::Timestamp::try_from(date).unwrap().as_second() - scene.sandbox.now().as_second();
    assert_eq!(left, 60);
}

#[tokio::test]
async fn a_fault_can_be_meant_for_one_key_or_one_session_only() {
    let scene = Scene::new().await;
    let (first, second) = (scene.created().await, scene.created().await);
    let sandbox = &scene.sandbox;
    sandbox.order(Fault::new(Call::Create, Action::status(429)).key(KEY));
    sandbox.order(Fault::new(Call::Details, Action::status(500)).session(&first));
    assert_eq!(scene.create().await.unwrap().status(), 429);
    assert_eq!(scene.create_with(OTHER_KEY).await.unwrap().status(), 200);
    assert_eq!(scene.details(&first).await.unwrap().status(), 500);
    assert_eq!(scene.details(&second).await.unwrap().status(), 200);
    sandbox.clear_faults();
    assert_eq!(scene.create().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_redirect_points_where_it_is_told_to() {
    let scene = Scene::new().await;
    for status in [301, 302, 307, 308] {
        let answer = strikes(&scene, Action::redirect(status, "http://127.0.0.1:1/steal")).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["location"], "http://127.0.0.1:1/steal");
    }
    assert_eq!(scene.sandbox.count(Endpoint::Create), 4);
}

#[tokio::test]
async fn malformed_bodies_are_no_json_of_the_contract() {
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
        let answer = strikes(&scene, Action::Malformed(form)).await;
        assert_eq!(answer.status(), 200, "{form:?}");
        let body = answer.bytes().await.unwrap();
        assert!(serde_json::from_slice::<Value>(&body).is_err(), "{form:?}");
    }
    let twice = strikes(&scene, Action::Malformed(Malformed::DuplicateKeys)).await.text().await.unwrap();
    assert_eq!(twice.matches("\"verificationId\"").count(), 2);
}

#[tokio::test]
async fn an_id_can_be_anything() {
    let scene = Scene::new().await;
    let id = async |action| {
        let answer: Value = strikes(&scene, action).await.json().await.unwrap();
        answer.get("verificationId").cloned()
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
async fn details_can_name_another_id_and_unknown_words() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    let words: [Value; 5] = ["VERIFIED".into(), Value::Null, 3.into(), "".into(), "a".repeat(1 << 20).into()];
    for word in words {
        let fault = Fault::new(Call::Details, Action::set("/status/current", word.clone())).once();
        scene.sandbox.order(fault);
        assert_eq!(scene.status_word(&id).await, word);
    }
    let edits = vec![
        Edit::Set { at: "/verification_id".into(), value: "ver_wrong".into() },
        Edit::Crowd { at: "/status/progress".into(), entries: 10_000 },
        Edit::Nest { at: "/results".into(), depth: 100 },
    ];
    scene.sandbox.order(Fault::new(Call::Details, Action::Edit(edits)).once());
    let details: Value = scene.details(&id).await.unwrap().json().await.unwrap();
    assert_eq!(details["verification_id"], "ver_wrong");
    assert_eq!(details["status"]["progress"].as_object().unwrap().len(), 10_000);
    assert!(details["results"][0][0][0].is_array());
    scene.sandbox.set_status_word(&id, "junk").unwrap();
    assert_eq!(scene.status_word(&id).await, "junk");
    scene.sandbox.decide(&id, Verdict::Rejected).unwrap();
    assert_eq!(scene.status_word(&id).await, "rejected");
}

#[tokio::test]
async fn an_image_can_be_html() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    scene.sandbox.complete(&id, "document").unwrap();
    scene.sandbox.order(Fault::new(Call::Image, Action::Malformed(Malformed::Html)).once());
    let answer = scene.read(&format!("/api/get-verification-image-back/{id}"), KEY).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"));
}

#[tokio::test]
async fn headers_and_bodies_can_be_huge() {
    let scene = Scene::new().await;
    let endless = Action::Huge(Huge::Endless { bytes: 3_000_000 });
    let body = strikes(&scene, endless).await.bytes().await.unwrap();
    assert!(body.starts_with(br#"{"verificationId":"aaa"#));
    assert!(body.len() > 3_000_000);
    let header = strikes(&scene, Action::Huge(Huge::Header { bytes: 100_000 })).await;
    assert_eq!(header.headers()["x-filler"].len(), 100_000);
}

#[tokio::test]
async fn a_delayed_call_is_processed_after_the_delay() {
    let scene = Scene::new().await;
    let delay = Duration::from_millis(20);
    scene.sandbox.order(Fault::new(Call::Create, Action::Pass).once().delay(delay));
    assert_eq!(scene.create().await.unwrap().status(), 200);
    assert_eq!(scene.sandbox.session_count(), 1);
}

#[test]
fn a_fault_reads_as_the_json_that_is_documented() {
    let ordered: Fault = serde_json::from_value(json!({
        "call": "create", "times": 1, "moment": "after", "action": {"cut": "before_headers"}
    }))
    .unwrap();
    let built = Fault::new(Call::Create, Action::Cut(okid_sandbox::Cut::BeforeHeaders)).once().after();
    assert_eq!(ordered, built);
    for action in [
        json!("hang"),
        json!({"answer": {"status": 429, "retry_after": {"seconds": 5}}}),
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
