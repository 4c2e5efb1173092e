//! Programs from crates.io that commands need. Installs them into the user's cache folder.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::cargo::{cargo, run};

/// A program from crates.io.
#[derive(Debug)]
pub(crate) struct Tool {
    /// Of the crate and of the program.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

impl Tool {
    /// The path of the program, which is built first if that version is not installed yet.
    pub(crate) fn find_or_install(&self) -> Result<PathBuf> {
        let Self { name, version } = self;
        let folder = control_plane::cache_folder()?.join("tools").join(format!("{name}-{version}"));
        let program = folder.join("bin").join(name);
        if !program.is_file() {
            eprintln!("installing {name} {version} from crates.io (once, about two minutes)");
            let mut install = cargo(["install", "--quiet", "--locked", "--version", version, "--root"]);
            let status = run(install.arg(&folder).arg(name))?;
            ensure!(status.success(), "cargo install exited with {status}");
        }
        Ok(program)
    }
}
