//! Names of portals: one lookup of a name at a time, however many calls ask for it.
//!
//! The system's resolver blocks a thread for each lookup, and the process has a bounded number of them for all that it
//! does. A name server that does not answer would else take them all.

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

/// Why a name has no address, for all who asked at once.
#[derive(Clone, Debug, thiserror::Error)]
#[error("look up the portal's host name: {0}")]
struct NotResolved(io::ErrorKind);

type Found = Result<Vec<SocketAddr>, NotResolved>;
type Find = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Looks names up, each once for all who ask meanwhile.
#[derive(Clone)]
pub(super) struct Names(Arc<Inner>);

struct Inner {
    find: Box<Find>,
    under_way: Mutex<HashMap<String, Shared<BoxFuture<'static, Found>>>>,
}

impl Names {
    /// The process's lookups, by the system's resolver.
    pub(super) fn of_the_process() -> Self {
        static NAMES: LazyLock<Names> = LazyLock::new(|| {
            Names::new(|host| async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) }.boxed())
        });
        NAMES.clone()
    }

    fn new(
        find: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { find: Box::new(find), under_way: Mutex::default() }))
    }

    fn look_up(&self, host: &str) -> Shared<BoxFuture<'static, Found>> {
        let mut under_way = self.0.under_way.lock();
        if let Some(lookup) = under_way.get(host) {
            return lookup.clone();
        }
        let (inner, name) = (Arc::clone(&self.0), host.to_owned());
        // A task of its own: it ends, and its answer is forgotten, though all who waited have given up.
        let task = tokio::spawn(async move {
            let found = (inner.find)(name.clone()).await.map_err(|error| NotResolved(error.kind()));
            inner.under_way.lock().remove(&name);
            found
        });
        let lookup =
            task.map(|found| found.unwrap_or(Err(NotResolved(io::ErrorKind::Interrupted)))).boxed().shared();
        under_way.insert(host.to_owned(), lookup.clone());
        lookup
    }
}

impl Resolve for Names {
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
    async fn a_thousand_calls_to_a_portal_whose_name_takes_long_make_one_lookup() {
        let (asked, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, held) = (Arc::clone(&asked), Arc::clone(&answers));
        let names = Names::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let held = Arc::clone(&held);
            async move {
                held.acquire().await.unwrap().forget();
                Ok(vec![([127, 0, 0, 1], 0).into()])
            }
            .boxed()
        });
        let given_up = names.look_up("slow.example").now_or_never();
        assert!(given_up.is_none());
        let waiting: Vec<_> = (0..1_000).map(|_| names.look_up("slow.example")).collect();
        let other = names.look_up("other.example");
        tokio::task::yield_now().await;
        assert_eq!(asked.load(Ordering::Relaxed), 2, "one for each name");
        answers.add_permits(2);
        let found = join_all(waiting.into_iter().chain([other])).await;
        assert!(found.into_iter().all(|found| found.unwrap().len() == 1));
        answers.add_permits(1);
        assert!(names.look_up("slow.example").await.is_ok());
        assert_eq!(asked.load(Ordering::Relaxed), 3, "what was found is not kept");
    }
}
