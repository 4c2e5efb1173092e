//! Why a cluster does not start, or does not do what it is asked to.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::process::ProcessError;

/// Why a cluster did not start, or does not do what it is asked to.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No folder has the CNI plugins.
    #[error("find the CNI plugins ptp and host-local: install the package containernetworking-plugins")]
    NoPlugins,
    /// The folder of the cluster cannot be created.
    #[error("create a temporary folder for the cluster")]
    Folder(#[source] io::Error),
    /// The system's temporary folder is where a cluster has folders of its own.
    #[error("a cluster cannot use {}: set TMPDIR to a folder outside of /run and /var", .0.display())]
    HiddenFolder(PathBuf),
    /// A file cannot be written or read.
    #[error("access {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A process cannot be started or supervised.
    #[error("run the cluster")]
    Process(#[from] ProcessError),
    /// A command cannot be started.
    #[error("run {line}")]
    Run {
        /// The command.
        line: String,
        /// The cause.
        source: io::Error,
    },
    /// A command failed.
    #[error("{line} exited with {status}:\n{output}")]
    Failed {
        /// The command.
        line: String,
        /// Its exit status.
        status: ExitStatus,
        /// What it wrote to standard error.
        output: String,
    },
    /// A program exited.
    #[error("{program} exited ({status}) before {what}; the end of its log:\n{log}")]
    Exited {
        /// The program.
        program: &'static str,
        /// What was waited for.
        what: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The cluster was not ready in time.
    #[error("{what}: not within {} s; {response}", within.as_secs())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        within: Duration,
        /// The last response.
        response: String,
    },
}
