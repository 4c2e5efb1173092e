//! Lists one item beside the watch, to notice that the API server's state was rolled back, unless the writes of the Lease show
//! that it was not. May depend on `request`, `rollback`, `verifications` and kube's client.

use std::time::Duration;

use kube::{Api, api::ListParams};
use tokio::time::{Instant, sleep};

use super::{
    request::{in_scope, within_deadline},
    rollback::{LIST_AGAIN, Rollback, RollbackDetector},
    verifications::Cluster,
};
use crate::api::Verification;

/// Interval between two lists.
const EVERY: Duration = Duration::from_secs(30);
/// The longest time without a list of a leader, in case Leases are in another etcd.
const AT_LEAST_EVERY: Duration = Duration::from_mins(10);

impl Cluster {
    /// Lists one item from time to time, until two lists or the Lease say that the state was rolled back. Lists it in one of
    /// the namespaces, which share one etcd, or in all if that is what is given; in the next one after a failure.
    ///
    /// A standby lists only if there is a reason to suspect a rollback. A leader does the same while its writes of the Lease
    /// show that there is none.
    pub(crate) async fn until_rolled_back(&self, namespaces: &[Option<&str>], is_standby: impl Fn() -> bool) {
        let api = |namespace: Option<&str>| -> Api<Verification> { in_scope(self.client.clone(), namespace) };
        let mut apis = namespaces.iter().copied().map(api).cycle();
        let Some(mut api) = apis.next() else { return std::future::pending().await };
        let one = ListParams::default().limit(1);
        let newest_version = self.newest_version();
        let mut detector = RollbackDetector::default();
        let (mut listed, mut is_suspected) = (Instant::now(), false);
        loop {
            tokio::select! {
                () = sleep(if is_suspected { LIST_AGAIN } else { EVERY }) => {}
                () = newest_version.rollback_suspected(), if !is_suspected => is_suspected = true,
            }
            let now = Instant::now();
            let is_confirmed = newest_version.is_confirmed(EVERY, now) && now - listed < AT_LEAST_EVERY;
            if !is_suspected && (is_confirmed || is_standby()) {
                continue;
            }
            // A list that is requested now cannot be older than this.
            let (known, has_gone_back) = (newest_version.get(), newest_version.has_gone_back());
            let Ok(list) = within_deadline(api.list_metadata(&one)).await else {
                api = apis.next().unwrap_or(api);
                continue;
            };
            self.last_contact().server_responded();
            let version = list.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
            let Some(version) = version else { continue };
            listed = Instant::now();
            match detector.check(listed, known, version) {
                _ if has_gone_back => return newest_version.reset_to(version),
                Rollback::None => {
                    is_suspected = false;
                    newest_version.observed(&version.to_string());
                }
                Rollback::Suspected => is_suspected = true,
                Rollback::Confirmed => return newest_version.reset_to(version),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use serde_json::json;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        cluster::test_client::{client, failure},
        metrics::Metrics,
    };

    const VERSION: u64 = 10_000;

    /// An API server whose state has that version, and the number of its lists. One namespace may not be listed.
    fn cluster() -> (Cluster, Arc<AtomicUsize>) {
        let lists = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lists);
        let client = client(move |request, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            ready(if request.uri.path().contains("/namespaces/forbidden/") {
                failure(403, "Forbidden")
            } else {
                let metadata = json!({"resourceVersion": VERSION.to_string()});
                (200, json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": []}))
            })
        });
        (Cluster::new(client, "test", None, Arc::new(Metrics::new())), lists)
    }

    #[tokio::test(start_paused = true)]
    async fn a_rollback_is_noticed_although_the_first_namespace_may_not_be_listed() {
        let (cluster, _) = cluster();
        cluster.newest_version().observed("10090");
        let rolled_back = cluster.until_rolled_back(&[Some("forbidden"), Some("kyc")], || false);
        timeout(Duration::from_mins(5), rolled_back).await.unwrap();
        assert_eq!(cluster.newest_version().get(), Some(VERSION));
    }

    /// The lists in an hour of a replica whose Lease is written every two seconds, the first time with that version.
    async fn lists_in_an_hour(lease: u64, is_standby: bool) -> usize {
        let (cluster, lists) = cluster();
        cluster.newest_version().observed(&VERSION.to_string());
        let renew = async {
            for version in lease.. {
                let known = cluster.newest_version().get();
                if is_standby {
                    cluster.newest_version().lease_read(&version.to_string());
                } else {
                    cluster.newest_version().lease_written(known, &version.to_string(), Instant::now());
                }
                sleep(Duration::from_secs(2)).await;
            }
        };
        let rolled_back = cluster.until_rolled_back(&[None], || is_standby);
        let both = async { tokio::join!(renew, rolled_back) };
        timeout(Duration::from_secs(3_610), both).await.unwrap_err();
        lists.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_lists_nothing_and_a_leader_rarely_while_its_lease_is_not_older() {
        assert_eq!(lists_in_an_hour(VERSION + 1, true).await, 0);
        assert_eq!(lists_in_an_hour(VERSION + 1, false).await, 6, "one in ten minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_lists_every_half_minute_while_its_lease_is_older_than_what_is_known() {
        // Leases in another etcd, which is younger.
        assert_eq!(lists_in_an_hour(1, false).await, 120);
        let (cluster, lists) = cluster();
        let without_lease = cluster.until_rolled_back(&[None], || false);
        timeout(Duration::from_secs(3_610), without_lease).await.unwrap_err();
        assert_eq!(lists.load(Ordering::Relaxed), 120);
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_notices_a_rollback_by_the_lease_although_a_list_fails() {
        let (cluster, lists) = cluster();
        // Other writes have made up for it since.
        cluster.newest_version().lease_read("9000");
        cluster.newest_version().lease_read("8990");
        let rolled_back = cluster.until_rolled_back(&[Some("forbidden"), None], || true);
        timeout(Duration::from_mins(5), rolled_back).await.unwrap();
        assert_eq!((cluster.newest_version().get(), lists.load(Ordering::Relaxed)), (Some(VERSION), 2));
    }
}
