//! The stream against an API server that responds from a script: lists, pages, and what passes on.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;

use self::script::{
    Reply, assert_changes, end_of_list, event, list, name_of, object, script, status, undecodable, watch,
};
use super::*;

mod interruptions;
mod script;

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
