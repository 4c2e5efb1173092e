//! Sends single requests to a store, each with a deadline. May depend on the other files of [`store`](super) but its client.

use std::{collections::BTreeSet, error::Error as StdError, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use http::Method;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    azure::AzureAuthorizer,
    client::HttpRequestBody,
    list::{PaginatedListOptions, PaginatedListStore},
    path::Path,
};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    backend::{Azure, Backend, Transport},
    classify::{RequestError, classify, classify_http_removal, classify_removal, is_versioned},
    content::MAX_BYTES,
    error::StoreError,
    hash::hex,
    http::ResponseLimit,
    no_response::NoResponse,
    object::{Found, Metadata, PROOF, Removal},
    path::{Folder, ObjectKey},
    signing::KnownDigest,
};

/// The most keys that one listing of a folder returns.
pub(crate) const MAX_KEYS: usize = 64;
/// The most names in one page of a listing, whoever wrote the objects.
const PAGE: usize = 1000;
/// The most pages that are read for one listing.
const MAX_PAGES: usize = 8;

/// How the object in the store compares with the one to put.
pub(crate) enum Comparison {
    Same,
    Different,
    Missing,
}

/// Sends single requests to one backend, each within its deadline. Never retries.
pub(crate) struct Requests {
    backend: Backend,
    /// The path within the bucket below which all objects are.
    prefix: String,
    /// The time limit for one request and its response.
    timeout: Duration,
}

impl Requests {
    pub(crate) fn new(backend: Backend, prefix: &str, timeout: Duration) -> Self {
        Self { backend, prefix: prefix.to_owned(), timeout }
    }

    /// Uses a digest to sign the requests that put these bytes.
    pub(crate) fn know(&self, bytes: &Bytes, sha256: [u8; 32]) -> Option<KnownDigest<'_>> {
        self.backend.know(bytes, sha256)
    }

    /// Whether the store supports attributes.
    pub(crate) const fn has_attributes(&self) -> bool {
        self.backend.has_attributes()
    }

    /// Creates an object, unless one exists.
    pub(crate) async fn put(
        &self,
        path: &Path,
        bytes: Bytes,
        attributes: Attributes,
    ) -> Result<(), RequestError> {
        self.limited(async {
            match self.backend.transport() {
                Transport::Disk(disk) => disk.create(path.as_ref(), bytes).await,
                Transport::Network(store) => {
                    let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
                    let put = store.put_opts(path, PutPayload::from(bytes), options).await;
                    put.map(|_| ()).map_err(|error| classify(&error))
                }
            }
        })
        .await
    }

    /// Compares the existing object with the size and digest of another one.
    pub(crate) async fn compare(
        &self,
        path: &Path,
        size: u64,
        sha256: &str,
    ) -> Result<Comparison, RequestError> {
        let compared = self.limited(async {
            let store = match self.backend.transport() {
                Transport::Network(store) => store,
                Transport::Disk(disk) => {
                    let found = disk.digest(path.as_ref(), size).await?;
                    let is_same =
                        found.is_some_and(|(found, digest)| found == size && hex(&digest) == sha256);
                    return Ok(if is_same { Comparison::Same } else { Comparison::Different });
                }
            };
            let whole = usize::try_from(size).unwrap_or(usize::MAX);
            let found = store.get_opts(path, get(whole)).await.map_err(|error| classify(&error))?;
            if found.meta.size != size {
                return Ok(Comparison::Different);
            }
            let mut digest = Sha256::new();
            let mut chunks = found.into_stream();
            while let Some(chunk) = chunks.try_next().await.map_err(|error| classify(&error))? {
                digest.update(&chunk);
            }
            let is_same = hex(&digest.finalize()) == sha256;
            Ok(if is_same { Comparison::Same } else { Comparison::Different })
        });
        match compared.await {
            Err(RequestError::NotFound) => Ok(Comparison::Missing),
            other => other,
        }
    }

    /// Reads an object; `None` if it has more bytes than `limit`.
    pub(crate) async fn read(&self, path: &Path, limit: usize) -> Result<Option<Bytes>, RequestError> {
        self.limited(self.read_within(path, limit)).await
    }

    async fn read_within(&self, path: &Path, limit: usize) -> Result<Option<Bytes>, RequestError> {
        let store = match self.backend.transport() {
            Transport::Network(store) => store,
            Transport::Disk(disk) => return disk.read(path.as_ref(), limit).await,
        };
        let found = store.get_opts(path, get(limit)).await.map_err(|error| classify(&error))?;
        if found.meta.size > limit as u64 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| classify(&error))? {
            if bytes.len() + chunk.len() > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes.into()))
    }

    /// Reads an object with its proof, and its bytes if there are at most `max_bytes`; `None` if it is larger than any object of
    /// the operator.
    pub(crate) async fn find(&self, path: &Path, max_bytes: usize) -> Result<Option<Found>, RequestError> {
        self.limited(self.digest(path, max_bytes)).await
    }

    async fn digest(&self, path: &Path, max_bytes: usize) -> Result<Option<Found>, RequestError> {
        let store = match self.backend.transport() {
            Transport::Network(store) => store,
            Transport::Disk(disk) => {
                let found = disk.digest(path.as_ref(), MAX_BYTES as u64).await?;
                let found = found.map(|(size, digest)| (size, hex(&digest)));
                return Ok(found.map(|(size, sha256)| Found { size, sha256, proof: None, bytes: None }));
            }
        };
        let found = store.get_opts(path, get(MAX_BYTES)).await.map_err(|error| classify(&error))?;
        if found.meta.size > MAX_BYTES as u64 {
            return Ok(None);
        }
        let proof = found.attributes.get(&Attribute::Metadata(PROOF.into()));
        let proof = proof.map(|proof| proof.as_ref().to_owned());
        let (mut digest, mut size, mut bytes) = (Sha256::new(), 0, Some(Vec::new()));
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| classify(&error))? {
            size += chunk.len();
            if size > MAX_BYTES {
                return Ok(None);
            }
            digest.update(&chunk);
            bytes = bytes.filter(|_| size <= max_bytes);
            if let Some(bytes) = &mut bytes {
                bytes.extend_from_slice(&chunk);
            }
        }
        let sha256 = hex(&digest.finalize());
        Ok(Some(Found { size: size as u64, sha256, proof, bytes: bytes.map(Bytes::from) }))
    }

    /// Lists the keys of a folder, for their removal. In a local folder these include unfinished objects, so that they are
    /// removed too.
    pub(crate) async fn list(&self, folder: &Path) -> Result<Vec<ObjectKey>, RequestError> {
        self.limited(self.list_pages(folder)).await
    }

    async fn list_pages(&self, folder: &Path) -> Result<Vec<ObjectKey>, RequestError> {
        let store: &dyn PaginatedListStore = match &self.backend {
            Backend::S3(s3) => &s3.store,
            Backend::Gs(store) => store,
            Backend::Az(azure) => &azure.store,
            Backend::File(disk) => return disk.keys(folder.as_ref(), MAX_KEYS).await,
        };
        let prefix = format!("{folder}/");
        let mut keys = BTreeSet::new();
        let mut page_token = None;
        for _ in 0..MAX_PAGES {
            let options =
                PaginatedListOptions { max_keys: Some(PAGE), page_token, ..PaginatedListOptions::default() };
            let page = store.list_paginated(Some(&prefix), options).await;
            let page = page.map_err(|error| classify_removal(&error))?;
            let names =
                page.result.objects.iter().filter_map(|object| {
                    ObjectKey::parse(object.location.as_ref().strip_prefix(&prefix)?).ok()
                });
            keys.extend(names);
            page_token = page.page_token;
            if keys.len() >= MAX_KEYS || page_token.is_none() {
                return Ok(keys.into_iter().take(MAX_KEYS).collect());
            }
        }
        // Without any key, it is unknown whether the folder is empty. The keys that were found are enough to continue with.
        if keys.is_empty() {
            Err(RequestError::Failed(NoResponse::TooLarge.into()))
        } else {
            Ok(keys.into_iter().collect())
        }
    }

    /// Removes an object.
    pub(crate) async fn delete(&self, path: &Path) -> Result<Removal, RequestError> {
        self.limited(self.remove(path)).await
    }

    async fn remove(&self, path: &Path) -> Result<Removal, RequestError> {
        match &self.backend {
            Backend::Az(azure) => delete_blob(azure, path).await,
            Backend::File(disk) => disk.remove(path.as_ref()).await.map(|()| Removal::Removed),
            Backend::S3(s3) => removal(s3.store.delete(path).await, classify_removal),
            Backend::Gs(store) => removal(store.delete(path).await, classify_removal),
        }
    }

    pub(crate) fn attributes(&self, metadata: &Metadata<'_>, sha256: &str) -> Attributes {
        if !self.backend.has_attributes() {
            return Attributes::new();
        }
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, metadata.content_type.into());
        attributes.insert(Attribute::Metadata("sha256".into()), sha256.to_owned().into());
        for (name, value) in metadata.attributes {
            attributes.insert(Attribute::Metadata((*name).into()), (*value).to_owned().into());
        }
        attributes
    }

    pub(crate) fn folder_path(&self, folder: &Folder) -> Result<Path, StoreError> {
        let prefix = match &self.backend {
            Backend::File(_) => "",
            Backend::S3(_) | Backend::Gs(_) | Backend::Az(_) => &self.prefix,
        };
        Path::parse(format!("{prefix}/{folder}").trim_start_matches('/')).map_err(|_| StoreError::Refused)
    }

    pub(crate) fn path(&self, folder: &Folder, key: &ObjectKey) -> Result<Path, StoreError> {
        Ok(self.folder_path(folder)?.join(key.as_str()))
    }

    /// Runs one request within its deadline. After that, the store may still execute it.
    async fn limited<T>(
        &self,
        request: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        timeout(self.timeout, request)
            .await
            .unwrap_or(Err(RequestError::Unknown(NoResponse::TimedOut.into())))
    }
}

/// The result of a removal. A version that the store retains is reported as an error: see
/// [`StoreHttp`](super::http::StoreHttp).
fn removal<E: StdError + 'static>(
    removed: Result<(), E>,
    classify: impl Fn(&E) -> RequestError,
) -> Result<Removal, RequestError> {
    match removed {
        Ok(()) => Ok(Removal::Removed),
        Err(error) if is_versioned(&error) => Ok(Removal::Versioned),
        Err(error) => Err(classify(&error)),
    }
}

/// Options that request an object of at most this many bytes.
fn get(bytes: usize) -> GetOptions {
    let mut options = GetOptions::default();
    options.extensions.insert(ResponseLimit(bytes));
    options
}

/// Removes a blob with a request of our own: the library supports only Azure's batches, whose errors do not distinguish a
/// policy from an outage.
async fn delete_blob(azure: &Azure, path: &Path) -> Result<Removal, RequestError> {
    let credential = azure.store.credentials().get_credential().await;
    let credential = credential.map_err(|error| classify_removal(&error))?;
    let mut request = http::Request::builder()
        .method(Method::DELETE)
        .uri(format!("{}/{path}", azure.container))
        .header("content-length", 0)
        .body(HttpRequestBody::empty())
        .map_err(|_| RequestError::Failed(StoreError::Refused))?;
    AzureAuthorizer::new(&credential, &azure.account)
        .try_authorize(&mut request)
        .map_err(|error| classify(&error))?;
    removal(azure.http.execute(request).await.map(drop), classify_http_removal)
}
