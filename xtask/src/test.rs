//! `cargo xtask test`. Touches processes.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::{cargo, exit_code, run as run_command};
use crate::check::CRASH_POINTS;
use crate::{control_plane, generate};

/// Runs everything that can be tested: generated files are up to date, then all tests of the workspace, those of the
/// API server included, on a control plane that is started for them.
#[derive(Debug, clap::Args)]
#[command(after_help = "One test:   cargo xtask test -- --package okid-operator a_claim_is_never
Its output: cargo xtask test -- --package okid-operator a_claim_is_never -- --nocapture

The tests find the control plane by OKID_TEST_KUBECONFIG (the administrator's kubeconfig)
and OKID_TEST_KUBECTL (the client). With a plain `cargo test` they start one of their own.")]
pub(crate) struct Arguments {
    /// What `cargo test` is given in addition.
    #[arg(last = true)]
    extra: Vec<OsString>,
}

pub(crate) fn run(Arguments { extra }: &Arguments) -> Result<ExitCode> {
    let generated = generate::run(&generate::Arguments { check: true })?;
    if generated != ExitCode::SUCCESS {
        return Ok(generated);
    }
    let control_plane = control_plane::start()?;
    let mut tests = cargo(["test", "--features", CRASH_POINTS]);
    if !names_package(extra) {
        tests.arg("--workspace");
    }
    tests
        .args(extra)
        .env("OKID_TEST_KUBECONFIG", control_plane.kubeconfig_path())
        .env("OKID_TEST_KUBECTL", &control_plane.programs().kubectl);
    let status = run_command(&mut tests)?;
    control_plane.stop()?;
    Ok(exit_code(status))
}

/// Whether cargo's own arguments choose packages.
fn names_package(extra: &[OsString]) -> bool {
    extra
        .iter()
        .map(|argument| argument.to_string_lossy())
        .take_while(|argument| argument != "--")
        .any(|argument| argument.starts_with("-p") || argument.starts_with("--package"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_chosen_only_before_the_arguments_of_the_tests() {
        let names = |extra: &[&str]| names_package(&extra.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(names(&["--package", "xtask"]));
        assert!(names(&["-pxtask"]));
        assert!(!names(&["some_test", "--", "-p"]));
    }
}
