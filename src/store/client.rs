//! Puts, reads and removes objects in one store.
//!
//! Every call has a deadline of its own, is repeated a few times where that can help, and fails with one [`StoreError`] that
//! holds no text of the store.

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

/// A store, or a part of one. It is cheap to make: all share the connections of their [`StoreHttp`]. Reuse it for a batch
/// of objects, because it also keeps the tokens that some credentials are exchanged for. Prints its address only.
pub struct Store {
    requests: Requests,
    location: Location,
    endpoint: String,
    retry_policy: RetryPolicy,
    credentials: u64,
    /// The store in the records of [`ConditionalWrites`].
    name: String,
    conditional_writes: Arc<ConditionalWrites>,
}

impl Store {
    /// Opens a store. Connects to nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`] when the options do not make up a store, or one whose objects lie elsewhere than at the location.
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

    /// The server. A server that hangs for one store hangs for all stores on it. Never logged.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A number that tells its credentials from others in this process; 0 for the operator's own.
    #[must_use]
    pub const fn credentials(&self) -> u64 {
        self.credentials
    }

    /// Where it is.
    #[must_use]
    pub const fn location(&self) -> &Location {
        &self.location
    }

    /// Stores an object unless it is there. Safe to repeat and to cancel: an object is whole or not there, and what is
    /// there is never changed. After a lost response it reads what exists before it reports an error.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`Conflict`](StoreError::Conflict) when other bytes are there.
    pub async fn put(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        digested: &Digested,
        metadata: Metadata<'_>,
    ) -> Result<Put, StoreError> {
        self.within(self.put_with_retries(folder, key, digested, metadata)).await
    }

    async fn put_with_retries(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        digested: &Digested,
        metadata: Metadata<'_>,
    ) -> Result<Put, StoreError> {
        let path = self.requests.path(folder, key)?;
        let size = digested.bytes.len() as u64;
        // One tenant's store says nothing of another's: somebody may remove there what the trial is about.
        let name = format!("{} {}", self.name, folder.namespace());
        if self.conditional_writes.are_unsupported(&name) {
            return Err(StoreError::NoConditionalWrites);
        }
        let _known = self.requests.know(&digested.bytes, digested.digest);
        let sha256 = digested.sha256().to_owned();
        let attributes = self.requests.attributes(&metadata, &sha256);
        let mut retries = Retries::new(self.retry_policy);
        loop {
            let error = match self.put_tracked(&path, digested, &attributes).await {
                Ok(()) => {
                    self.try_conditional_write(&name, &path, digested, &attributes).await?;
                    return Ok(Put { size, sha256, already_existed: false });
                }
                // Azure says so of what is there to whoever may create and not overwrite, Google to whoever may not remove.
                Err(RequestError::Failed(StoreError::AccessDenied)) => {
                    return match self.requests.compare(&path, size, &sha256).await {
                        Ok(Comparison::Same) => Ok(Put { size, sha256, already_existed: true }),
                        Ok(Comparison::Different) => Err(StoreError::Conflict),
                        Ok(Comparison::Missing) | Err(_) => Err(StoreError::AccessDenied),
                    };
                }
                Err(RequestError::Failed(error)) => return Err(error),
                // Of a folder: somebody removed just now what was being written, or the folder that it was in.
                Err(RequestError::NotFound) => StoreError::Unavailable,
                Err(RequestError::NotSent(error)) => error,
                Err(answer @ (RequestError::AlreadyExists | RequestError::Unknown(_))) => {
                    match self.requests.compare(&path, size, &sha256).await {
                        Ok(Comparison::Same) => return Ok(Put { size, sha256, already_existed: true }),
                        Ok(Comparison::Different) => return Err(StoreError::Conflict),
                        // Without permission to list, S3 denies access to an object that does not exist. If it exists, the next attempt finds out.
                        Err(RequestError::Failed(StoreError::AccessDenied))
                            if answer != RequestError::AlreadyExists => {}
                        Err(RequestError::Failed(error)) => return Err(error),
                        Ok(Comparison::Missing)
                        | Err(
                            RequestError::AlreadyExists
                            | RequestError::NotFound
                            | RequestError::NotSent(_)
                            | RequestError::Unknown(_),
                        ) => {}
                    }
                    answer.into_error()
                }
            };
            if !retries.again().await {
                return Err(error);
            }
        }
    }

    /// One request that puts an object. Notes with its bytes that it is not answered, also where this is given up.
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

    /// Puts the first object of each store a second time: a store that takes it would overwrite others as well, unless
    /// somebody removed it just before. So it is put once more before that is believed.
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
        let Some(trial) = self.conditional_writes.ask(name) else { return Ok(()) };
        let mut answer = self.put_tracked(path, digested, attributes).await;
        if answer.is_ok() {
            answer = self.put_tracked(path, digested, attributes).await;
        }
        match answer {
            Ok(()) => {
                trial.failed();
                Err(StoreError::NoConditionalWrites)
            }
            // Some deny overwriting to credentials that may only create.
            Err(RequestError::AlreadyExists | RequestError::Failed(StoreError::AccessDenied)) => {
                trial.succeeded();
                Ok(())
            }
            // It stays open until the next object.
            Err(
                RequestError::NotFound
                | RequestError::NotSent(_)
                | RequestError::Unknown(_)
                | RequestError::Failed(_),
            ) => Ok(()),
        }
    }

    /// Reads an object of at most `limit` bytes; none if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`Conflict`](StoreError::Conflict) when it is larger.
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

    /// What is there under a key: its bytes are digested, and returned too if they are at most `kept`. None if nothing is
    /// there.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`Conflict`](StoreError::Conflict) when it is larger than any object of ours.
    pub async fn find(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        kept: usize,
    ) -> Result<Option<Found>, StoreError> {
        let path = self.requests.path(folder, key)?;
        self.with_retries(|| async {
            match self.requests.find(&path, kept).await {
                Ok(Some(found)) => Ok(Some(found)),
                Ok(None) => Err(RequestError::Failed(StoreError::Conflict)),
                Err(RequestError::NotFound) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Whether it keeps what an object says of itself: a folder does not.
    #[must_use]
    pub const fn keeps_attributes(&self) -> bool {
        self.requests.has_attributes()
    }

    /// What is in a folder, at most 64 keys, in the order of the alphabet; other names are left out. That
    /// nothing is there is only believed to the store itself: not to a server on the way, nor to a folder in which
    /// nothing is mounted.
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

    /// Repeats a request by the retry policy, as long as it may have been lost, and no longer than a whole call may take.
    async fn with_retries<T, Response>(&self, request: impl Fn() -> Response) -> Result<T, StoreError>
    where
        Response: Future<Output = Result<T, RequestError>>,
    {
        self.within(async {
            let mut retries = Retries::new(self.retry_policy);
            loop {
                let error = match request().await {
                    Ok(done) => return Ok(done),
                    Err(RequestError::Failed(error)) => return Err(error),
                    // S3 says so too while another operation on the object is in progress.
                    Err(error @ (RequestError::AlreadyExists | RequestError::NotFound)) => error.into_error(),
                    Err(RequestError::NotSent(error) | RequestError::Unknown(error)) => error,
                };
                if !retries.again().await {
                    return Err(error);
                }
            }
        })
        .await
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        timeout(self.retry_policy.whole, call).await.unwrap_or(Err(NoResponse::TimedOut.into()))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Store({})", self.location)
    }
}
