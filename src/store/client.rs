//! Puts, reads and removes objects in one store.
//!
//! Every call has a deadline of its own, is repeated a few times where that can help, and fails with one [`StoreError`] that
//! holds no text of the store.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
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
    object::{Cleared, Content, Digested, Found, Put, Remainder, Removal},
    options::{InvalidOptions, Options},
    path::{Folder, ObjectKey},
    request::{Comparison, MAX_KEYS, Requests},
    retry::{Retries, RetryPolicy},
};

/// Listings of one folder in one [`Store::clear`]; each has at most 64 keys.
const LISTINGS: usize = 8;
/// Objects of one folder that are removed at the same time.
const DELETES_AT_ONCE: usize = 4;

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
        content: Content<'_>,
    ) -> Result<Put, StoreError> {
        let Content { bytes, content_type, attributes } = content;
        let digested = Digested::of(bytes).await?;
        self.put_digested(folder, key, &digested, content_type, attributes).await
    }

    /// As [`put`](Self::put), of bytes whose SHA-256 is known.
    ///
    /// # Errors
    ///
    /// As of [`put`](Self::put).
    pub async fn put_digested(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        digested: &Digested,
        content_type: &'static str,
        attributes: &[(&'static str, &str)],
    ) -> Result<Put, StoreError> {
        let bytes = digested.bytes.clone();
        self.within(self.put_with_retries(folder, key, digested, Content { bytes, content_type, attributes }))
            .await
    }

    async fn put_with_retries(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        digested: &Digested,
        content: Content<'_>,
    ) -> Result<Put, StoreError> {
        let path = self.requests.path(folder, key)?;
        let size = content.bytes.len() as u64;
        // One tenant's store says nothing of another's: somebody may remove there what the trial is about.
        let name = format!("{} {}", self.name, folder.namespace());
        if self.conditional_writes.are_unsupported(&name) {
            return Err(StoreError::NoConditionalWrites);
        }
        let _known = self.requests.know(&content.bytes, digested.digest);
        let sha256 = digested.sha256().to_owned();
        let attributes = self.requests.attributes(&content, &sha256);
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

    /// Removes objects, the manifest first: it says that the others are all there. Then a few at a time. What is not there
    /// counts as removed. Answers in the order of the keys, the manifest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] for the first object that can be neither removed nor is to stay. Others may be gone; it may be
    /// repeated.
    pub async fn delete(
        &self,
        folder: &Folder,
        keys: &[ObjectKey],
    ) -> Result<Vec<(ObjectKey, Removal)>, StoreError> {
        self.delete_tracked(folder, keys, &AtomicBool::new(false)).await
    }

    /// As [`delete`](Self::delete); notes that the store answered.
    async fn delete_tracked(
        &self,
        folder: &Folder,
        keys: &[ObjectKey],
        has_answered: &AtomicBool,
    ) -> Result<Vec<(ObjectKey, Removal)>, StoreError> {
        let delete = async |key: ObjectKey| {
            let removal = self.delete_with_retries(folder, &key).await?;
            has_answered.store(true, Ordering::Relaxed);
            Ok::<_, StoreError>((key, removal))
        };
        let manifest = ObjectKey::manifest();
        let (first, others): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|key| *key == manifest);
        let mut removals = Vec::with_capacity(keys.len());
        for key in first {
            removals.push(delete(key).await?);
        }
        let others: Vec<_> = stream::iter(others).map(delete).buffered(DELETES_AT_ONCE).try_collect().await?;
        removals.extend(others);
        Ok(removals)
    }

    /// Removes every object of ours in a folder: first what is `known` to be there, so that nothing of that
    /// depends on a listing, then what the store lists, each time the manifest first. Goes on where the store keeps
    /// something.
    ///
    /// # Errors
    ///
    /// [`StoreError`], as of [`keys`](Self::keys) and [`delete`](Self::delete). It may be repeated.
    pub async fn clear(&self, folder: &Folder, known: &[ObjectKey]) -> Result<Cleared, StoreError> {
        self.clear_tracked(folder, known, &AtomicBool::new(false)).await
    }

    /// As [`clear`](Self::clear), for no longer than that. A store that responded at first counts as
    /// one that responds: what is left is removed later.
    ///
    /// # Errors
    ///
    /// As of [`clear`](Self::clear); [`NoResponse::TimedOut`] where nothing at all was answered.
    pub async fn clear_within(
        &self,
        folder: &Folder,
        known: &[ObjectKey],
        longest: Duration,
    ) -> Result<Cleared, StoreError> {
        let has_answered = AtomicBool::new(false);
        let cleared = timeout(longest, self.clear_tracked(folder, known, &has_answered)).await;
        match cleared.unwrap_or(Err(NoResponse::TimedOut.into())) {
            Err(error) if error.is_silence() && has_answered.load(Ordering::Relaxed) => {
                Ok(Cleared { remainder: Remainder::Listed, ..Cleared::default() })
            }
            cleared => cleared,
        }
    }

    async fn clear_tracked(
        &self,
        folder: &Folder,
        known: &[ObjectKey],
        has_answered: &AtomicBool,
    ) -> Result<Cleared, StoreError> {
        let mut ends: BTreeMap<_, _> =
            self.delete_tracked(folder, known, has_answered).await?.into_iter().collect();
        let mut remainder = Remainder::Listed;
        for _ in 0..LISTINGS {
            let listed = match self.keys(folder).await {
                Ok(listed) => {
                    has_answered.store(true, Ordering::Relaxed);
                    listed
                }
                Err(StoreError::AccessDenied) => {
                    remainder = Remainder::Unlisted;
                    break;
                }
                Err(error) => return Err(error),
            };
            let is_kept = |key: &&ObjectKey| ends.get(*key) == Some(&Removal::Kept);
            let mut keys: Vec<_> = listed.iter().filter(|key| !is_kept(key)).cloned().collect();
            if keys.is_empty() {
                remainder = Remainder::Nothing;
                break;
            }
            // A full listing may have ended before it.
            let manifest = ObjectKey::manifest();
            if listed.len() == MAX_KEYS && !ends.contains_key(&manifest) && !keys.contains(&manifest) {
                keys.push(manifest);
            }
            ends.extend(self.delete_tracked(folder, &keys, has_answered).await?);
        }
        let ended =
            |as_: Removal| ends.iter().filter(|(_, end)| **end == as_).map(|(key, _)| key.clone()).collect();
        Ok(Cleared { kept: ended(Removal::Kept), versioned: ended(Removal::Versioned), remainder })
    }

    async fn delete_with_retries(&self, folder: &Folder, key: &ObjectKey) -> Result<Removal, StoreError> {
        let path = self.requests.path(folder, key)?;
        self.with_retries(|| async {
            match self.requests.delete(&path).await {
                Ok(removal) => Ok(removal),
                Err(RequestError::NotFound) => Ok(Removal::Removed),
                Err(RequestError::Failed(StoreError::AccessDenied) | RequestError::AlreadyExists) => {
                    Ok(Removal::Kept)
                }
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
