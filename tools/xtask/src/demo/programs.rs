//! The programs of this repository that the demo runs. Touches what cargo builds.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cargo::build as build_programs;

/// Where the built programs are.
pub(super) struct Built {
    pub(super) operator: PathBuf,
    pub(super) sandbox: PathBuf,
}

/// Builds both programs; cargo shows its own progress.
pub(super) fn build() -> Result<Built> {
    let mut programs = build_programs(&["--package=okid-operator", "--package=okid-sandbox"])?;
    let mut program = |name| programs.remove(name).with_context(|| format!("cargo build made no {name}"));
    Ok(Built { operator: program("okid-operator")?, sandbox: program("okid-sandbox")? })
}
