//! Developer commands of this repository, one file for each.
// A reader that stops early, such as `head`, would make `println!` panic. Use `out`.
#![deny(clippy::print_stdout)]

mod bench;
mod cargo;
mod chart;
mod check;
mod cluster;
mod completions;
mod control_plane;
mod demo;
mod e2e;
mod generate;
mod image;
mod interrupt;
mod lifecycle_page;
mod out;
mod process;
mod reference;
mod sbom;
mod test;
mod tool;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of okid-operator.
///
/// They need Rust, Go, a C compiler and `make`, but neither Docker nor a cluster. The first command that needs an API server
/// builds one, which takes about seven minutes on two cores, and caches it in the user's cache folder.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "See it work:      cargo xtask demo
Before a commit:  cargo xtask generate && cargo xtask check && cargo xtask test"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Arguments),
    Check(check::Arguments),
    Cluster(cluster::Arguments),
    Completions(completions::Arguments),
    ControlPlane(control_plane::Arguments),
    Demo(demo::Arguments),
    E2e(e2e::Arguments),
    Generate(generate::Arguments),
    Image(image::Arguments),
    Sbom(sbom::Arguments),
    #[command(subcommand, hide = true)]
    Fake(bench::Fake),
    Test(test::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::ControlPlane(arguments) => control_plane::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::E2e(arguments) => e2e::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Sbom(arguments) => sbom::run(&arguments),
        Command::Fake(fake) => bench::fake(&fake),
        Command::Test(arguments) => test::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        for cause in error.chain().skip(1) {
            eprintln!("  because: {cause}");
        }
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cargo::root;

    /// The documentation pages, the workflows, and the help of the commands.
    fn pages() -> Vec<String> {
        let mut paths =
            ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", ".ci/run", ".github/workflows"]
                .map(|path| root().join(path))
                .to_vec();
        let mut pages = Vec::new();
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                paths.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                pages.push(std::fs::read_to_string(path).unwrap());
            }
        }
        let command = Arguments::command();
        let helps = command.get_subcommands().chain([&command]).filter_map(clap::Command::get_after_help);
        pages.extend(helps.map(ToString::to_string));
        pages.iter().flat_map(|page| for_each_target(page)).collect()
    }

    /// A workflow runs a job for each target of its matrix.
    fn for_each_target(page: &str) -> Vec<String> {
        let variable = "\"$PROGRAM\"";
        if !page.contains(variable) {
            return vec![page.to_owned()];
        }
        let targets = page.lines().filter_map(|line| line.trim().strip_prefix("- target: "));
        let pages: Vec<_> = targets.map(|target| page.replace(variable, target)).collect();
        assert!(!pages.is_empty() && page.contains("PROGRAM: ${{ matrix.target }}\n"), "{page}");
        pages
    }

    #[test]
    fn every_command_that_a_page_a_workflow_or_a_help_shows_is_understood() {
        let mut count = 0;
        for page in pages() {
            for rest in page.split("cargo xtask ").skip(1) {
                let end =
                    ["`", "#", "\n", "  ", " &&", " |", ";"].iter().filter_map(|end| rest.find(end)).min();
                let command = rest.get(..end.unwrap_or(rest.len())).unwrap();
                let read = Arguments::try_parse_from(["xtask"].into_iter().chain(command.split_whitespace()));
                assert!(read.is_ok(), "cargo xtask {command}");
                count += 1;
            }
        }
        assert!(count >= 20, "{count}");
    }
}
