//! Runs cargo in the repository. Touches processes.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context as _, Result};

/// The repository's root folder.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The cargo that runs this command, in the repository's root folder.
pub(crate) fn cargo(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Shows a command, runs it, and tells how it ended.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let line: Vec<_> = std::iter::once(name).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    let line = line.join(" ");
    eprintln!("$ {line}");
    command.status().with_context(|| format!("run {line}"))
}

/// The status of a program as that of this one: 1 if it was ended by a signal.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
