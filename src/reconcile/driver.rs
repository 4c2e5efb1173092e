//! The driver: one reconcile of one verification, from the fast path to the commit. May depend on every other file of this
//! module but `follow`.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    cache_entry::CacheEntry,
    reconciler::Reconciler,
    reconciliation::{Received, Reconciliation},
};
use crate::{
    backoff::Backoff,
    cluster::{Read, ReadSecret},
    index::RecordId,
    lifecycle::decide,
    priority::Priority,
    workqueue::{Disposition, DueReconcile},
};

/// Waits after a reconcile that failed because of the API server.
const RETRY_AFTER: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(2));

impl Reconciler {
    /// Reconciles one verification. An error ends the reconcile early, and says when the next one is due.
    async fn reconcile(&self, record_id: RecordId) -> Result<Disposition, Disposition> {
        let answer = self.fast_path(record_id).await?;
        // The poll that a notification requested was due, whatever the schedule says.
        let is_notified = answer.as_ref().is_some_and(|answer| answer.notified_at.is_some())
            || self.requested_polls.wanted(record_id, Instant::now()).is_some();
        let (received, mut entry) = self.get(record_id).await?;
        let observed = self.observe(&received.object, (received.too_large, is_notified), &mut entry).await;
        let observed = observed.map_err(|ReadSecret| self.retry(record_id, &entry))?;
        let mut reconciliation = Reconciliation::new(record_id, received, entry, observed);
        let step = decide(&reconciliation.parsed(), &reconciliation.observed.facts);
        // On the heap, like everything large: a reconcile that waits for a permit then takes little memory.
        let outcome = Box::pin(self.act(step, &mut reconciliation, answer)).await;
        Ok(Box::pin(self.commit(reconciliation, outcome)).await)
    }

    /// Gets the resource: the version that was just received if no newer one is known, otherwise from the API server.
    async fn get(&self, record_id: RecordId) -> Result<(Received, CacheEntry), Disposition> {
        let Some((namespace, name, mut entry)) = self.cached(record_id) else {
            return Err(Disposition::Done);
        };
        // The awaited event has happened, or something else is due.
        entry.set_key_wait(None);
        entry.portal_wait = None;
        let recent = self.recent.take(record_id).filter(|(object, _)| {
            let version = object.metadata.resource_version.as_deref().unwrap_or_default();
            // Only a read shows whether a write whose response was lost has happened.
            entry.unreported().is_none() && self.index().is_current(record_id, version)
        });
        let (read, at, too_large) = if let Some((object, received_at)) = recent {
            (Read::Found(object), received_at, false)
        } else {
            let (read, too_large) = if entry.has_ended() {
                self.cluster.get_ended(&namespace, &name).await
            } else {
                self.cluster.get_and_weigh(&namespace, &name).await
            };
            (read, Instant::now(), too_large)
        };
        self.report_if_written(record_id, &mut entry, &read);
        match read {
            Read::Found(object) => {
                let version = object.metadata.resource_version.as_deref().unwrap_or_default();
                if self.index().is_outdated(record_id, version) {
                    self.cluster.newest_version().suspect_rollback();
                }
                Ok((Received { object, at, too_large }, entry))
            }
            Read::Gone => Err(Disposition::AwaitChange),
            Read::Unknown => Err(self.retry(record_id, &entry)),
        }
    }

    fn cached(&self, record_id: RecordId) -> Option<(String, String, CacheEntry)> {
        let index = self.index();
        let view = index.view(record_id)?;
        Some((view.namespace.to_owned(), view.name.to_owned(), view.payload.clone()))
    }

    /// The API server gave no usable response: reconciles again, with backoff.
    pub(super) fn retry(&self, record_id: RecordId, entry: &CacheEntry) -> Disposition {
        self.metrics.reconcile_retries.inc();
        let failures = self.index().get_mut(record_id).map_or(0, CacheEntry::one_more_failure);
        let wait = RETRY_AFTER.jittered(u32::from(failures) + 1, rand::random());
        Disposition::At(Instant::now() + wait, Priority::Active, entry.fairness_key)
    }

    /// Reconciles everything that is due until [`stop`](Self::stop), and returns when no reconcile is in flight.
    pub(crate) async fn run(self: &Arc<Self>) {
        let (reconciler, panicked) = (Arc::clone(self), Arc::clone(self));
        let reconcile = move |due: DueReconcile| {
            let reconciler = Arc::clone(&reconciler);
            async move {
                // A process that was suspended may notice here first that it no longer leads.
                if !reconciler.leadership.is_current() {
                    return Disposition::AwaitChange;
                }
                reconciler.metrics.queue_delay.observe(due.queue_delay.as_secs_f64());
                let started = Instant::now();
                let ended = reconciler.reconcile(due.record_id).await;
                let disposition = ended.unwrap_or_else(|early| early);
                let disposition = reconciler.no_later_than_requested(due.record_id, disposition);
                reconciler.metrics.reconcile(disposition.label(), started.elapsed());
                disposition
            }
        };
        let on_panic = move |record_id| {
            panicked.metrics.reconcile_panics.inc();
            let name_of = || {
                let index = panicked.index();
                let view = index.view(record_id)?;
                Some((view.namespace.to_owned(), view.name.to_owned()))
            };
            let (namespace, name) = name_of().unwrap_or_default();
            tracing::error!(namespace, name, "reconcile panicked; retrying in 5 minutes");
        };
        self.queue.run(reconcile, on_panic, self.shutdown.clone()).await;
    }

    /// Starts no further reconcile.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response, StatusCode};
    use kube::{Client, client::Body};
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        clock::Clock,
        cluster::Cluster,
        evidence::{Evidence, EvidenceContext},
        leader::Leadership,
        lifecycle::fixtures,
        metrics::Metrics,
        portal::{AllowedPortals, ClientSettings, Portal, PortalClient, PortalSettings, budget::Budgets},
        reconcile::Clients,
        store::{Endpoints, HttpSettings, StoreHttp, Stores},
        tls::client_config,
        workqueue::{WorkQueue, WorkQueueSettings},
    };

    /// A reconciler, and the number of requests that its API server has refused.
    fn reconciler(leadership: Leadership) -> (Arc<Reconciler>, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let service = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let response = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).body(Body::empty());
            async move { response.map_err(tower::BoxError::from) }
        });
        let (clock, metrics) = (Clock::start(), Arc::new(Metrics::new()));
        let client = Client::new(service, "default");
        let cluster = Arc::new(Cluster::new(client, "test", None, Arc::clone(&metrics)));
        let allowed = AllowedPortals::new(&["https://portal.test".to_owned()], false).unwrap();
        let default_portal = allowed.iter().next().unwrap().clone();
        let portals = PortalSettings { allowed, default_portal, link_path: String::new() };
        let client = PortalClient::new(&ClientSettings::default()).unwrap();
        let portal = Portal::new(client, Budgets::default(), portals, clock.clone(), Arc::clone(&metrics));
        let portal = Arc::new(portal);
        let http = StoreHttp::new(&HttpSettings::default(), client_config(None).unwrap()).unwrap();
        let context =
            EvidenceContext::new(Stores::default(), Endpoints::new(&[""; 0]).unwrap(), http, Vec::new());
        let (of_cluster, of_portal) = (Arc::clone(&cluster), Arc::clone(&portal));
        let evidence = Evidence::new(context, of_cluster, of_portal, clock.clone(), Arc::clone(&metrics));
        let clients = Clients { cluster, portal, evidence, clock, metrics, leadership };
        let queue = WorkQueue::new(WorkQueueSettings::default());
        let reconciler = Reconciler::new(clients, queue, "test".to_owned(), CancellationToken::new());
        (Arc::new(reconciler), requests)
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_has_lost_the_leadership_starts_no_reconcile_that_is_due() {
        for (leadership, expected) in [(Leadership::unconditional(), 1), (Leadership::lost(), 0)] {
            let (reconciler, requests) = reconciler(leadership);
            let object = fixtures::verification("alice");
            let (entry, due) = CacheEntry::first(&object, &reconciler.clock);
            let fairness_key = entry.fairness_key;
            let record_id = reconciler.index().applied(&object.metadata, |_| entry).record_id();
            reconciler.queue.schedule_at(record_id, due, Priority::Create, fairness_key);
            // Shorter than the pause before the next attempt.
            timeout(Duration::from_secs(1), reconciler.run()).await.unwrap_err();
            assert_eq!(requests.load(Ordering::Relaxed), expected);
        }
    }

    #[test]
    fn a_reconcile_without_an_answer_is_retried_later_each_time_and_within_two_minutes() {
        let waits = (0..=u8::MAX)
            .map(|failures| RETRY_AFTER.jittered(u32::from(failures) + 1, 1.0))
            .collect::<Vec<_>>();
        assert_eq!(waits[..3], [4, 8, 16].map(Duration::from_secs));
        assert!(waits.is_sorted());
        assert_eq!(waits.last(), Some(&Duration::from_mins(2)));
    }
}
