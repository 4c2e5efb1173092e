//! `cargo xtask test`. Starts processes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use ::control_plane::{ControlPlane, Progress, Reader, helm};
use anyhow::Result;

use crate::cargo::{cargo, exit_code, run as run_command};
use crate::control_plane::Version;
use crate::generate;

/// Check that generated files are up to date, then run all tests of the workspace.
///
/// Tests that need an API server use a control plane that is started for them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One test:    cargo xtask test -- --package okid-operator a_claim_that_another_writer_won
Its output:  cargo xtask test -- --package okid-operator a_claim_that_another_writer_won -- --nocapture
Another API server:  cargo xtask test --kubernetes 1.33 -- --package okid-operator --test apiserver
One reader:  cargo xtask test readers -- argo_cd

The tests find the control plane by OKID_TEST_KUBECONFIG (the administrator's kubeconfig) and
OKID_TEST_KUBECTL (the client). A plain `cargo test` runs only the operator's tests, and starts a
control plane of its own."
)]
pub(crate) struct Arguments {
    /// Tests that do not run otherwise. Without it, all others run.
    suite: Option<Suite>,

    #[command(flatten)]
    version: Version,
    /// Additional arguments for `cargo test`.
    #[arg(last = true)]
    extra: Vec<OsString>,
}

/// Tests that are too expensive for every change.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Suite {
    /// What the tools that wait for a Verification conclude, with those that take minutes to build: Argo CD, Argo Workflows and
    /// Flux's kustomize-controller. They judge every status that the tests on the API server saw in their last run.
    Readers,
}

pub(crate) fn run(Arguments { suite, version, extra }: &Arguments) -> Result<ExitCode> {
    match suite {
        None => run_all(*version, extra),
        Some(Suite::Readers) => run_readers(*version, extra),
    }
}

fn run_all(version: Version, extra: &[OsString]) -> Result<ExitCode> {
    let generated = generate::run(&generate::Arguments { check: true })?;
    if generated != ExitCode::SUCCESS {
        return Ok(generated);
    }
    let helm = helm(Progress::detect())?;
    Reader::CONVENTIONS.find_or_build(Progress::detect())?;
    let control_plane = version.start()?;
    let mut tests = cargo(["test"]);
    if !names_package(extra) {
        tests.arg("--workspace");
    }
    tests.args(extra).env("OKID_TEST_HELM", helm);
    run_tests(control_plane, [tests])
}

fn run_readers(version: Version, extra: &[OsString]) -> Result<ExitCode> {
    for reader in Reader::ALL {
        reader.find_or_build(Progress::detect())?;
    }
    let control_plane = version.start()?;
    // What the recipes see must not replace what all tests saw.
    let statuses = control_plane.folder().join("statuses");
    let tests = [("readers", "--include-ignored"), ("apiserver", "--ignored")].map(|(target, which)| {
        let mut tests = cargo(["test", "--package", "okid-operator", "--test", target]);
        tests.args(with_option_of_tests(extra, which)).env("OKID_TEST_STATUSES", &statuses);
        tests
    });
    run_tests(control_plane, tests)
}

/// Runs these tests one after another, until some fail, and stops the control plane.
fn run_tests(control_plane: ControlPlane, commands: impl IntoIterator<Item = Command>) -> Result<ExitCode> {
    let skips = control_plane.folder().join("skips");
    let mut code = ExitCode::SUCCESS;
    for mut tests in commands {
        tests
            .env("OKID_TEST_KUBECONFIG", control_plane.kubeconfig_path())
            .env("OKID_TEST_KUBECTL", &control_plane.programs().kubectl)
            // For the control planes that tests start themselves.
            .envs(control_plane.programs().kubectl.parent().map(|folder| ("KUBEBUILDER_ASSETS", folder)))
            .env("OKID_TEST_SKIPS", &skips);
        code = exit_code(run_command(&mut tests)?);
        if code != ExitCode::SUCCESS {
            break;
        }
    }
    // Without skipped tests there is no such file.
    let skips = std::fs::read_to_string(&skips).unwrap_or_default();
    control_plane.stop()?;
    eprintln!("{}", summary(&skips));
    Ok(code)
}

/// How many tests were skipped, and why. Each line of `skips` has one of them and the reason.
fn summary(skips: &str) -> String {
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

/// The arguments for cargo with one more option of the tests.
fn with_option_of_tests(extra: &[OsString], option: &str) -> Vec<OsString> {
    let mut arguments = extra.to_vec();
    if !extra.iter().any(|argument| argument == "--") {
        arguments.push("--".into());
    }
    arguments.push(option.into());
    arguments
}

/// Whether the arguments for cargo select packages.
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
    fn the_summary_says_how_many_tests_were_skipped_and_why() {
        assert_eq!(summary(""), "no test was skipped");
        assert_eq!(summary("a: no jq\n"), "1: no jq\n1 test was skipped");
        let skips = "a: Azure is skipped: no node\nb: no jq\nc: Azure is skipped: no node\n";
        assert_eq!(summary(skips), "2: Azure is skipped: no node\n1: no jq\n3 tests were skipped");
    }

    #[test]
    fn an_option_of_the_tests_comes_after_those_of_cargo() {
        let with_option = |extra: &[&str]| {
            with_option_of_tests(&extra.iter().map(OsString::from).collect::<Vec<_>>(), "--ignored")
        };
        assert_eq!(with_option(&["argo_cd"]), ["argo_cd", "--", "--ignored"]);
        assert_eq!(with_option(&["--", "--nocapture"]), ["--", "--nocapture", "--ignored"]);
    }

    #[test]
    fn a_package_is_selected_only_before_the_arguments_of_the_tests() {
        let names = |extra: &[&str]| names_package(&extra.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(names(&["--package", "xtask"]));
        assert!(names(&["-pxtask"]));
        assert!(!names(&["some_test", "--", "-p"]));
    }
}
