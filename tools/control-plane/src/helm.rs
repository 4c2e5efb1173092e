//! What tests of the Helm chart need: Helm, and files of Go modules. Writes the user's cache folder, and runs `go`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use etcetera::BaseStrategy as _;

use crate::process;
use crate::programs::{FindError, POLL_INTERVAL, in_path, lock};
use crate::progress::Progress;

const HELM: &str = "helm";
const VERSION: &str = "v4.3.1";
const PACKAGE: &str = "helm.sh/helm/v4/cmd/helm";

/// Finds Helm in the user's cache folder, and builds it there if it is missing. Only one process builds at a time.
///
/// # Errors
/// [`FindError`], which says what to do.
pub fn helm(progress: Progress) -> Result<PathBuf, FindError> {
    let strategy = etcetera::choose_base_strategy().map_err(FindError::CacheFolder)?;
    let folder = strategy.cache_dir().join("okid-operator").join(format!("{HELM}-{VERSION}"));
    let program = folder.join(HELM);
    if !program.is_file() {
        fs::create_dir_all(&folder).map_err(|source| FindError::Write { path: folder.clone(), source })?;
        let _lock = lock(&folder.join("lock"), progress)?;
        if !program.is_file() {
            build(&folder, progress)?;
        }
    }
    Ok(program)
}

/// Builds Helm in another folder and then moves it, so that it is never incomplete.
fn build(folder: &Path, progress: Progress) -> Result<(), FindError> {
    if !in_path("go") {
        return Err(FindError::GoMissing);
    }
    let partial = folder.join("partial");
    let mut task = progress.start(format!("building {HELM} (once, about two minutes)"));
    let go = process::Command::new("go")
        .args(["install", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"])
        .arg(format!("{PACKAGE}@{VERSION}"))
        .env("GOBIN", &partial)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env_remove("GOOS")
        .env_remove("GOARCH")
        .start(folder.join("log"))
        .map_err(FindError::RunGo)?;
    let status = loop {
        match go.wait(POLL_INTERVAL).map_err(FindError::RunGo)? {
            Some(status) => break status,
            None => task.tick(),
        }
    };
    if !status.success() {
        task.end("failed");
        return Err(FindError::Build { program: HELM, status, output: go.log_tail() });
    }
    let path = folder.join(HELM);
    fs::rename(partial.join(HELM), &path).map_err(|source| FindError::Write { path, source })?;
    task.end("done");
    Ok(())
}

/// The folder with the files of a Go module, such as `example.com/module@v1.0.0`, which is downloaded if it is missing. None,
/// if it cannot be had.
#[must_use]
pub fn go_module(module: &str) -> Option<PathBuf> {
    let output =
        Command::new("go").args(["mod", "download", "-json", module]).env("GOWORK", "off").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    // The output is one JSON object with one field on each line.
    let folder =
        text.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \"")?.strip_suffix("\","))?;
    Some(PathBuf::from(folder)).filter(|folder| output.status.success() && folder.is_dir())
}
