//! `cargo xtask test`. Touches processes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::{cargo, exit_code, run as run_command};
use crate::{control_plane, generate};

/// Runs everything that can be tested: generated files are up to date, then all tests of the workspace, those of the
/// API server included, on a control plane that is started for them.
#[derive(Debug, clap::Args)]
#[command(after_help = "One test:   cargo xtask test -- --package okid-operator a_claim_that_another_one_won
Its output: cargo xtask test -- --package okid-operator a_claim_that_another_one_won -- --nocapture

The tests find the control plane by OKID_TEST_KUBECONFIG (the administrator's kubeconfig)
and OKID_TEST_KUBECTL (the client). With a plain `cargo test`, which runs the operator's tests
alone, they start one of their own.")]
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
    let skips = control_plane.folder().join("skips");
    let mut tests = cargo(["test"]);
    if !names_package(extra) {
        tests.arg("--workspace");
    }
    tests
        .args(extra)
        .env("OKID_TEST_KUBECONFIG", control_plane.kubeconfig_path())
        .env("OKID_TEST_KUBECTL", &control_plane.programs().kubectl)
        .env("OKID_TEST_SKIPS", &skips);
    let status = run_command(&mut tests)?;
    // Where nothing is skipped, there is no such file.
    let skips = std::fs::read_to_string(&skips).unwrap_or_default();
    control_plane.stop()?;
    eprintln!("{}", told(&skips));
    Ok(exit_code(status))
}

/// The last words: how many tests were skipped, and why. Each line of `skips` is one of them, and its reason.
fn told(skips: &str) -> String {
    let mut reasons = BTreeMap::new();
    for line in skips.lines() {
        let reason = line.split_once(": ").map_or(line, |(_, reason)| reason);
        *reasons.entry(reason).or_insert(0_usize) += 1;
    }
    let total: usize = reasons.values().sum();
    let mut words: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count}: {reason}")).collect();
    words.push(match total {
        0 => "no test was skipped".to_owned(),
        1 => "1 test was skipped".to_owned(),
        total => format!("{total} tests were skipped"),
    });
    words.join("\n")
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
    fn the_last_words_say_how_many_tests_were_skipped_and_why() {
        assert_eq!(told(""), "no test was skipped");
        assert_eq!(told("a: no jq\n"), "1: no jq\n1 test was skipped");
        let skips = "a: Azure is skipped: no node\nb: no jq\nc: Azure is skipped: no node\n";
        assert_eq!(told(skips), "2: Azure is skipped: no node\n1: no jq\n3 tests were skipped");
    }

    #[test]
    fn a_package_is_chosen_only_before_the_arguments_of_the_tests() {
        let names = |extra: &[&str]| names_package(&extra.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(names(&["--package", "xtask"]));
        assert!(names(&["-pxtask"]));
        assert!(!names(&["some_test", "--", "-p"]));
    }
}
