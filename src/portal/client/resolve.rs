//! Name resolution for portals: at most one lookup of a name at a time, however many requests need it.
//!
//! May depend on nothing of this crate. The system's resolver blocks a thread for each lookup, and the process has a bounded
//! number of threads for all its work. A name server that does not respond would otherwise occupy them all.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why a name has no address, shared by all requests that waited for the lookup.
#[derive(Clone, Debug, thiserror::Error)]
#[error("resolve the portal's host name: {0}")]
struct LookupFailed(io::ErrorKind);

type Addresses = Result<Vec<SocketAddr>, LookupFailed>;
type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// A resolver that shares each lookup among all requests that wait for it.
#[derive(Clone)]
pub(super) struct Resolver(Arc<ResolverState>);

struct ResolverState {
    lookup: Box<Lookup>,
    in_flight: Mutex<HashMap<String, Shared<BoxFuture<'static, Addresses>>>>,
}

impl Resolver {
    /// The resolver of the whole process, which uses the system's.
    pub(super) fn shared() -> Self {
        static RESOLVER: LazyLock<Resolver> = LazyLock::new(|| {
            Resolver::new(|host| {
                async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) }.boxed()
            })
        });
        RESOLVER.clone()
    }

    fn new(
        lookup: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ResolverState { lookup: Box::new(lookup), in_flight: Mutex::default() }))
    }

    fn look_up(&self, host: &str) -> Shared<BoxFuture<'static, Addresses>> {
        let mut in_flight = self.0.in_flight.lock();
        if let Some(lookup) = in_flight.get(host) {
            return lookup.clone();
        }
        let (inner, name) = (Arc::clone(&self.0), host.to_owned());
        // In its own task, so that it finishes and is removed even if all waiters are gone.
        let task = tokio::spawn(async move {
            let found = (inner.lookup)(name.clone()).await.map_err(|error| LookupFailed(error.kind()));
            inner.in_flight.lock().remove(&name);
            found
        });
        let lookup = task
            .map(|addresses| addresses.unwrap_or(Err(LookupFailed(io::ErrorKind::Interrupted))))
            .boxed()
            .shared();
        in_flight.insert(host.to_owned(), lookup.clone());
        lookup
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.look_up(name.as_str());
        Box::pin(async move {
            let found = lookup.await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_thousand_requests_share_one_slow_lookup() {
        let (lookups, responses) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, held) = (Arc::clone(&lookups), Arc::clone(&responses));
        let resolver = Resolver::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let held = Arc::clone(&held);
            async move {
                held.acquire().await.unwrap().forget();
                Ok(vec![([127, 0, 0, 1], 0).into()])
            }
            .boxed()
        });
        let abandoned = resolver.look_up("slow.example").now_or_never();
        assert!(abandoned.is_none());
        let waiting: Vec<_> = (0..1_000).map(|_| resolver.look_up("slow.example")).collect();
        let other = resolver.look_up("other.example");
        tokio::task::yield_now().await;
        assert_eq!(lookups.load(Ordering::Relaxed), 2, "one for each name");
        responses.add_permits(2);
        let found = join_all(waiting.into_iter().chain([other])).await;
        assert!(found.into_iter().all(|found| found.unwrap().len() == 1));
        responses.add_permits(1);
        assert!(resolver.look_up("slow.example").await.is_ok());
        assert_eq!(lookups.load(Ordering::Relaxed), 3, "results are not cached");
    }
}
