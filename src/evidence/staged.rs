//! What a process that was killed while it wrote a file has left behind: the library writes `<file>#<number>` first.
//! It is personal data too, and nobody would ever find it.

use std::{fs, io, path::Path};

/// Removes what was left beside a file. Blocks.
///
/// Whoever is writing the same object at that moment fails, and tries again.
pub(super) fn sweep(file: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if is_staged(&path, name) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn is_staged(path: &Path, name: &str) -> bool {
    path.file_name()
        .and_then(|other| other.to_str())
        .and_then(|other| other.strip_prefix(name)?.strip_prefix('#'))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
