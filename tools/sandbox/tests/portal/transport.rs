//! Faults of the connection itself, and both versions of HTTP.

use std::time::Duration;

use okid_sandbox::{Action, Call, Cut, Fault, FaultId, Huge};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{KEY, Scene, client};

/// Sends a create over a plain socket and reads until the portal closes the connection.
async fn raw_create(scene: &Scene) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(scene.sandbox.address()).await?;
    let request =
        format!("POST /api/generate-verification HTTP/1.1\r\nHost: portal\r\nX-SDK-Key: {KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

fn body_of(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_cut_before_the_headers_sends_nothing_and_creates_a_session_if_after() {
    let scene = Scene::new().await;
    let fault = Fault::new(Call::Create, Action::Cut(Cut::BeforeHeaders)).once();
    scene.sandbox.inject(fault.clone());
    assert_eq!(raw_create(&scene).await.unwrap(), "");
    assert_eq!(scene.sandbox.session_count(), 0);
    scene.sandbox.inject(fault.after());
    assert_eq!(raw_create(&scene).await.unwrap(), "");
    assert_eq!(scene.sandbox.session_count(), 1);
    let creates = scene.sandbox.creates();
    assert_eq!((creates[0].session.as_ref(), creates[0].status), (None, None));
    assert!(creates[1].session.is_some());
}

#[tokio::test]
async fn a_reset_is_a_tcp_reset() {
    let scene = Scene::new().await;
    scene.sandbox.inject(Fault::new(Call::Create, Action::Cut(Cut::Reset)).once());
    let error = raw_create(&scene).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_after_the_headers_or_in_the_body_sends_only_that_much() {
    let scene = Scene::new().await;
    scene.sandbox.inject(Fault::new(Call::Create, Action::Cut(Cut::AfterHeaders)).once());
    let response = raw_create(&scene).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(body_of(&response), "");
    scene.sandbox.inject(Fault::new(Call::Create, Action::Cut(Cut::MidBody)).once());
    let response = raw_create(&scene).await.unwrap();
    assert!(body_of(&response).starts_with("{\"verificationId\""), "{response}");
    assert!(!response.ends_with('}'));
}

#[tokio::test]
async fn every_cut_is_an_error_for_a_client() {
    let scene = Scene::new().await;
    for cut in [Cut::BeforeHeaders, Cut::Reset, Cut::AfterHeaders, Cut::MidBody] {
        scene.sandbox.inject(Fault::new(Call::Create, Action::Cut(cut)).once());
        let read = match scene.create().await {
            Ok(response) => response.bytes().await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(read.is_err(), "{cut:?}");
    }
}

/// Waits until the fault applied, and then for a complete request of another client, in which time the first one would have
/// got its response.
async fn until_hanging(scene: &Scene, fault: FaultId) {
    scene.sandbox.until(|portal| portal.hits(fault) == 1).await;
    let other = client().get(scene.url("/sandbox/clock")).send().await;
    assert_eq!(other.unwrap().status(), 200);
    assert!(!scene.sandbox.creates()[0].ended);
}

#[tokio::test]
async fn a_hanging_request_whose_client_disconnects_is_never_processed() {
    let scene = Scene::new().await;
    let fault = scene.sandbox.inject(Fault::new(Call::Create, Action::Hang));
    tokio::select! {
        _ = scene.create() => panic!("it must hang"),
        () = until_hanging(&scene, fault) => {}
    }
    scene.sandbox.until(|portal| portal.creates()[0].ended).await;
    assert_eq!(scene.sandbox.creates()[0].status, None);
    scene.sandbox.clear(fault);
    assert_eq!(scene.create().await.unwrap().status(), 200);
    assert_eq!(scene.sandbox.session_count(), 1);
}

#[tokio::test]
async fn a_hanging_request_gets_a_response_when_the_fault_is_cleared() {
    let scene = Scene::new().await;
    let fault = scene.sandbox.inject(Fault::new(Call::Create, Action::Hang).once().after());
    let clearing = async {
        until_hanging(&scene, fault).await;
        assert_eq!(scene.sandbox.session_count(), 1);
        scene.sandbox.clear(fault);
    };
    let (response, ()) = tokio::join!(scene.create(), clearing);
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(scene.sandbox.session_count(), 1);
}

#[tokio::test]
async fn a_dripping_response_arrives_completely_in_the_end() {
    let scene = Scene::new().await;
    let drip = Action::Drip { every: Duration::from_millis(1) };
    scene.sandbox.inject(Fault::new(Call::Create, drip).once().after());
    let response: Value = scene.create().await.unwrap().json().await.unwrap();
    assert!(scene.sandbox.session(response["verificationId"].as_str().unwrap()).is_some());
}

#[tokio::test]
async fn a_false_content_length_is_declared() {
    let scene = Scene::new().await;
    scene
        .sandbox
        .inject(Fault::new(Call::Create, Action::Huge(Huge::WrongLength { declared: 100_000 })).once());
    let response = raw_create(&scene).await.unwrap();
    assert!(response.contains("content-length: 100000\r\n"), "{response}");
    assert!(body_of(&response).len() < 1000);
    scene.sandbox.inject(Fault::new(Call::Create, Action::Huge(Huge::WrongLength { declared: 9 })).once());
    assert_eq!(scene.create().await.unwrap().bytes().await.unwrap().len(), 9);
}

#[tokio::test]
async fn raw_bytes_replace_a_response() {
    let scene = Scene::new().await;
    let raw = Action::Raw {
        text: "HTTP/1.1 103 Early Hints\r\n\r\n".into(),
        times: 1000,
        end: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".into(),
    };
    scene.sandbox.inject(Fault::new(Call::Create, raw).once());
    let response = raw_create(&scene).await.unwrap();
    assert_eq!(response.matches("103 Early Hints").count(), 1000);
    assert!(response.ends_with("\r\n\r\n{}"));
}

#[tokio::test]
async fn creates_on_new_and_on_reused_connections_can_be_distinguished() {
    let scene = Scene::new().await;
    scene.created().await;
    scene.created().await;
    client().post(scene.url("/api/generate-verification")).send().await.unwrap();
    let creates = scene.sandbox.creates();
    let seen: Vec<_> =
        creates.iter().map(|create| (create.connection, create.earlier_on_connection)).collect();
    assert_eq!(seen, [(1, 0), (1, 1), (2, 0)]);
    assert_eq!(scene.sandbox.counters().connections, 2);
}

#[tokio::test]
async fn a_closed_connection_is_not_reused() {
    let scene = Scene::new().await;
    scene.sandbox.inject(Fault::new(Call::Create, Action::Close).once());
    scene.created().await;
    scene.created().await;
    let creates = scene.sandbox.creates();
    assert_eq!((creates[1].connection, creates[1].earlier_on_connection), (2, 0));
}

#[tokio::test]
async fn http_2_with_prior_knowledge_works_on_the_same_port() {
    let scene = Scene::new().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let id = scene.sandbox.seed(1).remove(0);
    let url = scene.url(&format!("/api/get-verification-details/{id}"));
    let get = || client.get(&url).header("X-SDK-Key", KEY).send();
    assert_eq!(get().await.unwrap().version(), reqwest::Version::HTTP_2);
    assert_eq!(scene.sandbox.requests()[0].version, "HTTP/2.0");
    scene.sandbox.inject(Fault::new(Call::Details, Action::Cut(Cut::MidBody)).once());
    assert!(get().await.unwrap().bytes().await.is_err());
    assert_eq!(get().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_stopped_sandbox_releases_its_hanging_requests_and_its_port() {
    let scene = Scene::new().await;
    let Scene { sandbox, client } = scene;
    let (url, address, portal) = (sandbox.url(), sandbox.address(), sandbox.portal());
    let fault = sandbox.inject(Fault::new(Call::Create, Action::Hang));
    let request = client.post(format!("{url}/api/generate-verification")).header("X-SDK-Key", KEY).send();
    let request = tokio::spawn(request);
    portal.until(|portal| portal.hits(fault) == 1).await;
    sandbox.stop().await;
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_dropped_sandbox_stops() {
    let scene = Scene::new().await;
    let mut open = TcpStream::connect(scene.sandbox.address()).await.unwrap();
    drop(scene.sandbox);
    let mut nothing = [0];
    assert!(matches!(open.read(&mut nothing).await, Ok(0) | Err(_)));
}
