//! Notifications: what the webhook receives, and in which ways.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use okid_sandbox::{Delivery, Person, Sandbox, Verdict, Webhook};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{KEY, Scene};

type Received = (String, String);

/// A webhook, and what it receives: the signature and the body.
async fn webhook() -> (Webhook, UnboundedReceiver<Received>) {
    let (sender, received) = unbounded_channel();
    let receive =
        async |State(sender): State<Arc<UnboundedSender<Received>>>, headers: HeaderMap, body: String| {
            let signature = headers["x-signature"].to_str().unwrap().to_owned();
            sender.send((signature, body)).unwrap();
        };
    let routes = Router::new().route("/notify", post(receive)).with_state(Arc::new(sender));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/notify", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (Webhook { url, secret: "whsec_test".to_owned(), header: "X-Signature".to_owned() }, received)
}

fn id_in(body: &str) -> String {
    serde_json::from_str::<Value>(body).unwrap()["verification_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_change_is_notified_once_twice_not_at_all_or_with_a_wrong_signature() {
    let (webhook, mut received) = webhook().await;
    let scene = Scene::of(Sandbox::builder().webhook(webhook)).await;
    let id = scene.created().await;
    scene.sandbox.open(&id).unwrap();
    let (good, body) = received.recv().await.unwrap();
    assert_eq!((id_in(&body), good.len()), (id.clone(), 64));

    scene.sandbox.set_delivery(Delivery::Lost);
    scene.sandbox.complete(&id, "terms").unwrap();
    scene.sandbox.set_delivery(Delivery::Doubled);
    scene.sandbox.complete(&id, "document").unwrap();
    assert_eq!(
        [received.recv().await.unwrap().0, received.recv().await.unwrap().0],
        [good.clone(), good.clone()]
    );

    scene.sandbox.set_delivery(Delivery::Signed);
    let url = scene.url(&format!("/sandbox/sessions/{id}/notify"));
    let notify = scene.client.post(url).json(&json!({"delivery": "forged"})).send().await.unwrap();
    assert_eq!(notify.status(), 204);
    let (forged, body) = received.recv().await.unwrap();
    assert!(forged != good && id_in(&body) == id);
    scene.sandbox.stop().await;
}

#[tokio::test]
async fn a_scripted_person_is_notified_without_any_request() {
    let (webhook, mut received) = webhook().await;
    let sandbox = Sandbox::builder().key(KEY).webhook(webhook).start().await;
    let id = sandbox.seed(1).remove(0);
    sandbox.assign(&id, &Person::typical(Duration::from_millis(1), Verdict::Verified)).unwrap();
    while sandbox.session(&id).unwrap().status != "verified" {
        assert_eq!(id_in(&received.recv().await.unwrap().1), id);
    }
    sandbox.stop().await;
}
