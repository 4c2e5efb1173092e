//! A temporary folder that is removed after the processes that use it have exited, however this process ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::process::Lifeline;

const CLEANUP: &str = include_str!("cleanup.sh");
/// How long dropping waits for the removal, which continues in the background after that.
const REMOVED_WITHIN: Duration = Duration::from_mins(1);

/// A temporary folder. A cleanup process removes it when this value and every [`Lifeline`] of it are dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    cleanup: Child,
    lifeline: Option<ChildStdin>,
}

impl Folder {
    /// Creates a folder in the system's temporary folder, with a name that starts with `prefix`. Only this user can read it.
    /// Its path needs no quoting in lists and URLs: if the system's temporary folder has a space, a colon or the like in its
    /// path, the folder is created in `/tmp`.
    ///
    /// # Errors
    /// If the folder or the cleanup process cannot be created.
    pub fn create(prefix: &str) -> io::Result<Self> {
        Self::with_cleanup(prefix, CLEANUP)
    }

    /// Like [`Folder::create`], with a shell script that waits for the end of its standard input and then removes the folder,
    /// which is its first argument, and what else belongs to it.
    pub(crate) fn with_cleanup(prefix: &str, script: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent(std::env::temp_dir()))?;
        let mut cleanup = Command::new("/bin/sh")
            .args(["-c", script, "cleanup"])
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let lifeline = cleanup.stdin.take();
        Ok(Self { path: folder.keep(), cleanup, lifeline })
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Prevents the removal of the folder, for [`crate::process::Command::needs`].
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn lifeline(&self) -> io::Result<Lifeline> {
        self.lifeline.as_ref().map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), Lifeline::of)
    }
}

/// A temporary folder whose path needs no quoting: KUBECONFIG is a list with colons, and the address of a store is a URL.
fn parent(temporary: PathBuf) -> PathBuf {
    let is_plain =
        |path: &str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._".contains(&byte));
    if temporary.to_str().is_some_and(is_plain) { temporary } else { PathBuf::from("/tmp") }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.lifeline = None;
        let since = Instant::now();
        while since.elapsed() < REMOVED_WITHIN && matches!(self.cleanup.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_needs_quoting_in_lists_and_urls_is_not_used() {
        let used = |path: &str| parent(path.into()).display().to_string();
        assert_eq!(used("/var/tmp/a-b_c.d"), "/var/tmp/a-b_c.d");
        for path in ["/tmp/my files", "/tmp/a:b", "/tmp/a#b", "/tmp/\u{e9}"] {
            assert_eq!(used(path), "/tmp", "{path}");
        }
    }
}
