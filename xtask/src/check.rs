//! `cargo xtask check`. Touches nothing but what cargo builds.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::{cargo, exit_code, run as run_command};

/// The feature that lets tests end the operator between two steps; its code must be as clean as the rest.
pub(crate) const CRASH_POINTS: &str = "okid-operator/crash-points";

/// Checks the format, and clippy's opinion of everything, with and without the tests' crash points.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(Arguments {}: &Arguments) -> Result<ExitCode> {
    let clippy = ["clippy", "--workspace", "--all-targets"];
    let strict = ["--", "--deny", "warnings"];
    let commands = [
        cargo(["fmt", "--all", "--check"]),
        cargo(clippy.iter().chain(&strict)),
        cargo(clippy.iter().chain(&["--features", CRASH_POINTS]).chain(&strict)),
    ];
    for mut command in commands {
        let status = run_command(&mut command)?;
        if !status.success() {
            return Ok(exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}
