//! Objects as they are put, found and removed.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::{error::StoreError, hash::hex, path::ObjectKey};

/// What an object says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    /// The content type, kept where the store has content types.
    pub content_type: &'static str,
    /// Attributes, kept where the store has them; names of lower-case letters and digits, values of printable
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
    pub already_existed: bool,
}

/// The bytes of an object, at most 25 MiB because they go in one request, with their SHA-256, so that it is worked out once,
/// and what is known of the requests that put them.
#[derive(Debug)]
pub struct Digested {
    pub(super) bytes: Bytes,
    pub(super) digest: [u8; 32],
    sha256: String,
    pub(super) may_arrive: AtomicBool,
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
    pub remainder: Remainder,
}

/// What is in a folder beside what the store was seen to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Remainder {
    /// Nothing, as the store says.
    #[default]
    Nothing,
    /// Unknown: the credentials may not list.
    Unlisted,
    /// What the store says to have removed: its listing is behind, or somebody stores it again.
    Listed,
}
