//! Puts, reads and removes objects in one store.
//!
//! Every call has its own deadline, is retried a few times where that can help, and fails with one [`StoreError`] that contains
//! no text from the store.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use object_store::{Attributes, path::Path};
use tokio::time::timeout;

use super::{
    backend::Backend,
    classify::RequestError,
    conditional_writes::ConditionalWrites,
    error::StoreError,
    http::StoreHttp,
    location::Location,
    no_response::NoResponse,
    object::{Digested, Found, Metadata, Put},
    options::{InvalidOptions, Options},
    path::{Folder, ObjectKey},
    request::{Comparison, Requests},
    retry::{Retries, RetryPolicy},
};

mod removal;

/// A store, or the part of one below a prefix. Cheap to create: all stores share the connections of their [`StoreHttp`]. Reuse
/// one for a batch of objects, because it caches the tokens for which some credentials are exchanged. Its `Debug` output is
/// its address only.
pub struct Store {
    requests: Requests,
    location: Location,
    endpoint: String,
    retry_policy: RetryPolicy,
    credentials: u64,
    /// Its name in [`ConditionalWrites`], to which the namespace is added.
    name: String,
    conditional_writes: Arc<ConditionalWrites>,
}

impl Store {
    /// Opens a store. Connects to nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`] if the options are incomplete, or if objects would be stored elsewhere than at the location.
    pub fn new(
        location: Location,
        options: &Options,
        http: &StoreHttp,
        retry_policy: RetryPolicy,
    ) -> Result<Self, InvalidOptions> {
        let endpoint = options.endpoint(&location)?;
        let backend = Backend::new(&location, options, http)?;
        let name = format!("{endpoint} {}", location.bucket());
        let requests = Requests::new(backend, location.prefix(), retry_policy.request);
        let (credentials, conditional_writes) = (options.credentials(), http.conditional_writes());
        Ok(Self { requests, location, endpoint, retry_policy, credentials, name, conditional_writes })
    }

    /// The server, normalized. Stores on one server are expected to hang together. Never logged.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Identifies its credentials within this process; 0 for the operator's own.
    #[must_use]
    pub const fn credentials(&self) -> u64 {
        self.credentials
    }

    /// Where its objects are.
    #[must_use]
    pub const fn location(&self) -> &Location {
        &self.location
    }

    /// Stores an object unless it exists. Safe to repeat and to cancel: an object exists completely or not at all, and is
    /// never changed. If a response was lost, it reads the existing object before it reports an error.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`Conflict`](StoreError::Conflict) if a different object exists.
    pub async fn put(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        digested: &Digested,
        metadata: Metadata<'_>,
    ) -> Result<Put, StoreError> {
        let path = self.requests.path(folder, key)?;
        // Per namespace: in one namespace's part of the store, the checked object may be removed in between.
        let name = format!("{} {}", self.name, folder.namespace());
        if self.conditional_writes.are_unsupported(&name) {
            return Err(StoreError::NoConditionalWrites);
        }
        let _known = self.requests.know(&digested.bytes, digested.digest);
        let attributes = self.requests.attributes(&metadata, digested.sha256());
        self.with_retries(|| self.put_once(&name, &path, digested, &attributes)).await
    }

    /// Puts an object, and compares what exists if the response leaves open whether the same object does.
    async fn put_once(
        &self,
        name: &str,
        path: &Path,
        digested: &Digested,
        attributes: &Attributes,
    ) -> Result<Put, RequestError> {
        let (size, sha256) = (digested.bytes.len() as u64, digested.sha256());
        let stored = |already_existed| Put { size, sha256: sha256.to_owned(), already_existed };
        let error = match self.put_tracked(path, digested, attributes).await {
            Ok(()) => {
                let tried = self.try_conditional_write(name, path, digested, attributes).await;
                return tried.map(|()| stored(false)).map_err(RequestError::Failed);
            }
            // For an existing object, Azure denies access to credentials that may create but not overwrite, and Google to
            // credentials that may not delete.
            Err(
                error @ (RequestError::AlreadyExists
                | RequestError::Unknown(_)
                | RequestError::Failed(StoreError::AccessDenied)),
            ) => error,
            // Not found in a folder: the file that was being written, or its folder, was removed just now.
            Err(error @ (RequestError::Failed(_) | RequestError::NotSent(_) | RequestError::NotFound)) => {
                return Err(error);
            }
        };
        let compared = match self.requests.compare(path, size, sha256).await {
            Ok(Comparison::Same) => return Ok(stored(true)),
            Ok(Comparison::Different) => return Err(RequestError::Failed(StoreError::Conflict)),
            Ok(Comparison::Missing) => None,
            Err(error) => Some(error),
        };
        Err(match (error, compared) {
            (RequestError::AlreadyExists, Some(failed @ RequestError::Failed(_))) => failed,
            // Without permission to list, S3 denies access to an object that does not exist. If it exists, the next attempt finds out.
            (RequestError::Unknown(_), Some(failed @ RequestError::Failed(reason)))
                if reason != StoreError::AccessDenied =>
            {
                failed
            }
            (_, _) => error,
        })
    }

    /// Sends one request that puts an object. If it gets no response or is cancelled, the object's bytes note that.
    async fn put_tracked(
        &self,
        path: &Path,
        digested: &Digested,
        attributes: &Attributes,
    ) -> Result<(), RequestError> {
        let before = digested.may_arrive.swap(true, Ordering::Relaxed);
        let put = self.requests.put(path, digested.bytes.clone(), attributes.clone()).await;
        let is_unknown = matches!(put, Err(RequestError::Unknown(_)));
        digested.may_arrive.store(before || is_unknown, Ordering::Relaxed);
        put
    }

    /// Puts the first object of each store a second time: a store that accepts it would overwrite other objects too, unless
    /// the object was removed in between. So it is put a third time before the store counts as one that overwrites.
    async fn try_conditional_write(
        &self,
        name: &str,
        path: &Path,
        digested: &Digested,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        if !self.requests.has_attributes() {
            return Ok(());
        }
        let Some(check) = self.conditional_writes.check(name) else { return Ok(()) };
        let mut answer = self.put_tracked(path, digested, attributes).await;
        if answer.is_ok() {
            answer = self.put_tracked(path, digested, attributes).await;
        }
        match answer {
            Ok(()) => {
                check.failed();
                Err(StoreError::NoConditionalWrites)
            }
            // Some stores deny overwriting to credentials that may only create.
            Err(RequestError::AlreadyExists | RequestError::Failed(StoreError::AccessDenied)) => {
                check.succeeded();
                Ok(())
            }
            // Undecided: the next object starts another check.
            Err(
                RequestError::NotFound
                | RequestError::NotSent(_)
                | RequestError::Unknown(_)
                | RequestError::Failed(_),
            ) => Ok(()),
        }
    }

    /// Reads an object of at most `limit` bytes; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`Conflict`](StoreError::Conflict) if it is larger.
    pub async fn read(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        limit: usize,
    ) -> Result<Option<Bytes>, StoreError> {
        let path = self.requests.path(folder, key)?;
        self.with_retries(|| async {
            match self.requests.read(&path, limit).await {
                Ok(Some(bytes)) => Ok(Some(bytes)),
                Ok(None) => Err(RequestError::Failed(StoreError::Conflict)),
                Err(RequestError::NotFound) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The object under a key: its digest, and its bytes if there are at most `max_bytes`. `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`Conflict`](StoreError::Conflict) if it is larger than any object of the operator.
    pub async fn find(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        max_bytes: usize,
    ) -> Result<Option<Found>, StoreError> {
        let path = self.requests.path(folder, key)?;
        self.with_retries(|| async {
            match self.requests.find(&path, max_bytes).await {
                Ok(Some(found)) => Ok(Some(found)),
                Ok(None) => Err(RequestError::Failed(StoreError::Conflict)),
                Err(RequestError::NotFound) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Whether objects have attributes: in a folder they have none.
    #[must_use]
    pub const fn has_attributes(&self) -> bool {
        self.requests.has_attributes()
    }

    /// The keys in a folder, at most 64 and sorted; other names are left out. An empty result comes from the store itself,
    /// never from a gateway or from a folder in which nothing is mounted.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn keys(&self, folder: &Folder) -> Result<Vec<ObjectKey>, StoreError> {
        let path = self.requests.folder_path(folder)?;
        self.with_retries(|| async {
            match self.requests.list(&path).await {
                Ok(keys) => Ok(keys),
                Err(RequestError::NotFound) => Err(RequestError::Failed(StoreError::BucketMissing)),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Retries a request according to the retry policy while it may have been lost, within the time limit of a call.
    async fn with_retries<T, Response>(&self, request: impl Fn() -> Response) -> Result<T, StoreError>
    where
        Response: Future<Output = Result<T, RequestError>>,
    {
        let call = async {
            let mut retries = Retries::new(self.retry_policy);
            loop {
                let error = match request().await {
                    Ok(done) => return Ok(done),
                    Err(RequestError::Failed(error)) => return Err(error),
                    // S3 returns this too while another operation on the object is in progress.
                    Err(error @ (RequestError::AlreadyExists | RequestError::NotFound)) => error.into_error(),
                    Err(RequestError::NotSent(error) | RequestError::Unknown(error)) => error,
                };
                if !retries.again().await {
                    return Err(error);
                }
            }
        };
        timeout(self.retry_policy.whole, call).await.unwrap_or(Err(NoResponse::TimedOut.into()))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Store({})", self.location)
    }
}
