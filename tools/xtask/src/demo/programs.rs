//! The programs of this repository that the demo runs.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cargo::build as build_programs;

/// Paths of the built programs.
pub(super) struct Built {
    pub(super) operator: PathBuf,
    pub(super) sandbox: PathBuf,
}

/// Builds both programs. cargo shows its progress.
pub(super) fn build() -> Result<Built> {
    let mut programs = build_programs(&["--package=okid-operator", "--package=okid-sandbox"])?;
    let mut program = |name| programs.remove(name).with_context(|| format!("find the built {name}"));
    Ok(Built { operator: program("okid-operator")?, sandbox: program("okid-sandbox")? })
}
