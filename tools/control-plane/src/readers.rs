//! The tools that wait for a `Verification`, built from the Go modules in `tests/readers`: whole, or as a program that reads
//! resources and writes what the tool concludes. Writes the user's cache folder, and runs `go`.

use std::path::{Path, PathBuf};

use crate::programs::{FindError, Program, Source, build_missing, cache_folder, digest_of, stamp_of};
use crate::progress::Progress;

/// The package of a module's own program.
const HERE: &str = ".";

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
        package: HERE,
        duration: "about a minute",
    };

    /// Argo CD's health and actions.
    pub const ARGO_CD: Self = Self {
        name: "argo-cd",
        module: concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/readers/argo-cd"),
        package: HERE,
        duration: "about seven minutes",
    };

    /// The step of Argo Workflows that waits for a resource.
    pub const ARGO_WORKFLOWS: Self = Self {
        name: "argo-workflows",
        module: concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/readers/argo-workflows"),
        package: HERE,
        duration: "about five minutes",
    };

    /// Flux's kustomize-controller itself, which is the main package of another module.
    pub const KUSTOMIZE_CONTROLLER: Self = Self {
        name: "kustomize-controller",
        module: concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/readers/kustomize-controller"),
        package: "github.com/fluxcd/kustomize-controller",
        duration: "about five minutes",
    };

    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::CONVENTIONS, Self::ARGO_CD, Self::ARGO_WORKFLOWS, Self::KUSTOMIZE_CONTROLLER];

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
        let files = ["go.mod", "go.sum", "main.go"];
        let files = if self.package == HERE { &files[..] } else { &files[..2] };
        digest_of(self.module(), files).map(stamp_of)
    }
}
