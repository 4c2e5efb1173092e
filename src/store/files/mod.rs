//! Objects as files of a local folder.
//!
//! A part of that folder may belong to somebody who is not trusted with the remainder of it: a namespace's part of a shared
//! volume. Whoever writes there may replace folders and files by links, pipes and devices, also while the operator is
//! at work. So every step below the root is taken from the folder that was opened before, follows no link, and stops at
//! whatever is no folder or, at the end, no regular file. That counts as a conflict; it is neither read nor removed.
//!
//! | file | does |
//! |---|---|
//! | `beneath` | opens folders and files below a root, and follows no link |
//! | `objects` | creates, reads, lists and removes |

mod beneath;
mod objects;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rustix::fs::{Mode, RawMode};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{classify::RequestError, error::StoreError, path::ObjectKey};

/// Most calls to one folder that are under way at once, each on a thread of its own. A volume that hangs, such as one
/// of a file server that is gone, keeps these threads, and no more of those that everybody shares.
const AT_ONCE: usize = 16;

/// The modes of what is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Modes {
    /// Of files, whatever the process's umask; 600 and the umask if none is said.
    pub(crate) file: Option<RawMode>,
    /// Of folders, whatever the process's umask; 700 and the umask if none is said.
    pub(crate) folder: Option<RawMode>,
}

/// A local folder as a store. The folder is looked for each time: it may be mounted later, or no more.
pub(crate) struct Disk {
    root: PathBuf,
    modes: Modes,
    places: Arc<Semaphore>,
}

impl Disk {
    pub(crate) fn new(root: PathBuf, modes: Modes) -> Self {
        Self { root, modes, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Makes a file with these bytes, and the folders to it, but not the root. What is there is not touched:
    /// [`RequestError::AlreadyExists`].
    pub(crate) async fn create(&self, object: &str, bytes: Bytes) -> Result<(), RequestError> {
        let (object, modes) = (PathBuf::from(object), self.modes);
        self.work(move |root| objects::create(root, &object, &bytes, modes)).await
    }

    /// Reads a file of at most `limit` bytes; none if it is larger.
    pub(crate) async fn read(&self, object: &str, limit: usize) -> Result<Option<Bytes>, RequestError> {
        let object = PathBuf::from(object);
        self.work(move |root| objects::read(root, &object, limit as u64)).await
    }

    /// The size and SHA-256 of a file; none if it is larger than `limit` bytes.
    pub(crate) async fn digest(
        &self,
        object: &str,
        limit: u64,
    ) -> Result<Option<(u64, [u8; 32])>, RequestError> {
        let object = PathBuf::from(object);
        self.work(move |root| objects::digest(root, &object, limit)).await
    }

    /// The keys in a folder, the first of them in the order of the alphabet, also of such as were never finished.
    pub(crate) async fn keys(&self, folder: &str, most: usize) -> Result<Vec<ObjectKey>, RequestError> {
        let folder = PathBuf::from(folder);
        self.work(move |root| objects::keys(root, &folder, most)).await
    }

    /// Removes a file, what was never finished of it, and folders that become empty but for the namespace's.
    /// [`RequestError::NotFound`] when there is none; [`RequestError::AlreadyExists`] for what is no regular file, which stays.
    pub(crate) async fn remove(&self, object: &str) -> Result<(), RequestError> {
        let object = PathBuf::from(object);
        self.work(move |root| objects::remove(root, &object)).await
    }

    /// Does something where nothing else waits for it, once there is a thread for it. Who stops waiting leaves the
    /// thread at work.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, RequestError> + Send + 'static,
    ) -> Result<T, RequestError> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| RequestError::NotSent(StoreError::Unavailable))?;
        let root = self.root.clone();
        let working = spawn_blocking(move || {
            let done = work(&root);
            drop(place);
            done
        });
        working.await.unwrap_or(Err(RequestError::Unknown(StoreError::Unavailable)))
    }
}

/// What stands in the place of a file or folder of ours, and is none.
const CONFLICT: RequestError = RequestError::Failed(StoreError::Conflict);

const fn mode(configured: Option<RawMode>, default: RawMode) -> Mode {
    Mode::from_raw_mode(match configured {
        Some(mode) => mode,
        None => default,
    })
}
