//! Child processes that never outlive their parent, however it ends. Touches processes and log files.
//!
//! Each program is started through a small shell script that leaves a watcher beside it and then becomes the program.
//! The watcher reads a pipe whose other end only this process has: the *lifeline*. When this process ends, even by
//! SIGKILL, the kernel closes the pipe, and the watcher ends the program: TERM, then KILL after [`Command::grace`].
//! Unlike `PR_SET_PDEATHSIG`, that does not depend on the thread that started the program, needs no `unsafe` and works
//! on every Unix.
//!
//! A watcher can also hold the lifeline of something that its program needs ([`Command::needs`]): then the needed
//! thing is ended only after the program. So the API server goes before etcd, and etcd before their folder.
//!
//! Programs get a process group of their own: Ctrl-C at a terminal reaches only the parent.

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

const SUPERVISE: &str = include_str!("supervise.sh");
/// How often a process is asked whether it has ended, or its log whether it has grown.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const TAIL_LINES: usize = 25;
/// How every program says, in some case, that the disk is full.
const NO_SPACE: &str = "no space left on device";

/// What can go wrong with a child process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The log file cannot be written.
    #[error("create the log file {}", path.display())]
    CreateLog {
        /// The log file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `sh` cannot be started, or a pipe to it cannot be made.
    #[error("start {program}")]
    Start {
        /// The program's file name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The system does not tell whether the process has ended.
    #[error("wait for {program}")]
    Wait {
        /// The program's file name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The process cannot be kept for another one.
    #[error("hold on to {program}")]
    Hold {
        /// The program's file name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// An order cannot be given to the process.
    #[error("signal {program}")]
    Signal {
        /// The program's file name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The program ended before it wrote the line that was waited for.
    #[error("{program} ended ({status}) before it wrote `{line}`; the end of its log:\n{log}")]
    Ended {
        /// The program's file name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The text that was waited for.
        line: String,
        /// The last lines of its log.
        log: String,
    },
    /// The program did not write the line that was waited for in time.
    #[error("{program} did not write `{line}` within {} s; the end of its log:\n{log}", within.as_secs())]
    Silent {
        /// The program's file name.
        program: String,
        /// How long it was waited for.
        within: Duration,
        /// The text that was waited for.
        line: String,
        /// The last lines of its log.
        log: String,
    },
}

/// A signal that a program can be given. SIGKILL is [`Child::kill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: what Kubernetes sends first.
    Terminate,
    /// SIGINT: what Ctrl-C sends.
    Interrupt,
    /// SIGSTOP: the program stands still until [`Signal::Continue`].
    Pause,
    /// SIGCONT.
    Continue,
}

impl Signal {
    /// The name that `kill -s` knows.
    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Pause => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// The end of a pipe that keeps something alive: a child, or a folder. It ends when every copy is gone.
#[derive(Debug)]
pub struct Lifeline(OwnedFd);

impl Lifeline {
    /// Another hold on what `pipe` keeps alive.
    pub(crate) fn of(pipe: &ChildStdin) -> io::Result<Self> {
        pipe.as_fd().try_clone_to_owned().map(Self)
    }
}

/// A program to start, like [`std::process::Command`].
#[derive(Debug)]
pub struct Command {
    program: PathBuf,
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
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            grace: Duration::from_secs(5),
            needs: None,
        }
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

    /// The folder to run in; this process' own otherwise.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// How long the program has between TERM and KILL when the parent is gone: 5 s unless told. Counted in tenths of a
    /// second, one minute at most.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace.min(Duration::from_mins(1));
        self
    }

    /// What this program needs is not ended before it, when the parent is gone.
    #[must_use]
    pub fn needs(mut self, lifeline: Lifeline) -> Self {
        self.needs = Some(lifeline);
        self
    }

    /// Starts the program. What it writes, on both outputs, goes to the file `log`, which is emptied first; its
    /// standard input is empty. A program that does not exist ends at once with status 127.
    ///
    /// # Errors
    /// [`ProcessError::CreateLog`] and [`ProcessError::Start`].
    pub fn start(self, log: impl AsRef<Path>) -> Result<Child, ProcessError> {
        let Self { program, arguments, environment, folder, grace, needs } = self;
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
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

/// A running program. Dropping it kills it.
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
    /// Gone when the process is known to have ended.
    lifeline: Option<ChildStdin>,
}

impl Child {
    /// The process id of the program itself.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The file the program writes to.
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
        tail(&self.log())
    }

    /// Another hold on the program, for [`Command::needs`].
    ///
    /// # Errors
    /// [`ProcessError::Hold`] if the program has ended, or no file descriptor is left.
    pub fn lifeline(&self) -> Result<Lifeline, ProcessError> {
        self.state
            .lock()
            .lifeline
            .as_ref()
            .map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), Lifeline::of)
            .map_err(|source| ProcessError::Hold { program: self.name.clone(), source })
    }

    /// How the program ended, if it did.
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
            // The watcher must not signal a process id that belongs to nobody now. It is gone if this fails.
            let _ = lifeline.write_all(b"ended\n");
        }
        Ok(status)
    }

    /// Waits until the program ends by itself, for `within` at most: `None` if it still runs then.
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
            sleep(LOOK_EVERY);
        }
    }

    /// Waits until the program has written a whole line that contains `text`, and returns the first such line.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] and [`ProcessError::Silent`], with the end of the log; [`ProcessError::Wait`].
    pub fn wait_for_line(&self, text: &str, within: Duration) -> Result<String, ProcessError> {
        let since = Instant::now();
        loop {
            // In this order, so that the last words of a program that ends now are seen.
            let ended = self.try_wait()?;
            let log = self.log();
            let found = log.split_inclusive('\n').find(|line| line.ends_with('\n') && line.contains(text));
            if let Some(line) = found {
                return Ok(line.trim_end().to_owned());
            }
            let (program, line) = (self.name.clone(), text.to_owned());
            if let Some(status) = ended {
                return Err(ProcessError::Ended { program, status, line, log: tail(&log) });
            }
            if since.elapsed() >= within {
                return Err(ProcessError::Silent { program, within, line, log: tail(&log) });
            }
            sleep(LOOK_EVERY);
        }
    }

    /// Sends a signal; does nothing if the program is known to have ended.
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

    /// Sends a signal, waits for the end, and kills the program if it still runs after `within`.
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

    /// Ends the program at once, with SIGKILL, and waits until it is gone.
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
        // The watcher does it if this cannot: the lifeline goes with this value.
        let _ = self.kill();
    }
}

/// The last lines of a text; of a program that found its disk full, what says so: the rest is what followed from it.
pub(crate) fn tail(text: &str) -> String {
    let full = text.lines().find(|line| line.to_ascii_lowercase().contains(NO_SPACE));
    if let Some(line) = full {
        return format!("no space left on device; it said:\n{line}");
    }
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_what_is_told_of_a_log_and_else_its_end() {
        let panic = "goroutine 1 [running]:\n".repeat(40);
        let log = format!("starting\npanic: write /tmp/wal: no space left on device\n\n{panic}");
        let said = "no space left on device; it said:\npanic: write /tmp/wal: no space left on device";
        assert_eq!(tail(&log), said);
        let log = format!("starting\n{panic}ended\n");
        assert_eq!(tail(&log).lines().count(), TAIL_LINES);
        assert!(tail(&log).ends_with("ended"));
    }
}
