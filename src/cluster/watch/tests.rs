//! The stream against an API server that responds from a script.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

/// How the server responds to a request.
enum Reply {
    /// A complete response.
    Whole(u16, Value),
    /// The lines of a watch, which is then closed.
    Closed(Vec<Value>),
    /// The lines of a watch, which then stays open and silent.
    Open(Vec<Value>),
    /// No response.
    Silence,
}

#[derive(Default)]
struct Server {
    replies: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<String>>,
}

impl Server {
    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let uri = request.uri().to_string();
                server.requests.lock().push(uri);
                let reply = server.replies.lock().pop_front();
                let (status, lines, open) = match reply {
                    Some(Reply::Whole(status, body)) => (status, vec![body], false),
                    Some(Reply::Closed(lines)) => (200, lines, false),
                    Some(Reply::Open(lines)) => (200, lines, true),
                    Some(Reply::Silence) | None => std::future::pending().await,
                };
                let lines =
                    stream::iter(lines).map(|line| Ok::<_, std::io::Error>(Bytes::from(format!("{line}\n"))));
                let body = if open {
                    axum::body::Body::from_stream(lines.chain(stream::pending()))
                } else {
                    axum::body::Body::from_stream(lines)
                };
                Ok::<_, std::io::Error>(Response::builder().status(status).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }
}

/// A server that gives these responses one after the other, and then none.
fn script(replies: impl IntoIterator<Item = Reply>) -> (Arc<Server>, Client) {
    let server =
        Arc::new(Server { replies: Mutex::new(replies.into_iter().collect()), requests: Mutex::default() });
    let client = server.client();
    (server, client)
}

fn watch(client: &Client, streaming_list: bool) -> BoxStream<'static, Change<ConfigMap>> {
    let settings = WatchSettings { streaming_list, ..WatchSettings::default() };
    changes(client, Some("kyc"), settings, &LastContact::default()).boxed()
}

fn object(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "namespace": "kyc",
            "name": name,
            "uid": format!("uid-of-{name}"),
            "resourceVersion": version.to_string(),
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"},
            "managedFields": [{"manager": "kubectl"}],
        },
        "data": {"a": "b"},
    })
}

fn undecodable(name: &str, version: u32) -> Value {
    let mut object = object(name, version);
    object["data"] = json!("the-secret-link");
    object
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn list(items: &[Value], version: u32, more: &str) -> Reply {
    Reply::Whole(
        200,
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMapList",
            "metadata": {"resourceVersion": version.to_string(), "continue": more},
            "items": items,
        }),
    )
}

fn end_of_list(version: u32) -> Value {
    let metadata = json!({
        "resourceVersion": version.to_string(),
        "annotations": {"k8s.io/initial-events-end": "true"},
    });
    event("BOOKMARK", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
}

fn status(code: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": "scripted",
        "reason": "Scripted",
        "code": code,
    })
}

/// A change in one or two words.
fn name_of(change: &Change<ConfigMap>) -> String {
    match change {
        Change::Init => "init".to_owned(),
        Change::Applied(object) => format!("applied {}", object.metadata.name.as_deref().unwrap()),
        Change::Undecodable { object, error: _ } => format!("undecodable {}", object.name),
        Change::InitDone => "init done".to_owned(),
        Change::Deleted(object) => format!("deleted {}", object.name),
        Change::Interrupted { error, .. } => format!("interrupted {}", error.action()),
    }
}

async fn assert_changes(changes: &mut BoxStream<'static, Change<ConfigMap>>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(name_of(&changes.next().await.unwrap()), *expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_is_followed_by_the_watch() {
    let (server, client) = script([Reply::Open(vec![
        event("ADDED", &object("a", 1)),
        event("ADDED", &object("b", 2)),
        end_of_list(2),
        event("MODIFIED", &object("a", 3)),
        event("DELETED", &object("b", 4)),
    ])]);
    let mut changes = watch(&client, true);
    assert_changes(&mut changes, &["init", "applied a", "applied b", "init done", "applied a", "deleted b"])
        .await;
    let requests = server.requests.lock().join(" ");
    for part in [
        "/api/v1/namespaces/kyc/configmaps?",
        "sendInitialEvents=true",
        "fieldSelector=status.settled%21%3Dtrue",
        "timeoutSeconds=60",
    ] {
        assert!(requests.contains(part), "{part} in {requests}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_takes_no_longer_than_its_server() {
    let mut events: Vec<_> =
        (1..=100).map(|number| event("ADDED", &object(&number.to_string(), number))).collect();
    events.push(end_of_list(100));
    let (_server, client) = script([Reply::Open(events)]);
    let mut changes = watch(&client, true);
    // Not at a whole millisecond: there a sleep of zero takes no time.
    tokio::time::advance(Duration::from_micros(500)).await;
    let start = Instant::now();
    while !matches!(changes.next().await, Some(Change::InitDone)) {}
    // The clock of this test moves only when a task waits for it, as the request does once.
    assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_without_streaming_lists_is_asked_for_pages_at_once() {
    let begin = Instant::now();
    for code in [400, 422] {
        let (server, client) = script([
            Reply::Whole(code, status(code)),
            list(&[object("a", 1)], 5, "next"),
            list(&[object("b", 2)], 5, ""),
            Reply::Open(vec![event("ADDED", &object("c", 6))]),
        ]);
        let mut changes = watch(&client, true);
        assert_changes(&mut changes, &["init", "applied a", "applied b", "init done", "applied c"]).await;
        let requests = server.requests.lock();
        assert!(requests[1].contains("limit=500"), "{requests:?}");
        assert!(requests[2].contains("continue=next"), "{requests:?}");
        assert!(requests[3].contains("resourceVersion=5"), "{requests:?}");
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

/// The limit of each page that was requested, and how many bytes of it were read.
type Requested = Mutex<Vec<(u32, usize)>>;

/// A server with that many objects of that many bytes, and what is requested of it.
fn pages(count: u32, bytes: usize) -> (Arc<Requested>, Client) {
    let requested: Arc<Requested> = Arc::default();
    let noted = Arc::clone(&requested);
    let service = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        let value = |name: &str| {
            let pair = uri.split(['?', '&']).find_map(|pair| pair.strip_prefix(name)?.parse::<u32>().ok());
            pair.unwrap_or_default()
        };
        let (from, limit) = (value("continue="), value("limit="));
        let noted = Arc::clone(&noted);
        async move {
            if uri.contains("watch=true") {
                return std::future::pending().await;
            }
            let to = count.min(from + limit);
            noted.lock().push((limit, 0));
            let more = if to < count { to.to_string() } else { String::new() };
            let head = json!({"resourceVersion": "5", "continue": more});
            let begin = format!(r#"{{"apiVersion":"v1","kind":"ConfigMapList","metadata":{head},"items":["#);
            let items = (from..to).map(move |number| {
                let mut item = object(&number.to_string(), 1);
                item["data"]["a"] = json!("x".repeat(bytes));
                format!("{}{item}", if number == from { "" } else { "," })
            });
            let lines = std::iter::once(begin).chain(items).chain(["]}".to_owned()]);
            let lines = lines.map(move |line| {
                noted.lock().last_mut().unwrap().1 += line.len();
                Ok::<_, std::io::Error>(Bytes::from(line))
            });
            Ok::<_, std::io::Error>(Response::new(axum::body::Body::from_stream(stream::iter(lines))))
        }
    });
    (requested, Client::new(service, "default"))
}

#[tokio::test(start_paused = true)]
async fn a_page_of_large_objects_is_bounded_by_its_bytes() {
    const MIB: usize = 1024 * 1024;
    for (count, bytes) in [(60, MIB), (600, 100_000), (600, 100)] {
        let (requested, client) = pages(count, bytes);
        let mut changes = watch(&client, false);
        let mut applied = 0;
        loop {
            match changes.next().await.unwrap() {
                Change::Applied(_) => applied += 1,
                Change::InitDone => break,
                Change::Init => {}
                other @ (Change::Undecodable { .. } | Change::Deleted(_) | Change::Interrupted { .. }) => {
                    panic!("{}", name_of(&other))
                }
            }
        }
        assert_eq!(applied, count);
        let requested = requested.lock();
        assert_eq!(requested[0].0, 500);
        assert!(requested.iter().all(|(_, read)| *read < 4 * MIB + 2 * bytes), "{requested:?}");
        let most = usize::try_from(count).unwrap() * bytes / MIB + 12;
        assert!(requested.len() <= most, "{} requests for {count} objects", requested.len());
        if bytes == 100 {
            assert_eq!(requested.len(), 2, "pages of small objects are not divided");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_the_watch_receives_counts_as_contact() {
    let bookmark = || {
        event(
            "BOOKMARK",
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "7"}}),
        )
    };
    let (_server, client) = script([list(&[], 5, ""), Reply::Silence, Reply::Open(vec![bookmark()])]);
    let last_contact = LastContact::default();
    let settings = WatchSettings { streaming_list: false, ..WatchSettings::default() };
    let mut changes = changes::<ConfigMap>(&client, Some("kyc"), settings, &last_contact).boxed();
    assert_changes(&mut changes, &["init", "init done"]).await;
    let silence = || (last_contact.since_watch().as_secs(), last_contact.since_server().as_secs());
    assert_eq!(silence(), (0, 0));
    assert_changes(&mut changes, &["interrupted start a watch"]).await;
    assert!(silence().0 >= 30 && silence().1 >= 30, "{:?}", silence());
    tokio::select! {
        change = changes.next() => panic!("{}", name_of(&change.unwrap())),
        () = sleep(Duration::from_secs(3)) => {}
    }
    assert!(silence().0 < 3, "a bookmark is no change, but it is contact");
    last_contact.server_responded();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(silence().1, 1);
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_that_does_not_end_is_replaced_by_pages() {
    let (_server, client) = script([
        Reply::Closed(vec![event("ADDED", &object("a", 1))]),
        Reply::Open(vec![]),
        list(&[object("a", 1)], 5, ""),
    ]);
    let mut changes = watch(&client, true);
    assert_changes(&mut changes, &["init", "applied a", "init", "applied a", "init done"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_is_passed_on_unchanged_so_that_its_size_can_be_measured() {
    let (_server, client) = script([list(&[object("a", 1)], 5, "")]);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init"]).await;
    let Some(Change::Applied(object)) = changes.next().await else {
        panic!("the object");
    };
    assert_eq!(object.metadata.managed_fields.map(|fields| fields.len()), Some(1));
    let annotations = object.metadata.annotations.unwrap();
    assert_eq!(
        annotations.keys().collect::<Vec<_>>(),
        ["kept", "kubectl.kubernetes.io/last-applied-configuration"]
    );
    assert!(object.data.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_object_is_reported_and_affects_no_other() {
    let (_server, client) = script([
        list(&[undecodable("bad", 1), object("good", 2)], 5, ""),
        Reply::Open(vec![
            event("ADDED", &undecodable("worse", 6)),
            event("ADDED", &object("better", 7)),
            event("DELETED", &undecodable("worse", 8)),
            event("MODIFIED", &object("better", 9)),
        ]),
    ]);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init"]).await;
    let Some(Change::Undecodable { object, error }) = changes.next().await else {
        panic!("the undecodable object");
    };
    let expected = Identity {
        namespace: "kyc".to_owned(),
        name: "bad".to_owned(),
        uid: "uid-of-bad".to_owned(),
        resource_version: "1".to_owned(),
    };
    assert_eq!(object, expected);
    assert!(error.contains("expected"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    assert_changes(
        &mut changes,
        &[
            "applied good",
            "init done",
            "undecodable worse",
            "applied better",
            "deleted worse",
            "applied better",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_again() {
    for refusal in [Reply::Open(vec![event("ERROR", &status(410))]), Reply::Whole(410, status(410))] {
        let (_server, client) = script([
            list(&[object("a", 1)], 5, ""),
            refusal,
            list(&[object("b", 6)], 7, ""),
            Reply::Open(vec![event("ADDED", &object("c", 8))]),
        ]);
        let mut changes = watch(&client, false);
        assert_changes(
            &mut changes,
            &[
                "init",
                "applied a",
                "init done",
                "interrupted resume a watch",
                "init",
                "applied b",
                "init done",
                "applied c",
            ],
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_interruption_is_reported_and_the_stream_continues_after_a_growing_pause() {
    let mut replies: Vec<_> = (0..8).map(|_| Reply::Whole(500, status(500))).collect();
    replies.push(list(&[object("a", 1)], 5, ""));
    replies.push(Reply::Whole(500, status(500)));
    replies.push(Reply::Open(vec![event("ADDED", &object("b", 6))]));
    let (_server, client) = script(replies);
    let mut changes = watch(&client, false);
    let mut last = Duration::ZERO;
    for _ in 0..8 {
        assert_changes(&mut changes, &["init"]).await;
        let Some(Change::Interrupted { error, needs_list, pause }) = changes.next().await else {
            panic!("the interruption");
        };
        assert_eq!((error.action(), needs_list), ("list", true));
        assert!(pause >= last.mul_f64(0.8), "{pause:?} after {last:?}");
        assert!((SHORTEST_PAUSE..=LONGEST_PAUSE).contains(&pause), "{pause:?}");
        last = pause;
    }
    assert!(last > LONGEST_PAUSE / 2);
    let begin = Instant::now();
    assert_changes(&mut changes, &["init", "applied a", "init done"]).await;
    assert!(begin.elapsed() >= last);
    // A success ends the series: the next pause is short again.
    let Some(Change::Interrupted { error, needs_list, pause }) = changes.next().await else {
        panic!("the interruption");
    };
    assert_eq!((error.action(), needs_list), ("start a watch", false));
    assert!(pause < 2 * SHORTEST_PAUSE, "{pause:?}");
    assert_changes(&mut changes, &["applied b"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_watch_is_reported_and_the_watch_is_resumed() {
    let (server, client) = script([
        list(&[], 5, ""),
        Reply::Closed(vec![event("ADDED", &object("a", 6)), event("ERROR", &status(500))]),
        Reply::Open(vec![event("ADDED", &object("b", 7))]),
    ]);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "init done", "applied a", "interrupted watch", "applied b"]).await;
    let requests = server.requests.lock();
    assert!(requests[2].contains("resourceVersion=6"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_watch_is_followed_by_a_list_unless_pages_would_be_listed_in_vain() {
    let refused = |code, streaming| async move {
        let listed = || Reply::Closed(vec![event("ADDED", &object("a", 1)), end_of_list(1)]);
        let pages = || list(&[object("a", 1)], 1, "");
        let replies = if streaming {
            [listed(), Reply::Whole(code, status(code)), listed()]
        } else {
            [pages(), Reply::Whole(code, status(code)), pages()]
        };
        let (_server, client) = script(replies);
        let mut changes = watch(&client, streaming);
        assert_changes(&mut changes, &["init", "applied a", "init done"]).await;
        let Some(Change::Interrupted { error, needs_list, .. }) = changes.next().await else {
            panic!("the interruption");
        };
        assert_eq!(error.api_error().unwrap().code(), Some(code));
        if needs_list {
            assert_changes(&mut changes, &["init", "applied a", "init done"]).await;
        }
        needs_list
    };
    assert_eq!((refused(404, true).await, refused(404, false).await), (true, true), "the definition is gone");
    assert_eq!((refused(403, true).await, refused(403, false).await), (true, false));
    assert_eq!((refused(500, true).await, refused(500, false).await), (false, false));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_the_server_closes_is_resumed_at_once() {
    let begin = Instant::now();
    let mut replies = vec![list(&[], 5, "")];
    replies.extend((0..56).map(|_| Reply::Closed(vec![])));
    replies.push(Reply::Open(vec![event("ADDED", &object("a", 6))]));
    let (_server, client) = script(replies);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "init done", "applied a"]).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_every_watch_is_not_flooded() {
    let mut replies = vec![list(&[], 5, "")];
    replies.extend((0..1000).map(|_| Reply::Closed(vec![])));
    let (server, client) = script(replies);
    let mut changes = watch(&client, false);
    let minute = sleep(Duration::from_mins(1));
    tokio::select! {
        () = async { while changes.next().await.is_some() {} } => {}
        () = minute => {}
    }
    let requests = server.requests.lock().len();
    assert!((100..200).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_noticed_within_65_seconds() {
    let begin = Instant::now();
    let (_server, client) =
        script([list(&[], 5, ""), Reply::Open(vec![]), Reply::Open(vec![event("ADDED", &object("a", 6))])]);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "init done", "applied a"]).await;
    assert!(begin.elapsed() <= Duration::from_secs(65));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_never_starts_is_abandoned_at_the_deadline() {
    let (_server, client) = script([
        Reply::Silence,
        list(&[], 5, ""),
        Reply::Silence,
        Reply::Open(vec![event("ADDED", &object("a", 6))]),
    ]);
    let begin = Instant::now();
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "interrupted list"]).await;
    assert!(begin.elapsed() < Duration::from_secs(31));
    assert_changes(&mut changes, &["init", "init done", "interrupted start a watch"]).await;
    assert!(begin.elapsed() < Duration::from_secs(63));
    assert_changes(&mut changes, &["applied a"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stalls_is_abandoned_at_the_deadline() {
    let (_server, client) = script([Reply::Open(vec![]), list(&[], 5, "")]);
    let begin = Instant::now();
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "interrupted list"]).await;
    assert!(begin.elapsed() < Duration::from_secs(31));
    assert_changes(&mut changes, &["init", "init done"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_cannot_be_decoded_is_not_quoted_in_the_error() {
    let (_server, client) = script([
        list(&[], 5, ""),
        Reply::Open(vec![json!("the-secret-link"), event("ADDED", &object("a", 6))]),
    ]);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "init done"]).await;
    let Some(Change::Interrupted { error, .. }) = changes.next().await else {
        panic!("the interruption");
    };
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    assert_changes(&mut changes, &["applied a"]).await;
}

#[test]
fn a_watch_that_lasted_ends_a_series_of_failures() {
    let mut pause = Pause::default();
    let begin = Instant::now();
    for _ in 0..9 {
        pause.grow(begin, 1.0);
    }
    assert_eq!(pause.grow(begin, 1.0), LONGEST_PAUSE);
    let later = begin + Duration::from_secs(61);
    assert_eq!(pause.grow(later, 1.0), SHORTEST_PAUSE);
}
