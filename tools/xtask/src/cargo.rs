//! Runs cargo in the repository. Starts processes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Makes cargo print what it has built as JSON.
pub(crate) const MESSAGES: &str = "--message-format=json-render-diagnostics";

/// The repository's root folder.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The folder of cargo's own files.
pub(crate) fn home() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// Runs the cargo that runs this command, in the repository's root folder.
pub(crate) fn cargo(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Builds programs and returns their paths by name. cargo shows its progress.
pub(crate) fn build(arguments: &[&str]) -> Result<HashMap<String, PathBuf>> {
    let mut command = cargo(["build", "--bins", MESSAGES]);
    command.args(arguments);
    programs_of(command)
}

/// Runs a build by cargo that prints [`MESSAGES`], and returns the paths of the built programs by name.
pub(crate) fn programs_of(mut build: Command) -> Result<HashMap<String, PathBuf>> {
    let mut cargo = build.stdout(Stdio::piped()).spawn().context("run cargo build")?;
    let mut programs = HashMap::new();
    for line in BufReader::new(cargo.stdout.take().context("read the output of cargo build")?).lines() {
        let line = line.context("read the output of cargo build")?;
        // Other lines come from build scripts.
        if let Ok(message) = serde_json::from_str::<Value>(&line)
            && let (Some(name), Some(path)) =
                (message.pointer("/target/name").and_then(Value::as_str), message["executable"].as_str())
        {
            programs.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    let status = cargo.wait().context("wait for cargo build")?;
    if !status.success() {
        bail!("cargo build exited with {status}");
    }
    Ok(programs)
}

/// Prints a command, runs it, and returns its status.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    let line = line(command);
    eprintln!("$ {line}");
    command.status().with_context(|| format!("run {line}"))
}

/// A command as it is typed, without the folder of the program.
pub(crate) fn line(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(name).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// The exit code of this program for the status of another one: 1 if a signal ended it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
