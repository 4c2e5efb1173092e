//! A fake API server, for more Verifications than a real one can hold on this machine: it generates each one on request,
//! and counts requests. Listens on the loopback interface.
//!
//! It serves what an operator needs while nobody else changes Verifications: their schema, a streaming list, the version
//! of a list of one, watches without events, single resources, their status, the Secret, Events. It refuses all other
//! requests and counts them as unexpected. That includes writes, if the resources accept none.

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

/// How many resources are generated at a time.
const CHUNK: u32 = 200;
const RESOURCES: &str = "/apis/okid.io/v1alpha1/verifications";
const RESOURCE: &str = "/apis/okid.io/v1alpha1/namespaces/{namespace}/verifications/{name}";
const STATUS: &str = "/apis/okid.io/v1alpha1/namespaces/{namespace}/verifications/{name}/status";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/{namespace}/events";
const SECRET: &str = "/api/v1/namespaces/{namespace}/secrets/{name}";
const OPENAPI: &str = "/openapi/v3/apis/okid.io/v1alpha1";

/// The Verifications that it serves, by number.
pub(super) trait Resources: Send + Sync {
    /// The number of Verifications.
    fn count(&self) -> u32;
    /// The newest resourceVersion.
    fn version(&self) -> String;
    /// The Verification of this number.
    fn resource(&self, number: u32) -> Result<Value>;
    /// Applies a merge patch to a status and returns the Verification; `None` if writes are not expected.
    fn write(&self, number: u32, patch: &Value) -> Option<Value>;
}

/// A fake API server, which listens until its runtime ends.
pub(super) struct FakeApiServer {
    address: SocketAddr,
    counts: Arc<RequestCounts>,
}

/// Numbers of requests.
#[derive(Debug, Default)]
pub(super) struct RequestCounts {
    /// Lists and watches.
    pub(super) lists: AtomicU64,
    /// Reads of single resources.
    pub(super) reads: AtomicU64,
    /// Reads of Secrets.
    pub(super) secrets: AtomicU64,
    /// Writes of a status.
    pub(super) writes: AtomicU64,
    /// Events that were created.
    pub(super) events: AtomicU64,
    /// All other requests.
    pub(super) unexpected: AtomicU64,
}

struct Shared {
    resources: Arc<dyn Resources>,
    key: Value,
    counts: Arc<RequestCounts>,
}

type SharedState = State<Arc<Shared>>;

impl FakeApiServer {
    /// Listens on a free port. `key` is in every Secret, encoded in base64.
    pub(super) async fn start(resources: Arc<dyn Resources>, key: &str) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen as an API server")?;
        let address = listener.local_addr().context("listen as an API server")?;
        let counts = Arc::new(RequestCounts::default());
        let shared = Shared { resources, key: json!({"apiKey": key}), counts: Arc::clone(&counts) };
        let router = Router::new()
            .route(OPENAPI, get(openapi))
            .route(RESOURCES, get(list))
            .route(RESOURCE, get(read))
            .route(STATUS, patch(write))
            .route(EVENTS, post(event))
            .route(SECRET, get(secret))
            .fallback(refuse)
            .method_not_allowed_fallback(refuse)
            .with_state(Arc::new(shared));
        // Like the real one. Otherwise each chunk of a list waits for an acknowledgement.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(Self { address, counts })
    }

    /// The requests so far.
    pub(super) fn request_counts(&self) -> &RequestCounts {
        &self.counts
    }

    /// A kubeconfig for this server.
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

/// The schema of Verifications, as a real API server publishes it.
async fn openapi() -> Response {
    let definition = json!(okid_operator::api::definition());
    let version = &definition["spec"]["versions"][0];
    let mut schema = version["schema"]["openAPIV3Schema"].clone();
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": "okid.io", "version": version["name"], "kind": "Verification"}]);
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    let paths = selectable.filter_map(|field| field["jsonPath"].as_str()?.strip_prefix('.'));
    schema["x-kubernetes-selectable-fields"] = paths.map(|path| json!({"fieldPath": path})).collect();
    respond(&json!({
        "openapi": "3.0.0", "components": {"schemas": {"io.okid.v1alpha1.Verification": schema}},
    }))
}

/// A streaming list followed by a watch, or a watch alone. The watch delivers no events until it ends.
async fn list(
    State(shared): SharedState,
    Query(query): Query<HashMap<String, String>>,
    uri: Uri,
) -> Response {
    let has = |name: &str| query.get(name).is_some_and(|value| value == "true");
    if !has("watch") {
        // The list of one beside the watch; the operator reads only its version.
        if query.get("limit").is_none_or(|limit| limit != "1") {
            return refuse(State(shared), uri).await;
        }
        shared.counts.lists.fetch_add(1, Ordering::Relaxed);
        let metadata = json!({"resourceVersion": shared.resources.version()});
        return respond(&json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": metadata, "items": [],
        }));
    }
    shared.counts.lists.fetch_add(1, Ordering::Relaxed);
    let (count, version) = (shared.resources.count(), shared.resources.version());
    let from = if has("sendInitialEvents") { 0 } else { count };
    let chunks = (from..count).step_by(CHUNK as usize);
    let source = Arc::clone(&shared.resources);
    let resources = stream::iter(chunks).map(move |from| {
        let events = (from..count.min(from + CHUNK)).map(|number| {
            let object = source.resource(number)?;
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
    respond_json(Body::from_stream(resources.chain(begin).chain(end)))
}

fn bookmark(ends_list: bool, version: &str) -> Bytes {
    let annotations = if ends_list { json!({"k8s.io/initial-events-end": "true"}) } else { json!({}) };
    let object = json!({
        "apiVersion": "okid.io/v1alpha1", "kind": "Verification",
        "metadata": {"resourceVersion": version, "annotations": annotations},
    });
    format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into()
}

async fn read(State(shared): SharedState, Path((_, name)): Path<(String, String)>, uri: Uri) -> Response {
    match number_of(&name).map(|number| shared.resources.resource(number)) {
        Some(Ok(object)) => {
            shared.counts.reads.fetch_add(1, Ordering::Relaxed);
            respond(&object)
        }
        Some(Err(_)) | None => refuse(State(shared), uri).await,
    }
}

async fn write(
    State(shared): SharedState,
    Path((_, name)): Path<(String, String)>,
    uri: Uri,
    body: Bytes,
) -> Response {
    let written = number_of(&name)
        .zip(serde_json::from_slice(&body).ok())
        .and_then(|(number, patch)| shared.resources.write(number, &patch));
    let Some(written) = written else { return refuse(State(shared), uri).await };
    shared.counts.writes.fetch_add(1, Ordering::Relaxed);
    respond(&written)
}

async fn event(State(shared): SharedState, Json(event): Json<Value>) -> Response {
    shared.counts.events.fetch_add(1, Ordering::Relaxed);
    (StatusCode::CREATED, respond(&event)).into_response()
}

fn number_of(name: &str) -> Option<u32> {
    name.strip_prefix("person-")?.parse().ok()
}

async fn secret(State(shared): SharedState, Path((namespace, name)): Path<(String, String)>) -> Response {
    shared.counts.secrets.fetch_add(1, Ordering::Relaxed);
    respond(&json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": shared.key,
    }))
}

async fn refuse(State(shared): SharedState, uri: Uri) -> Response {
    shared.counts.unexpected.fetch_add(1, Ordering::Relaxed);
    let message = format!("{} is not served by this fake API server", uri.path());
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 501, "reason": "", "message": message,
    });
    (StatusCode::NOT_IMPLEMENTED, respond(&status)).into_response()
}

fn respond(body: &Value) -> Response {
    respond_json(Body::from(body.to_string()))
}

fn respond_json(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
