//! The first Verification of the README, with the commands that it shows.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::command::output;
use super::environment::Environment;
use super::portal::Portal;
use super::report::Report;
use super::verification::Name;
use crate::cargo::root;

/// The Verification that the commands apply.
const ALICE: Name<'_> = Name("default", "alice");
/// What the README says between the commands before and after the person goes through the check.
const PERSON: &str = "Open the link";

/// Runs the commands, and plays the person between them.
pub(super) fn first_verification(environment: &Environment, report: &mut Report) -> Result<()> {
    let readme = std::fs::read_to_string(root().join("README.md")).context("read the README")?;
    let (before, after) = commands(&readme)?;
    let mut link = String::new();
    for command in before {
        link = run(environment, command)?;
    }
    let id = ALICE.id(environment)?;
    ensure!(link.contains(&id), "the link that the README prints is not that of the session: {link}");
    Portal(environment).decide(&id, "verified")?;
    let mut table = String::new();
    for command in after {
        table = run(environment, command)?;
    }
    ensure!(table.contains("Verified"), "the README's last command shows no verdict:\n{table}");
    report.done("the README's first Verification is Verified");
    Ok(())
}

/// The commands of the section "A first Verification" that request a check, and those that follow it.
fn commands(readme: &str) -> Result<(Vec<&str>, Vec<&str>)> {
    let section = readme.split("Request a check and print the link").nth(1);
    let section = section.and_then(|rest| rest.split("\nWith [evidence]").next());
    let (before, after) =
        section.and_then(|section| section.split_once(PERSON)).context("find the commands in the README")?;
    Ok((commands_in(before), commands_in(after)))
}

fn commands_in(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| line.starts_with("kubectl ")).collect()
}

/// Runs a command in a shell, as a reader does.
fn run(environment: &Environment, line: &str) -> Result<String> {
    let mut shell = environment.command(Path::new("/bin/sh"));
    if let Some(folder) = environment.kubectl_folder() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        shell.env("PATH", [folder.as_os_str(), &path].join(":".as_ref()));
    }
    output(shell.args(["-c", line]), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_how_to_request_a_check_and_how_to_wait_for_its_end() {
        let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
        let (before, after) = commands(&readme).unwrap();
        assert!(before[0].starts_with("kubectl apply "), "{before:?}");
        assert!(before[before.len() - 1].contains("portalUrl"), "{before:?}");
        assert!(after[0].contains("condition=Finished"), "{after:?}");
        assert!(commands("no commands").is_err());
    }
}
