//! `cargo xtask completions`. Touches standard output.

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

/// Prints completions for a shell.
///
/// Shells complete programs, not cargo's aliases: alias `xtask` to `cargo xtask` to use them, or call the program
/// `target/debug/xtask` itself. In bash: `source <(cargo xtask completions bash)`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

#[expect(clippy::unnecessary_wraps, reason = "all commands look the same")]
pub(crate) fn run(Arguments { shell }: &Arguments) -> Result<ExitCode> {
    let mut command = crate::Arguments::command().bin_name("xtask");
    clap_complete::generate(*shell, &mut command, "xtask", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
