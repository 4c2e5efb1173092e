//! Puts, reads and removes objects in one store.
//!
//! Every call has a deadline of its own, tries a few times where that can help, and ends with one [`StoreTrouble`] that
//! holds no text of the store.

use std::fmt;

use bytes::Bytes;
use futures::TryStreamExt;
use http::Method;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    azure::AzureAuthorizer, client::HttpRequestBody, path::Path,
};
use sha2::{Digest, Sha256};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    http::StoreHttp,
    location::Location,
    manifest::hex,
    open::{Azure, Backend},
    options::{InvalidOptions, Options},
    path::{Folder, ObjectKey},
    patience::{Patience, Tries},
    staged,
    trouble::{Answer, StoreTrouble, judge, judge_http},
};

/// Most keys that [`Store::keys`] reads.
const MAX_KEYS: usize = 64;

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

/// What became of an object that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Removal {
    /// It is not there any more.
    Removed,
    /// The store keeps it: a retention policy, a legal hold, or credentials that may not remove.
    Kept,
}

/// One store, or a part of one. Cheap to make: all share the connections of their [`StoreHttp`]. Keep it for a batch
/// of objects, because it also keeps the tokens that some credentials are exchanged for. Prints its address only.
pub struct Store {
    backend: Backend,
    location: Location,
    endpoint: String,
    patience: Patience,
}

/// What is in the store, compared with what is to be.
enum Comparison {
    Same,
    Different,
    Missing,
}

impl Store {
    /// Opens a store. Connects to nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidOptions::Unusable`] when the options do not make up a store.
    pub fn new(
        location: Location,
        options: &Options,
        http: &StoreHttp,
        patience: Patience,
    ) -> Result<Self, InvalidOptions> {
        let backend = Backend::new(&location, options, http)?;
        let endpoint = options.endpoint(&location);
        Ok(Self { backend, location, endpoint, patience })
    }

    /// Which server it is at: what hangs for one hangs for all that have the same. Neither told nor logged.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
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
    /// [`StoreTrouble`]; [`Conflict`](StoreTrouble::Conflict) when other bytes are there.
    pub async fn put(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        content: Content<'_>,
    ) -> Result<Put, StoreTrouble> {
        self.within(self.put_patiently(folder, key, content)).await
    }

    async fn put_patiently(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        content: Content<'_>,
    ) -> Result<Put, StoreTrouble> {
        let path = self.path(folder, key)?;
        let bytes = content.bytes.clone();
        let size = bytes.len() as u64;
        // A large image takes long enough to keep other work waiting.
        let digest = spawn_blocking(move || <[u8; 32]>::from(Sha256::digest(&bytes)))
            .await
            .map_err(|_| StoreTrouble::Unavailable)?;
        let _known = self.backend.know(&content.bytes, digest);
        let sha256 = hex(&digest);
        let attributes = self.attributes(&content, &sha256);
        self.sweep(&path).await?;
        let mut tries = Tries::new(self.patience);
        loop {
            match self.put_once(&path, content.bytes.clone(), attributes.clone()).await {
                Ok(()) => return Ok(Put { size, sha256, was_there: false }),
                Err(Answer::Trouble(trouble)) => return Err(trouble),
                Err(Answer::NotFound) => return Err(StoreTrouble::BucketMissing),
                Err(Answer::NotSent) => {}
                Err(answer @ (Answer::Exists | Answer::Unknown)) => {
                    match self.compare(&path, size, &sha256).await {
                        Ok(Comparison::Same) => return Ok(Put { size, sha256, was_there: true }),
                        Ok(Comparison::Different) => return Err(StoreTrouble::Conflict),
                        // Without permission to list, S3 says so of what is not there. If it is there, the next try finds out.
                        Err(Answer::Trouble(StoreTrouble::AccessDenied)) if answer == Answer::Unknown => {}
                        Err(Answer::Trouble(trouble)) => return Err(trouble),
                        Ok(Comparison::Missing)
                        | Err(Answer::Exists | Answer::NotFound | Answer::NotSent | Answer::Unknown) => {}
                    }
                }
            }
            if !tries.again().await {
                return Err(StoreTrouble::Unavailable);
            }
        }
    }

    /// Reads an object of at most `limit` bytes; none if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreTrouble`]; [`Conflict`](StoreTrouble::Conflict) when it is larger.
    pub async fn read(
        &self,
        folder: &Folder,
        key: &ObjectKey,
        limit: usize,
    ) -> Result<Option<Bytes>, StoreTrouble> {
        let path = self.path(folder, key)?;
        self.within(async {
            let mut tries = Tries::new(self.patience);
            loop {
                match self.limited(self.read_once(&path, limit)).await {
                    Ok(Some(bytes)) => return Ok(Some(bytes)),
                    Ok(None) => return Err(StoreTrouble::Conflict),
                    Err(Answer::NotFound) => return Ok(None),
                    Err(Answer::Trouble(trouble)) => return Err(trouble),
                    Err(Answer::Exists | Answer::NotSent | Answer::Unknown) => {}
                }
                if !tries.again().await {
                    return Err(StoreTrouble::Unavailable);
                }
            }
        })
        .await
    }

    /// What is in a folder, at most 64 keys; what this room does not write is left out.
    ///
    /// # Errors
    ///
    /// [`StoreTrouble`].
    pub async fn keys(&self, folder: &Folder) -> Result<Vec<ObjectKey>, StoreTrouble> {
        let path = self.folder_path(folder)?;
        self.within(async {
            let mut tries = Tries::new(self.patience);
            loop {
                match self.limited(self.keys_once(&path)).await {
                    Ok(keys) => return Ok(keys),
                    Err(Answer::NotFound) => return Ok(Vec::new()),
                    Err(Answer::Trouble(trouble)) => return Err(trouble),
                    Err(Answer::Exists | Answer::NotSent | Answer::Unknown) => {}
                }
                if !tries.again().await {
                    return Err(StoreTrouble::Unavailable);
                }
            }
        })
        .await
    }

    /// Removes objects, one after the other. What is not there counts as removed.
    ///
    /// # Errors
    ///
    /// [`StoreTrouble`] for the first object that can be neither removed nor is to stay. Those before it are gone; it may
    /// be repeated.
    pub async fn delete(
        &self,
        folder: &Folder,
        keys: &[ObjectKey],
    ) -> Result<Vec<(ObjectKey, Removal)>, StoreTrouble> {
        let mut removals = Vec::with_capacity(keys.len());
        for key in keys {
            let removal = self.within(self.delete_patiently(folder, key)).await?;
            removals.push((key.clone(), removal));
        }
        Ok(removals)
    }

    async fn delete_patiently(&self, folder: &Folder, key: &ObjectKey) -> Result<Removal, StoreTrouble> {
        let path = self.path(folder, key)?;
        self.sweep(&path).await?;
        let mut tries = Tries::new(self.patience);
        loop {
            match self.limited(self.delete_once(&path)).await {
                Ok(()) | Err(Answer::NotFound) => return Ok(Removal::Removed),
                Err(Answer::Trouble(StoreTrouble::AccessDenied) | Answer::Exists) => {
                    return Ok(Removal::Kept);
                }
                Err(Answer::Trouble(trouble)) => return Err(trouble),
                Err(Answer::NotSent | Answer::Unknown) => {}
            }
            if !tries.again().await {
                return Err(StoreTrouble::Unavailable);
            }
        }
    }

    async fn put_once(&self, path: &Path, bytes: Bytes, attributes: Attributes) -> Result<(), Answer> {
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        self.limited(async {
            self.open()?.put_opts(path, PutPayload::from(bytes), options).await.map_err(|error| judge(&error))
        })
        .await
        .map(|_| ())
    }

    /// Reads what is there, as far as it can be the same.
    async fn compare(&self, path: &Path, size: u64, sha256: &str) -> Result<Comparison, Answer> {
        let compared = self.limited(async {
            let found =
                self.open()?.get_opts(path, GetOptions::default()).await.map_err(|error| judge(&error))?;
            if found.meta.size != size {
                return Ok(Comparison::Different);
            }
            let mut digest = Sha256::new();
            let mut chunks = found.into_stream();
            while let Some(chunk) = chunks.try_next().await.map_err(|error| judge(&error))? {
                digest.update(&chunk);
            }
            let is_same = hex(&digest.finalize()) == sha256;
            Ok(if is_same { Comparison::Same } else { Comparison::Different })
        });
        match compared.await {
            Err(Answer::NotFound) => Ok(Comparison::Missing),
            other => other,
        }
    }

    async fn read_once(&self, path: &Path, limit: usize) -> Result<Option<Bytes>, Answer> {
        let found =
            self.open()?.get_opts(path, GetOptions::default()).await.map_err(|error| judge(&error))?;
        if found.meta.size > limit as u64 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| judge(&error))? {
            if bytes.len() + chunk.len() > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes.into()))
    }

    async fn keys_once(&self, folder: &Path) -> Result<Vec<ObjectKey>, Answer> {
        let mut keys = Vec::new();
        let mut found = self.open()?.list(Some(folder));
        while keys.len() < MAX_KEYS
            && let Some(object) = found.try_next().await.map_err(|error| judge(&error))?
        {
            let below = object.location.as_ref().strip_prefix(folder.as_ref());
            keys.extend(
                below.and_then(|key| key.strip_prefix('/')).and_then(|key| ObjectKey::parse(key).ok()),
            );
        }
        keys.sort();
        Ok(keys)
    }

    async fn delete_once(&self, path: &Path) -> Result<(), Answer> {
        match &self.backend {
            Backend::Az(azure) => delete_blob(azure, path).await,
            Backend::S3(_) | Backend::Gs(_) | Backend::File(_) => {
                self.open()?.delete(path).await.map_err(|error| judge(&error))
            }
        }
    }

    fn open(&self) -> Result<Box<dyn ObjectStore>, Answer> {
        // Only a folder can fail to open: it is not there, or may not be looked at.
        self.backend.store().map_err(|error| match judge(&error) {
            Answer::NotFound => Answer::Trouble(StoreTrouble::BucketMissing),
            other @ (Answer::Exists | Answer::NotSent | Answer::Unknown | Answer::Trouble(_)) => other,
        })
    }

    fn attributes(&self, content: &Content<'_>, sha256: &str) -> Attributes {
        if !self.backend.has_attributes() {
            return Attributes::new();
        }
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, content.content_type.into());
        attributes.insert(Attribute::Metadata("sha256".into()), sha256.to_owned().into());
        for (name, value) in content.attributes {
            attributes.insert(Attribute::Metadata((*name).into()), (*value).to_owned().into());
        }
        attributes
    }

    async fn sweep(&self, path: &Path) -> Result<(), StoreTrouble> {
        let Some(file) = self.backend.file(path) else { return Ok(()) };
        match spawn_blocking(move || staged::sweep(&file)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(StoreTrouble::AccessDenied)
            }
            Ok(Err(_)) | Err(_) => Err(StoreTrouble::Unavailable),
        }
    }

    fn folder_path(&self, folder: &Folder) -> Result<Path, StoreTrouble> {
        let prefix = match &self.backend {
            Backend::File(_) => "",
            Backend::S3(_) | Backend::Gs(_) | Backend::Az(_) => self.location.prefix(),
        };
        Path::parse(format!("{prefix}/{folder}").trim_start_matches('/')).map_err(|_| StoreTrouble::Refused)
    }

    fn path(&self, folder: &Folder, key: &ObjectKey) -> Result<Path, StoreTrouble> {
        Ok(self.folder_path(folder)?.join(key.as_str()))
    }

    /// One request and its answer; a lost one may have been received.
    async fn limited<T>(&self, request: impl Future<Output = Result<T, Answer>>) -> Result<T, Answer> {
        timeout(self.patience.request, request).await.unwrap_or(Err(Answer::Unknown))
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, StoreTrouble>>,
    ) -> Result<T, StoreTrouble> {
        timeout(self.patience.whole, call).await.unwrap_or(Err(StoreTrouble::Unavailable))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Store({})", self.location)
    }
}

/// Removes a blob by a request of its own: the library only knows Azure's batches, whose errors do not tell a policy
/// from an outage.
async fn delete_blob(azure: &Azure, path: &Path) -> Result<(), Answer> {
    let credential = azure.store.credentials().get_credential().await.map_err(|error| judge(&error))?;
    let mut request = http::Request::builder()
        .method(Method::DELETE)
        .uri(format!("{}/{path}", azure.container))
        .header("content-length", 0)
        .body(HttpRequestBody::empty())
        .map_err(|_| Answer::Trouble(StoreTrouble::Refused))?;
    AzureAuthorizer::new(&credential, &azure.account)
        .try_authorize(&mut request)
        .map_err(|error| judge(&error))?;
    azure.http.execute(request).await.map(|_| ()).map_err(|error| judge_http(&error))
}
