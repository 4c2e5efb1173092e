//! The endpoints under `/sandbox`, by which another process controls the portal.
//!
//! May depend on [`Portal`], through its public methods only.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::fault::Fault;
use crate::fault_queue::{FaultId, FaultView};
use crate::keys::shown;
use crate::notifications::{Delivery, Webhook};
use crate::person::{Act, Person};
use crate::portal::Portal;
use crate::request_log::{Counters, RequestRecord};
use crate::session::ActError;
use crate::view::SessionView;

/// The description of the endpoints, also the text of `GET /sandbox` and of `--help`.
pub const ENDPOINTS: &str = include_str!("admin.txt");

type PortalState = State<Arc<Portal>>;

pub(crate) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/", get(async || ENDPOINTS))
        .route("/sessions", get(sessions).post(seed))
        .route("/sessions/{id}", get(session).delete(forget))
        .route("/sessions/{id}/act", post(act))
        .route("/sessions/{id}/person", post(assign))
        .route("/sessions/{id}/notify", post(notify))
        .route("/webhook", post(set_webhook).delete(remove_webhook))
        .route("/delivery", post(set_delivery))
        .route("/person", post(assign_to_new).delete(assign_none))
        .route("/faults", get(faults).post(inject).delete(clear_all))
        .route("/faults/{id}", delete(clear))
        .route("/keys", get(keys).post(add_key).delete(remove_key))
        .route("/clock", get(clock).post(set_clock))
        .route("/settings", post(set))
        .route("/counters", get(counters).delete(reset))
        .route("/creates", get(creates))
        .route("/requests", get(requests))
        .route("/connections", delete(cut_connections))
}

impl IntoResponse for ActError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::UnknownSession => StatusCode::NOT_FOUND,
            Self::UnknownModule => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Finished => StatusCode::CONFLICT,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

/// A JSON body, whatever its `Content-Type`: `curl -d` sends another one.
struct JsonBody<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            let message = json!({"error": format!("parse the body as JSON: {error}")});
            (StatusCode::UNPROCESSABLE_ENTITY, Json(message)).into_response()
        })
    }
}

fn status_of(exists: bool) -> StatusCode {
    if exists { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

async fn sessions(State(portal): PortalState) -> Json<Vec<SessionView>> {
    Json(portal.sessions())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    count: usize,
    key: Option<String>,
}

#[derive(Debug, Serialize)]
struct Seeded {
    ids: Vec<String>,
}

async fn seed(State(portal): PortalState, JsonBody(seed): JsonBody<Seed>) -> Json<Seeded> {
    let ids = match seed.key {
        Some(key) => portal.seed_for(&key, seed.count),
        None => portal.seed(seed.count),
    };
    Json(Seeded { ids })
}

async fn session(State(portal): PortalState, Path(id): Path<String>) -> Result<Json<SessionView>, ActError> {
    portal.session(&id).map(Json).ok_or(ActError::UnknownSession)
}

async fn forget(State(portal): PortalState, Path(id): Path<String>) -> StatusCode {
    status_of(portal.forget(&id))
}

async fn act(
    State(portal): PortalState,
    Path(id): Path<String>,
    JsonBody(act): JsonBody<Act>,
) -> Result<Json<SessionView>, ActError> {
    portal.act(&id, &act)?;
    session(State(portal), Path(id)).await
}

async fn assign(
    State(portal): PortalState,
    Path(id): Path<String>,
    JsonBody(person): JsonBody<Person>,
) -> Result<StatusCode, ActError> {
    portal.assign(&id, &person)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn assign_to_new(State(portal): PortalState, JsonBody(person): JsonBody<Person>) -> StatusCode {
    portal.assign_to_new(Some(person));
    StatusCode::NO_CONTENT
}

async fn assign_none(State(portal): PortalState) -> StatusCode {
    portal.assign_to_new(None);
    StatusCode::NO_CONTENT
}

/// How a notification is delivered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notify {
    delivery: Delivery,
}

async fn notify(
    State(portal): PortalState,
    Path(id): Path<String>,
    JsonBody(Notify { delivery }): JsonBody<Notify>,
) -> StatusCode {
    portal.notify(&id, delivery);
    StatusCode::NO_CONTENT
}

async fn set_webhook(State(portal): PortalState, JsonBody(webhook): JsonBody<Webhook>) -> StatusCode {
    portal.set_webhook(Some(webhook));
    StatusCode::NO_CONTENT
}

async fn remove_webhook(State(portal): PortalState) -> StatusCode {
    portal.set_webhook(None);
    StatusCode::NO_CONTENT
}

async fn set_delivery(
    State(portal): PortalState,
    JsonBody(Notify { delivery }): JsonBody<Notify>,
) -> StatusCode {
    portal.set_delivery(delivery);
    StatusCode::NO_CONTENT
}

async fn faults(State(portal): PortalState) -> Json<Vec<FaultView>> {
    Json(portal.faults())
}

#[derive(Debug, Serialize)]
struct Injected {
    id: FaultId,
}

async fn inject(
    State(portal): PortalState,
    JsonBody(fault): JsonBody<Fault>,
) -> (StatusCode, Json<Injected>) {
    (StatusCode::CREATED, Json(Injected { id: portal.inject(fault) }))
}

async fn clear_all(State(portal): PortalState) -> StatusCode {
    portal.clear_faults();
    StatusCode::NO_CONTENT
}

async fn clear(State(portal): PortalState, Path(id): Path<FaultId>) -> StatusCode {
    status_of(portal.clear(id))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    key: String,
}

async fn keys(State(portal): PortalState) -> Json<Vec<String>> {
    Json(portal.keys.all().iter().map(|key| shown(key)).collect())
}

async fn add_key(State(portal): PortalState, JsonBody(Key { key }): JsonBody<Key>) -> StatusCode {
    portal.add_key(&key);
    StatusCode::NO_CONTENT
}

async fn remove_key(State(portal): PortalState, JsonBody(Key { key }): JsonBody<Key>) -> StatusCode {
    status_of(portal.remove_key(&key))
}

#[derive(Debug, Serialize)]
struct ClockView {
    now: Timestamp,
    speed: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    advance_ms: Option<u64>,
    speed: Option<f64>,
}

async fn clock(State(portal): PortalState) -> Json<ClockView> {
    Json(ClockView { now: portal.now(), speed: portal.clock.speed() })
}

async fn set_clock(State(portal): PortalState, JsonBody(change): JsonBody<ClockChange>) -> Json<ClockView> {
    if let Some(speed) = change.speed {
        portal.set_speed(speed);
    }
    if let Some(advance) = change.advance_ms {
        portal.advance(Duration::from_millis(advance));
    }
    clock(State(portal)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsChange {
    latency_ms: Option<u64>,
    expiry_ms: Option<u64>,
    configured: Option<bool>,
}

async fn set(State(portal): PortalState, JsonBody(change): JsonBody<SettingsChange>) -> StatusCode {
    if let Some(latency) = change.latency_ms {
        portal.set_latency(Duration::from_millis(latency));
    }
    if let Some(expiry) = change.expiry_ms {
        portal.set_expiry(Duration::from_millis(expiry));
    }
    if let Some(configured) = change.configured {
        portal.set_configured(configured);
    }
    StatusCode::NO_CONTENT
}

async fn counters(State(portal): PortalState) -> Json<Counters> {
    Json(portal.counters())
}

async fn reset(State(portal): PortalState) -> StatusCode {
    portal.reset_counters();
    StatusCode::NO_CONTENT
}

async fn creates(State(portal): PortalState) -> Json<Vec<RequestRecord>> {
    Json(portal.creates())
}

async fn requests(State(portal): PortalState) -> Json<Vec<RequestRecord>> {
    Json(portal.requests())
}

async fn cut_connections(State(portal): PortalState) -> StatusCode {
    portal.cut_connections();
    StatusCode::NO_CONTENT
}
