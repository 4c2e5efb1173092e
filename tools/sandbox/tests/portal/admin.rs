//! The admin endpoints for other processes.

use okid_sandbox::Endpoint;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{KEY, OTHER_KEY, Scene};

impl Scene {
    async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let mut request = self.client.request(method, self.url(&format!("/sandbox{path}")));
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Response {
        self.admin(Method::POST, path, Some(body)).await
    }

    async fn get(&self, path: &str) -> Value {
        self.admin(Method::GET, path, None).await.json().await.unwrap()
    }
}

#[tokio::test]
async fn another_process_can_act_as_the_person() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    let path = format!("/sessions/{id}");
    for act in
        [json!("open"), json!({"complete": "terms"}), json!({"show": "passport"}), json!("complete_all")]
    {
        assert_eq!(scene.post(&format!("{path}/act"), act).await.status(), 200);
    }
    let session: Value =
        scene.post(&format!("{path}/act"), json!({"decide": "verified"})).await.json().await.unwrap();
    assert_eq!((&session["status"], &session["document"]), (&json!("verified"), &json!("passport")));
    assert_eq!(scene.post(&format!("{path}/act"), json!({"skip": "terms"})).await.status(), 409);
    assert_eq!(scene.post("/sessions/ver_none/act", json!("open")).await.status(), 404);
    assert_eq!(scene.get("/sessions").await.as_array().unwrap().len(), 1);
    assert_eq!(scene.admin(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(scene.admin(Method::GET, &path, None).await.status(), 404);
}

#[tokio::test]
async fn another_process_can_assign_a_scripted_person_and_advance_the_clock() {
    let scene = Scene::new().await;
    let person = json!({"steps": [{"after_ms": 60_000, "act": {"decide": "rejected"}}]});
    assert_eq!(scene.post("/person", person.clone()).await.status(), 204);
    let all = scene.created().await;
    assert_eq!(scene.admin(Method::DELETE, "/person", None).await.status(), 204);
    let (one, none) = (scene.created().await, scene.created().await);
    assert_eq!(scene.post(&format!("/sessions/{one}/person"), person).await.status(), 204);
    let clock: Value =
        scene.post("/clock", json!({"speed": 0, "advance_ms": 60_000})).await.json().await.unwrap();
    assert_eq!(clock["speed"], 0.0);
    let mut statuses = Vec::new();
    for id in [&all, &one, &none] {
        statuses.push(scene.session_status(id).await);
    }
    assert_eq!(statuses, ["rejected", "rejected", "generated"]);
}

#[tokio::test]
async fn the_default_content_type_of_curl_is_accepted_for_json() {
    let scene = Scene::new().await;
    let send = async |body: &'static str| {
        let request = scene.client.post(scene.url("/sandbox/clock")).body(body);
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(r#"{"speed":0}"#).await, 200);
    assert_eq!(send(r#"{"sped":0}"#).await, 422);
}

#[tokio::test]
async fn another_process_can_inject_and_clear_faults() {
    let scene = Scene::new().await;
    let fault = json!({"call": "create", "action": {"respond": {"status": 503}}});
    let injected: Value = scene.post("/faults", fault).await.json().await.unwrap();
    assert_eq!(scene.create().await.unwrap().status(), 503);
    assert_eq!(scene.get("/faults").await[0]["hits"], 1);
    let path = format!("/faults/{}", injected["id"]);
    assert_eq!(scene.admin(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(scene.admin(Method::DELETE, &path, None).await.status(), 404);
    assert_eq!(scene.create().await.unwrap().status(), 200);
    assert!(
        scene
            .post("/faults", json!({"call": "create", "action": "explode"}))
            .await
            .status()
            .is_client_error()
    );
    assert_eq!(scene.admin(Method::DELETE, "/faults", None).await.status(), 204);
}

#[tokio::test]
async fn another_process_can_change_keys_and_settings_and_read_counters() {
    let scene = Scene::new().await;
    assert_eq!(scene.post("/keys", json!({"key": "test-key-three"})).await.status(), 204);
    assert_eq!(scene.create_with("test-key-three").await.unwrap().status(), 200);
    let gone = scene.admin(Method::DELETE, "/keys", Some(json!({"key": OTHER_KEY}))).await;
    assert_eq!(gone.status(), 204);
    assert_eq!(scene.create_with(OTHER_KEY).await.unwrap().status(), 401);
    assert_eq!(scene.post("/settings", json!({"configured": false, "expiry_ms": 5})).await.status(), 204);
    assert_eq!(scene.create().await.unwrap().status(), 500);
    let counters = scene.get("/counters").await;
    assert_eq!(counters["endpoints"]["create"]["requests"], 3);
    assert_eq!(counters["endpoints"]["create"]["statuses"]["401"], 1);
    assert_eq!(counters["keys"]["(unknown)"]["create"], 1);
    assert!(!scene.get("/requests").await.to_string().contains(KEY));
    assert!(!scene.get("/keys").await.to_string().contains(KEY));
    assert_eq!(scene.admin(Method::DELETE, "/counters", None).await.status(), 204);
    assert_eq!(scene.sandbox.count(Endpoint::Create), 0);
    let seeded: Value = scene.post("/sessions", json!({"count": 3})).await.json().await.unwrap();
    assert_eq!(seeded["ids"].as_array().unwrap().len(), 3);
}
