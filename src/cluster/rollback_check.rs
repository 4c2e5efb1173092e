//! Lists one item beside the watch, to notice that the API server's state was rolled back. May depend on `request`, `rollback`,
//! `verifications` and kube's client.

use std::time::Duration;

use kube::{Api, api::ListParams};
use tokio::time::{Instant, sleep, timeout};

use super::{
    request::{DEADLINE, in_scope},
    rollback::{LIST_AGAIN, Rollback, RollbackDetector},
    verifications::Cluster,
};
use crate::api::Verification;

/// Interval between two lists.
const EVERY: Duration = Duration::from_secs(30);

impl Cluster {
    /// Lists one item from time to time, until two lists say that the state was rolled back. Lists it in one of the
    /// namespaces, which have one etcd, or in all if that is what is given; in the next one after a failure.
    pub(crate) async fn until_rolled_back(&self, namespaces: &[Option<&str>]) {
        let api = |namespace: Option<&str>| -> Api<Verification> { in_scope(self.client.clone(), namespace) };
        let mut apis = namespaces.iter().copied().map(api).cycle();
        let Some(mut api) = apis.next() else { return std::future::pending().await };
        let one = ListParams::default().limit(1);
        let mut detector = RollbackDetector::default();
        let mut pause = EVERY;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.newest_version().rollback_suspected(), if pause == EVERY => {}
            }
            // A list that is requested now cannot be older than this.
            let known = self.newest_version().get();
            let answer = timeout(DEADLINE, api.list_metadata(&one)).await;
            pause = EVERY;
            let Ok(Ok(list)) = answer else {
                api = apis.next().unwrap_or(api);
                continue;
            };
            self.last_contact().server_responded();
            let version = list.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
            let Some(version) = version else { continue };
            match detector.check(Instant::now(), known, version) {
                Rollback::None => self.newest_version().observed(&version.to_string()),
                Rollback::Suspected => pause = LIST_AGAIN,
                Rollback::Confirmed => return self.newest_version().reset_to(version),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::{Client, client::Body};
    use serde_json::json;

    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn a_rollback_is_noticed_although_the_first_namespace_may_not_be_listed() {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let is_forbidden = request.uri().path().contains("/namespaces/forbidden/");
            let (code, body) = if is_forbidden {
                let reason =
                    json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403});
                (403, reason)
            } else {
                let metadata = json!({"resourceVersion": "30"});
                (200, json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": []}))
            };
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            response.map_err(tower::BoxError::from)
        });
        let cluster = Cluster::new(Client::new(service, "default"), "test", None, Arc::new(Metrics::new()));
        cluster.newest_version().observed("90");
        let rolled_back = cluster.until_rolled_back(&[Some("forbidden"), Some("kyc")]);
        timeout(Duration::from_mins(5), rolled_back).await.unwrap();
        assert_eq!(cluster.newest_version().get(), Some(30));
    }
}
