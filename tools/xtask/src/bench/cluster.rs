//! A stand-in for the API server, for more verifications than a real one holds on this machine: it makes each of them
//! when it is asked, and counts. Touches a port of the loopback interface.
//!
//! It speaks what an operator needs whose verifications nobody else changes: the definition, a streaming list, the version
//! of a list of one, watches without news, one resource, its status, the Secret, Events. Everything else is refused and counted as unforeseen; so
//! are writes, where the resources take none.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

/// How many resources are made at a time.
const CHUNK: u32 = 200;
const RESOURCES: &str = "/apis/okid.io/v1alpha1/verifications";
const RESOURCE: &str = "/apis/okid.io/v1alpha1/namespaces/{namespace}/verifications/{name}";
const STATUS: &str = "/apis/okid.io/v1alpha1/namespaces/{namespace}/verifications/{name}/status";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/{namespace}/events";
const SECRET: &str = "/api/v1/namespaces/{namespace}/secrets/{name}";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}";

/// The verifications that it keeps, each by its number.
pub(super) trait Resources: Send + Sync {
    /// How many there are.
    fn count(&self) -> u32;
    /// The resourceVersion of the newest.
    fn version(&self) -> String;
    /// One of them.
    fn resource(&self, number: u32) -> Result<Value>;
    /// Applies a merge patch to its status, and returns it; nothing, if nothing should be written.
    fn write(&self, number: u32, patch: &Value) -> Option<Value>;
}

/// It listens until its runtime ends.
pub(super) struct Cluster {
    address: SocketAddr,
    counted: Arc<Counted>,
}

/// Requests so far.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Lists, watches included.
    pub(super) lists: AtomicU64,
    /// Single resources.
    pub(super) reads: AtomicU64,
    /// Secrets.
    pub(super) secrets: AtomicU64,
    /// Writes of a status.
    pub(super) writes: AtomicU64,
    /// Events.
    pub(super) events: AtomicU64,
    /// What should not happen.
    pub(super) unforeseen: AtomicU64,
}

struct Desk {
    resources: Arc<dyn Resources>,
    key: Value,
    counted: Arc<Counted>,
}

type Here = State<Arc<Desk>>;

impl Cluster {
    /// Listens at a free port; `key` is in every Secret, encoded in base 64.
    pub(super) async fn start(resources: Arc<dyn Resources>, key: &str) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen as an API server")?;
        let address = listener.local_addr().context("listen as an API server")?;
        let counted = Arc::new(Counted::default());
        let desk = Desk { resources, key: json!({"apiKey": key}), counted: Arc::clone(&counted) };
        let router = Router::new()
            .route(DEFINITION, get(definition))
            .route(RESOURCES, get(list))
            .route(RESOURCE, get(read))
            .route(STATUS, patch(write))
            .route(EVENTS, post(event))
            .route(SECRET, get(secret))
            .fallback(refuse)
            .method_not_allowed_fallback(refuse)
            .with_state(Arc::new(desk));
        // As the real one does; else each piece of a list waits for an acknowledgement.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(Self { address, counted })
    }

    /// What was asked so far.
    pub(super) fn counted(&self) -> &Counted {
        &self.counted
    }

    /// How to find it, for a client.
    pub(super) fn kubeconfig(&self) -> String {
        let address = self.address;
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        })
        .to_string()
    }
}

async fn definition() -> Response {
    let established = json!({
        "type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let names = json!({"plural": "verifications", "kind": "Verification"});
    answer(&json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "verifications.okid.io"},
        "spec": {"group": "okid.io", "scope": "Namespaced", "names": names, "versions": []},
        "status": {"conditions": [established]},
    }))
}

/// A streaming list, and then a watch, or a watch alone: in both nothing happens until it ends.
async fn list(State(desk): Here, Query(query): Query<HashMap<String, String>>, uri: Uri) -> Response {
    let asks = |name: &str| query.get(name).is_some_and(|value| value == "true");
    if !asks("watch") {
        // The list of one beside the watch: its version is all that is asked for.
        if query.get("limit").is_none_or(|limit| limit != "1") {
            return refuse(State(desk), uri).await;
        }
        desk.counted.lists.fetch_add(1, Ordering::Relaxed);
        let metadata = json!({"resourceVersion": desk.resources.version()});
        return answer(&json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": metadata, "items": [],
        }));
    }
    desk.counted.lists.fetch_add(1, Ordering::Relaxed);
    let (count, version) = (desk.resources.count(), desk.resources.version());
    let from = if asks("sendInitialEvents") { 0 } else { count };
    let chunks = (from..count).step_by(CHUNK as usize);
    let kept = Arc::clone(&desk.resources);
    let resources = stream::iter(chunks).map(move |from| {
        let events = (from..count.min(from + CHUNK)).map(|number| {
            let object = kept.resource(number)?;
            anyhow::Ok(format!("{}\n", json!({"type": "ADDED", "object": object})))
        });
        events.collect::<Result<String>>().map(Bytes::from).map_err(std::io::Error::other)
    });
    let seconds = query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(60);
    let begin = stream::iter((from == 0).then(|| Ok(bookmark(true, &version))));
    let end = stream::once(async move {
        sleep(Duration::from_secs(seconds)).await;
        Ok(bookmark(false, &version))
    });
    json_answer(Body::from_stream(resources.chain(begin).chain(end)))
}

fn bookmark(ends_the_list: bool, version: &str) -> Bytes {
    let annotations = if ends_the_list { json!({"k8s.io/initial-events-end": "true"}) } else { json!({}) };
    let object = json!({
        "apiVersion": "okid.io/v1alpha1", "kind": "Verification",
        "metadata": {"resourceVersion": version, "annotations": annotations},
    });
    format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into()
}

async fn read(State(desk): Here, Path((_, name)): Path<(String, String)>, uri: Uri) -> Response {
    match number_of(&name).map(|number| desk.resources.resource(number)) {
        Some(Ok(object)) => {
            desk.counted.reads.fetch_add(1, Ordering::Relaxed);
            answer(&object)
        }
        Some(Err(_)) | None => refuse(State(desk), uri).await,
    }
}

async fn write(
    State(desk): Here,
    Path((_, name)): Path<(String, String)>,
    uri: Uri,
    body: Bytes,
) -> Response {
    let written = number_of(&name)
        .zip(serde_json::from_slice(&body).ok())
        .and_then(|(number, patch)| desk.resources.write(number, &patch));
    let Some(written) = written else { return refuse(State(desk), uri).await };
    desk.counted.writes.fetch_add(1, Ordering::Relaxed);
    answer(&written)
}

async fn event(State(desk): Here, Json(event): Json<Value>) -> Response {
    desk.counted.events.fetch_add(1, Ordering::Relaxed);
    (StatusCode::CREATED, answer(&event)).into_response()
}

fn number_of(name: &str) -> Option<u32> {
    name.strip_prefix("person-")?.parse().ok()
}

async fn secret(State(desk): Here, Path((namespace, name)): Path<(String, String)>) -> Response {
    desk.counted.secrets.fetch_add(1, Ordering::Relaxed);
    answer(&json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": desk.key,
    }))
}

async fn refuse(State(desk): Here, uri: Uri) -> Response {
    desk.counted.unforeseen.fetch_add(1, Ordering::Relaxed);
    let message = format!("{} is not for this API server", uri.path());
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 501, "reason": "", "message": message,
    });
    (StatusCode::NOT_IMPLEMENTED, answer(&status)).into_response()
}

fn answer(body: &Value) -> Response {
    json_answer(Body::from(body.to_string()))
}

fn json_answer(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
