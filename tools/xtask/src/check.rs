//! `cargo xtask check`. Touches nothing but what cargo builds, and what cargo-deny downloads.

use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::Result;

use crate::cargo::{cargo, exit_code, run as run_command};

/// Checks the format, clippy's lints and the dependencies.
///
/// Clippy runs twice: for the programs, and for the tests with their failpoints. The rules for dependencies are in deny.toml;
/// they are checked where cargo-deny is installed, and its advisories where their database can be downloaded.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Install cargo-deny from crates.io first, if it is not installed; this takes many minutes.
    #[arg(long)]
    install_deny: bool,
}

pub(crate) fn run(&Arguments { install_deny }: &Arguments) -> Result<ExitCode> {
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
    check_dependencies(install_deny).map(exit_code)
}

fn check_dependencies(install: bool) -> Result<ExitStatus> {
    let mut probe = cargo(["deny", "--version"]);
    let installed = probe.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !installed.success() {
        if !install {
            eprintln!(
                "skipped: cargo deny check; cargo-deny is not installed (`cargo xtask check --install-deny` installs it, \
                 which takes many minutes)"
            );
            return Ok(ExitStatus::default());
        }
        eprintln!("installing cargo-deny from crates.io; this takes many minutes");
        let status = run_command(&mut cargo(["install", "cargo-deny", "--locked"]))?;
        if !status.success() {
            return Ok(status);
        }
    }
    let check = ["deny", "check", "--hide-inclusion-graph"];
    let status = run_command(&mut cargo(check.iter().chain(&["bans", "licenses", "sources"])))?;
    if !status.success() {
        return Ok(status);
    }
    if !run_command(&mut cargo(["deny", "fetch", "db"]))?.success() {
        eprintln!("skipped: cargo deny check advisories; their database cannot be downloaded");
        return Ok(status);
    }
    run_command(&mut cargo(check.iter().chain(&["advisories"])))
}
