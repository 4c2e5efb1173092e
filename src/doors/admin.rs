//! `/livez`, `/readyz` and `/metrics`, for the kubelet and for Prometheus.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};

use crate::metrics::Metrics;

/// Brings gauges up to date before they are shown.
pub type Measure = Arc<dyn Fn() + Send + Sync>;

/// Whether the operator is at work, and if not, what it waits for.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Option<Cow<'static, str>>>>);

impl Readiness {
    /// Not ready, for that reason.
    #[must_use]
    pub fn waiting_for(what: &'static str) -> Self {
        Self(Arc::new(Mutex::new(Some(what.into()))))
    }

    /// What is waited for now; `None` when it is at work.
    pub fn set(&self, waiting_for: Option<Cow<'static, str>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = waiting_for;
    }

    fn waiting(&self) -> Option<Cow<'static, str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The routes.
pub fn routes(readiness: Readiness, metrics: Arc<Metrics>, measure: Measure) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(show_metrics).with_state((metrics, measure)))
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.waiting() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {what}\n")),
    }
}

async fn show_metrics(State((metrics, measure)): State<(Arc<Metrics>, Measure)>) -> impl IntoResponse {
    measure();
    match metrics.text() {
        Ok(text) => (
            StatusCode::OK,
            [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], String::new()),
    }
}
