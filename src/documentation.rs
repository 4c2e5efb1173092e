//! Checks of the pages for readers: the names that they use exist, and the commands that they show are valid. Reads files.

use std::{collections::BTreeSet, path::Path};

use clap::{CommandFactory as _, Parser as _};

use crate::{api::Reason, lifecycle::Event, settings::CommandLine};

/// Flags of other programs that the pages name.
const OTHERS_FLAGS: [&str; 50] = [
    "account-name",
    "api-key",
    "api-versions",
    "bucket",
    "check",
    "clear-soft-delete",
    "cluster",
    "concurrent",
    "create-namespace",
    "delete-retention-days",
    "destination",
    "dev",
    "field-selector",
    "filename",
    "for",
    "force",
    "from-file",
    "ignore-not-found",
    "kubernetes",
    "lib",
    "lifecycle-configuration",
    "lifecycle-file",
    "member",
    "no-hooks",
    "output",
    "overwrite",
    "package",
    "patch",
    "patch-file",
    "pattern",
    "permissions",
    "policy",
    "project",
    "recursive",
    "release",
    "requeue-dependency",
    "reset-then-reuse-values",
    "role",
    "server-side",
    "set",
    "skip-tests",
    "source",
    "stay",
    "tag",
    "take-ownership",
    "test",
    "test-threads",
    "timeout",
    "type",
    "wait",
];

/// The crate, as the filter of the log names it.
const LOG_TARGET: &str = "okid_operator";

/// Every page and example, by its path.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "examples"]
        .map(|path| root.join(path))
        .to_vec();
    let mut pages = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            pages.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(pages.len() > 30, "{}", pages.len());
    pages
}

/// The whole words of a page.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
}

fn flags(command: &clap::Command) -> BTreeSet<String> {
    command.get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned)).collect()
}

fn variables(command: &clap::Command) -> BTreeSet<String> {
    let variable = |flag: &clap::Arg| flag.get_env().map(|name| name.to_str().unwrap().to_owned());
    command.get_arguments().filter_map(variable).collect()
}

#[test]
fn every_flag_variable_and_metric_that_a_page_names_exists() {
    let command = CommandLine::command();
    let mut flags: BTreeSet<_> = command.get_subcommands().flat_map(flags).collect();
    flags.insert("help".to_owned());
    let variables: BTreeSet<_> = command.get_subcommands().flat_map(variables).collect();
    let metrics = crate::metrics::tests::names();
    for (page, text) in pages() {
        for word in words(&text) {
            if let Some(flag) = word.strip_prefix("--").filter(|flag| flag.starts_with(char::is_alphabetic)) {
                assert!(flags.contains(flag) || OTHERS_FLAGS.contains(&flag), "{page}: --{flag}");
            } else if word.starts_with("OKID_") {
                assert!(variables.contains(word), "{page}: {word}");
            } else if word.starts_with("okid_") && word != LOG_TARGET {
                assert!(metrics.contains(word), "{page}: {word}");
            }
        }
    }
}

#[test]
fn every_reason_and_event_that_a_page_names_exists() {
    let events: BTreeSet<_> = Event::all().map(Event::reason).collect();
    for (page, text) in pages() {
        for lead in
            ["True `", "False `", "Unknown `", "reason `", "event `", "events `", "Stalled=", "=False "]
        {
            let named = text.split(lead).skip(1).filter_map(|rest| words(rest).next());
            for name in named.filter(|name| name.starts_with(char::is_uppercase)) {
                assert!(
                    Reason::from_word(name).is_some() || events.contains(name) || name == "True",
                    "{page}: {name}"
                );
            }
        }
    }
}

#[test]
fn every_operator_command_that_a_page_shows_is_valid() {
    let mut count = 0;
    for (page, text) in pages() {
        let lines = text.lines().filter(|line| line.starts_with("    "));
        // The program is the first word, with or without its folder; releases of Helm have the same name.
        let commands = lines.filter_map(|line| line.trim_start().split_once(' '));
        for (_, rest) in commands.filter(|(program, _)| program.ends_with("okid-operator")) {
            let call = rest.split(['|', '#']).next().unwrap();
            let read =
                CommandLine::try_parse_from(["okid-operator"].into_iter().chain(call.split_whitespace()));
            assert!(read.is_ok(), "{page}: {rest}");
            count += 1;
        }
    }
    assert!(count >= 3, "{count}");
}

#[test]
fn every_flag_of_run_has_a_variable_as_the_help_says() {
    let command = CommandLine::command();
    let run = command.find_subcommand("run").unwrap();
    let variables = variables(run);
    assert_eq!(variables.len(), flags(run).len());
    for variable in variables {
        assert!(variable.starts_with("OKID_"), "{variable}");
    }
}
