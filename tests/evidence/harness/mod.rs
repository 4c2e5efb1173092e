//! Stores to test against. May depend on `store`, `tls` and the proxy of `tests/stores`.

mod azurite;
mod google;
mod skips;
#[allow(dead_code, reason = "another test program uses the remainder of it")]
#[path = "../../stores/mod.rs"]
mod stores;
mod token_server;

use std::{any::Any, time::Duration};

use bytes::Bytes;
use control_plane::Folder as TempFolder;
use okid_operator::{
    store::{
        Digested, Endpoints, Folder, HttpSettings, Location, Metadata, ObjectKey, Options, Put, RetryPolicy,
        Store, StoreError, StoreHttp, Stores,
    },
    tls,
};

pub(crate) use azurite::shared_access_signature;
pub(crate) use google::service_account;
pub(crate) use skips::skip;
pub(crate) use stores::{BUCKET, Fault, Proxy, S3, serve};
pub(crate) use token_server::{POD_TOKEN, ROLE, SESSION, TokenServer};

/// Short pauses, because tests wait for them; long time limits, because they must not expire.
pub(crate) const RETRY_POLICY: RetryPolicy = RetryPolicy {
    request: Duration::from_mins(1),
    again_within: Duration::from_mins(1),
    attempts: 3,
    pause: Duration::from_millis(5),
    whole: Duration::from_mins(3),
};

/// A running store, and how to reach it.
pub(crate) struct TestStore {
    url: String,
    secret: Vec<(&'static str, String)>,
    proxy: Option<Proxy>,
    endpoint: String,
    _alive: Box<dyn Any + Send>,
}

impl TestStore {
    /// S3, by s3s-fs.
    pub(crate) async fn s3() -> Option<Self> {
        let s3 = S3::start("operator", "correct horse").await;
        Some(Self {
            url: format!("s3://{BUCKET}/kyc"),
            secret: s3.options(),
            endpoint: s3.proxy.url(),
            proxy: Some(s3.proxy),
            _alive: Box::new((s3.folder, s3.tasks)),
        })
    }

    /// Azure, by Azurite; `None` if Node.js is missing, which is reported.
    pub(crate) async fn azure() -> Option<Self> {
        azurite::start().await
    }

    /// Google Cloud Storage.
    pub(crate) async fn google() -> Option<Self> {
        Some(google::start().await)
    }

    /// A local folder.
    #[expect(clippy::unused_async, reason = "the other stores are started by waiting")]
    pub(crate) async fn folder() -> Option<Self> {
        let folder = TempFolder::create("okid-evidence-").unwrap();
        let url = format!("file://{}", folder.path().display());
        Some(Self { url, secret: Vec::new(), proxy: None, endpoint: String::new(), _alive: Box::new(folder) })
    }

    pub(crate) fn store(&self) -> Store {
        self.store_as(&self.url, &self.secret, RETRY_POLICY)
    }

    /// The store at another address.
    pub(crate) fn store_at(&self, url: &str) -> Store {
        self.store_as(url, &self.secret, RETRY_POLICY)
    }

    pub(crate) fn store_with_policy(&self, retry_policy: RetryPolicy) -> Store {
        self.store_as(&self.url, &self.secret, retry_policy)
    }

    /// The store with one entry of the Secret replaced.
    pub(crate) fn store_with(&self, instead_of: &str, entry: (&'static str, String)) -> Store {
        let mut secret = self.secret.clone();
        secret.retain(|(key, _)| *key != instead_of);
        secret.push(entry);
        self.store_as(&self.url, &secret, RETRY_POLICY)
    }

    /// The store at another endpoint.
    pub(crate) fn store_elsewhere(&self, endpoint: &str) -> Store {
        let mut secret = self.secret.clone();
        secret.retain(|(key, _)| *key != "aws_endpoint");
        secret.push(("aws_endpoint", endpoint.to_owned()));
        let location = Location::parse(&self.url).unwrap();
        let entries = secret.iter().map(|(key, value)| (*key, value.as_bytes()));
        let options =
            Options::of_secret(location.scheme(), entries, &Endpoints::new(&[endpoint]).unwrap()).unwrap();
        Store::new(location, &options, &http(), RETRY_POLICY).unwrap()
    }

    /// The entries of the Secret.
    pub(crate) fn secret(&self) -> &[(&'static str, String)] {
        &self.secret
    }

    fn store_as(&self, url: &str, secret: &[(&'static str, String)], retry_policy: RetryPolicy) -> Store {
        let location = Location::parse(url).unwrap();
        let options = if secret.is_empty() {
            Options::of_administrator(location.scheme(), [], &[]).unwrap()
        } else {
            let endpoints = Endpoints::new(&[&self.endpoint]).unwrap();
            let entries = secret.iter().map(|(key, value)| (*key, value.as_bytes()));
            Options::of_secret(location.scheme(), entries, &endpoints).unwrap()
        };
        Store::new(location, &options, &http(), retry_policy).unwrap()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a store on the network")
    }

    pub(crate) fn has_proxy(&self) -> bool {
        self.proxy.is_some()
    }
}

pub(crate) fn http() -> StoreHttp {
    StoreHttp::new(&HttpSettings::default(), tls::client_config(None).unwrap()).unwrap()
}

/// The named stores of a file.
pub(crate) fn stores(text: &str) -> Stores {
    stores_with(text, &[], "")
}

/// The named stores of a file, with an environment and a certificate to trust (PEM, or empty).
pub(crate) fn stores_with(text: &str, environment: &[(String, String)], authority: &str) -> Stores {
    let authority = Some(authority.as_bytes()).filter(|pem| !pem.is_empty());
    let http = StoreHttp::new(&HttpSettings::default(), tls::client_config(authority).unwrap()).unwrap();
    Stores::read("stores.yaml", text, environment, &http, RETRY_POLICY).unwrap()
}

pub(crate) fn of(namespace: &str) -> Folder {
    Folder::new(namespace, "customer", "0b1e6d5c-7c0e-4b0e-9d57-1f6a8e7f2a10").unwrap()
}

pub(crate) fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

/// Puts bytes as `front-original.jpg` into the folder of team-a.
pub(crate) async fn put(store: &Store, bytes: &[u8]) -> Result<Put, StoreError> {
    put_as(store, "front-original.jpg", bytes).await
}

pub(crate) async fn put_as(store: &Store, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
    put_in(store, &of("team-a"), name, bytes).await
}

pub(crate) async fn put_in(
    store: &Store,
    folder: &Folder,
    name: &str,
    bytes: &[u8],
) -> Result<Put, StoreError> {
    let digested = Digested::of(Bytes::copy_from_slice(bytes)).await?;
    let metadata = Metadata { content_type: "image/jpeg", attributes: &[("kind", "Front")] };
    store.put(folder, &key(name), &digested, metadata).await
}

/// The bytes of `front-original.jpg`.
pub(crate) async fn stored_bytes(store: &Store) -> Option<Vec<u8>> {
    let found = store.read(&of("team-a"), &key("front-original.jpg"), 1 << 25).await.unwrap();
    found.map(|bytes| bytes.to_vec())
}
