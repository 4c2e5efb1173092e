//! Runs commands and returns what they printed. Starts processes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cargo::line;

/// A command that has exited.
pub(super) struct Finished {
    pub(super) succeeded: bool,
    pub(super) output: String,
    pub(super) errors: String,
}

/// Runs a command, whether it succeeds or not. `input` is short: it is written before anything is read.
pub(super) fn finish(command: &mut Command, input: &str) -> Result<Finished> {
    let mut run = || -> std::io::Result<_> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let finished = run().with_context(|| format!("run {}", line(command)))?;
    Ok(Finished {
        succeeded: finished.status.success(),
        output: String::from_utf8_lossy(&finished.stdout).into_owned(),
        errors: String::from_utf8_lossy(&finished.stderr).into_owned(),
    })
}

/// Runs a command, which must succeed, and returns what it printed.
pub(super) fn output(command: &mut Command, input: &str) -> Result<String> {
    let Finished { succeeded, output, errors } = finish(command, input)?;
    if !succeeded {
        bail!("{} failed:\n{output}{errors}", line(command));
    }
    Ok(output)
}
