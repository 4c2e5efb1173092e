//! An elector and an API server that has one Lease.

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::cluster::test_client::{client, failure};

/// An API server with at most one Lease. It applies a create at once, and responds to it when a test says so.
#[derive(Default)]
struct Server {
    lease: Mutex<Option<Value>>,
    created: Notify,
    responds: Notify,
    refuses_updates: bool,
}

impl Server {
    async fn respond(&self, method: Method, body: Value) -> (u16, Value) {
        match method {
            Method::GET => {
                self.lease.lock().clone().map_or_else(|| failure(404, "NotFound"), |lease| (200, lease))
            }
            Method::PUT if self.refuses_updates => failure(403, "Forbidden"),
            _ => {
                *self.lease.lock() = Some(body.clone());
                if method == Method::POST {
                    self.created.notify_one();
                    self.responds.notified().await;
                }
                (200, body)
            }
        }
    }

    fn elector(self: &Arc<Self>) -> Elector {
        let timing = Timing {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        };
        let metrics = Arc::new(Metrics::new());
        let server = Arc::clone(self);
        let client = client(move |parts, body| {
            let server = Arc::clone(&server);
            async move { server.respond(parts.method, body).await }
        });
        let cluster = Cluster::new(client, "test", None, Arc::clone(&metrics));
        let lease = LeaseRef { namespace: "okid".to_owned(), name: "okid-operator".to_owned() };
        Elector::new(Arc::new(cluster), Clock::start(), metrics, lease, ("me".to_owned(), timing))
    }

    fn holder(&self) -> Option<String> {
        let lease = self.lease.lock();
        Some(lease.as_ref()?["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    }

    /// Stops an elector once its create has been applied, and then calls `and_then`.
    async fn stop_after_create(&self, elector: &mut Elector, and_then: impl FnOnce()) {
        let stop = CancellationToken::new();
        let stopped = async {
            self.created.notified().await;
            assert_eq!(self.holder().as_deref(), Some("me"));
            stop.cancel();
            and_then();
        };
        let (leads, ()) = tokio::join!(elector.acquire(&stop, |_| ()), stopped);
        assert!(!leads && !elector.leadership().is_current());
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_shut_down_while_it_acquires_the_lease_leaves_it_to_nobody() {
    for responds in [true, false] {
        let server = Arc::new(Server::default());
        let respond = || {
            if responds {
                server.responds.notify_one();
            }
        };
        server.stop_after_create(&mut server.elector(), respond).await;
        assert_eq!(server.holder().as_deref(), Some(""), "responds: {responds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_shut_down_leaves_the_lease_of_another_one_alone() {
    let others = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": "okid", "name": "okid-operator"}, "spec": {"holderIdentity": "another"},
    });
    let server = Arc::new(Server::default());
    let takes_over = || *server.lease.lock() = Some(others.clone());
    server.stop_after_create(&mut server.elector(), takes_over).await;
    assert_eq!(*server.lease.lock(), Some(others));
}

#[tokio::test(start_paused = true)]
async fn why_a_lease_could_not_be_released_is_known() {
    let server = Arc::new(Server { refuses_updates: true, ..Server::default() });
    server.responds.notify_one();
    let mut elector = server.elector();
    assert!(elector.acquire(&CancellationToken::new(), |_| ()).await);
    assert_eq!(elector.write_release().await.unwrap_err().code(), Some(403));
    assert_eq!(server.holder().as_deref(), Some("me"));
}
