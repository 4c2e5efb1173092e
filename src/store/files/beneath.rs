//! Opens files and folders below a root without following links. All functions block, but never on the other end of a pipe.

use std::{
    fs::File,
    path::{Component, Path},
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{CWD, FileType, Mode, OFlags, fstat, openat},
    io::Errno,
};

use super::CONFLICT;
use crate::store::{
    classify::{RequestError, classify_file},
    error::StoreError,
};

/// Without [`OFlags::NONBLOCK`], opening a pipe waits for its other end, and opening a leased file for the end of the lease.
const NO_LINK: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::DIRECTORY.union(NO_LINK);

/// Opens the root, which may be a link, because it belongs to the administrator.
pub(crate) fn root(path: &Path) -> Result<OwnedFd, RequestError> {
    openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => RequestError::Failed(StoreError::BucketMissing),
        other => classify_errno(other),
    })
}

/// Opens a folder below another one. The path has no `..`.
pub(crate) fn folder(from: &OwnedFd, path: &Path) -> Result<OwnedFd, RequestError> {
    at_once(from, path).unwrap_or_else(|| step_by_step(from, path)).map_err(classify_errno)
}

/// All steps in one system call; `None` where it is missing: before Linux 5.6, behind a filter that does not know it, and on
/// other systems.
#[cfg(target_os = "linux")]
pub(crate) fn at_once(from: &OwnedFd, path: &Path) -> Option<Result<OwnedFd, Errno>> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(from, path, FOLDER, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM) => None,
        opened => Some(opened),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn at_once(_from: &OwnedFd, _path: &Path) -> Option<Result<OwnedFd, Errno>> {
    None
}

/// One system call per step, each from the folder that the previous one opened.
pub(crate) fn step_by_step(from: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let mut folder = openat(from, ".", FOLDER, Mode::empty())?;
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => folder = openat(&folder, name, FOLDER, Mode::empty())?,
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => return Err(Errno::XDEV),
        }
    }
    Ok(folder)
}

/// Opens a regular file in a folder.
pub(crate) fn file(folder: impl AsFd, name: &str, access: OFlags) -> Result<File, RequestError> {
    let file = openat(folder, name, access | NO_LINK, Mode::empty()).map_err(classify_errno)?;
    let stat = fstat(&file).map_err(classify_errno)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok(file.into())
    } else {
        Err(CONFLICT)
    }
}

/// Creates a file for writing; it must not exist.
pub(crate) fn new_file(folder: impl AsFd, name: &str, mode: Mode) -> Result<File, RequestError> {
    let access = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | NO_LINK;
    openat(folder, name, access, mode).map(File::from).map_err(classify_errno)
}

/// Maps an error. A link, a socket, a pipe without a reader, and a file in place of a folder are conflicts.
pub(crate) fn classify_errno(errno: Errno) -> RequestError {
    match errno {
        Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO | Errno::XDEV => CONFLICT,
        other => classify_file(&other.into()),
    }
}
