//! Why a child process could not be started or controlled.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// Why a child process could not be started or controlled.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The log file cannot be written.
    #[error("create the log file {}", path.display())]
    CreateLog {
        /// The log file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `sh` cannot be started, or a pipe to it cannot be created.
    #[error("start {program}")]
    Start {
        /// The program's file name.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// The state of the process cannot be read.
    #[error("wait for {program}")]
    Wait {
        /// The program's file name.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// There is no lifeline of the process.
    #[error("share the lifeline of {program}")]
    Lifeline {
        /// The program's file name.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// A signal cannot be sent to the process.
    #[error("signal {program}")]
    Signal {
        /// The program's file name.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// The program exited before it wrote the expected line.
    #[error("{program} exited ({status}) before it wrote `{line}`; the end of its log:\n{log}")]
    Exited {
        /// The program's file name.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// The expected text.
        line: String,
        /// The last lines of its log.
        log: String,
    },
    /// The program did not write the expected line in time.
    #[error("{program} did not write `{line}` within {} s; the end of its log:\n{log}", within.as_secs())]
    Timeout {
        /// The program's file name.
        program: String,
        /// How long the line was waited for.
        within: Duration,
        /// The expected text.
        line: String,
        /// The last lines of its log.
        log: String,
    },
}
