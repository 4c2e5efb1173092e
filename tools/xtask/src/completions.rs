//! `cargo xtask completions`.

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::out;

/// Print a shell completion script.
///
/// Shells complete programs, not cargo's aliases. To use the completions, alias `xtask` to `cargo xtask`, or call
/// `target/debug/xtask` directly. In bash: `source <(cargo xtask completions bash)`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell to complete commands in.
    shell: Shell,
}

#[expect(clippy::unnecessary_wraps, reason = "all commands have the same signature")]
pub(crate) fn run(Arguments { shell }: &Arguments) -> Result<ExitCode> {
    let mut command = crate::Arguments::command().bin_name("xtask");
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut command, "xtask", &mut script);
    out::print(String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
