//! What tests of the Helm chart need: Helm, and files of Go modules. Writes the user's cache folder, and runs `go`.

use std::path::PathBuf;
use std::process::Command;

use crate::programs::{FindError, Program, Source, build_missing, cache_folder};
use crate::progress::Progress;

const HELM: Program = Program {
    name: "helm",
    source: Source::Module("helm.sh/helm/v4/cmd/helm@v4.3.1"),
    duration: "about two minutes",
};
const FOLDER: &str = "helm-v4.3.1";

/// Finds Helm in the user's cache folder, and builds it there if it is missing. Only one process builds at a time.
///
/// # Errors
/// [`FindError`], which says what to do.
pub fn helm(progress: Progress) -> Result<PathBuf, FindError> {
    let folder = cache_folder()?.join(FOLDER);
    build_missing(&[HELM], &folder, progress)?;
    Ok(folder.join(HELM.name))
}

/// The folder with the files of a Go module, such as `example.com/module@v1.0.0`, which is downloaded if it is missing. `None`
/// if it cannot be downloaded.
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
