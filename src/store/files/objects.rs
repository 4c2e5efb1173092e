//! Creates, reads, lists and removes objects. All functions block.
//!
//! An object is written as `<file>#<number>` and linked to its own name once it is complete. So it exists completely or not at
//! all, and nothing is overwritten. Every writer has its own number, so none links a file that another one is still writing. A
//! writer holds a lock on its file, which the system releases when the process dies. That distinguishes an abandoned file from
//! one that is being written. Abandoned files are personal data, and nothing else would remove them.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{File, TryLockError},
    io::{self, Read, Write},
    path::Path,
};

use bytes::Bytes;
use rustix::{
    fd::OwnedFd,
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, Stat, fchmod, fstat, fsync, linkat, mkdirat, statat, unlinkat,
    },
    io::Errno,
};
use sha2::{Digest, Sha256};

use super::{
    CONFLICT, Modes,
    beneath::{self, classify_errno},
    mode,
};
use crate::store::{
    classify::{RequestError, classify_file},
    error::StoreError,
    path::ObjectKey,
};

/// The folders of one verification: its name and its uid. The namespace's stays.
const OWN_FOLDERS: usize = 2;
/// The most entries of one folder that are read. A verification has at most 17 objects.
const MOST_ENTRIES: usize = 10_000;
/// How many bytes of a file are read at a time to compute its digest.
const CHUNK: usize = 64 * 1024;

pub(crate) fn create(root: &Path, object: &Path, bytes: &[u8], modes: Modes) -> Result<(), RequestError> {
    let (path, name) = split(object)?;
    let folder = create_folders(beneath::root(root)?, path, modes)?;
    sweep(&folder, name)?;
    let staged = format!("{name}#{}", rand::random::<u64>());
    let file = beneath::new_file(&folder, &staged, mode(modes.file, 0o600))?;
    let linked = write(&file, bytes, modes).and_then(|()| link(&folder, &staged, name, &file));
    let _ = unlinkat(&folder, staged.as_str(), AtFlags::empty());
    // Locked until it has its name.
    drop(file);
    linked?;
    fsync(&folder).map_err(classify_errno)
}

/// Creates the missing folders, and opens the last one.
fn create_folders(root: OwnedFd, path: &Path, modes: Modes) -> Result<OwnedFd, RequestError> {
    let mut folder = root;
    for name in path {
        let step = Path::new(name);
        let next = match mkdirat(&folder, step, mode(modes.folder, 0o700)) {
            Ok(()) => {
                let created = beneath::folder(&folder, step)?;
                if modes.folder.is_some() {
                    // The set-group-ID bit is inherited and must stay.
                    let inherited = Mode::from(stat(&created)?.st_mode) & Mode::SGID;
                    fchmod(&created, mode(modes.folder, 0o700) | inherited).map_err(classify_errno)?;
                }
                fsync(&folder).map_err(classify_errno)?;
                created
            }
            Err(Errno::EXIST) => beneath::folder(&folder, step)?,
            Err(errno) => return Err(classify_errno(errno)),
        };
        folder = next;
    }
    Ok(folder)
}

fn write(mut file: &File, bytes: &[u8], modes: Modes) -> Result<(), RequestError> {
    // On file systems without locks, another writer may remove the file; then it is written again.
    let _ = file.try_lock();
    if modes.file.is_some() {
        fchmod(file, mode(modes.file, 0o600)).map_err(classify_errno)?;
    }
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| classify_file(&error))
}

/// Links the written file to its own name, and checks that it was not replaced meanwhile.
fn link(folder: &OwnedFd, staged: &str, name: &str, written: &File) -> Result<(), RequestError> {
    linkat(folder, staged, folder, name, AtFlags::empty()).map_err(classify_errno)?;
    let there = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(classify_errno)?;
    let ours = fstat(written).map_err(classify_errno)?;
    let is_ours = (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino);
    if is_ours { Ok(()) } else { Err(CONFLICT) }
}

/// Removes the unfinished files that dead writers left beside a file.
fn sweep(folder: &OwnedFd, name: &str) -> Result<(), RequestError> {
    for staged in staged_beside(folder, name)? {
        match beneath::file(folder, &staged, OFlags::WRONLY) {
            Ok(open) if matches!(open.try_lock(), Err(TryLockError::WouldBlock)) => {}
            Ok(_) => remove_if_there(folder, &staged)?,
            // It is gone, or no writer of ours left it.
            Err(_) => {}
        }
    }
    Ok(())
}

pub(crate) fn read(root: &Path, object: &Path, limit: u64) -> Result<Option<Bytes>, RequestError> {
    let Some(mut file) = open(root, object, limit)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = file.read_to_end(&mut bytes).map_err(|error| classify_file(&error))?;
    Ok((read as u64 <= limit).then(|| bytes.into()))
}

/// The size and SHA-256 of a file; `None` if it is larger than `limit` bytes.
pub(crate) fn digest(
    root: &Path,
    object: &Path,
    limit: u64,
) -> Result<Option<(u64, [u8; 32])>, RequestError> {
    let Some(mut file) = open(root, object, limit)? else { return Ok(None) };
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut read = 0;
    loop {
        match file.read(&mut chunk).map_err(|error| classify_file(&error))? {
            0 => break,
            length => {
                digest.update(&chunk[..length]);
                read += length as u64;
            }
        }
    }
    Ok((read <= limit).then(|| (read, digest.finalize().into())))
}

/// Opens a file of at most `limit` bytes; `None` if it is larger. It may grow meanwhile, but at most one byte more than the
/// limit is read.
fn open(root: &Path, object: &Path, limit: u64) -> Result<Option<io::Take<File>>, RequestError> {
    let (path, name) = split(object)?;
    let folder = beneath::folder(&beneath::root(root)?, path)?;
    let file = beneath::file(&folder, name, OFlags::RDONLY)?;
    let is_larger = u64::try_from(stat(&file)?.st_size).is_ok_and(|size| size > limit);
    Ok((!is_larger).then(|| file.take(limit.saturating_add(1))))
}

/// [`RequestError::NotFound`] if the root is empty: once anything was stored it never is, so nothing is mounted there. No keys
/// if the folder does not exist.
pub(crate) fn keys(root: &Path, folder: &Path, most: usize) -> Result<Vec<ObjectKey>, RequestError> {
    let root = beneath::root(root)?;
    if entries(&root).next().transpose()?.is_none() {
        return Err(RequestError::NotFound);
    }
    let folder = match beneath::folder(&root, folder) {
        Ok(folder) => folder,
        Err(RequestError::NotFound) => return Ok(Vec::new()),
        Err(other) => return Err(other),
    };
    let mut keys = BTreeSet::new();
    for name in entries(&folder) {
        let name = name?;
        let key = match split_staged(&name) {
            Some((key, _)) if is_file(&folder, &name)? => key,
            Some(_) => continue,
            None => name.as_str(),
        };
        keys.extend(ObjectKey::parse(key).ok());
        if keys.len() > most {
            keys.pop_last();
        }
    }
    Ok(keys.into_iter().collect())
}

/// Also removes files that are being written, because they must not appear after the removal.
pub(crate) fn remove(root: &Path, object: &Path) -> Result<(), RequestError> {
    let (path, name) = split(object)?;
    let root = beneath::root(root)?;
    let folder = beneath::folder(&root, path)?;
    for staged in staged_beside(&folder, name)? {
        if is_file(&folder, &staged)? {
            remove_if_there(&folder, &staged)?;
        }
    }
    let removed = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(classify_errno) {
        Ok(stat) if is_regular(&stat) => unlinkat(&folder, name, AtFlags::empty()).map_err(classify_errno),
        Ok(_) => Err(RequestError::AlreadyExists),
        Err(other) => Err(other),
    };
    fsync(&folder).map_err(classify_errno)?;
    remove_empty_folders(&root, path);
    removed
}

fn remove_empty_folders(root: &OwnedFd, path: &Path) {
    for own in path.ancestors().take(OWN_FOLDERS) {
        let (Some(above), Some(name)) = (own.parent(), own.file_name()) else { return };
        let Ok(above) = open_or_root(root, above) else { return };
        if unlinkat(&above, name, AtFlags::REMOVEDIR).is_err() {
            return;
        }
    }
}

fn open_or_root(root: &OwnedFd, path: &Path) -> Result<OwnedFd, RequestError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    beneath::folder(root, path)
}

/// The folder and the name of an object.
fn split(object: &Path) -> Result<(&Path, &str), RequestError> {
    let name = object.file_name().and_then(OsStr::to_str);
    object.parent().zip(name).ok_or(RequestError::Failed(StoreError::Refused))
}

fn staged_beside(folder: &OwnedFd, name: &str) -> Result<Vec<String>, RequestError> {
    let is_beside = |entry: &String| split_staged(entry).is_some_and(|(of, _)| of == name);
    entries(folder).filter(|entry| entry.as_ref().map_or(true, is_beside)).collect()
}

/// The name of the object, and the writer's number.
fn split_staged(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('#')
        .filter(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The names in a folder that are UTF-8; ends with an error if there are too many.
fn entries(folder: &OwnedFd) -> impl Iterator<Item = Result<String, RequestError>> {
    let (dir, failed) = match Dir::read_from(folder) {
        Ok(dir) => (Some(dir), None),
        Err(errno) => (None, Some(Err(classify_errno(errno)))),
    };
    let read = dir.into_iter().flatten().enumerate().filter_map(|(index, entry)| match entry {
        Ok(_) if index > MOST_ENTRIES => Some(Err(RequestError::Failed(StoreError::Refused))),
        Ok(entry) => {
            let name = entry.file_name().to_str().ok()?;
            (!matches!(name, "." | "..")).then(|| Ok(name.to_owned()))
        }
        Err(errno) => Some(Err(classify_errno(errno))),
    });
    failed.into_iter().chain(read)
}

fn is_file(folder: &OwnedFd, name: &str) -> Result<bool, RequestError> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(is_regular(&stat)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(classify_errno(errno)),
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn remove_if_there(folder: &OwnedFd, name: &str) -> Result<(), RequestError> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(classify_errno(errno)),
    }
}

fn stat(file: impl rustix::fd::AsFd) -> Result<Stat, RequestError> {
    fstat(file).map_err(classify_errno)
}
