//! `cargo xtask check`. Touches nothing but what cargo builds, and what cargo-deny downloads.

use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::Result;

use crate::cargo::{cargo, exit_code, home, run as run_command};

/// Checks the format, clippy's lints and the dependencies.
///
/// Clippy runs twice: for the programs, and for the tests with their failpoints. The rules for dependencies are in deny.toml;
/// they are checked where cargo-deny is installed, and its advisories where their database can be downloaded or was
/// downloaded before.
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
    // Without this option it leaves out the packages that the operator's does not depend on, such as this one.
    let check = ["deny", "--workspace", "check", "--hide-inclusion-graph"];
    let status = run_command(&mut cargo(check.iter().chain(&["bans", "licenses", "sources"])))?;
    if !status.success() {
        return Ok(status);
    }
    let fetched = run_command(&mut cargo(["deny", "fetch", "db"]))?.success();
    match advisories(fetched, has_copy(&home().unwrap_or_default().join("advisory-dbs"))) {
        Advisories::Skip => {
            eprintln!("skipped: cargo deny check advisories; their database cannot be downloaded");
            Ok(status)
        }
        Advisories::Check(options) => {
            run_command(&mut cargo(check.iter().chain(options).chain(&["advisories"])))
        }
    }
}

/// What is done about advisories.
#[derive(Debug, PartialEq, Eq)]
enum Advisories {
    /// They are checked with these options.
    Check(&'static [&'static str]),
    Skip,
}

fn advisories(fetched: bool, has_copy: bool) -> Advisories {
    match (fetched, has_copy) {
        (true, _) => Advisories::Check(&[]),
        (false, true) => Advisories::Check(&["--disable-fetch"]),
        (false, false) => Advisories::Skip,
    }
}

/// Whether the folder of cargo-deny has a database from an earlier download.
fn has_copy(folder: &Path) -> bool {
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.path().join(".git").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_the_advisories_of_an_earlier_download_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("db.lock"), "").unwrap();
        assert!(!has_copy(folder.path()) && !has_copy(&folder.path().join("missing")));
        std::fs::create_dir_all(folder.path().join("advisory-db-3157b0e258782691/.git")).unwrap();
        assert!(has_copy(folder.path()));
        assert_eq!(advisories(true, true), Advisories::Check(&[]));
        assert_eq!(advisories(false, true), Advisories::Check(&["--disable-fetch"]));
        assert_eq!(advisories(false, false), Advisories::Skip);
    }
}
