//! Stores objects as files of a local folder.
//!
//! A part of the folder may be writable by an untrusted party, such as a namespace's part of a shared volume. It can replace
//! folders and files with links, pipes and devices at any time. So every step below the root starts at the folder that was
//! opened before, follows no link, and stops at anything that is not a folder or, at the end, a regular file. Such an entry
//! counts as a conflict and is neither read nor removed.
//!
//! | file | does |
//! |---|---|
//! | `beneath` | opens folders and files below a root without following links |
//! | `objects` | creates, reads, lists and removes objects |

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

/// The most concurrent calls to one folder, each on a blocking thread. A volume that hangs, such as one of a lost file server,
/// occupies no more than these of the shared threads.
const MAX_CALLS: usize = 16;

/// The modes of new files and folders.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Modes {
    /// The mode of files, whatever the process's umask. Default: 600, restricted by the umask.
    pub(crate) file: Option<RawMode>,
    /// The mode of folders, whatever the process's umask. Default: 700, restricted by the umask.
    pub(crate) folder: Option<RawMode>,
}

/// A local folder as a store. Every call opens it again, because it may be mounted or unmounted at any time.
pub(crate) struct Disk {
    root: PathBuf,
    modes: Modes,
    permits: Arc<Semaphore>,
}

impl Disk {
    pub(crate) fn new(root: PathBuf, modes: Modes) -> Self {
        Self { root, modes, permits: Arc::new(Semaphore::new(MAX_CALLS)) }
    }

    /// Creates a file with these bytes, and the folders above it except the root. An existing file is not touched:
    /// [`RequestError::AlreadyExists`].
    pub(crate) async fn create(&self, object: &str, bytes: Bytes) -> Result<(), RequestError> {
        let (object, modes) = (PathBuf::from(object), self.modes);
        self.run(move |root| objects::create(root, &object, &bytes, modes)).await
    }

    /// Reads a file of at most `limit` bytes; `None` if it is larger.
    pub(crate) async fn read(&self, object: &str, limit: usize) -> Result<Option<Bytes>, RequestError> {
        let object = PathBuf::from(object);
        self.run(move |root| objects::read(root, &object, limit as u64)).await
    }

    /// The size and SHA-256 of a file; `None` if it is larger than `limit` bytes.
    pub(crate) async fn digest(
        &self,
        object: &str,
        limit: u64,
    ) -> Result<Option<(u64, [u8; 32])>, RequestError> {
        let object = PathBuf::from(object);
        self.run(move |root| objects::digest(root, &object, limit)).await
    }

    /// The first keys in a folder, sorted, including those of unfinished files.
    pub(crate) async fn keys(&self, folder: &str, most: usize) -> Result<Vec<ObjectKey>, RequestError> {
        let folder = PathBuf::from(folder);
        self.run(move |root| objects::keys(root, &folder, most)).await
    }

    /// Removes a file, its unfinished versions, and folders that become empty except the namespace's.
    /// [`RequestError::NotFound`] if it does not exist; [`RequestError::AlreadyExists`] if it is not a regular file, which stays.
    pub(crate) async fn remove(&self, object: &str) -> Result<(), RequestError> {
        let object = PathBuf::from(object);
        self.run(move |root| objects::remove(root, &object)).await
    }

    /// Runs a call on a blocking thread once one is free. If the future is dropped, the thread still completes the call.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Path) -> Result<T, RequestError> + Send + 'static,
    ) -> Result<T, RequestError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| RequestError::NotSent(StoreError::Unavailable))?;
        let root = self.root.clone();
        let working = spawn_blocking(move || {
            let done = call(&root);
            drop(permit);
            done
        });
        working.await.unwrap_or(Err(RequestError::Unknown(StoreError::Unavailable)))
    }
}

/// An entry has the name of a file or folder of the operator, but is neither.
const CONFLICT: RequestError = RequestError::Failed(StoreError::Conflict);

const fn mode(configured: Option<RawMode>, default: RawMode) -> Mode {
    Mode::from_raw_mode(match configured {
        Some(mode) => mode,
        None => default,
    })
}
