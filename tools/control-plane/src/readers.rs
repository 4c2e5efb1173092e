//! Programs that read resources and write what the tools that wait for them conclude, built from the Go modules in
//! `tests/readers`. Writes the user's cache folder, and runs `go`.

use std::path::{Path, PathBuf};

use crate::programs::{FindError, Program, Source, build_missing, cache_folder, digest_of, stamp_of};
use crate::progress::Progress;

/// A program of a Go module of its own, because each tool requires other versions of the Kubernetes libraries.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    name: &'static str,
    module: &'static str,
    package: &'static str,
    duration: &'static str,
}

impl Reader {
    /// kstatus, Flux's conformance and expressions, and `kubectl wait`.
    pub const CONVENTIONS: Self = Self {
        name: "conventions",
        module: concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/readers/conventions"),
        package: ".",
        duration: "about a minute",
    };

    /// Finds the program in the user's cache folder, and builds it there if it is missing. Only one process builds at a time.
    ///
    /// # Errors
    /// [`FindError`], which says what to do.
    pub fn find_or_build(&self, progress: Progress) -> Result<PathBuf, FindError> {
        let &Self { name, module, package, duration } = self;
        let folder = cache_folder()?.join("readers").join(format!("{name}-{}", self.stamp()?));
        let program = Program { name, source: Source::Local { module, package }, duration };
        build_missing(&[program], &folder, progress)?;
        Ok(folder.join(name))
    }

    /// The folder of the Go module.
    #[must_use]
    pub fn module(&self) -> &'static Path {
        Path::new(self.module)
    }

    /// A stamp of the files that the program is built from.
    fn stamp(&self) -> Result<String, FindError> {
        digest_of(self.module(), &["go.mod", "go.sum", "main.go"]).map(stamp_of)
    }
}
