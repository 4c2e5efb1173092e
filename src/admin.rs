//! `/livez`, `/readyz` and `/metrics`, for the kubelet and for Prometheus.

pub mod listen;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};

use crate::metrics::Metrics;

/// What `/readyz` waits for while the API server has not answered for a minute.
const CUT_OFF: &str = "the API server, which has not answered for a minute";

/// Brings gauges up to date before they are shown.
pub type Measure = Arc<dyn Fn() + Send + Sync>;

/// How the process itself is.
#[derive(Clone)]
pub struct Vitals {
    /// Which of its loops does not go on any more, if one does not: a restart is all that helps.
    pub stuck: Arc<dyn Fn() -> Option<&'static str> + Send + Sync>,
    /// Whether the API server has not answered for a minute: nothing that a restart would help with.
    pub is_cut_off: Arc<dyn Fn() -> bool + Send + Sync>,
}

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
pub fn routes(readiness: Readiness, vitals: Vitals, metrics: Arc<Metrics>, measure: Measure) -> Router {
    Router::new()
        .route("/livez", get(live).with_state(vitals.clone()))
        .route("/readyz", get(ready).with_state((readiness, vitals)))
        .route("/metrics", get(show_metrics).with_state((metrics, measure)))
}

async fn live(State(vitals): State<Vitals>) -> impl IntoResponse {
    match (vitals.stuck)() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(what) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{what} does not go on\n")),
    }
}

async fn ready(State((readiness, vitals)): State<(Readiness, Vitals)>) -> impl IntoResponse {
    let cut_off = || (vitals.is_cut_off)().then_some(CUT_OFF.into());
    match readiness.waiting().or_else(cut_off) {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;

    async fn code(routes: &Router, path: &str) -> u16 {
        let request = Request::get(path).body(Body::empty()).unwrap();
        routes.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn an_api_server_that_is_away_restarts_nobody_and_a_loop_that_is_stuck_does() {
        let (stuck, cut_off) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (is_stuck, is_cut_off) = (Arc::clone(&stuck), Arc::clone(&cut_off));
        let vitals = Vitals {
            stuck: Arc::new(move || is_stuck.load(Ordering::Relaxed).then_some("the loop")),
            is_cut_off: Arc::new(move || is_cut_off.load(Ordering::Relaxed)),
        };
        let readiness = Readiness::waiting_for("something");
        let routes = routes(readiness.clone(), vitals, Arc::default(), Arc::new(|| ()));
        let both = async || (code(&routes, "/livez").await, code(&routes, "/readyz").await);
        assert_eq!(both().await, (200, 503));
        readiness.set(None);
        assert_eq!(both().await, (200, 200));
        cut_off.store(true, Ordering::Relaxed);
        assert_eq!(both().await, (200, 503));
        stuck.store(true, Ordering::Relaxed);
        assert_eq!(both().await, (500, 503));
    }
}
