//! A temporary folder that goes away after the processes that use it, however this process ends. Touches the disk.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::process::Lifeline;

const KEEP: &str = include_str!("keep.sh");
/// How long dropping waits for the removal; it goes on by itself after that.
const REMOVED_WITHIN: Duration = Duration::from_mins(1);

/// A temporary folder. A keeper process removes it when this value and every [`Lifeline`] of it are gone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keeper: Child,
    lifeline: Option<ChildStdin>,
}

impl Folder {
    /// Makes a folder in the system's temporary folder, with a name that starts with `prefix`. Only this user can read
    /// it. Its path can stand in every list and address: where the system's has a space, a colon or the like, it is in
    /// `/tmp`.
    ///
    /// # Errors
    /// If the folder or its keeper cannot be made.
    pub fn create(prefix: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent(std::env::temp_dir()))?;
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEP, "keep"])
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let lifeline = keeper.stdin.take();
        Ok(Self { path: folder.keep(), keeper, lifeline })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A hold on the folder, for [`crate::process::Command::needs`].
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn lifeline(&self) -> io::Result<Lifeline> {
        self.lifeline.as_ref().map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), Lifeline::of)
    }
}

/// A temporary folder whose path needs no quotes: KUBECONFIG is a list with colons, and a store is named by a URL.
fn parent(temporary: PathBuf) -> PathBuf {
    let is_plain =
        |path: &str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._".contains(&byte));
    if temporary.to_str().is_some_and(is_plain) { temporary } else { PathBuf::from("/tmp") }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.lifeline = None;
        let since = Instant::now();
        while since.elapsed() < REMOVED_WITHIN && matches!(self.keeper.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_lists_and_addresses_cannot_hold_is_not_used() {
        let used = |path: &str| parent(path.into()).display().to_string();
        assert_eq!(used("/var/tmp/a-b_c.d"), "/var/tmp/a-b_c.d");
        for path in ["/tmp/my files", "/tmp/a:b", "/tmp/a#b", "/tmp/\u{e9}"] {
            assert_eq!(used(path), "/tmp", "{path}");
        }
    }
}
