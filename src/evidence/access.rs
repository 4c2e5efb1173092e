//! Access to a store: the permits that every upload and every removal needs, and the store's circuit breaker. May depend on
//! `context` and `destination`, and on `fairness` and `store`.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{context::EvidenceContext, destination::ResolvedDestination};
use crate::{
    fairness::{FairnessKey, Permit},
    store::{StorePass, StoreUser},
};

/// After a longer wait for permits the resource is read again before anything is stored or removed.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// Permission to use a store: of its circuit breaker, of its endpoint's limit and of the limit of the process.
pub(super) struct StoreAccess<'a> {
    pub(super) pass: StorePass<'a>,
    /// How long the permits took.
    pub(super) waited: Duration,
    _at_endpoint: Permit,
    _overall: Permit,
}

impl EvidenceContext {
    /// Waits for the permits to store or remove something; none if the store does not respond. The endpoint's own
    /// permit comes first: waiting for it delays no other endpoint. Both are fair between namespaces.
    ///
    /// Permits are always taken in one order: of the endpoint, of the process, of the API server. Who holds one of the API
    /// server's waits for no store. While these are held, a resource is read ahead of the reads that begin a reconcile.
    pub(super) async fn enter(&self, destination: &ResolvedDestination) -> Option<StoreAccess<'_>> {
        let begun = Instant::now();
        let fairness_key = FairnessKey::of_namespace(destination.folder.namespace());
        let at_endpoint = destination.endpoint_limit.permits.acquire(fairness_key, 0).await;
        let pass = self.admit_to_store(destination)?;
        let overall = self.permits.acquire(fairness_key, 0).await;
        Some(StoreAccess { pass, waited: begun.elapsed(), _at_endpoint: at_endpoint, _overall: overall })
    }

    /// As [`enter`](Self::enter), for no longer than that; none also if the permits take longer.
    pub(super) async fn enter_within(
        &self,
        destination: &ResolvedDestination,
        longest: Duration,
    ) -> Option<StoreAccess<'_>> {
        timeout(longest, self.enter(destination)).await.ok().flatten()
    }

    /// The circuit breaker's permission; none while the store does not respond to this user, or to anyone.
    fn admit_to_store(&self, destination: &ResolvedDestination) -> Option<StorePass<'_>> {
        self.breaker.admit(StoreUser {
            endpoint: destination.store.endpoint().to_owned(),
            bucket: destination.store.location().bucket().to_owned(),
            namespace: destination.folder.namespace().to_owned(),
            credentials: destination.store.credentials(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;

    use super::*;
    use crate::{
        store::{
            Endpoints, Folder, HttpSettings, Location, Options, RetryPolicy, Scheme, Store, StoreHttp, Stores,
        },
        tls::client_config,
    };

    fn context() -> EvidenceContext {
        let http = StoreHttp::new(&HttpSettings::default(), client_config(None).unwrap()).unwrap();
        EvidenceContext::new(Stores::default(), Endpoints::new::<&str>(&[]).unwrap(), http, vec![])
    }

    fn destination(context: &EvidenceContext, namespace: &str) -> ResolvedDestination {
        let options = Options::of_administrator(Scheme::File, [], &[]).unwrap();
        destination_at(context, namespace, "file:///evidence", &options)
    }

    /// A destination with credentials from a Secret of the namespace.
    fn own_destination(context: &EvidenceContext, namespace: &str, secret_key: &str) -> ResolvedDestination {
        let entries = [("aws_access_key_id", "operator"), ("aws_secret_access_key", secret_key)];
        let entries = entries.map(|(name, value)| (name, value.as_bytes()));
        let options = Options::of_secret(Scheme::S3, entries, &context.endpoints).unwrap();
        destination_at(context, namespace, "s3://evidence", &options)
    }

    fn destination_at(
        context: &EvidenceContext,
        namespace: &str,
        url: &str,
        options: &Options,
    ) -> ResolvedDestination {
        let folder = Folder::new(namespace, "alice", "0b1e6d5c-7c0e-4b0e-9d57-1f6a8e7f2a10").unwrap();
        let location = Location::parse(url).unwrap();
        let store = Arc::new(Store::new(location, options, &context.http, RetryPolicy::default()).unwrap());
        let endpoint_limit = context.limits.endpoint_limit(store.endpoint());
        ResolvedDestination { prefix: folder.url(store.location()), store, folder, endpoint_limit }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_without_a_permit_in_time_gives_way_and_another_namespace_gets_one() {
        let context = context();
        let (crowded, other) = (destination(&context, "team-a"), destination(&context, "team-b"));
        let held: Vec<_> =
            (0..100).filter_map(|_| context.enter(&crowded).now_or_never().flatten()).collect();
        assert!(!held.is_empty() && held.len() < 100);
        let minute = Duration::from_mins(1);
        assert!(context.enter_within(&crowded, minute).await.is_none());
        assert!(context.enter_within(&other, minute).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_silent_for_one_namespace_or_key_still_admits_the_others() {
        let context = context();
        for (silent, others) in [
            (destination(&context, "team-a"), vec![destination(&context, "team-b")]),
            (
                own_destination(&context, "team-a", "horse"),
                vec![
                    own_destination(&context, "team-a", "cow"),
                    own_destination(&context, "team-b", "horse"),
                ],
            ),
        ] {
            context.enter(&silent).await.unwrap().pass.did_not_respond();
            assert!(context.enter(&silent).await.is_none());
            for other in others {
                assert!(context.enter(&other).await.is_some(), "{}", other.prefix);
            }
        }
    }
}
