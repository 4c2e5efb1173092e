//! API keys from Secrets: read with `get` only, when they are needed, and kept for half a minute at most.
//!
//! What this costs the API server follows the number of Secrets, not of resources, and no namespace makes others wait: a
//! Secret is read once for all who ask for any of its entries, reads under way are bounded in all and for each namespace,
//! and a namespace that asks for many Secrets, or for large ones, gets them ever more slowly.

pub(crate) mod cache;
mod pace;

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
use pace::Paces;

/// What is no longer used is forgotten within this, so that no key is kept for more than thirty seconds.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(1);
/// What nobody asks for any more is looked for this often.
const SWEPT_EVERY: Duration = Duration::from_mins(1);
/// Most reads under way, in all and of one namespace. A Secret has up to a mebibyte.
const READS: (usize, usize) = (16, 4);

pub(crate) use cache::Found;

/// The Secret could not be read, and nobody knows whether it is there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("read the Secret that holds the API key")]
pub struct ReadSecret;

/// Reads API keys; one request for all who ask for entries of the same Secret.
pub(crate) struct Secrets {
    client: Client,
    failures: Arc<FailureLog>,
    kept: Arc<Mutex<Kept>>,
    reads: Arc<FairSemaphore>,
    counted: Counter,
}

#[derive(Default)]
struct Kept {
    cache: Cache,
    paces: Paces,
    /// Whether somebody forgets what is no longer used.
    is_swept: bool,
}

impl Secrets {
    /// Reads through that client, and counts that.
    #[must_use]
    pub(crate) fn new(client: Client, failures: Arc<FailureLog>, counted: Counter) -> Self {
        let reads = FairSemaphore::new(READS.0, READS.1);
        Self { client, failures, kept: Arc::default(), reads, counted }
    }

    /// The API key, or why there is none.
    ///
    /// # Errors
    ///
    /// [`ReadSecret`] when the API server could not be asked.
    pub(crate) async fn key(&self, namespace: &str, at: &SecretKeyRef) -> Found {
        let reads = match self.find(namespace, at) {
            Ok(found) => return found,
            Err(reads) => reads,
        };
        // One reads; whoever waited meanwhile finds what it has read.
        let _reading = reads.lock().await;
        if let Ok(found) = self.find(namespace, at) {
            return found;
        }
        let turn = self.kept.lock().paces.read_again(namespace, &at.name, Instant::now());
        sleep_until(turn).await;
        let data = self.data(namespace, &at.name).await;
        self.kept.lock().cache.keep(namespace, &at.name, &at.key, &data, Instant::now())
    }

    /// Everything in a Secret, read now, or why there is nothing.
    ///
    /// # Errors
    ///
    /// [`ReadSecret`] when the API server could not be asked.
    pub(crate) async fn data(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Result<BTreeMap<String, Vec<u8>>, KeyFault>, ReadSecret> {
        let turn = self.kept.lock().paces.read(namespace, Instant::now());
        sleep_until(turn).await;
        let permit = self.reads.acquire(FairnessKey::new(namespace, &name), 0).await;
        self.counted.inc();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let answer = timeout(DEADLINE, api.get_opt(name)).await;
        drop(permit);
        self.failures.note(ServerCall::GetSecret, (namespace, name), &answer);
        match answer {
            Ok(Ok(Some(secret))) => {
                let data = secret.data.unwrap_or_default();
                let bytes = data.values().map(|value| value.0.len()).sum();
                self.kept.lock().paces.was_large(namespace, bytes);
                Ok(Ok(data.into_iter().map(|(key, value)| (key, value.0)).collect()))
            }
            Ok(Ok(None)) => Ok(Err(KeyFault::SecretNotFound)),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(Err(KeyFault::SecretForbidden)),
            Ok(Err(_)) | Err(_) => Err(ReadSecret),
        }
    }

    /// What is known; if nothing, this is to be held by who reads.
    fn find(&self, namespace: &str, at: &SecretKeyRef) -> Result<Found, Arc<tokio::sync::Mutex<()>>> {
        let mut kept = self.kept.lock();
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(forget_in_time(Arc::clone(&self.kept)));
        }
        kept.cache.find(namespace, &at.name, &at.key, Instant::now())
    }
}

/// Forgets what is no longer used, for as long as something is kept.
async fn forget_in_time(kept: Arc<Mutex<Kept>>) {
    let mut swept = Instant::now();
    loop {
        sleep(FORGOTTEN_WITHIN).await;
        let now = Instant::now();
        let mut kept = kept.lock();
        kept.cache.forget_values(now);
        if now.duration_since(swept) >= SWEPT_EVERY {
            swept = now;
            kept.cache.forget_names(now);
            kept.paces.forget(now);
        }
        if kept.cache.is_empty() {
            kept.is_swept = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests;
