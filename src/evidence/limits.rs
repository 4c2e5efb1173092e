//! Limits the permits and the memory that one endpoint may use, so that one that hangs leaves the remainder to others. State
//! only. May depend on `fairness` and `store`.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::{
    fairness::FairSemaphore,
    store::{ByteBudget, MAX_BYTES, budget::DEFAULT_BYTES},
};
use parking_lot::Mutex;

/// Most verifications whose evidence is stored or removed at the same time.
pub(crate) const STORING_AT_ONCE: usize = 16;
/// The part of it that one namespace may use.
pub(crate) const STORING_AT_ONCE_OF_ONE: usize = STORING_AT_ONCE * 3 / 4;
/// Most verifications whose evidence is stored at one endpoint, or removed from it, at the same time.
const AT_ONE_ENDPOINT: usize = STORING_AT_ONCE * 5 / 8;
/// Of those, most of one namespace.
const AT_ONE_ENDPOINT_OF_ONE: usize = AT_ONE_ENDPOINT * 4 / 5;
/// Most bytes of images on their way to one endpoint: the largest image of another still fits beside them.
const BYTES_AT_ONE_ENDPOINT: usize = DEFAULT_BYTES - MAX_BYTES;

/// The limits of all endpoints. One that is not in use is forgotten.
#[derive(Debug, Default)]
pub(crate) struct EndpointLimits {
    used: Mutex<HashMap<String, Weak<EndpointLimit>>>,
}

/// The limit of one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointLimit {
    /// Permits for verifications, fair between namespaces.
    pub(crate) permits: Arc<FairSemaphore>,
    /// Bytes of images in flight.
    pub(crate) bytes: ByteBudget,
}

impl EndpointLimits {
    /// The limit of an endpoint.
    pub(crate) fn endpoint_limit(&self, endpoint: &str) -> Arc<EndpointLimit> {
        let mut used = self.used.lock();
        if let Some(endpoint_limit) = used.get(endpoint).and_then(Weak::upgrade) {
            return endpoint_limit;
        }
        used.retain(|_, endpoint_limit| endpoint_limit.strong_count() > 0);
        let permits = FairSemaphore::new(AT_ONE_ENDPOINT, AT_ONE_ENDPOINT_OF_ONE);
        let endpoint_limit =
            Arc::new(EndpointLimit { permits, bytes: ByteBudget::new(BYTES_AT_ONE_ENDPOINT) });
        used.insert(endpoint.to_owned(), Arc::downgrade(&endpoint_limit));
        endpoint_limit
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use crate::fairness::FairnessKey;

    use super::*;

    #[test]
    fn an_endpoint_has_one_limit_while_it_is_used_and_others_have_their_own() {
        let limits = EndpointLimits::default();
        let (one, other) =
            (limits.endpoint_limit("https://one.example"), limits.endpoint_limit("https://other.example"));
        assert!(Arc::ptr_eq(&one, &limits.endpoint_limit("https://one.example")));
        assert!(!Arc::ptr_eq(&one, &other));
        drop(one);
        limits.endpoint_limit("https://third.example");
        assert_eq!(limits.used.lock().len(), 2, "the first is forgotten");
    }

    #[test]
    fn one_endpoint_leaves_permits_and_memory_for_the_largest_image_to_others() {
        const { assert!(AT_ONE_ENDPOINT < STORING_AT_ONCE) };
        assert!(ByteBudget::default().held() == 0 && BYTES_AT_ONE_ENDPOINT + MAX_BYTES <= DEFAULT_BYTES);
    }

    #[test]
    fn a_namespace_that_removes_a_thousand_leaves_permits_at_its_endpoint_to_others() {
        let endpoint_limit = EndpointLimits::default().endpoint_limit("https://one.example");
        let enter = |namespace| {
            endpoint_limit.permits.acquire(FairnessKey::of_namespace(namespace), 0).now_or_never()
        };
        let held: Vec<_> = (0..1000).filter_map(|_| enter("team-a")).collect();
        assert_eq!(held.len(), AT_ONE_ENDPOINT_OF_ONE);
        assert!(enter("team-b").is_some());
    }
}
