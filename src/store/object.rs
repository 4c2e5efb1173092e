//! Objects that are put, found and removed. May depend on the pure files of [`store`](super) and on tokio's blocking threads.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::{error::StoreError, hash::hex, path::ObjectKey};

/// The metadata of an object.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    /// The content type, in stores that support it.
    pub content_type: &'static str,
    /// Attributes, in stores that support them: names of lower-case letters and digits, values of printable ASCII. `sha256` is
    /// added.
    pub attributes: &'a [(&'static str, &'a str)],
}

/// The object that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Whether it existed already, from an earlier attempt or process.
    pub already_existed: bool,
}

/// The bytes of an object with their SHA-256, which is computed once, and whether a request may still put them. At most 25 MiB,
/// because they are sent in one request.
#[derive(Debug)]
pub struct Digested {
    pub(super) bytes: Bytes,
    pub(super) digest: [u8; 32],
    sha256: String,
    pub(super) may_arrive: AtomicBool,
}

impl Digested {
    /// Computes the digest on a blocking thread, because a large image takes too long for an async task.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the runtime is shutting down.
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

    /// Whether a request that puts these bytes was sent and its outcome is unknown, whatever the result of later requests: the
    /// store may still execute it, even after the object was removed.
    #[must_use]
    pub fn may_arrive(&self) -> bool {
        self.may_arrive.load(Ordering::Relaxed)
    }
}

/// An object that was found under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its attribute [`PROOF`], in stores that support attributes.
    pub proof: Option<String>,
    /// Its bytes, unless there are too many.
    pub bytes: Option<Bytes>,
}

/// The attribute that proves which operator wrote an object.
pub const PROOF: &str = "proof";

/// The result of removing one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Removal {
    /// It no longer exists.
    Removed,
    /// It no longer exists under its key, but the store retains a noncurrent version or a soft-deleted object. Google does not
    /// distinguish this from [`Removed`](Self::Removed).
    Versioned,
    /// The store retains it, because of a retention policy, a legal hold, or credentials that may not delete. In a folder: it
    /// is not a regular file.
    Retained,
}

/// What is left of a folder that was cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Objects that the store retains under their keys.
    pub retained: Vec<ObjectKey>,
    /// Objects of which the store retains a noncurrent version or a soft-deleted object.
    pub versioned: Vec<ObjectKey>,
    /// What else is in the folder.
    pub remainder: Remainder,
}

/// What is in a folder besides the objects that the store retains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Remainder {
    /// Nothing, according to the store.
    #[default]
    Nothing,
    /// Unknown: the credentials may not list.
    Unlisted,
    /// Objects that were removed are still listed: the listing is stale, or they were stored again.
    Listed,
}
