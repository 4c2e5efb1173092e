//! `cargo xtask sbom`. Runs cargo-cyclonedx, which writes beside each manifest of the workspace, and moves one file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cargo::{cargo, root, run as run_command};
use crate::image::Program;
use crate::out;
use crate::tool::Tool;

const CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9" };

/// Write the bill of materials of a program: every crate in it, as `CycloneDX` 1.5 in JSON.
///
/// It lists the crates that are linked into the program for Linux, without those of its build and its tests.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The program.
    #[arg(value_enum, default_value_t = Program::Operator)]
    program: Program,
    /// The file to write [default: target/NAME.cdx.json].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(Arguments { program, out }: &Arguments) -> Result<ExitCode> {
    let tool = CYCLONEDX.find_or_install()?;
    let name = format!("sbom-{}", std::process::id());
    let written = Written::within(&folders()?, &format!("{name}.json"));
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cyclonedx = Command::new(tool);
    cyclonedx
        .args([
            "cyclonedx",
            "--quiet",
            "--format",
            "json",
            "--spec-version",
            "1.5",
            "--all",
            "--no-build-deps",
        ])
        .args(["--target", &target, "--override-filename", &name])
        .current_dir(root());
    if let Some(time) = commit_time() {
        cyclonedx.env("SOURCE_DATE_EPOCH", time);
    }
    let status = run_command(&mut cyclonedx)?;
    ensure!(status.success(), "cargo-cyclonedx exited with {status}");

    let path = match out {
        Some(out) => std::path::absolute(out).context("find the folder to write to")?,
        None => root().join("target").join(format!("{}.cdx.json", program.name())),
    };
    fs::copy(written.of(program.folder())?, &path).with_context(|| format!("write {}", path.display()))?;
    out::line(path.display());
    Ok(ExitCode::SUCCESS)
}

/// The folders of the workspace's packages.
fn folders() -> Result<Vec<PathBuf>> {
    let output =
        cargo(["metadata", "--no-deps", "--format-version=1"]).output().context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata exited with {}", output.status);
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")?;
    let packages = metadata["packages"].as_array().context("find the packages of the workspace")?;
    let manifests = packages.iter().filter_map(|package| package["manifest_path"].as_str());
    Ok(manifests.filter_map(|path| Path::new(path).parent()).map(Path::to_owned).collect())
}

/// The time of the commit in seconds, so that the same commit has the same bill.
fn commit_time() -> Option<String> {
    let output = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Files that cargo-cyclonedx writes. Dropping this value removes them.
struct Written {
    paths: Vec<PathBuf>,
}

impl Written {
    fn within(folders: &[PathBuf], name: &str) -> Self {
        Self { paths: folders.iter().map(|folder| folder.join(name)).collect() }
    }

    /// The one in a folder of the repository.
    fn of(&self, folder: &str) -> Result<&Path> {
        let folder = root().join(folder);
        let folder = folder.components().as_path();
        let path = self.paths.iter().find(|path| path.parent() == Some(folder));
        path.map(PathBuf::as_path).with_context(|| format!("find the package in {}", folder.display()))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for path in &self.paths {
            // If one cannot be removed, git shows it.
            let _ = fs::remove_file(path);
        }
    }
}
