//! Events published to an API server that responds as a test says.

use std::{future::ready, io};

use http::Method;
use serde_json::Value;

use super::*;
use crate::{
    cluster::test_client::{client, failure},
    lifecycle::fixtures,
};

/// A request as the API server received it: method, path, body.
type Received = (Method, String, Value);

/// An API server that responds to each request with a code, and records it.
struct Server {
    respond: fn(&Received) -> u16,
    received: Mutex<Vec<Received>>,
}

impl Server {
    fn new(respond: fn(&Received) -> u16) -> Arc<Self> {
        Arc::new(Self { respond, received: Mutex::default() })
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        client(move |parts, body| {
            let received = (parts.method, parts.uri.path().to_owned(), body);
            let code = (server.respond)(&received);
            let response = match code {
                200..=299 => (code, received.2.clone()),
                _ => failure(code, "NotFound"),
            };
            server.received.lock().push(received);
            ready(response)
        })
    }

    fn reporter(self: &Arc<Self>, own_pod: Option<OwnPod>) -> (Reporter, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        (Reporter::new(self.client(), "holder", own_pod, Arc::clone(&metrics)), metrics)
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }

    /// The requests in short: method, namespace, reason.
    fn requests(&self) -> Vec<(Method, String, String)> {
        let namespace = |path: &str| path.split('/').nth(5).unwrap_or_default().to_owned();
        let reason = |body: &Value| body["reason"].as_str().unwrap_or_default().to_owned();
        self.received()
            .into_iter()
            .map(|(method, path, body)| (method, namespace(&path), reason(&body)))
            .collect()
    }
}

fn verification(name: &str) -> Verification {
    let mut object = fixtures::verification(name);
    object.metadata.uid = Some(format!("uid-of-{name}"));
    object
}

async fn until_empty(reporter: &Reporter) {
    while !reporter.0.waiting.lock().queue.is_empty() {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_api_server_has_deleted_is_created_again() {
    let server = Server::new(|(method, ..)| if method == Method::PATCH { 404 } else { 201 });
    let (reporter, metrics) = server.reporter(None);
    for _ in 0..2 {
        reporter.report(&verification("alice"), Event::IdMismatch);
        until_empty(&reporter).await;
    }
    let methods: Vec<_> = server.received().into_iter().map(|(method, ..)| method).collect();
    assert_eq!(methods, [Method::POST, Method::PATCH, Method::POST]);
    let [(_, _, first), _, (_, _, anew)] = &server.received()[..] else { panic!("three requests") };
    assert_ne!(first["metadata"]["name"], anew["metadata"]["name"]);
    assert_eq!(metrics.events_dropped.get(), 0);
    assert!(metrics.text().unwrap().contains("okid_events_total{reason=\"IdMismatch\"} 2"));
}

#[tokio::test(start_paused = true)]
async fn an_orphan_event_that_its_namespace_refuses_is_published_on_the_operators_pod() {
    let server = Server::new(|(_, path, _)| if path.contains("/kyc/") { 403 } else { 201 });
    let pod = OwnPod { namespace: "okid".into(), name: "okid-operator-0".into(), uid: Some("u".into()) };
    let (reporter, metrics) = server.reporter(Some(pod));
    reporter.report(&verification("alice"), Event::EvidenceOrphaned);
    reporter.report(&verification("bob"), Event::KeyRejected);
    until_empty(&reporter).await;
    let on_pod: Vec<_> =
        server.requests().into_iter().filter(|(_, namespace, _)| namespace == "okid").collect();
    assert_eq!(on_pod, [(Method::POST, "okid".to_owned(), "EvidenceOrphaned".to_owned())]);
    assert_eq!(metrics.events_dropped.get(), 1, "bob's");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_retried_until_there_is_a_response_and_those_after_it_wait() {
    static OUTAGE: AtomicUsize = AtomicUsize::new(5);
    let server = Server::new(|_| {
        let fails = OUTAGE.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        if fails.is_ok() { 500 } else { 201 }
    });
    let (reporter, metrics) = server.reporter(None);
    for event in [Event::SessionCreated, Event::OrphanSession, Event::Verified] {
        reporter.report(&verification("alice"), event);
    }
    until_empty(&reporter).await;
    let reasons: Vec<_> = server.requests().into_iter().map(|(_, _, reason)| reason).collect();
    assert_eq!(reasons[..6], ["SessionCreated"; 6]);
    assert_eq!(reasons[6..], ["OrphanSession", "Verified"]);
    let names: Vec<_> =
        server.received()[..6].iter().map(|(_, _, body)| body["metadata"]["name"].clone()).collect();
    assert!(names.iter().all(|name| *name == names[0]), "so that none exists twice: {names:?}");
    assert_eq!(metrics.events_dropped.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_status_is_written_only_five_events_a_second_are_published() {
    let server = Server::new(|_| 201);
    let (reporter, _) = server.reporter(None);
    let writing = reporter.begin_status_call();
    for number in 0..40 {
        reporter.report(&verification(&format!("person-{number}")), Event::SessionCreated);
    }
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(server.received().len(), 11);
    drop(writing);
    tokio::time::sleep(Duration::from_millis(1)).await;
    until_empty(&reporter).await;
    assert_eq!(server.received().len(), 40);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_warning_that_is_lost_is_logged() {
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // `tracing` decides once for each line of code whether it is enabled. A concurrent test that reaches the line first, just
    // while the subscriber is installed, leaves it disabled until the next decision.
    let responses: [fn(&Received) -> u16; 2] = [|_| 403, |_| 500];
    for respond in responses {
        while log.0.lock().is_empty() {
            tracing::callsite::rebuild_interest_cache();
            let (reporter, _) = Server::new(respond).reporter(None);
            reporter.report(&verification("carol"), Event::OrphanSession);
            reporter.flush().await;
        }
        log.0.lock().clear();
    }

    let server = Server::new(|_| 403);
    let (reporter, metrics) = server.reporter(None);
    for event in [Event::SessionCreated, Event::OrphanSession] {
        reporter.report(&verification("alice"), event);
    }
    until_empty(&reporter).await;
    assert_eq!(metrics.events_dropped.get(), 2);

    let server = Server::new(|_| 500);
    let (reporter, metrics) = server.reporter(None);
    reporter.report(&verification("bob"), Event::KeyRejected);
    reporter.flush().await;
    assert_eq!(metrics.events_dropped.get(), 1, "the shutdown does not wait forever");

    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    for (line, parts) in lines.iter().zip([
        ["WARN", "namespace=kyc", "name=alice", "event=\"OrphanSession\""],
        ["WARN", "namespace=kyc", "name=bob", "event=\"KeyRejected\""],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}
