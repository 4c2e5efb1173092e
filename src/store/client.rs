//! Puts, reads and removes objects in one store.
//!
//! Every call has a deadline of its own, tries a few times where that can help, and ends with one [`StoreError`] that
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
use sha2::{Digest, Sha256};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    backend::Backend,
    conditional_writes::Conditions,
    error::{Answer, StoreError},
    http::StoreHttp,
    location::Location,
    no_response::NoResponse,
    options::{InvalidOptions, Options},
    path::{Folder, ObjectKey},
    request::{Comparison, MAX_KEYS},
    retry::{Retries, RetryPolicy},
};
use crate::evidence::hex;

/// Listings of one folder in one [`Store::clear`]; each has at most 64 keys.
const LISTINGS: usize = 8;
/// Objects of one folder that are removed at the same time.
const DELETES_AT_ONCE: usize = 4;

/// What is to be stored.
#[derive(Clone, Debug)]
pub struct Content<'a> {
    /// The bytes. At most 25 MiB: they go in one request.
    pub bytes: Bytes,
    /// Their content type, kept where the store has content types.
    pub content_type: &'static str,
    /// Further attributes, kept where the store has them; names of lower-case letters and digits, values of printable
    /// ASCII. `sha256` is added.
    pub attributes: &'a [(&'static str, &'a str)],
}

/// What is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Whether it was found there, from an earlier try or run.
    pub was_there: bool,
}

/// Bytes and their SHA-256, so that it is worked out once, and what is known of the requests that put them.
#[derive(Debug)]
pub struct Digested {
    pub(crate) bytes: Bytes,
    pub(crate) digest: [u8; 32],
    sha256: String,
    may_arrive: AtomicBool,
}

impl Digested {
    /// Works it out where nothing else waits for it: a large image takes long enough to keep other work waiting.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when the process is ending.
    pub async fn of(bytes: Bytes) -> Result<Self, StoreError> {
        let digest = spawn_blocking(move || (<[u8; 32]>::from(Sha256::digest(&bytes)), bytes)).await;
        let (digest, bytes) = digest.map_err(|_| StoreError::Unavailable)?;
        Ok(Self { bytes, sha256: hex(&digest), digest, may_arrive: AtomicBool::new(false) })
    }

    /// The SHA-256 in hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether a request that puts them was sent and never answered for certain, whatever came of later ones: the store may
    /// still do it, also after the object was removed.
    #[must_use]
    pub fn may_arrive(&self) -> bool {
        self.may_arrive.load(Ordering::Relaxed)
    }
}

/// What is there under a key, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its attribute [`PROOF`], where the store keeps attributes.
    pub proof: Option<String>,
    /// Its bytes, if they are few enough.
    pub bytes: Option<Bytes>,
}

/// The attribute that says whose an object is.
pub const PROOF: &str = "proof";

/// What became of an object that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Removal {
    /// It is not there any more.
    Removed,
    /// It is gone by its name, and the store keeps it: as a noncurrent version, or for a while as deleted. Google does not
    /// tell that from [`Removed`](Self::Removed).
    Versioned,
    /// The store keeps it: a retention policy, a legal hold, or credentials that may not remove. In a folder: it is no
    /// regular file.
    Kept,
}

/// What is left of a folder that was cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// What the store keeps, by the names it has.
    pub kept: Vec<ObjectKey>,
    /// What the store keeps without its name.
    pub versioned: Vec<ObjectKey>,
    /// What else is there.
    pub rest: Rest,
}

/// What is in a folder beside what the store was seen to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rest {
    /// Nothing, as the store says.
    #[default]
    Nothing,
    /// Nobody could look: the credentials may not list.
    Unlisted,
    /// What the store says to have removed: its listing is behind, or somebody stores it again.
    Listed,
}

/// One store, or a part of one. Cheap to make: all share the connections of their [`StoreHttp`]. Keep it for a batch
/// of objects, because it also keeps the tokens that some credentials are exchanged for. Prints its address only.
pub struct Store {
    pub(crate) backend: Backend,
    pub(crate) location: Location,
    pub(crate) endpoint: String,
    pub(crate) patience: RetryPolicy,
    credentials: u64,
    /// Its name among those of which it is known whether they keep conditions, and what is known of all.
    name: String,
    conditions: Arc<Conditions>,
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
        patience: RetryPolicy,
    ) -> Result<Self, InvalidOptions> {
        let endpoint = options.endpoint(&location)?;
        let backend = Backend::new(&location, options, http)?;
        let name = format!("{endpoint} {}", location.bucket());
        let (credentials, conditions) = (options.credentials(), http.conditions());
        Ok(Self { backend, location, endpoint, patience, credentials, name, conditions })
    }

    /// Which server it is at: what hangs for one hangs for all that have the same. Neither told nor logged.
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
    /// there is never changed. After a lost answer it looks what is there before it says so.
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
        self.within(self.put_patiently(folder, key, digested, Content { bytes, content_type, attributes }))
            .await
    }

    async fn put_patiently(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        digested: &Digested,
        content: Content<'_>,
    ) -> Result<Put, StoreError> {
        let path = self.path(folder, key)?;
        let size = content.bytes.len() as u64;
        // One tenant's store says nothing of another's: somebody may remove there what the question is about.
        let name = format!("{} {}", self.name, folder.namespace());
        if self.conditions.are_ignored(&name) {
            return Err(StoreError::NoConditionalWrites);
        }
        let _known = self.backend.know(&content.bytes, digested.digest);
        let sha256 = digested.sha256.clone();
        let attributes = self.attributes(&content, &sha256);
        let mut tries = Retries::new(self.patience);
        loop {
            let error = match self.put_noted(&path, digested, &attributes).await {
                Ok(()) => {
                    self.ask_for_conditions(&name, &path, digested, &attributes).await?;
                    return Ok(Put { size, sha256, was_there: false });
                }
                // Azure says so of what is there to whoever may create and not overwrite, Google to whoever may not remove.
                Err(Answer::Trouble(StoreError::AccessDenied)) => {
                    return match self.compare(&path, size, &sha256).await {
                        Ok(Comparison::Same) => Ok(Put { size, sha256, was_there: true }),
                        Ok(Comparison::Different) => Err(StoreError::Conflict),
                        Ok(Comparison::Missing) | Err(_) => Err(StoreError::AccessDenied),
                    };
                }
                Err(Answer::Trouble(error)) => return Err(error),
                // Of a folder: somebody removed just now what was being written, or the folder that it was in.
                Err(Answer::NotFound) => StoreError::Unavailable,
                Err(Answer::NotSent(error)) => error,
                Err(answer @ (Answer::Exists | Answer::Unknown(_))) => {
                    match self.compare(&path, size, &sha256).await {
                        Ok(Comparison::Same) => return Ok(Put { size, sha256, was_there: true }),
                        Ok(Comparison::Different) => return Err(StoreError::Conflict),
                        // Without permission to list, S3 says so of what is not there. If it is there, the next try finds out.
                        Err(Answer::Trouble(StoreError::AccessDenied)) if answer != Answer::Exists => {}
                        Err(Answer::Trouble(error)) => return Err(error),
                        Ok(Comparison::Missing)
                        | Err(Answer::Exists | Answer::NotFound | Answer::NotSent(_) | Answer::Unknown(_)) => {
                        }
                    }
                    answer.told()
                }
            };
            if !tries.again().await {
                return Err(error);
            }
        }
    }

    /// One request that puts an object. Notes with its bytes that it is not answered, also where this is given up.
    async fn put_noted(
        &self,
        path: &Path,
        digested: &Digested,
        attributes: &Attributes,
    ) -> Result<(), Answer> {
        let before = digested.may_arrive.swap(true, Ordering::Relaxed);
        let put = self.put_once(path, digested.bytes.clone(), attributes.clone()).await;
        let is_unknown = matches!(put, Err(Answer::Unknown(_)));
        digested.may_arrive.store(before || is_unknown, Ordering::Relaxed);
        put
    }

    /// Puts the first object of each store a second time: a store that takes it would overwrite others as well, unless
    /// somebody removed it just before. So it is put once more before that is believed.
    async fn ask_for_conditions(
        &self,
        name: &str,
        path: &Path,
        digested: &Digested,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        if !self.backend.has_attributes() {
            return Ok(());
        }
        let Some(question) = self.conditions.ask(name) else { return Ok(()) };
        let mut answer = self.put_noted(path, digested, attributes).await;
        if answer.is_ok() {
            answer = self.put_noted(path, digested, attributes).await;
        }
        match answer {
            Ok(()) => {
                question.are_ignored();
                Err(StoreError::NoConditionalWrites)
            }
            // Some deny overwriting to credentials that may only create.
            Err(Answer::Exists | Answer::Trouble(StoreError::AccessDenied)) => {
                question.are_kept();
                Ok(())
            }
            // It stays open until the next object.
            Err(Answer::NotFound | Answer::NotSent(_) | Answer::Unknown(_) | Answer::Trouble(_)) => Ok(()),
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
        let path = self.path(folder, key)?;
        self.within(async {
            let mut tries = Retries::new(self.patience);
            loop {
                let answer = match self.limited(self.read_once(&path, limit)).await {
                    Ok(Some(bytes)) => return Ok(Some(bytes)),
                    Ok(None) => return Err(StoreError::Conflict),
                    Err(Answer::NotFound) => return Ok(None),
                    Err(Answer::Trouble(error)) => return Err(error),
                    Err(answer @ (Answer::Exists | Answer::NotSent(_) | Answer::Unknown(_))) => answer,
                };
                if !tries.again().await {
                    return Err(answer.told());
                }
            }
        })
        .await
    }

    /// What is there under a key: its bytes are digested, and returned too if they are at most `kept`. None if nothing is
    /// there.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`Conflict`](StoreError::Conflict) when it is larger than anything that this room writes.
    pub async fn find(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        kept: usize,
    ) -> Result<Option<Found>, StoreError> {
        let path = self.path(folder, key)?;
        self.within(async {
            let mut tries = Retries::new(self.patience);
            loop {
                let answer = match self.limited(self.find_once(&path, kept)).await {
                    Ok(Some(found)) => return Ok(Some(found)),
                    Ok(None) => return Err(StoreError::Conflict),
                    Err(Answer::NotFound) => return Ok(None),
                    Err(Answer::Trouble(error)) => return Err(error),
                    Err(answer @ (Answer::Exists | Answer::NotSent(_) | Answer::Unknown(_))) => answer,
                };
                if !tries.again().await {
                    return Err(answer.told());
                }
            }
        })
        .await
    }

    /// Whether it keeps what an object says of itself: a folder does not.
    #[must_use]
    pub const fn keeps_attributes(&self) -> bool {
        self.backend.has_attributes()
    }

    /// What is in a folder, at most 64 keys, in the order of the alphabet; what this room does not write is left out. That
    /// nothing is there is only believed to the store itself: not to a server on the way, nor to a folder in which
    /// nothing is mounted.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn keys(&self, folder: &Folder) -> Result<Vec<ObjectKey>, StoreError> {
        let path = self.folder_path(folder)?;
        self.within(async {
            let mut tries = Retries::new(self.patience);
            loop {
                let answer = match self.limited(self.keys_once(&path)).await {
                    Ok(keys) => return Ok(keys),
                    Err(Answer::NotFound) => return Err(StoreError::BucketMissing),
                    Err(Answer::Trouble(error)) => return Err(error),
                    Err(answer @ (Answer::Exists | Answer::NotSent(_) | Answer::Unknown(_))) => answer,
                };
                if !tries.again().await {
                    return Err(answer.told());
                }
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
        self.delete_noting(folder, keys, &AtomicBool::new(false)).await
    }

    /// As [`delete`](Self::delete); notes that the store answered.
    async fn delete_noting(
        &self,
        folder: &Folder,
        keys: &[ObjectKey],
        has_answered: &AtomicBool,
    ) -> Result<Vec<(ObjectKey, Removal)>, StoreError> {
        let delete = async |key: ObjectKey| {
            let removal = self.within(self.delete_patiently(folder, &key)).await?;
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

    /// Removes everything in a folder that this room writes: first what is `known` to be there, so that nothing of that
    /// depends on a listing, then what the store lists, each time the manifest first. Goes on where the store keeps
    /// something.
    ///
    /// # Errors
    ///
    /// [`StoreError`], as of [`keys`](Self::keys) and [`delete`](Self::delete). It may be repeated.
    pub async fn clear(&self, folder: &Folder, known: &[ObjectKey]) -> Result<Cleared, StoreError> {
        self.clear_noting(folder, known, &AtomicBool::new(false)).await
    }

    /// As [`clear`](Self::clear), for no longer than that. A store that answered and was then out of time, or fell silent,
    /// is not silent: what it still has is for another time.
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
        let cleared = timeout(longest, self.clear_noting(folder, known, &has_answered)).await;
        match cleared.unwrap_or(Err(NoResponse::TimedOut.into())) {
            Err(error) if error.is_silence() && has_answered.load(Ordering::Relaxed) => {
                Ok(Cleared { rest: Rest::Listed, ..Cleared::default() })
            }
            cleared => cleared,
        }
    }

    async fn clear_noting(
        &self,
        folder: &Folder,
        known: &[ObjectKey],
        has_answered: &AtomicBool,
    ) -> Result<Cleared, StoreError> {
        let mut ends: BTreeMap<_, _> =
            self.delete_noting(folder, known, has_answered).await?.into_iter().collect();
        let mut rest = Rest::Listed;
        for _ in 0..LISTINGS {
            let listed = match self.keys(folder).await {
                Ok(listed) => {
                    has_answered.store(true, Ordering::Relaxed);
                    listed
                }
                Err(StoreError::AccessDenied) => {
                    rest = Rest::Unlisted;
                    break;
                }
                Err(error) => return Err(error),
            };
            let is_kept = |key: &&ObjectKey| ends.get(*key) == Some(&Removal::Kept);
            let mut keys: Vec<_> = listed.iter().filter(|key| !is_kept(key)).cloned().collect();
            if keys.is_empty() {
                rest = Rest::Nothing;
                break;
            }
            // A full listing may have ended before it.
            let manifest = ObjectKey::manifest();
            if listed.len() == MAX_KEYS && !ends.contains_key(&manifest) && !keys.contains(&manifest) {
                keys.push(manifest);
            }
            ends.extend(self.delete_noting(folder, &keys, has_answered).await?);
        }
        let ended =
            |as_: Removal| ends.iter().filter(|(_, end)| **end == as_).map(|(key, _)| key.clone()).collect();
        Ok(Cleared { kept: ended(Removal::Kept), versioned: ended(Removal::Versioned), rest })
    }

    async fn delete_patiently(&self, folder: &Folder, key: &ObjectKey) -> Result<Removal, StoreError> {
        let path = self.path(folder, key)?;
        let mut tries = Retries::new(self.patience);
        loop {
            let error = match self.limited(self.delete_once(&path)).await {
                Ok(removal) => return Ok(removal),
                Err(Answer::NotFound) => return Ok(Removal::Removed),
                Err(Answer::Trouble(StoreError::AccessDenied) | Answer::Exists) => {
                    return Ok(Removal::Kept);
                }
                Err(Answer::Trouble(error)) => return Err(error),
                Err(Answer::NotSent(error) | Answer::Unknown(error)) => error,
            };
            if !tries.again().await {
                return Err(error);
            }
        }
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        timeout(self.patience.whole, call).await.unwrap_or(Err(NoResponse::TimedOut.into()))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Store({})", self.location)
    }
}
