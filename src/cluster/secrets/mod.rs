//! API keys from Secrets: read only with `get`, when they are needed, and cached for half a minute at most. May depend
//! on kube's client, `fairness`, and the types of keys.
//!
//! The cost for the API server grows with the number of Secrets, not of resources, and no namespace delays others: a
//! Secret is read once for all requests for any of its entries, concurrent reads are bounded in total and for each
//! namespace, and a namespace that reads many Secrets, or large ones, is slowed down.

mod cache;
mod rate_limits;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    failures::{FailureLog, ServerCall},
    request::DEADLINE,
};
use crate::{
    api::SecretKeyRef,
    fairness::{FairSemaphore, FairnessKey},
    lifecycle::KeyFault,
};
use cache::Cache;
use rate_limits::RateLimits;

/// How often expired keys are removed, so that none is held for more than thirty seconds.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// How often entries that are no longer requested are removed.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// The most concurrent reads, in total and of one namespace. A Secret has up to a mebibyte.
const MOST_READS: (usize, usize) = (16, 4);

pub(crate) use cache::KeyLookup;
pub(crate) use cache::ReadSecret;

/// Reads API keys, with one request for all entries of the same Secret.
pub(crate) struct Secrets {
    client: Client,
    failures: Arc<FailureLog>,
    state: Arc<Mutex<SecretsState>>,
    reads: Arc<FairSemaphore>,
    counted: Counter,
}

#[derive(Default)]
struct SecretsState {
    cache: Cache,
    rate_limits: RateLimits,
    /// Whether a task removes what has expired.
    has_sweeper: bool,
}

impl Secrets {
    /// Reads with that client, and counts the reads.
    #[must_use]
    pub(crate) fn new(client: Client, failures: Arc<FailureLog>, counted: Counter) -> Self {
        let reads = FairSemaphore::new(MOST_READS.0, MOST_READS.1);
        Self { client, failures, state: Arc::default(), reads, counted }
    }

    /// The API key, or why there is none.
    ///
    /// # Errors
    ///
    /// [`ReadSecret`] if the API server could not be asked.
    pub(crate) async fn key(&self, namespace: &str, at: &SecretKeyRef) -> KeyLookup {
        let read_lock = match self.find(namespace, at) {
            Ok(result) => return result,
            Err(read_lock) => read_lock,
        };
        // One task reads; those that waited for it find the result in the cache.
        let _reading = read_lock.lock().await;
        if let Ok(result) = self.find(namespace, at) {
            return result;
        }
        let may_read_at = self.state.lock().rate_limits.read_again(namespace, &at.name, Instant::now());
        sleep_until(may_read_at).await;
        let data = self.data(namespace, &at.name).await;
        self.state.lock().cache.insert(namespace, at, &data, Instant::now())
    }

    /// All data of a Secret, read now, or why there is none.
    ///
    /// # Errors
    ///
    /// [`ReadSecret`] if the API server could not be asked.
    pub(crate) async fn data(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Result<BTreeMap<String, Vec<u8>>, KeyFault>, ReadSecret> {
        let may_read_at = self.state.lock().rate_limits.read(namespace, Instant::now());
        sleep_until(may_read_at).await;
        let permit = self.reads.acquire(FairnessKey::new(namespace, &name), 0).await;
        self.counted.inc();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let response = timeout(DEADLINE, api.get_opt(name)).await;
        drop(permit);
        self.failures.note(ServerCall::GetSecret, (namespace, name), &response);
        match response {
            Ok(Ok(Some(secret))) => {
                let data = secret.data.unwrap_or_default();
                let bytes = data.values().map(|value| value.0.len()).sum();
                self.state.lock().rate_limits.charge_bytes(namespace, bytes);
                Ok(Ok(data.into_iter().map(|(key, value)| (key, value.0)).collect()))
            }
            Ok(Ok(None)) => Ok(Err(KeyFault::SecretNotFound)),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(Err(KeyFault::SecretForbidden)),
            Ok(Err(_)) | Err(_) => Err(ReadSecret),
        }
    }

    /// What the cache knows. If nothing, the returned lock is to be held while reading.
    fn find(&self, namespace: &str, at: &SecretKeyRef) -> Result<KeyLookup, Arc<tokio::sync::Mutex<()>>> {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.has_sweeper, true) {
            tokio::spawn(sweep(Arc::clone(&self.state)));
        }
        state.cache.find(namespace, at, Instant::now())
    }
}

/// Removes what has expired, until the cache is empty.
async fn sweep(state: Arc<Mutex<SecretsState>>) {
    let mut swept = Instant::now();
    loop {
        sleep(EXPIRE_EVERY).await;
        let now = Instant::now();
        let mut state = state.lock();
        state.cache.expire_values(now);
        if now.duration_since(swept) >= SWEEP_EVERY {
            swept = now;
            state.cache.expire_entries(now);
            state.rate_limits.sweep(now);
        }
        if state.cache.is_empty() {
            state.has_sweeper = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests;
