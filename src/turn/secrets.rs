//! API keys from Secrets: read with `get` only, when they are needed, and kept for a few seconds at most.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout},
};

use crate::{
    api::SecretKeyRef,
    lifecycle::KeyFault,
    portal::{ApiKey, KeyShape},
};

use super::{
    complaints::{Complaints, ServerCall},
    status::DEADLINE,
};

/// How long a key is kept. A rotated key is used after this at the latest.
const KEPT: Duration = Duration::from_secs(30);
/// How long a missing key is kept: a Secret that appears is found within five seconds.
const ABSENCE_KEPT: Duration = Duration::from_secs(2);

/// The Secret could not be read, and nobody knows whether it is there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("read the Secret that holds the API key")]
pub struct ReadSecret;

type Place = (String, String, String);
type Found = Result<Result<Arc<ApiKey>, KeyFault>, ReadSecret>;

struct Entry {
    read_at: Instant,
    found: Arc<OnceCell<Found>>,
}

/// Reads API keys; one request for all who ask at once.
pub struct Secrets {
    client: Client,
    complaints: Arc<Complaints>,
    kept: Mutex<HashMap<Place, Entry>>,
}

impl Secrets {
    /// Reads through that client.
    #[must_use]
    pub fn new(client: Client, complaints: Arc<Complaints>) -> Self {
        Self { client, complaints, kept: Mutex::default() }
    }

    /// The API key, or why there is none.
    ///
    /// # Errors
    ///
    /// [`ReadSecret`] when the API server could not be asked.
    pub async fn key(&self, namespace: &str, at: &SecretKeyRef) -> Found {
        let place = (namespace.to_owned(), at.name.clone(), at.key.clone());
        let cell = self.entry(&place);
        cell.get_or_init(|| self.read(namespace, at)).await.clone()
    }

    /// Everything in a Secret, read now, or why there is nothing.
    ///
    /// # Errors
    ///
    /// [`ReadSecret`] when the API server could not be asked.
    pub async fn data(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Result<BTreeMap<String, Vec<u8>>, KeyFault>, ReadSecret> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let answer = timeout(DEADLINE, api.get_opt(name)).await;
        self.complaints.note(ServerCall::GetSecret, (namespace, name), &answer);
        match answer {
            Ok(Ok(Some(secret))) => {
                let data = secret.data.unwrap_or_default();
                Ok(Ok(data.into_iter().map(|(key, value)| (key, value.0)).collect()))
            }
            Ok(Ok(None)) => Ok(Err(KeyFault::SecretNotFound)),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(Err(KeyFault::SecretForbidden)),
            Ok(Err(_)) | Err(_) => Err(ReadSecret),
        }
    }

    fn entry(&self, place: &Place) -> Arc<OnceCell<Found>> {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, entry| {
            let long = match entry.found.get() {
                None | Some(Ok(Ok(_))) => KEPT,
                Some(Ok(Err(_)) | Err(ReadSecret)) => ABSENCE_KEPT,
            };
            now.duration_since(entry.read_at) < long
        });
        let entry = kept
            .entry(place.clone())
            .or_insert_with(|| Entry { read_at: now, found: Arc::new(OnceCell::new()) });
        Arc::clone(&entry.found)
    }

    async fn read(&self, namespace: &str, at: &SecretKeyRef) -> Found {
        let data = match self.data(namespace, &at.name).await? {
            Ok(data) => data,
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(match data.get(&at.key) {
            None => Err(KeyFault::KeyMissing),
            Some(value) => ApiKey::parse(value).map(Arc::new).map_err(|shape| match shape {
                KeyShape::Empty => KeyFault::KeyEmpty,
                KeyShape::Malformed => KeyFault::KeyMalformed,
            }),
        })
    }
}
