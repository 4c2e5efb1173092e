//! API keys from Secrets: read with `get` only, when they are needed, and kept for half a minute at most.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use crate::{
    api::SecretKeyRef,
    lifecycle::{KEY_SOUGHT_EVERY, KeyFault},
    portal::{ApiKey, KeyShape},
};

use super::{
    complaints::{Complaints, ServerCall},
    status::DEADLINE,
};

/// How long a key is used. A rotated key is used after this at the latest.
const USED: Duration = Duration::from_secs(29);
/// What is no longer used is forgotten within this, so that no key is kept for more than thirty seconds.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(1);
/// A Secret that appears is found within this.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// How long a missing key is taken for missing: who looks for it may meet the absence that another one found.
const ABSENCE_USED: Duration = FOUND_WITHIN.saturating_sub(KEY_SOUGHT_EVERY);

/// The Secret could not be read, and nobody knows whether it is there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("read the Secret that holds the API key")]
pub struct ReadSecret;

type Place = (String, String, String);
type Found = Result<Result<Arc<ApiKey>, KeyFault>, ReadSecret>;

type Kept = Arc<Mutex<HashMap<Place, Entry>>>;

struct Entry {
    read_at: Instant,
    found: Arc<OnceCell<Found>>,
}

impl Entry {
    fn is_used(&self, now: Instant) -> bool {
        let long = match self.found.get() {
            None | Some(Ok(Ok(_))) => USED,
            Some(Ok(Err(_)) | Err(ReadSecret)) => ABSENCE_USED,
        };
        now.duration_since(self.read_at) < long
    }
}

/// Reads API keys; one request for all who ask at once.
pub struct Secrets {
    client: Client,
    complaints: Arc<Complaints>,
    kept: Kept,
}

impl Secrets {
    /// Reads through that client.
    #[must_use]
    pub fn new(client: Client, complaints: Arc<Complaints>) -> Self {
        Self { client, complaints, kept: Kept::default() }
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
        let mut kept = lock(&self.kept);
        if kept.is_empty() {
            tokio::spawn(forget_in_time(Arc::clone(&self.kept)));
        }
        if let Some(entry) = kept.get(place).filter(|entry| entry.is_used(now)) {
            return Arc::clone(&entry.found);
        }
        let entry = Entry { read_at: now, found: Arc::default() };
        let found = Arc::clone(&entry.found);
        kept.insert(place.clone(), entry);
        found
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

/// Forgets what is no longer used, for as long as something is kept.
async fn forget_in_time(kept: Kept) {
    loop {
        sleep(FORGOTTEN_WITHIN).await;
        let now = Instant::now();
        let mut kept = lock(&kept);
        kept.retain(|_, entry| entry.is_used(now));
        if kept.is_empty() {
            return;
        }
    }
}

/// Every change under this lock is complete before it can panic.
fn lock(kept: &Kept) -> MutexGuard<'_, HashMap<Place, Entry>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use tower::BoxError;

    use super::*;

    /// Secrets of an API server that has one, or none, and how often it was asked.
    fn secrets(exists: bool) -> (Secrets, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let service = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let (code, body) = if exists {
                (StatusCode::OK, r#"{"apiVersion":"v1","kind":"Secret","data":{"apiKey":"a2V5"}}"#)
            } else {
                (
                    StatusCode::NOT_FOUND,
                    r#"{"kind":"Status","status":"Failure","reason":"NotFound","message":"","code":404}"#,
                )
            };
            let mut answer = Response::new(Body::from(body.as_bytes().to_vec()));
            *answer.status_mut() = code;
            std::future::ready(Ok::<_, BoxError>(answer))
        });
        (Secrets::new(Client::new(service, "default"), Arc::default()), asked)
    }

    fn place() -> SecretKeyRef {
        SecretKeyRef { name: "okid".to_owned(), key: "apiKey".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_forgotten_within_thirty_seconds_though_nobody_asks_again() {
        let (secrets, asked) = secrets(true);
        let key = secrets.key("team", &place()).await.unwrap().unwrap();
        sleep(Duration::from_secs(28)).await;
        secrets.key("team", &place()).await.unwrap().unwrap();
        assert_eq!((asked.load(Ordering::Relaxed), Arc::strong_count(&key)), (1, 2));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(Arc::strong_count(&key), 1, "nobody but the test has it");

        secrets.key("team", &place()).await.unwrap().unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        sleep(Duration::from_secs(30)).await;
        assert!(lock(&secrets.kept).is_empty(), "the second time as well");
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_for_a_key_meets_no_absence_that_would_make_it_later_than_five_seconds() {
        let (secrets, asked) = secrets(false);
        let began = Instant::now();
        assert_eq!(secrets.key("team", &place()).await.unwrap().unwrap_err(), KeyFault::SecretNotFound);
        secrets.key("team", &place()).await.unwrap().unwrap_err();
        assert_eq!(asked.load(Ordering::Relaxed), 1, "one request for all who ask at once");
        while asked.load(Ordering::Relaxed) == 1 {
            sleep(Duration::from_millis(10)).await;
            secrets.key("team", &place()).await.unwrap().unwrap_err();
        }
        assert!(began.elapsed() + KEY_SOUGHT_EVERY <= Duration::from_millis(5_010), "{:?}", began.elapsed());
    }
}
