//! Child processes that never outlive their parent, however it ends.
//!
//! Each program is started through a small shell script that starts a supervisor beside it and then becomes the program. The
//! supervisor reads a pipe whose other end only this process has: the *lifeline*. When this process ends, even by SIGKILL,
//! the kernel closes the pipe, and the supervisor stops the program: TERM, then KILL after [`Command::grace`]. Unlike
//! `PR_SET_PDEATHSIG`, this does not depend on the thread that started the program, needs no `unsafe` and works on every Unix.
//!
//! A supervisor can also hold the lifeline of something that its program needs ([`Command::needs`]), which is then stopped
//! only after the program. So the API server is stopped before etcd, and etcd before their folder is removed.
//!
//! Each program has its own process group, so that Ctrl-C at a terminal reaches only the parent.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use error::ProcessError;

mod error;

const SUPERVISE: &str = include_str!("supervise.sh");
/// How often the state of a process or its log is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const TAIL_LINES: usize = 25;
/// What every program logs, in lower or upper case, when the disk is full.
const NO_SPACE: &str = "no space left on device";

/// A signal to send to a program. For SIGKILL there is [`Child::kill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: what Kubernetes sends first.
    Terminate,
    /// SIGINT: what Ctrl-C sends.
    Interrupt,
    /// SIGSTOP: the program is paused until [`Signal::Continue`].
    Pause,
    /// SIGCONT.
    Continue,
}

impl Signal {
    /// The name for `kill -s`.
    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Pause => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// One end of a pipe that keeps a child process or a folder alive until every copy is dropped.
#[derive(Debug)]
pub struct Lifeline(OwnedFd);

impl Lifeline {
    /// A copy of the end of this pipe.
    pub(crate) fn of(pipe: &ChildStdin) -> io::Result<Self> {
        pipe.as_fd().try_clone_to_owned().map(Self)
    }
}

/// A program to start, like [`std::process::Command`].
#[derive(Debug)]
pub struct Command {
    program: PathBuf,
    name: Option<String>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    folder: Option<PathBuf>,
    grace: Duration,
    needs: Option<Lifeline>,
}

impl Command {
    /// The program at this path, or of this name in `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            name: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            grace: Duration::from_secs(5),
            needs: None,
        }
    }

    /// What error messages call the program [default: its file name].
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the others are inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Keeps an environment variable from being inherited.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// The working directory [default: that of this process].
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Time between TERM and KILL after the parent has ended, in tenths of a second and at most one minute [default: 5 s].
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace.min(Duration::from_mins(1));
        self
    }

    /// Keeps what the program needs alive until the program has exited, even if the parent has ended.
    #[must_use]
    pub fn needs(mut self, lifeline: Lifeline) -> Self {
        self.needs = Some(lifeline);
        self
    }

    /// Starts the program. Both of its outputs go to the file `log`, which is truncated first; its standard input is empty. A
    /// program that does not exist exits at once with status 127.
    ///
    /// # Errors
    /// [`ProcessError::CreateLog`] and [`ProcessError::Start`].
    pub fn start(self, log: impl AsRef<Path>) -> Result<Child, ProcessError> {
        let Self { program, name, arguments, environment, folder, grace, needs } = self;
        let name = name.unwrap_or_else(|| {
            program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
        });
        let log = std::path::absolute(log.as_ref())
            .and_then(|log| File::create(&log).map(|_| log))
            .map_err(|source| ProcessError::CreateLog { path: log.as_ref().to_owned(), source })?;

        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", SUPERVISE, "supervise"]);
        command.arg((grace.as_millis() / 100).to_string()).arg(&log).arg(&program).args(arguments);
        for (variable, value) in environment {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::piped());
        command.stdout(needs.map_or_else(Stdio::null, |Lifeline(pipe)| Stdio::from(pipe)));
        command.stderr(Stdio::null()).process_group(0);

        let mut process =
            command.spawn().map_err(|source| ProcessError::Start { program: name.clone(), source })?;
        let lifeline = process.stdin.take();
        Ok(Child { name, log, id: process.id(), state: Mutex::new(State { process, lifeline }) })
    }
}

/// A running program. Dropping this value kills it.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: PathBuf,
    id: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    process: std::process::Child,
    /// `None` once the process is known to have exited.
    lifeline: Option<ChildStdin>,
}

impl Child {
    /// The process id of the program itself.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The file that the program writes to.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What the program has written so far; empty if the file is gone.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of [`Child::log`], for an error message.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.tail(&self.log())
    }

    fn tail(&self, log: &str) -> String {
        tail(log, self.log.parent().unwrap_or(&self.log))
    }

    /// Keeps the program alive, for [`Command::needs`].
    ///
    /// # Errors
    /// [`ProcessError::Lifeline`] if the program has exited, or no file descriptor is left.
    pub fn lifeline(&self) -> Result<Lifeline, ProcessError> {
        self.state
            .lock()
            .lifeline
            .as_ref()
            .map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), Lifeline::of)
            .map_err(|source| ProcessError::Lifeline { program: self.name.clone(), source })
    }

    /// The exit status of the program; `None` if it still runs.
    ///
    /// # Errors
    /// [`ProcessError::Wait`].
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, ProcessError> {
        let mut state = self.state.lock();
        let status = state
            .process
            .try_wait()
            .map_err(|source| ProcessError::Wait { program: self.name.clone(), source })?;
        if status.is_some()
            && let Some(mut lifeline) = state.lifeline.take()
        {
            // The supervisor must not signal a process id that is free now. If this fails, the supervisor has exited.
            let _ = lifeline.write_all(b"exited\n");
        }
        Ok(status)
    }

    /// Waits until the program exits, for `within` at most; `None` if it still runs then.
    ///
    /// # Errors
    /// [`ProcessError::Wait`].
    pub fn wait(&self, within: Duration) -> Result<Option<ExitStatus>, ProcessError> {
        let since = Instant::now();
        loop {
            let status = self.try_wait()?;
            if status.is_some() || since.elapsed() >= within {
                return Ok(status);
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// Waits until the program has written a whole line that contains `text`, and returns the first such line.
    ///
    /// # Errors
    /// [`ProcessError::Exited`] and [`ProcessError::Timeout`], with the end of the log; [`ProcessError::Wait`].
    pub fn wait_for_line(&self, text: &str, within: Duration) -> Result<String, ProcessError> {
        let since = Instant::now();
        loop {
            // In this order, so that the last lines of a program that exits now are seen.
            let exited = self.try_wait()?;
            let log = self.log();
            let found = log.split_inclusive('\n').find(|line| line.ends_with('\n') && line.contains(text));
            if let Some(line) = found {
                return Ok(line.trim_end().to_owned());
            }
            let (program, line) = (self.name.clone(), text.to_owned());
            if let Some(status) = exited {
                return Err(ProcessError::Exited { program, status, line, log: self.tail(&log) });
            }
            if since.elapsed() >= within {
                return Err(ProcessError::Timeout { program, within, line, log: self.tail(&log) });
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// Sends a signal. Does nothing if the program is known to have exited.
    ///
    /// # Errors
    /// [`ProcessError::Signal`].
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let mut state = self.state.lock();
        let Some(lifeline) = state.lifeline.as_mut() else {
            return Ok(());
        };
        writeln!(lifeline, "{}", signal.name())
            .map_err(|source| ProcessError::Signal { program: self.name.clone(), source })
    }

    /// Sends a signal, waits until the program exits, and kills it if it still runs after `within`.
    ///
    /// # Errors
    /// [`ProcessError::Signal`] and [`ProcessError::Wait`].
    pub fn stop(&self, signal: Signal, within: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(signal)?;
        match self.wait(within)? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// Kills the program with SIGKILL and waits until it has exited.
    ///
    /// # Errors
    /// [`ProcessError::Signal`] and [`ProcessError::Wait`].
    pub fn kill(&self) -> Result<ExitStatus, ProcessError> {
        self.state
            .lock()
            .process
            .kill()
            .map_err(|source| ProcessError::Signal { program: self.name.clone(), source })?;
        loop {
            if let Some(status) = self.wait(Duration::from_mins(1))? {
                return Ok(status);
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // If this fails, the supervisor does it, because the lifeline is dropped too.
        let _ = self.kill();
    }
}

/// The last lines of a log in a folder. If the disk was full, they only follow from that, and a sentence says it instead.
fn tail(text: &str, folder: &Path) -> String {
    if text.to_ascii_lowercase().contains(NO_SPACE) {
        let folder = folder.display();
        return format!(
            "{NO_SPACE}: free some on the disk of {folder}, or set TMPDIR to a folder on another disk"
        );
    }
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_a_sentence_about_a_full_disk_or_else_its_end() {
        let tail = |log: &str| tail(log, Path::new("/tmp/okid"));
        let panic = "goroutine 1 [running]:\n".repeat(40);
        let log = format!("starting\npanic: write /tmp/wal: No space left on device\n\n{panic}");
        let said = "no space left on device: free some on the disk of /tmp/okid, or set TMPDIR to a folder on another disk";
        assert_eq!(tail(&log), said);
        let log = format!("starting\n{panic}ended\n");
        assert_eq!(tail(&log).lines().count(), TAIL_LINES);
        assert!(tail(&log).ends_with("ended"));
    }
}
