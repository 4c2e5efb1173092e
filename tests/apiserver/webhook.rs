//! Notifications of portals: authentic ones bring polls forward, and whatever else arrives changes nothing.

mod learning;
mod lost_responses;
mod replicas;
mod secrets;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::join_all;
use hmac::{Hmac, KeyInit as _, Mac as _};
use okid_operator::api::Phase;
use okid_sandbox::{Action, Call, Endpoint, Fault, Verdict};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Launch, Operator, VerificationExt as _, World, until};

const SECRET: &str = "whsec_0123456789abcdef";
const OTHER_SECRET: &str = "whsec_fedcba9876543210";
const HEADER: &str = "X-Signature";

/// Writes the files of a receiver, and returns the flags that name them. `okid` checks signatures, `token` a bearer token.
pub(crate) fn launch(folder: &Path) -> Launch {
    launch_at("127.0.0.1:0", folder)
}

fn launch_at(address: &str, folder: &Path) -> Launch {
    let secrets = secrets_file(folder);
    std::fs::write(&secrets, SECRET).unwrap();
    let entry = |name: &str, scheme: Value| {
        let mut entry = json!({"name": name, "secretsFile": secrets});
        entry.as_object_mut().unwrap().extend(scheme.as_object().unwrap().clone());
        entry
    };
    let webhooks = json!({"webhooks": [
        entry("okid", json!({"hmac": {"header": HEADER, "encoding": "hex"}})),
        entry("token", json!({"bearer": {}})),
    ]});
    let file = folder.join("webhooks.yaml");
    std::fs::write(&file, webhooks.to_string()).unwrap();
    Launch::new()
        .flags(["--webhook-address", address, "--webhooks-file", file.to_str().unwrap()])
        .env("OKID_WEBHOOK_SOURCE_RATE", "0")
}

fn secrets_file(folder: &Path) -> PathBuf {
    folder.join("secrets")
}

async fn world() -> World {
    world_with(|launch| launch).await
}

/// A world whose operator receives notifications.
async fn world_with(change: impl FnOnce(Launch) -> Launch) -> World {
    let mut world = World::builder().without_operator().start().await;
    let launch = change(launch(world.folder()));
    world.start(launch).await;
    world
}

/// Where an operator receives notifications.
pub(crate) async fn address(operator: &Operator) -> String {
    let is_receiving = |line: &Value| line["webhook_address"].is_string();
    let line = operator.until_logged("where it receives notifications", is_receiving).await;
    line["webhook_address"].as_str().unwrap().to_owned()
}

pub(crate) fn sign(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
    mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub(crate) fn body_of(id: &str) -> Vec<u8> {
    json!({"event": "status_changed", "verification_id": id}).to_string().into_bytes()
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// Calls with that signature, if it is one.
async fn call(address: &str, body: Vec<u8>, signature: Option<&str>) -> StatusCode {
    let mut call = client().post(format!("http://{address}/notify/okid")).body(body);
    if let Some(signature) = signature {
        call = call.header(HEADER, signature);
    }
    call.send().await.expect("the receiver answers").status()
}

/// Notifies about a session.
pub(crate) async fn notify(address: &str, id: &str) -> StatusCode {
    let body = body_of(id);
    let signature = sign(SECRET, &body);
    call(address, body, Some(&signature)).await
}

fn notifications(name: &str, result: &str) -> String {
    format!("okid_webhook_notifications_total{{name=\"{name}\",result=\"{result}\"}}")
}

/// Sessions that okID reviews: the next regular poll comes after a minute at the earliest. Returns their ids, in the order
/// of the names.
async fn in_review(world: &World, address: &str, names: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for name in names {
        let id = world.create_session(name, json!({"polling": {}})).await;
        world.sandbox().decide(&id, Verdict::NeedsManualReview).unwrap();
        assert_eq!(notify(address, &id).await, StatusCode::ACCEPTED);
        ids.push(id);
    }
    for name in names {
        world.until(name, |seen| seen.phase() == Some(Phase::InReview)).await;
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_brings_the_verdict_of_its_session_alone() {
    let world = world().await;
    let address = address(world.operator()).await;
    let ids = in_review(&world, &address, &["alice", "bob", "carol", "dave"]).await;
    for id in &ids {
        world.sandbox().decide(id, Verdict::Verified).unwrap();
    }
    let polls: Vec<_> = ids.iter().map(|id| world.polls_of(id)).collect();
    assert_eq!(notify(&address, &ids[0]).await, StatusCode::ACCEPTED);
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    let others = ids[1..].iter().map(|id| world.polls_of(id));
    assert!(others.eq(polls[1..].iter().copied()), "the others were polled as well");
    assert_eq!(world.operator().metric(&notifications("okid", "accepted")).await, 5.0);
    assert!(world.get("alice").await.metadata.annotations.is_none(), "no Verification is annotated");

    let token = client().post(format!("http://{address}/notify/token")).bearer_auth(SECRET);
    let token = token.body(body_of(&ids[1])).send().await.unwrap();
    assert_eq!(token.status(), StatusCode::ACCEPTED);
    world.until("bob", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_authentic_gets_401_for_every_reason_and_requests_no_poll() {
    let world = world().await;
    let address = address(world.operator()).await;
    let id = world.create_session("alice", json!({"polling": {"minInterval": "1h"}})).await;
    let body = body_of(&id);
    let good = sign(SECRET, &body);
    let other = sign(OTHER_SECRET, &body);
    let of_another_body = sign(SECRET, b"{}");
    let in_base64 = "3q2+7w==";
    for forged in [None, Some(""), Some(&other), Some(&of_another_body), Some(&good[..63]), Some(in_base64)] {
        assert_eq!(call(&address, body.clone(), forged).await, StatusCode::UNAUTHORIZED, "{forged:?}");
    }
    let mut answers = Vec::new();
    for (name, token) in
        [("token", OTHER_SECRET), ("token", ""), ("nobody", SECRET), ("", SECRET), ("okid/", SECRET)]
    {
        let call = client().post(format!("http://{address}/notify/{name}")).bearer_auth(token);
        let answer = call.body(body.clone()).send().await.unwrap();
        let headers = answer.headers().keys().map(ToString::to_string).collect::<Vec<_>>();
        answers.push((answer.status(), headers, answer.text().await.unwrap()));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!((answers[0].0, answers[0].2.as_str()), (StatusCode::UNAUTHORIZED, ""));
    assert_eq!(world.operator().metric(&notifications("okid", "unauthenticated")).await, 6.0);
    assert_eq!(world.operator().metric(&notifications("token", "unauthenticated")).await, 2.0);
    assert_eq!(world.operator().metric(&notifications("", "unauthenticated")).await, 3.0);
    assert_eq!(world.polls_of(&id), 0);

    let get = client().get(format!("http://{address}/notify/okid")).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    let elsewhere = client().post(format!("http://{address}/metrics")).send().await.unwrap();
    assert_eq!(elsewhere.status(), StatusCode::NOT_FOUND);
    // The first poll is not held back, and a session that was never polled is due once it is notified.
    assert_eq!(call(&address, body, Some(&good)).await, StatusCode::ACCEPTED);
    world.until_portal("the poll", |world| world.polls_of(&id) == 1).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_announces_only_sessions_of_its_own_portal() {
    let mut world = World::builder().without_operator().portals(2).start().await;
    let launch = launch(world.folder());
    let file = world.folder().join("webhooks.yaml");
    let mut webhooks: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    webhooks["webhooks"][1]["portal"] = json!(world.portal(1).url());
    std::fs::write(&file, webhooks.to_string()).unwrap();
    world.start(launch).await;
    let address = address(world.operator()).await;
    let id = world.create_session("alice", json!({"polling": {"minInterval": "1h"}})).await;
    let other = client().post(format!("http://{address}/notify/token")).bearer_auth(SECRET);
    let other = other.body(body_of(&id)).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::ACCEPTED);
    assert_eq!(world.operator().metric(&notifications("token", "unknown_id")).await, 1.0);
    assert_eq!(world.polls_of(&id), 0);
    assert_eq!(notify(&address, &id).await, StatusCode::ACCEPTED);
    world.until_portal("the poll", |world| world.polls_of(&id) == 1).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_valid_calls_lead_to_three_polls_at_once_and_one_in_five_seconds() {
    const CALLERS: usize = 20;
    let world = world().await;
    let address = address(world.operator()).await;
    let id = in_review(&world, &address, &["alice"]).await.remove(0);
    let (before, begun) = (world.polls_of(&id), Instant::now());
    let calls = |_| async {
        let client = client();
        let body = body_of(&id);
        let signature = sign(SECRET, &body);
        for _ in 0..10_000 / CALLERS {
            // A kept connection that was idle for long is closed.
            let answer = loop {
                let call = client.post(format!("http://{address}/notify/okid")).header(HEADER, &signature);
                if let Ok(answer) = call.body(body.clone()).send().await {
                    break answer;
                }
            };
            assert_eq!(answer.status(), StatusCode::ACCEPTED);
        }
    };
    join_all((0..CALLERS).map(calls)).await;
    world.sandbox().decide(&id, Verdict::Verified).unwrap();
    // The last notification is followed by a poll, which sees the verdict.
    assert_eq!(notify(&address, &id).await, StatusCode::ACCEPTED);
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    let polls = world.polls_of(&id) - before;
    let seconds = begun.elapsed().as_secs();
    println!("{polls} polls in {seconds} s");
    // A regular poll may be among them each minute.
    let most = 3 + (seconds / 5 + 1) + seconds / 54;
    assert!(u64::from(polls) <= most, "{polls} polls in {seconds} s");
    assert!(world.operator().metric("okid_webhook_notifications_total").await >= 10_002.0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_notification_claims_decides_nothing() {
    let world = world().await;
    let address = address(world.operator()).await;
    let id = world.create_session("alice", json!({})).await;
    world.sandbox().open(&id).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::InProgress)).await;
    let claim = json!({
        "verification_id": id, "current": "verified", "outcome": "Verified",
        "data": {"verification_id": id, "status": {"current": "verified"}},
        "status": {"current": "verified", "updated_at": "2099-01-01T00:00:00Z"},
    });
    let body = claim.to_string().into_bytes();
    let signature = sign(SECRET, &body);
    assert_eq!(call(&address, body, Some(&signature)).await, StatusCode::ACCEPTED);
    world.until_polled(&id, 2).await;
    let seen = world.get("alice").await;
    assert_eq!((seen.phase(), seen.status_or_default().outcome), (Some(Phase::InProgress), None));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_that_comes_before_the_session_is_recorded_is_followed_by_a_poll() {
    let world = world().await;
    let address = address(world.operator()).await;
    let slow = Fault::new(Call::Create, Action::Pass).delay(Duration::from_secs(2)).after();
    let slow = world.sandbox().inject(slow);
    // Without the notification, the first poll would come an hour later.
    world.apply("alice", json!({"polling": {"minInterval": "1h"}})).await;
    world.until_portal("the session", |world| world.sandbox().session_count() == 1).await;
    let id = world.sandbox().sessions()[0].id.clone();
    assert_eq!(notify(&address, &id).await, StatusCode::ACCEPTED);
    assert_eq!(world.operator().metric(&notifications("okid", "unknown_id")).await, 1.0);
    world.until_portal("the poll", |world| world.polls_of(&id) == 1).await;
    assert_eq!(world.get("alice").await.id(), Some(id));
    world.sandbox().clear(slow);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_slow_huge_or_senseless_get_a_constant_answer_and_no_poll() {
    let world = world().await;
    let address = address(world.operator()).await;
    let id = world.create_session("alice", json!({"polling": {"minInterval": "1h"}})).await;

    let slow = raw(&address, "POST /notify/okid HTTP/1.1\r\nhost: okid\r\ncontent-length: 9\r\n\r\n{", 0);
    let idle = raw(&address, "POST /notify/okid HTTP/1.1\r\n", 0);
    let declared =
        raw(&address, "POST /notify/okid HTTP/1.1\r\nhost: okid\r\ncontent-length: 1073741824\r\n\r\n", 100);
    let endless =
        raw(&address, "POST /notify/okid HTTP/1.1\r\nhost: okid\r\ntransfer-encoding: chunked\r\n\r\n", 100);
    let large = format!("POST /notify/okid HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    let headers = raw(&address, &large, 0);
    let (slow, idle, declared, endless, headers) = tokio::join!(slow, idle, declared, endless, headers);
    for refused in [slow, declared, endless] {
        assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    }
    assert!(idle.is_empty() || idle.starts_with("HTTP/1.1 4"), "{idle}");
    assert!(headers.starts_with("HTTP/1.1 4"), "{headers}");

    for (bytes, expected) in [(64 << 10, StatusCode::ACCEPTED), ((64 << 10) + 1, StatusCode::UNAUTHORIZED)] {
        let spaces = vec![b' '; bytes];
        let signature = sign(SECRET, &spaces);
        assert_eq!(call(&address, spaces, Some(&signature)).await, expected, "{bytes} bytes");
    }
    for senseless in
        [&b"{\"verification_id\":\"ver_\xff\"}"[..], b"", b"not JSON", b"{\"verification_id\":7}"]
    {
        let signature = sign(SECRET, senseless);
        assert_eq!(call(&address, senseless.to_vec(), Some(&signature)).await, StatusCode::ACCEPTED);
    }
    assert_eq!(notify(&address, "ver_unknown").await, StatusCode::ACCEPTED);
    let operator = world.operator();
    assert_eq!(operator.metric(&notifications("okid", "without_id")).await, 5.0);
    assert_eq!(operator.metric(&notifications("okid", "unknown_id")).await, 1.0);
    assert_eq!(operator.metric(&notifications("okid", "incomplete")).await, 4.0);
    assert_eq!((world.polls_of(&id), world.sandbox().count(Endpoint::Details)), (0, 0));
    // It still receives.
    assert_eq!(notify(&address, &id).await, StatusCode::ACCEPTED);
    world.until_portal("the poll", |world| world.polls_of(&id) == 1).await;
    world.finish().await;
}

/// Sends a request's beginning and then blocks of a chunked body, and returns the answer.
async fn raw(address: &str, beginning: &str, blocks: usize) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(beginning.as_bytes()).await.unwrap();
    let (mut from, mut to) = stream.split();
    let block = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let send = async {
        for _ in 0..blocks {
            // The receiver closes the connection before everything is sent.
            if to.write_all(block.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let mut answer = Vec::new();
    let receive = async { from.read_to_end(&mut answer).await };
    let _ = tokio::join!(send, receive);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_forges_many_calls_gets_429_and_hinders_no_other() {
    let world = world_with(|launch| launch.flags(["--webhook-source-rate", "1"])).await;
    let address = address(world.operator()).await;
    let id = in_review(&world, &address, &["alice"]).await.remove(0);
    let from = |ip: [u8; 4]| Client::builder().no_proxy().local_address(std::net::IpAddr::from(ip)).build();
    let forger = from([127, 0, 0, 2]).unwrap();
    let forge = async || {
        let call = forger.post(format!("http://{address}/notify/okid")).header(HEADER, "00");
        call.body("{}").send().await.expect("the receiver answers").status()
    };
    let limited = async || match forge().await {
        StatusCode::TOO_MANY_REQUESTS => Ok(()),
        other => Err(other),
    };
    until(limited, |other| format!("it gets {other}")).await;

    world.sandbox().decide(&id, Verdict::Rejected).unwrap();
    assert_eq!(notify(&address, &id).await, StatusCode::ACCEPTED);
    world.until("alice", |seen| seen.phase() == Some(Phase::Rejected)).await;
    // Authentic calls are not limited, however many there are.
    for _ in 0..20 {
        assert_eq!(notify(&address, &id).await, StatusCode::ACCEPTED);
    }
    world.finish().await;
}
