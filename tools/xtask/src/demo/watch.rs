//! Changes of a Verification's status, as kubectl sees them. Starts kubectl.

use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use okid_operator::api::{Condition, ConditionType, VerificationStatus};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

/// A `kubectl get --watch` that prints each status as one line of JSON.
pub(super) struct Watch {
    lines: Lines<BufReader<ChildStdout>>,
    /// Killed when this is dropped.
    _kubectl: Child,
}

impl Watch {
    /// Watches the Verifications of the default namespace.
    pub(super) fn start(kubectl: Command) -> Result<Self> {
        let mut kubectl = tokio::process::Command::from(kubectl)
            .args(["get", "verifications", "--watch", "--output", "jsonpath={.status}{\"\\n\"}"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // The demo handles Ctrl-C and stops kubectl.
            .process_group(0)
            .spawn()
            .context("run kubectl get --watch")?;
        let stdout = kubectl.stdout.take().context("read the output of kubectl")?;
        Ok(Self { lines: BufReader::new(stdout).lines(), _kubectl: kubectl })
    }

    /// The next status; `None` when kubectl has exited.
    pub(super) async fn next(&mut self) -> Result<Option<VerificationStatus>> {
        while let Some(line) = self.lines.next_line().await.context("read the output of kubectl")? {
            if line.is_empty() {
                continue;
            }
            return serde_json::from_str(&line).context("parse the status that kubectl printed").map(Some);
        }
        Ok(None)
    }
}

/// The part of a status that the demo prints.
#[derive(PartialEq, Eq)]
pub(super) struct Line {
    phase: &'static str,
    ready: String,
    progress: String,
}

impl Line {
    pub(super) fn of(status: &VerificationStatus) -> Self {
        let ready = Condition::find(&status.conditions, ConditionType::Ready)
            .map_or_else(|| "-".to_owned(), |ready| format!("Ready={:?} {}", ready.status, ready.reason));
        Self {
            phase: status.phase.map_or("-", okid_operator::api::Phase::as_str),
            ready,
            progress: status.progress_summary.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, ready, progress } = self;
        f.write_str(format!("{phase:<12}  {ready:<34}  {progress}").trim_end())
    }
}
