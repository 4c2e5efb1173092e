//! Which calls go first, and what each answer means.

use futures::future::join_all;
use http::{Response, StatusCode};
use kube::client::Body;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::lifecycle::fixtures;

/// The names of the resources in the order in which requests about them arrive.
type Arrivals = Arc<Mutex<Vec<String>>>;

/// An API server that answers 503 to one request for each permit of the gate.
fn gated() -> (Cluster, Arrivals, Arc<Semaphore>) {
    let (order, gate) = (Arrivals::default(), Arc::new(Semaphore::new(0)));
    let (arrived, opened) = (Arc::clone(&order), Arc::clone(&gate));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (arrived, opened) = (Arc::clone(&arrived), Arc::clone(&opened));
        async move {
            arrived.lock().push(request.uri().path().rsplit('/').next().unwrap_or_default().to_owned());
            opened.acquire().await.unwrap().forget();
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok::<_, tower::BoxError>(response)
        }
    });
    (Cluster::new(Client::new(service, "default"), "test", None, Arc::new(Metrics::new())), order, gate)
}

async fn until_arrived(order: &Arrivals, count: usize) {
    for _ in 0..10_000 {
        if order.lock().len() >= count {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{:?} arrived, and not {count}", order.lock());
}

/// The order in which twenty calls and one that begins after them arrive, while one request is answered after another.
async fn arrivals(
    twenty: impl AsyncFn(&Cluster, &str),
    last: impl AsyncFnOnce(&Cluster, &str),
) -> Vec<String> {
    let (cluster, order, gate) = gated();
    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let calls = join_all(names.iter().map(|name| twenty(&cluster, name)));
    let last = last(&cluster, "last");
    // Once all permits are in use, one request is answered after another.
    let answer = async {
        for arrived in CALLS_IN_FLIGHT.1..=names.len() + 1 {
            until_arrived(&order, arrived).await;
            gate.add_permits(1);
        }
        gate.add_permits(names.len());
    };
    tokio::join!(calls, last, answer);
    let order = order.lock().clone();
    assert_eq!(order.len(), names.len() + 1, "{order:?}");
    order
}

async fn read(cluster: &Cluster, name: &str) {
    cluster.get("kyc", name).await;
}

#[tokio::test]
async fn a_read_for_evidence_goes_ahead_of_the_reads_that_begin_a_reconcile() {
    let ahead = async |cluster: &Cluster, name: &str| drop(cluster.get_ahead("kyc", name).await);
    let order = arrivals(read, ahead).await;
    assert_eq!(order[CALLS_IN_FLIGHT.1], "last", "{order:?}");
}

#[tokio::test]
async fn a_read_goes_ahead_of_those_of_ended_checks_and_of_their_deletions() {
    let read_ended = async |cluster: &Cluster, name: &str| drop(cluster.get_ended("kyc", name).await);
    let order = arrivals(read_ended, read).await;
    assert_eq!(order[CALLS_IN_FLIGHT.1], "last", "{order:?}");
    let delete = async |cluster: &Cluster, name: &str| {
        cluster.delete(&fixtures::verification(name)).await;
    };
    let order = arrivals(delete, read).await;
    assert_eq!(order[CALLS_IN_FLIGHT.1], "last", "{order:?}");
}

#[tokio::test]
async fn the_read_before_another_attempt_to_record_a_session_waits_for_no_other_read() {
    let (cluster, order, gate) = gated();
    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let reads = join_all(names.iter().map(|name| cluster.get("kyc", name)));
    let record = async {
        until_arrived(&order, CALLS_IN_FLIGHT.1).await;
        cluster.get_to_record("kyc", "record").await
    };
    let answer = async {
        until_arrived(&order, CALLS_IN_FLIGHT.1 + 1).await;
        gate.add_permits(names.len() + 1);
    };
    tokio::join!(reads, record, answer);
    assert_eq!(order.lock()[CALLS_IN_FLIGHT.1], "record");
}

#[test]
fn only_the_api_servers_own_word_says_that_a_resource_is_gone() {
    let is_gone = |status: Value| says_gone(&serde_json::from_value(status).unwrap(), "alice");
    assert!(is_gone(json!({
        "status": "Failure", "message": "verifications.okid.io \"alice\" not found", "reason": "NotFound",
        "details": {"name": "alice", "group": "okid.io", "kind": "verifications"}, "code": 404,
    })));
    for other in [
        // As the client reports the page of a gateway.
        json!({"status": "Failure", "message": "default backend - 404", "reason": "Failed to parse error data", "code": 404}),
        // As the API server answers while it does not serve the resource.
        json!({"status": "Failure", "message": "the server could not find the requested resource", "reason": "NotFound", "details": {}, "code": 404}),
        json!({"status": "Failure", "message": "forbidden", "reason": "Forbidden", "details": {"name": "alice"}, "code": 403}),
    ] {
        assert!(!is_gone(other.clone()), "{other}");
    }
}

#[test]
fn a_write_is_unknown_only_where_it_may_have_happened() {
    let of = |code, message: &str, about: &str| {
        let reason = if code == 404 { "NotFound" } else { "" };
        let status = json!({
            "status": "Failure", "message": message, "reason": reason, "code": code, "details": {"name": about},
        });
        let status = Box::new(serde_json::from_value(status).unwrap());
        written(Ok(Err(kube::Error::Api(status))), "alice")
    };
    assert!(matches!(of(404, "not found", "alice"), Written::Gone));
    assert!(matches!(of(404, "not found", ""), Written::Unknown));
    assert!(matches!(of(409, "conflict", "alice"), Written::Conflict));
    assert!(matches!(of(422, "invalid", "alice"), Written::Refused));
    assert!(matches!(of(413, "too large", "alice"), Written::TooLarge));
    assert!(matches!(of(500, "etcdserver: request is too large", "alice"), Written::TooLarge));
    assert!(matches!(of(403, "forbidden", "alice"), Written::Failed));
}

#[test]
fn what_no_reconcile_reads_is_pruned() {
    let mut object = fixtures::verification("a");
    let named = |names: [&str; 3]| names.map(|name| (name.to_owned(), "x".to_owned()));
    let annotations = ["okid.io/retry", "example.com/note", "meta.helm.sh/release-name"];
    object.annotations_mut().extend(named(annotations));
    object.labels_mut().extend(named(["a", "app.kubernetes.io/instance", "helm.toolkit.fluxcd.io/name"]));
    let pruned = prune(Box::new(object));
    let kept = pruned.labels().keys().chain(pruned.annotations().keys());
    let kept: Vec<_> = kept.map(String::as_str).collect();
    assert_eq!(kept, ["helm.toolkit.fluxcd.io/name", "meta.helm.sh/release-name", "okid.io/retry"]);
}

#[test]
fn a_resource_leaves_room_for_a_record_up_to_48_kib_below_the_limit_of_etcd() {
    assert!(leaves_room(0) && leaves_room(1488 * 1024));
    assert!(!leaves_room(1488 * 1024 + 1) && !leaves_room(3 * 1024 * 1024));
}

#[test]
fn a_resource_that_is_too_large_is_recognized_by_the_code_or_by_etcds_message() {
    assert!(is_too_large(413, ""));
    assert!(is_too_large(500, "etcdserver: request is too large"));
    assert!(is_too_large(
        500,
        "rpc error: code = ResourceExhausted desc = trying to send message larger than max"
    ));
    assert!(!is_too_large(500, "etcdserver: leader changed"));
    assert!(!is_too_large(400, "a label is too large: request is too large"));
}
