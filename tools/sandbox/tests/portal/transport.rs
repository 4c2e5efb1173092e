//! Faults of the connection itself, and both versions of HTTP.

use std::time::Duration;

use okid_sandbox::{Action, Call, Cut, Fault, FaultId, Huge};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{KEY, Scene, client};

/// Sends a create by hand and reads until the portal closes the connection.
async fn create_by_hand(scene: &Scene) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(scene.sandbox.address()).await?;
    let request =
        format!("POST /api/generate-verification HTTP/1.1\r\nHost: portal\r\nX-SDK-Key: {KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_cut_before_the_headers_sends_nothing_and_the_moment_decides_about_the_session() {
    let scene = Scene::new().await;
    let fault = Fault::new(Call::Create, Action::Cut(Cut::BeforeHeaders)).once();
    scene.sandbox.order(fault.clone());
    assert_eq!(create_by_hand(&scene).await.unwrap(), "");
    assert_eq!(scene.sandbox.session_count(), 0);
    scene.sandbox.order(fault.after());
    assert_eq!(create_by_hand(&scene).await.unwrap(), "");
    assert_eq!(scene.sandbox.session_count(), 1);
    let creates = scene.sandbox.creates();
    assert_eq!((creates[0].session.as_ref(), creates[0].status), (None, None));
    assert!(creates[1].session.is_some());
}

#[tokio::test]
async fn a_reset_is_seen_as_one() {
    let scene = Scene::new().await;
    scene.sandbox.order(Fault::new(Call::Create, Action::Cut(Cut::Reset)).once());
    let error = create_by_hand(&scene).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_after_the_headers_or_in_the_body_shows_just_so_much() {
    let scene = Scene::new().await;
    scene.sandbox.order(Fault::new(Call::Create, Action::Cut(Cut::AfterHeaders)).once());
    let answer = create_by_hand(&scene).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(body_of(&answer), "");
    scene.sandbox.order(Fault::new(Call::Create, Action::Cut(Cut::MidBody)).once());
    let answer = create_by_hand(&scene).await.unwrap();
    assert!(body_of(&answer).starts_with("{\"verificationId\""), "{answer}");
    assert!(!answer.ends_with('}'));
}

#[tokio::test]
async fn every_cut_is_an_error_for_a_client() {
    let scene = Scene::new().await;
    for cut in [Cut::BeforeHeaders, Cut::Reset, Cut::AfterHeaders, Cut::MidBody] {
        scene.sandbox.order(Fault::new(Call::Create, Action::Cut(cut)).once());
        let read = match scene.create().await {
            Ok(answer) => answer.bytes().await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(read.is_err(), "{cut:?}");
    }
}

/// Waits until the fault has struck, and then for a whole call of another client: time enough for
/// the first one to be answered, if it were.
async fn struck_and_left_hanging(scene: &Scene, fault: FaultId) {
    scene.sandbox.until(|portal| portal.hits(fault) == 1).await;
    let other = client().get(scene.url("/sandbox/clock")).send().await;
    assert_eq!(other.unwrap().status(), 200);
    assert!(!scene.sandbox.creates()[0].ended);
}

#[tokio::test]
async fn a_hanging_call_whose_client_leaves_is_never_processed() {
    let scene = Scene::new().await;
    let fault = scene.sandbox.order(Fault::new(Call::Create, Action::Hang));
    tokio::select! {
        _ = scene.create() => panic!("it must hang"),
        () = struck_and_left_hanging(&scene, fault) => {}
    }
    scene.sandbox.until(|portal| portal.creates()[0].ended).await;
    assert_eq!(scene.sandbox.creates()[0].status, None);
    scene.sandbox.clear(fault);
    assert_eq!(scene.create().await.unwrap().status(), 200);
    assert_eq!(scene.sandbox.session_count(), 1);
}

#[tokio::test]
async fn a_hanging_call_is_answered_when_the_fault_is_cleared() {
    let scene = Scene::new().await;
    let fault = scene.sandbox.order(Fault::new(Call::Create, Action::Hang).once().after());
    let clearing = async {
        struck_and_left_hanging(&scene, fault).await;
        assert_eq!(scene.sandbox.session_count(), 1);
        scene.sandbox.clear(fault);
    };
    let (answer, ()) = tokio::join!(scene.create(), clearing);
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(scene.sandbox.session_count(), 1);
}

#[tokio::test]
async fn a_dripped_answer_arrives_whole_in_the_end() {
    let scene = Scene::new().await;
    let drip = Action::Drip { every: Duration::from_millis(1) };
    scene.sandbox.order(Fault::new(Call::Create, drip).once().after());
    let answer: Value = scene.create().await.unwrap().json().await.unwrap();
    assert!(scene.sandbox.session(answer["verificationId"].as_str().unwrap()).is_some());
}

#[tokio::test]
async fn a_false_content_length_is_claimed() {
    let scene = Scene::new().await;
    scene
        .sandbox
        .order(Fault::new(Call::Create, Action::Huge(Huge::WrongLength { declared: 100_000 })).once());
    let answer = create_by_hand(&scene).await.unwrap();
    assert!(answer.contains("content-length: 100000\r\n"), "{answer}");
    assert!(body_of(&answer).len() < 1000);
    scene.sandbox.order(Fault::new(Call::Create, Action::Huge(Huge::WrongLength { declared: 9 })).once());
    assert_eq!(scene.create().await.unwrap().bytes().await.unwrap().len(), 9);
}

#[tokio::test]
async fn raw_bytes_take_the_place_of_an_answer() {
    let scene = Scene::new().await;
    let raw = Action::Raw {
        text: "HTTP/1.1 103 Early Hints\r\n\r\n".into(),
        times: 1000,
        end: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".into(),
    };
    scene.sandbox.order(Fault::new(Call::Create, raw).once());
    let answer = create_by_hand(&scene).await.unwrap();
    assert_eq!(answer.matches("103 Early Hints").count(), 1000);
    assert!(answer.ends_with("\r\n\r\n{}"));
}

#[tokio::test]
async fn a_create_on_a_fresh_connection_can_be_told_from_one_on_a_used_one() {
    let scene = Scene::new().await;
    scene.created().await;
    scene.created().await;
    client().post(scene.url("/api/generate-verification")).send().await.unwrap();
    let creates = scene.sandbox.creates();
    let seen: Vec<_> = creates.iter().map(|call| (call.connection, call.earlier_on_connection)).collect();
    assert_eq!(seen, [(1, 0), (1, 1), (2, 0)]);
    assert_eq!(scene.sandbox.counters().connections, 2);
}

#[tokio::test]
async fn a_closed_connection_is_not_used_again() {
    let scene = Scene::new().await;
    scene.sandbox.order(Fault::new(Call::Create, Action::Close).once());
    scene.created().await;
    scene.created().await;
    let creates = scene.sandbox.creates();
    assert_eq!((creates[1].connection, creates[1].earlier_on_connection), (2, 0));
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_spoken_on_the_same_port() {
    let scene = Scene::new().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let id = scene.sandbox.seed(1).remove(0);
    let url = scene.url(&format!("/api/get-verification-details/{id}"));
    let get = || client.get(&url).header("X-SDK-Key", KEY).send();
    assert_eq!(get().await.unwrap().version(), reqwest::Version::HTTP_2);
    assert_eq!(scene.sandbox.calls()[0].version, "HTTP/2.0");
    scene.sandbox.order(Fault::new(Call::Details, Action::Cut(Cut::MidBody)).once());
    assert!(get().await.unwrap().bytes().await.is_err());
    assert_eq!(get().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_stopped_sandbox_lets_its_hanging_calls_go_and_frees_its_port() {
    let scene = Scene::new().await;
    let Scene { sandbox, client } = scene;
    let (url, address, portal) = (sandbox.url(), sandbox.address(), sandbox.portal());
    let fault = sandbox.order(Fault::new(Call::Create, Action::Hang));
    let call = client.post(format!("{url}/api/generate-verification")).header("X-SDK-Key", KEY).send();
    let call = tokio::spawn(call);
    portal.until(|portal| portal.hits(fault) == 1).await;
    sandbox.stop().await;
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_dropped_sandbox_ends() {
    let scene = Scene::new().await;
    let mut open = TcpStream::connect(scene.sandbox.address()).await.unwrap();
    drop(scene.sandbox);
    let mut nothing = [0];
    assert!(matches!(open.read(&mut nothing).await, Ok(0) | Err(_)));
}
