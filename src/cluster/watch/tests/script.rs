//! An API server that responds from a script.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

/// How the server responds to a request.
pub(super) enum Reply {
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
pub(super) struct Server {
    replies: Mutex<VecDeque<Reply>>,
    pub(super) requests: Mutex<Vec<String>>,
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
pub(super) fn script(replies: impl IntoIterator<Item = Reply>) -> (Arc<Server>, Client) {
    let server =
        Arc::new(Server { replies: Mutex::new(replies.into_iter().collect()), requests: Mutex::default() });
    let client = server.client();
    (server, client)
}

pub(super) fn watch(client: &Client, streaming_list: bool) -> BoxStream<'static, Change<ConfigMap>> {
    let settings = WatchSettings { streaming_list, ..WatchSettings::default() };
    changes(client, Some("kyc"), settings, &LastContact::default()).boxed()
}

pub(super) fn object(name: &str, version: u32) -> Value {
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

pub(super) fn undecodable(name: &str, version: u32) -> Value {
    let mut object = object(name, version);
    object["data"] = json!("the-secret-link");
    object
}

pub(super) fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

pub(super) fn list(items: &[Value], version: u32, more: &str) -> Reply {
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

pub(super) fn end_of_list(version: u32) -> Value {
    let metadata = json!({
        "resourceVersion": version.to_string(),
        "annotations": {"k8s.io/initial-events-end": "true"},
    });
    event("BOOKMARK", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
}

pub(super) fn status(code: u16) -> Value {
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
pub(super) fn name_of(change: &Change<ConfigMap>) -> String {
    match change {
        Change::Init => "init".to_owned(),
        Change::Applied(object) => format!("applied {}", object.metadata.name.as_deref().unwrap()),
        Change::Undecodable { object, error: _ } => format!("undecodable {}", object.name),
        Change::InitDone => "init done".to_owned(),
        Change::Deleted(object) => format!("deleted {}", object.name),
        Change::Interrupted { error, .. } => format!("interrupted {}", error.action()),
    }
}

pub(super) async fn assert_changes(changes: &mut BoxStream<'static, Change<ConfigMap>>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(name_of(&changes.next().await.unwrap()), *expected);
    }
}
