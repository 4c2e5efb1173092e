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
    /// it.
    ///
    /// # Errors
    /// If the folder or its keeper cannot be made.
    pub fn create(prefix: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
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

impl Drop for Folder {
    fn drop(&mut self) {
        self.lifeline = None;
        let since = Instant::now();
        while since.elapsed() < REMOVED_WITHIN && matches!(self.keeper.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
    }
}
