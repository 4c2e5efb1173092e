//! Helm. Writes the user's cache folder, and runs `go`.

use std::path::PathBuf;

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
