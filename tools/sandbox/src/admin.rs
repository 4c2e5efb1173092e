//! The endpoints under `/sandbox`, by which another process drives the portal.
//!
//! May touch: the portal, through its public methods only.

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
use crate::journal::{CallRecord, Counters};
use crate::keys::shown;
use crate::orders::{FaultId, FaultView};
use crate::person::{Act, Person};
use crate::portal::Portal;
use crate::session::ActError;
use crate::view::SessionView;

/// What the endpoints are, told to people: also the text of `GET /sandbox` and of `--help`.
pub const ENDPOINTS: &str = include_str!("admin.txt");

type Here = State<Arc<Portal>>;

pub(crate) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/", get(async || ENDPOINTS))
        .route("/sessions", get(sessions).post(seed))
        .route("/sessions/{id}", get(session).delete(forget))
        .route("/sessions/{id}/act", post(act))
        .route("/sessions/{id}/person", post(send))
        .route("/person", post(send_to_all).delete(send_nobody))
        .route("/faults", get(faults).post(order).delete(clear_all))
        .route("/faults/{id}", delete(clear))
        .route("/keys", get(keys).post(add_key).delete(remove_key))
        .route("/clock", get(clock).post(set_clock))
        .route("/settings", post(set))
        .route("/counters", get(counters).delete(reset))
        .route("/creates", get(creates))
        .route("/calls", get(calls))
        .route("/connections", delete(cut))
}

impl IntoResponse for ActError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::UnknownSession => StatusCode::NOT_FOUND,
            Self::UnknownModule => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Ended => StatusCode::CONFLICT,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

/// A body of JSON, whatever its `Content-Type` says: `curl -d` names another.
struct Sent<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            let told = json!({"error": format!("read the body as JSON: {error}")});
            (StatusCode::UNPROCESSABLE_ENTITY, Json(told)).into_response()
        })
    }
}

fn found(there: bool) -> StatusCode {
    if there { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

async fn sessions(State(portal): Here) -> Json<Vec<SessionView>> {
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

async fn seed(State(portal): Here, Sent(seed): Sent<Seed>) -> Json<Seeded> {
    let ids = match seed.key {
        Some(key) => portal.seed_for(&key, seed.count),
        None => portal.seed(seed.count),
    };
    Json(Seeded { ids })
}

async fn session(State(portal): Here, Path(id): Path<String>) -> Result<Json<SessionView>, ActError> {
    portal.session(&id).map(Json).ok_or(ActError::UnknownSession)
}

async fn forget(State(portal): Here, Path(id): Path<String>) -> StatusCode {
    found(portal.forget(&id))
}

async fn act(
    State(portal): Here,
    Path(id): Path<String>,
    Sent(act): Sent<Act>,
) -> Result<Json<SessionView>, ActError> {
    portal.act(&id, &act)?;
    session(State(portal), Path(id)).await
}

async fn send(
    State(portal): Here,
    Path(id): Path<String>,
    Sent(person): Sent<Person>,
) -> Result<StatusCode, ActError> {
    portal.send(&id, &person)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn send_to_all(State(portal): Here, Sent(person): Sent<Person>) -> StatusCode {
    portal.send_to_all(Some(person));
    StatusCode::NO_CONTENT
}

async fn send_nobody(State(portal): Here) -> StatusCode {
    portal.send_to_all(None);
    StatusCode::NO_CONTENT
}

async fn faults(State(portal): Here) -> Json<Vec<FaultView>> {
    Json(portal.faults())
}

#[derive(Debug, Serialize)]
struct Ordered {
    id: FaultId,
}

async fn order(State(portal): Here, Sent(fault): Sent<Fault>) -> (StatusCode, Json<Ordered>) {
    (StatusCode::CREATED, Json(Ordered { id: portal.order(fault) }))
}

async fn clear_all(State(portal): Here) -> StatusCode {
    portal.clear_faults();
    StatusCode::NO_CONTENT
}

async fn clear(State(portal): Here, Path(id): Path<FaultId>) -> StatusCode {
    found(portal.clear(id))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    key: String,
}

async fn keys(State(portal): Here) -> Json<Vec<String>> {
    Json(portal.keys.all().iter().map(|key| shown(key)).collect())
}

async fn add_key(State(portal): Here, Sent(Key { key }): Sent<Key>) -> StatusCode {
    portal.add_key(&key);
    StatusCode::NO_CONTENT
}

async fn remove_key(State(portal): Here, Sent(Key { key }): Sent<Key>) -> StatusCode {
    found(portal.remove_key(&key))
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

async fn clock(State(portal): Here) -> Json<ClockView> {
    Json(ClockView { now: portal.now(), speed: portal.clock.speed() })
}

async fn set_clock(State(portal): Here, Sent(change): Sent<ClockChange>) -> Json<ClockView> {
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

async fn set(State(portal): Here, Sent(change): Sent<SettingsChange>) -> StatusCode {
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

async fn counters(State(portal): Here) -> Json<Counters> {
    Json(portal.counters())
}

async fn reset(State(portal): Here) -> StatusCode {
    portal.reset_counters();
    StatusCode::NO_CONTENT
}

async fn creates(State(portal): Here) -> Json<Vec<CallRecord>> {
    Json(portal.creates())
}

async fn calls(State(portal): Here) -> Json<Vec<CallRecord>> {
    Json(portal.calls())
}

async fn cut(State(portal): Here) -> StatusCode {
    portal.cut_connections();
    StatusCode::NO_CONTENT
}
