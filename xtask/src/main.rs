//! Developer commands: what a person, or a check of a change, runs in this repository. One file for each.

mod bench;
mod cargo;
mod check;
mod completions;
mod control_plane;
mod demo;
mod generate;
mod interrupt;
mod out;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of okid-operator.
///
/// Needs Rust, Go, a C compiler and `make`; no Docker, no cluster. The first command that needs an API server builds one, which
/// takes about seven minutes on two cores, and keeps it in the user's cache folder.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "A first look:     cargo xtask demo
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
    Completions(completions::Arguments),
    ControlPlane(control_plane::Arguments),
    Demo(demo::Arguments),
    Generate(generate::Arguments),
    #[command(subcommand, hide = true)]
    StandIn(bench::StandIn),
    Test(test::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::ControlPlane(arguments) => control_plane::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::StandIn(stand_in) => bench::stand_in(&stand_in),
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
