//! Objects as files of a local folder. Everything here blocks.
//!
//! An object is written as `<file>#<number>` and linked to its own name once it is whole. So it is whole or not there,
//! and nothing is overwritten. Every writer has a number of its own: nobody links what another one is still writing.
//! A writer holds a lock on its file, which the system takes back from a killed process. So what a killed one has left
//! behind is told from what is being written. It is personal data too, and nobody else would ever find it.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Folders that are made for one verification: its name and its uid. The namespace's stays.
const OWN_FOLDERS: usize = 2;

/// Makes a file with these bytes, and the folders to it, but not the root. What is there is not touched:
/// [`io::ErrorKind::AlreadyExists`]. [`io::ErrorKind::NotFound`] when somebody removed what was written meanwhile, or
/// there is no root.
pub(super) fn create(root: &Path, object: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = root.join(object);
    let mut folder = root.to_owned();
    for part in object.parent().into_iter().flatten() {
        let above = folder.clone();
        folder.push(part);
        match fs::create_dir(&folder) {
            Ok(()) => sync(&above)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let staged = staged(&file, rand::random());
    let linked = write(&staged, bytes).and_then(|written| {
        fs::hard_link(&staged, &file)?;
        // Locked until it has its name.
        drop(written);
        Ok(())
    });
    let _ = fs::remove_file(&staged);
    linked?;
    sync(&folder)
}

fn write(staged: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(staged)?;
    // Where there are no locks, whoever sweeps removes it, and this is written again.
    let _ = file.try_lock();
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Removes what killed writers have left beside a file.
pub(super) fn sweep(file: &Path) -> io::Result<()> {
    for staged in staged_beside(file)? {
        let is_written = match OpenOptions::new().write(true).open(&staged) {
            Ok(open) => matches!(open.try_lock(), Err(TryLockError::WouldBlock)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !is_written {
            remove_if_there(&staged)?;
        }
    }
    Ok(())
}

/// Removes a file, and what is beside it, also from under whoever writes it just now: that must not appear after the
/// removal. Folders that become empty go too, but not the namespace's. [`io::ErrorKind::NotFound`] when there is none.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    for staged in staged_beside(file)? {
        remove_if_there(&staged)?;
    }
    let removed = fs::remove_file(file);
    for (count, folder) in file.ancestors().skip(1).take(OWN_FOLDERS).enumerate() {
        if count == 0 && folder.is_dir() {
            sync(folder)?;
        }
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    removed
}

/// The names of the files in a folder below the root, also of such as were never finished; none if there is no such
/// folder.
///
/// [`io::ErrorKind::NotFound`] when nothing at all is in the root: something always is once something was stored, so
/// this is a place where nothing is mounted, and says nothing about what is there.
pub(super) fn names(root: &Path, folder: &Path) -> io::Result<BTreeSet<String>> {
    if fs::read_dir(root)?.next().is_none() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let names = entries(&root.join(folder))?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        Some(split_staged(name).map_or(name, |(name, _)| name).to_owned())
    });
    Ok(names.collect())
}

fn staged(file: &Path, number: u64) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(format!("#{number}"));
    path.into()
}

fn staged_beside(file: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut found = entries(folder)?;
    found.retain(|path| {
        let other = path.file_name().and_then(|other| other.to_str());
        other.and_then(split_staged).is_some_and(|(of, _)| of == name)
    });
    Ok(found)
}

/// The file's own name, and the writer's number.
fn split_staged(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('#')
        .filter(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes what was done in a folder survive a loss of power.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
