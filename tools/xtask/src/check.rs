//! `cargo xtask check`. Touches nothing but what cargo builds.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::{cargo, exit_code, run as run_command};

/// Checks the format, and clippy's opinion of everything: of the programs, and of the tests with their failpoints.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(Arguments {}: &Arguments) -> Result<ExitCode> {
    let clippy = ["clippy", "--workspace"];
    let strict = ["--", "--deny", "warnings"];
    let commands = [
        cargo(["fmt", "--all", "--check"]),
        cargo(clippy.iter().chain(&strict)),
        cargo(clippy.iter().chain(&["--all-targets"]).chain(&strict)),
    ];
    for mut command in commands {
        let status = run_command(&mut command)?;
        if !status.success() {
            return Ok(exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}
