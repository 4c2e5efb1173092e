//! The stream against an API server that answers from a script.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

/// What the server does with one request.
enum Answer {
    /// A whole answer.
    Whole(u16, Value),
    /// The lines of a watch, which is then closed.
    Closed(Vec<Value>),
    /// The lines of a watch, which then stays open and silent.
    Open(Vec<Value>),
    /// No answer.
    Silence,
}

#[derive(Default)]
struct Server {
    answers: Mutex<VecDeque<Answer>>,
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
                let answer = server.answers.lock().pop_front();
                let (status, lines, open) = match answer {
                    Some(Answer::Whole(status, body)) => (status, vec![body], false),
                    Some(Answer::Closed(lines)) => (200, lines, false),
                    Some(Answer::Open(lines)) => (200, lines, true),
                    Some(Answer::Silence) | None => std::future::pending().await,
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

/// A stream over a server that gives these answers one after the other, and then none.
fn script(answers: impl IntoIterator<Item = Answer>) -> (Arc<Server>, Client) {
    let server =
        Arc::new(Server { answers: Mutex::new(answers.into_iter().collect()), requests: Mutex::default() });
    let client = server.client();
    (server, client)
}

fn watch(client: &Client, streaming_list: bool) -> BoxStream<'static, Change<ConfigMap>> {
    let settings = StreamSettings { streaming_list, ..StreamSettings::default() };
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

fn list(items: &[Value], version: u32, more: &str) -> Answer {
    Answer::Whole(
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

/// A change in one word or two.
fn told(change: &Change<ConfigMap>) -> String {
    match change {
        Change::Restarted => "restarted".to_owned(),
        Change::Seen(object) => format!("seen {}", object.metadata.name.as_deref().unwrap()),
        Change::Undecodable { object, error: _ } => format!("undecodable {}", object.name),
        Change::Synced => "synced".to_owned(),
        Change::Gone(object) => format!("gone {}", object.name),
        Change::Interrupted { error, .. } => format!("interrupted {}", error.tried()),
    }
}

async fn tells(changes: &mut BoxStream<'static, Change<ConfigMap>>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(told(&changes.next().await.unwrap()), *expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_is_passed_on_and_the_watch_follows_it() {
    let (server, client) = script([Answer::Open(vec![
        event("ADDED", &object("a", 1)),
        event("ADDED", &object("b", 2)),
        end_of_list(2),
        event("MODIFIED", &object("a", 3)),
        event("DELETED", &object("b", 4)),
    ])]);
    let mut changes = watch(&client, true);
    tells(&mut changes, &["restarted", "seen a", "seen b", "synced", "seen a", "gone b"]).await;
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
    let (_server, client) = script([Answer::Open(events)]);
    let mut changes = watch(&client, true);
    // Not at a whole millisecond: there, a sleep of nothing takes none.
    tokio::time::advance(Duration::from_micros(500)).await;
    let start = Instant::now();
    while !matches!(changes.next().await, Some(Change::Synced)) {}
    // The clock of this test moves only when somebody waits for it, as the request does once.
    assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_without_streaming_lists_is_asked_for_pages_at_once() {
    let begin = Instant::now();
    for code in [400, 422] {
        let (server, client) = script([
            Answer::Whole(code, status(code)),
            list(&[object("a", 1)], 5, "next"),
            list(&[object("b", 2)], 5, ""),
            Answer::Open(vec![event("ADDED", &object("c", 6))]),
        ]);
        let mut changes = watch(&client, true);
        tells(&mut changes, &["restarted", "seen a", "seen b", "synced", "seen c"]).await;
        let requests = server.requests.lock();
        assert!(requests[1].contains("limit=500"), "{requests:?}");
        assert!(requests[2].contains("continue=next"), "{requests:?}");
        assert!(requests[3].contains("resourceVersion=5"), "{requests:?}");
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

/// For each page that was asked for, how many objects it was to have, and how many bytes of it were taken.
type Asked = Mutex<Vec<(u32, usize)>>;

/// A server with so many objects of so many bytes, which has pages of as many as it is asked for: the limits that it was
/// asked for, and the bytes that were taken of each page.
fn pages(count: u32, bytes: usize) -> (Arc<Asked>, Client) {
    let asked: Arc<Asked> = Arc::default();
    let noted = Arc::clone(&asked);
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
    (asked, Client::new(service, "default"))
}

#[tokio::test(start_paused = true)]
async fn a_page_of_large_objects_is_bounded_by_its_bytes() {
    const MIB: usize = 1024 * 1024;
    for (count, bytes) in [(60, MIB), (600, 100_000), (600, 100)] {
        let (asked, client) = pages(count, bytes);
        let mut changes = watch(&client, false);
        let mut seen = 0;
        loop {
            match changes.next().await.unwrap() {
                Change::Seen(_) => seen += 1,
                Change::Synced => break,
                Change::Restarted => {}
                other @ (Change::Undecodable { .. } | Change::Gone(_) | Change::Interrupted { .. }) => {
                    panic!("{}", told(&other))
                }
            }
        }
        assert_eq!(seen, count);
        let asked = asked.lock();
        assert_eq!(asked[0].0, 500);
        assert!(asked.iter().all(|(_, taken)| *taken < 4 * MIB + 2 * bytes), "{asked:?}");
        let most = usize::try_from(count).unwrap() * bytes / MIB + 12;
        assert!(asked.len() <= most, "{} requests for {count} objects", asked.len());
        if bytes == 100 {
            assert_eq!(asked.len(), 2, "small objects are asked for as ever");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_comes_by_the_watch_is_a_sign_of_life() {
    let bookmark = || {
        event(
            "BOOKMARK",
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "7"}}),
        )
    };
    let (_server, client) = script([list(&[], 5, ""), Answer::Silence, Answer::Open(vec![bookmark()])]);
    let heard = LastContact::default();
    let settings = StreamSettings { streaming_list: false, ..StreamSettings::default() };
    let mut changes = changes::<ConfigMap>(&client, Some("kyc"), settings, &heard).boxed();
    tells(&mut changes, &["restarted", "synced"]).await;
    let silent = || (heard.watch_silent_for().as_secs(), heard.server_silent_for().as_secs());
    assert_eq!(silent(), (0, 0));
    tells(&mut changes, &["interrupted begin a watch"]).await;
    assert!(silent().0 >= 30 && silent().1 >= 30, "{:?}", silent());
    tokio::select! {
        change = changes.next() => panic!("{}", told(&change.unwrap())),
        () = sleep(Duration::from_secs(3)) => {}
    }
    assert!(silent().0 < 3, "a bookmark is told to nobody, and last_contact");
    heard.server();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(silent().1, 1);
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_that_does_not_end_is_given_up_for_pages() {
    let (_server, client) = script([
        Answer::Closed(vec![event("ADDED", &object("a", 1))]),
        Answer::Open(vec![]),
        list(&[object("a", 1)], 5, ""),
    ]);
    let mut changes = watch(&client, true);
    tells(&mut changes, &["restarted", "seen a", "restarted", "seen a", "synced"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_is_handed_on_whole_so_that_it_can_be_weighed() {
    let (_server, client) = script([list(&[object("a", 1)], 5, "")]);
    let mut changes = watch(&client, false);
    tells(&mut changes, &["restarted"]).await;
    let Some(Change::Seen(object)) = changes.next().await else {
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
async fn an_undecodable_object_is_told_and_harms_no_other() {
    let (_server, client) = script([
        list(&[undecodable("bad", 1), object("good", 2)], 5, ""),
        Answer::Open(vec![
            event("ADDED", &undecodable("worse", 6)),
            event("ADDED", &object("better", 7)),
            event("DELETED", &undecodable("worse", 8)),
            event("MODIFIED", &object("better", 9)),
        ]),
    ]);
    let mut changes = watch(&client, false);
    tells(&mut changes, &["restarted"]).await;
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
    tells(
        &mut changes,
        &["seen good", "synced", "undecodable worse", "seen better", "gone worse", "seen better"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_again() {
    for refusal in [Answer::Open(vec![event("ERROR", &status(410))]), Answer::Whole(410, status(410))] {
        let (_server, client) = script([
            list(&[object("a", 1)], 5, ""),
            refusal,
            list(&[object("b", 6)], 7, ""),
            Answer::Open(vec![event("ADDED", &object("c", 8))]),
        ]);
        let mut changes = watch(&client, false);
        tells(
            &mut changes,
            &[
                "restarted",
                "seen a",
                "synced",
                "interrupted resume a watch",
                "restarted",
                "seen b",
                "synced",
                "seen c",
            ],
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_is_told_and_the_stream_goes_on_after_a_pause_that_grows() {
    let mut answers: Vec<_> = (0..8).map(|_| Answer::Whole(500, status(500))).collect();
    answers.push(list(&[object("a", 1)], 5, ""));
    answers.push(Answer::Whole(500, status(500)));
    answers.push(Answer::Open(vec![event("ADDED", &object("b", 6))]));
    let (_server, client) = script(answers);
    let mut changes = watch(&client, false);
    let mut last = Duration::ZERO;
    for _ in 0..8 {
        tells(&mut changes, &["restarted"]).await;
        let Some(Change::Interrupted { error, list_is_owed, pause }) = changes.next().await else {
            panic!("the interruption");
        };
        assert_eq!((error.tried(), list_is_owed), ("list", true));
        assert!(pause >= last.mul_f64(0.8), "{pause:?} after {last:?}");
        assert!((SHORTEST_PAUSE..=LONGEST_PAUSE).contains(&pause), "{pause:?}");
        last = pause;
    }
    assert!(last > LONGEST_PAUSE / 2);
    let begin = Instant::now();
    tells(&mut changes, &["restarted", "seen a", "synced"]).await;
    assert!(begin.elapsed() >= last);
    // What worked ends the series: the next pause is a short one again.
    let Some(Change::Interrupted { error, list_is_owed, pause }) = changes.next().await else {
        panic!("the interruption");
    };
    assert_eq!((error.tried(), list_is_owed), ("begin a watch", false));
    assert!(pause < 2 * SHORTEST_PAUSE, "{pause:?}");
    tells(&mut changes, &["seen b"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_watch_is_told_and_the_watch_resumed_where_it_was() {
    let (server, client) = script([
        list(&[], 5, ""),
        Answer::Closed(vec![event("ADDED", &object("a", 6)), event("ERROR", &status(500))]),
        Answer::Open(vec![event("ADDED", &object("b", 7))]),
    ]);
    let mut changes = watch(&client, false);
    tells(&mut changes, &["restarted", "synced", "seen a", "interrupted watch", "seen b"]).await;
    let requests = server.requests.lock();
    assert!(requests[2].contains("resourceVersion=6"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_is_owed_a_list_unless_pages_would_be_listed_in_vain() {
    let refused = |code, streaming| async move {
        let listed = || Answer::Closed(vec![event("ADDED", &object("a", 1)), end_of_list(1)]);
        let pages = || list(&[object("a", 1)], 1, "");
        let answers = if streaming {
            [listed(), Answer::Whole(code, status(code)), listed()]
        } else {
            [pages(), Answer::Whole(code, status(code)), pages()]
        };
        let (_server, client) = script(answers);
        let mut changes = watch(&client, streaming);
        tells(&mut changes, &["restarted", "seen a", "synced"]).await;
        let Some(Change::Interrupted { error, list_is_owed, .. }) = changes.next().await else {
            panic!("the interruption");
        };
        assert_eq!(error.unanswered().unwrap().code(), Some(code));
        if list_is_owed {
            tells(&mut changes, &["restarted", "seen a", "synced"]).await;
        }
        list_is_owed
    };
    assert_eq!((refused(404, true).await, refused(404, false).await), (true, true), "the definition is gone");
    assert_eq!((refused(403, true).await, refused(403, false).await), (true, false));
    assert_eq!((refused(500, true).await, refused(500, false).await), (false, false));
}

#[tokio::test(start_paused = true)]
async fn a_clean_close_is_resumed_at_once() {
    let begin = Instant::now();
    let mut answers = vec![list(&[], 5, "")];
    answers.extend((0..56).map(|_| Answer::Closed(vec![])));
    answers.push(Answer::Open(vec![event("ADDED", &object("a", 6))]));
    let (_server, client) = script(answers);
    let mut changes = watch(&client, false);
    tells(&mut changes, &["restarted", "synced", "seen a"]).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_every_watch_is_not_flooded() {
    let mut answers = vec![list(&[], 5, "")];
    answers.extend((0..1000).map(|_| Answer::Closed(vec![])));
    let (server, client) = script(answers);
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
        script([list(&[], 5, ""), Answer::Open(vec![]), Answer::Open(vec![event("ADDED", &object("a", 6))])]);
    let mut changes = watch(&client, false);
    tells(&mut changes, &["restarted", "synced", "seen a"]).await;
    assert!(begin.elapsed() <= Duration::from_secs(65));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_begins_is_given_up_at_the_deadline() {
    let (_server, client) = script([
        Answer::Silence,
        list(&[], 5, ""),
        Answer::Silence,
        Answer::Open(vec![event("ADDED", &object("a", 6))]),
    ]);
    let begin = Instant::now();
    let mut changes = watch(&client, false);
    tells(&mut changes, &["restarted", "interrupted list"]).await;
    assert!(begin.elapsed() < Duration::from_secs(31));
    tells(&mut changes, &["restarted", "synced", "interrupted begin a watch"]).await;
    assert!(begin.elapsed() < Duration::from_secs(63));
    tells(&mut changes, &["seen a"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stops_half_way_is_given_up_at_the_deadline() {
    let (_server, client) = script([Answer::Open(vec![]), list(&[], 5, "")]);
    let begin = Instant::now();
    let mut changes = watch(&client, false);
    tells(&mut changes, &["restarted", "interrupted list"]).await;
    assert!(begin.elapsed() < Duration::from_secs(31));
    tells(&mut changes, &["restarted", "synced"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_understood_is_not_repeated_in_the_error() {
    let (_server, client) = script([
        list(&[], 5, ""),
        Answer::Open(vec![json!("the-secret-link"), event("ADDED", &object("a", 6))]),
    ]);
    let mut changes = watch(&client, false);
    tells(&mut changes, &["restarted", "synced"]).await;
    let Some(Change::Interrupted { error, .. }) = changes.next().await else {
        panic!("the interruption");
    };
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    tells(&mut changes, &["seen a"]).await;
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
