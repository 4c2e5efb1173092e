//! `/livez`, `/readyz` and `/metrics`, for the kubelet and for Prometheus, and `/log-filter` for whoever is on this
//! machine. May depend on `metrics` and `telemetry`.

pub(crate) mod listen;

use std::{
    borrow::Cow,
    error::Error as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, FORWARDED},
    },
    response::IntoResponse,
    routing::{get, put},
};
use parking_lot::Mutex;

use crate::{
    metrics::{self, Metrics},
    telemetry::{LogControl, LogFilter},
};

/// The most bytes of directives for the log.
const MOST_DIRECTIVES: usize = 4096;

/// What `/readyz` reports while the API server has not answered for a minute.
const API_SERVER: &str = "the API server, which has not answered for a minute";

/// Updates gauges before they are scraped.
pub(crate) type Measure = Arc<dyn Fn() + Send + Sync>;

/// The health of the process.
#[derive(Clone)]
pub(crate) struct Health {
    /// Which loop is stuck, if one is: only a restart helps.
    pub stuck: Arc<dyn Fn() -> Option<&'static str> + Send + Sync>,
    /// Whether the API server has not answered for a minute: a restart would not help.
    pub is_cut_off: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Whether the operator is ready, and if not, why.
#[derive(Clone, Debug)]
pub(crate) struct Readiness(Arc<Mutex<ReadyState>>);

#[derive(Debug, Default)]
struct ReadyState {
    /// What the operator as a whole waits for.
    waiting_for: Option<Cow<'static, str>>,
    /// What the leader election waits for.
    election: Option<Cow<'static, str>>,
    /// What a ready operator does without, one line for each.
    missing: Vec<String>,
    is_shutting_down: bool,
}

impl Readiness {
    /// Not ready until `what` is there.
    #[must_use]
    pub(crate) fn waiting_for(what: &'static str) -> Self {
        let state = ReadyState { waiting_for: Some(what.into()), ..ReadyState::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Not ready until `waiting_for` is there; ready if that is `None` and the leader election waits for nothing.
    pub(crate) fn set(&self, waiting_for: Option<Cow<'static, str>>) {
        self.0.lock().waiting_for = waiting_for;
    }

    /// What the leader election waits for, if it does: not for the leadership, but for the Lease.
    pub(crate) fn set_election(&self, waiting_for: Option<Cow<'static, str>>) {
        self.0.lock().election = waiting_for;
    }

    /// What the operator does without, one line for each. `/readyz` shows it.
    pub(crate) fn set_missing(&self, missing: Vec<String>) {
        self.0.lock().missing = missing;
    }

    /// Not ready any more, whatever is set later.
    pub(crate) fn shut_down(&self) {
        self.0.lock().is_shutting_down = true;
    }

    /// Why the operator is not ready.
    fn obstacle(&self) -> Option<String> {
        let ReadyState { waiting_for, election, missing: _, is_shutting_down } = &*self.0.lock();
        if *is_shutting_down {
            return Some("shutting down".to_owned());
        }
        waiting_for.as_ref().or(election.as_ref()).map(|what| format!("waiting for {what}"))
    }

    /// The body of `/readyz` of a ready operator.
    fn text(&self) -> String {
        let mut text = "ok\n".to_owned();
        for line in &self.0.lock().missing {
            text.extend([line, "\n"]);
        }
        text
    }
}

/// The routes.
pub(crate) fn routes(
    readiness: Readiness,
    health: Health,
    metrics: Arc<Metrics>,
    measure: Measure,
    log: LogControl,
) -> Router {
    Router::new()
        .route("/livez", get(live).with_state(health.clone()))
        .route("/readyz", get(ready).with_state((readiness, health)))
        .route("/metrics", get(show_metrics).with_state((metrics, measure)))
        .route(
            "/log-filter",
            put(set_log_filter).with_state(log).layer(DefaultBodyLimit::max(MOST_DIRECTIVES)),
        )
}

/// Replaces the filter of the log, until the process ends. The port has no authentication, so only this machine may: in a
/// Pod that is whoever may forward a port to it.
async fn set_log_filter(
    State(log): State<LogControl>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    directives: String,
) -> (StatusCode, String) {
    if !is_from_this_machine(peer.ip(), &headers) {
        let advice = "only a connection from this machine may change the log; use kubectl port-forward\n";
        return (StatusCode::FORBIDDEN, advice.to_owned());
    }
    let filter: LogFilter = match directives.trim().parse() {
        Ok(filter) => filter,
        Err(invalid) => {
            let cause = invalid.source().map_or_else(String::new, |cause| format!(": {cause}"));
            return (StatusCode::BAD_REQUEST, format!("{invalid}{cause}\n"));
        }
    };
    // One of the two is in the log, whether the old filter or the new one drops warnings.
    tracing::warn!(filter = filter.as_str(), "changing the filter of the log");
    if !log.set(&filter) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the log cannot be changed\n".to_owned());
    }
    tracing::warn!(filter = filter.as_str(), "the filter of the log was changed");
    (StatusCode::OK, "ok\n".to_owned())
}

/// Whether a request comes from this machine. The sidecar of a mesh forwards what comes from elsewhere, from an address of
/// its own in the loopback network.
fn is_from_this_machine(peer: IpAddr, headers: &HeaderMap) -> bool {
    let is_localhost = match peer.to_canonical() {
        IpAddr::V4(address) => address == Ipv4Addr::LOCALHOST,
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST,
    };
    is_localhost && !headers.contains_key("x-forwarded-for") && !headers.contains_key(FORWARDED)
}

async fn live(State(health): State<Health>) -> impl IntoResponse {
    match (health.stuck)() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(what) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{what} is stuck\n")),
    }
}

async fn ready(State((readiness, health)): State<(Readiness, Health)>) -> impl IntoResponse {
    match readiness.obstacle() {
        Some(obstacle) => unready(format_args!("{obstacle}")),
        None if (health.is_cut_off)() => unready(format_args!("waiting for {API_SERVER}")),
        None => (StatusCode::OK, readiness.text()),
    }
}

fn unready(why: std::fmt::Arguments<'_>) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

async fn show_metrics(State((metrics, measure)): State<(Arc<Metrics>, Measure)>) -> impl IntoResponse {
    measure();
    match metrics.text() {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, metrics::CONTENT_TYPE)], text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], String::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::{body::Body, extract::connect_info::MockConnectInfo, http::Request};
    use tower::ServiceExt as _;

    use super::*;

    async fn code(routes: &Router, path: &str) -> u16 {
        let request = Request::get(path).body(Body::empty()).unwrap();
        routes.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_stuck_loop_fails_livez_and_an_unreachable_api_server_fails_readyz_alone() {
        let (stuck, cut_off) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (is_stuck, is_cut_off) = (Arc::clone(&stuck), Arc::clone(&cut_off));
        let health = Health {
            stuck: Arc::new(move || is_stuck.load(Ordering::Relaxed).then_some("the loop")),
            is_cut_off: Arc::new(move || is_cut_off.load(Ordering::Relaxed)),
        };
        let readiness = Readiness::waiting_for("something");
        let routes =
            routes(readiness.clone(), health, Arc::default(), Arc::new(|| ()), LogControl::new(|_| true));
        let both = async || (code(&routes, "/livez").await, code(&routes, "/readyz").await);
        assert_eq!(both().await, (200, 503));
        readiness.set(None);
        assert_eq!(both().await, (200, 200));
        cut_off.store(true, Ordering::Relaxed);
        assert_eq!(both().await, (200, 503));
        stuck.store(true, Ordering::Relaxed);
        assert_eq!(both().await, (500, 503));
    }

    #[tokio::test]
    async fn the_filter_of_the_log_is_changed_by_connections_from_this_machine_alone() {
        let set = Arc::new(Mutex::new(Vec::new()));
        let log = LogControl::new({
            let set = Arc::clone(&set);
            move |filter| {
                set.lock().push(filter.as_str().to_owned());
                true
            }
        });
        let health = Health { stuck: Arc::new(|| None), is_cut_off: Arc::new(|| false) };
        let readiness = Readiness::waiting_for("something");
        let routes = routes(readiness, health, Arc::default(), Arc::new(|| ()), log);
        let put_with = async |peer: &str, header: &'static str, directives: &str| {
            let peer: SocketAddr = peer.parse().unwrap();
            let request = Request::put("/log-filter").header(header, "for=10.0.0.7");
            let request = request.body(Body::from(directives.to_owned())).unwrap();
            routes.clone().layer(MockConnectInfo(peer)).oneshot(request).await.unwrap().status().as_u16()
        };
        let put = async |peer: &str, directives: &str| put_with(peer, "x-other", directives).await;
        for peer in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
            assert_eq!(put(peer, "okid_operator=debug\n").await, 200, "{peer}");
        }
        for peer in ["10.0.0.7:5", "[::ffff:10.0.0.7]:5", "[fe80::1]:5", "0.0.0.0:5"] {
            assert_eq!(put(peer, "debug").await, 403, "{peer}");
        }
        // The sidecar of a mesh, which forwards what comes from another machine.
        assert_eq!(put("127.0.0.6:5", "debug").await, 403);
        for forwarded in ["forwarded", "x-forwarded-for"] {
            assert_eq!(put_with("127.0.0.1:5", forwarded, "debug").await, 403, "{forwarded}");
        }
        for invalid in ["okid=loudest", "", " \n", ","] {
            assert_eq!(put("127.0.0.1:5", invalid).await, 400, "{invalid:?}");
        }
        assert_eq!(put("127.0.0.1:5", &"a,".repeat(MOST_DIRECTIVES)).await, 413);
        assert_eq!(*set.lock(), ["okid_operator=debug"; 3]);
    }

    #[test]
    fn it_is_ready_once_neither_it_nor_the_election_waits_until_it_shuts_down() {
        let readiness = Readiness::waiting_for("the list");
        readiness.set_election(Some("the Lease".into()));
        assert_eq!(readiness.obstacle().as_deref(), Some("waiting for the list"));
        readiness.set(None);
        assert_eq!(readiness.obstacle().as_deref(), Some("waiting for the Lease"));
        readiness.set_election(None);
        assert_eq!((readiness.obstacle(), readiness.text().as_str()), (None, "ok\n"));
        readiness.set_missing(vec!["namespace hr".to_owned(), "namespace kyc".to_owned()]);
        assert_eq!(readiness.obstacle(), None);
        assert_eq!(readiness.text(), "ok\nnamespace hr\nnamespace kyc\n");
        readiness.shut_down();
        readiness.set(None);
        assert_eq!(readiness.obstacle().as_deref(), Some("shutting down"));
    }
}
