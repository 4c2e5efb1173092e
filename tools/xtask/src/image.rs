//! `cargo xtask image`. Runs cargo, and writes below `target/image`.

mod contents;
#[cfg(test)]
mod dockerfile;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use control_plane::oci;

pub(crate) use self::contents::Program;
use self::contents::{MEGABYTE, STATIC};
use crate::cargo::{cargo, home, programs_of, root};
use crate::out;
use crate::tool::Tool;

/// Writes the list of a program's dependencies into the program.
const AUDITABLE: Tool = Tool { name: "cargo-auditable", version: "0.7.7" };
/// Builds of the images share nothing with others, because their flags differ.
const FOLDER: &str = "target/image";
/// Far more than a program needs today.
const LARGEST: usize = 25 * MEGABYTE;

/// Build a container image without a container engine.
///
/// The image holds one statically linked program and the CA certificates of Mozilla, and nothing else. It is written as an OCI
/// archive, which `docker load`, `podman load`, `kind load image-archive` and `cargo xtask cluster load` read. Two builds of
/// one commit have the same digest. The Dockerfile builds an image of the same kind.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The program in the image.
    #[arg(value_enum, default_value_t = Program::Operator)]
    program: Program,
    /// The archive to write [default: target/image/NAME.tar].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The tag of the image [default: the version of the program].
    #[arg(long)]
    tag: Option<String>,
    /// Build the program without optimization, which takes a fraction of the time.
    #[arg(long)]
    dev: bool,
}

pub(crate) fn run(Arguments { program, out, tag, dev }: &Arguments) -> Result<ExitCode> {
    ensure!(cfg!(target_os = "linux"), "an image needs a program for Linux; elsewhere, use the Dockerfile");
    let built = build(*program, *dev)?;
    let binary = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    let image = contents::image(*program, tag.as_deref(), &revision(), binary);
    let archive = oci::archive(&image).context("write the image")?;
    ensure!(
        *dev || archive.layer_size <= LARGEST,
        "the image has {} MB, more than {} MB",
        archive.layer_size / MEGABYTE,
        LARGEST / MEGABYTE
    );
    let path = match out {
        Some(out) => std::path::absolute(out).context("find the folder to write to")?,
        None => root().join(FOLDER).join(format!("{}.tar", program.name())),
    };
    fs::write(&path, &archive.bytes).with_context(|| format!("write {}", path.display()))?;
    out::line(path.display());
    eprintln!("name      {}", image.name);
    eprintln!("platform  linux/{}", image.architecture);
    eprintln!("manifest  {}", archive.manifest);
    eprintln!("layer     {} ({:.1} MB)", archive.layer, in_megabytes(archive.layer_size));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "a figure with one decimal")]
fn in_megabytes(bytes: usize) -> f64 {
    bytes as f64 / MEGABYTE as f64
}

/// Builds a statically linked program and returns its path.
fn build(program: Program, dev: bool) -> Result<PathBuf> {
    let mut command = if dev {
        let mut command = cargo(["build"]);
        // The debug information would be most of the image.
        command.args(["--config", "profile.dev.debug=false", "--config", "profile.dev.strip=\"symbols\""]);
        command
    } else {
        let mut command = Command::new(AUDITABLE.find_or_install()?);
        command.args(["auditable", "build", "--release"]).current_dir(root());
        command
    };
    command
        .args(["--locked", "--package", program.name(), "--bins"])
        .args(["--target", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .args(["--target-dir", FOLDER])
        .env("CARGO_ENCODED_RUSTFLAGS", flags())
        .env_remove("RUSTFLAGS");
    let mut programs = programs_of(command)?;
    programs.remove(program.name()).with_context(|| format!("find the built {}", program.name()))
}

/// The flags of the compiler, as cargo separates them. The paths of this machine would differ on others.
fn flags() -> OsString {
    let mut flags: Vec<OsString> = STATIC.split(' ').map(OsString::from).collect();
    for (path, name) in [(home(), "cargo"), (Some(root().to_owned()), ".")] {
        if let Some(path) = path {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(path);
            flag.push("=");
            flag.push(name);
            flags.push(flag);
        }
    }
    flags.join("\u{1f}".as_ref())
}

/// The commit, with `-dirty` if files were changed since; empty outside of a clone.
fn revision() -> String {
    let describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output = Command::new("git").args(describe).current_dir(root()).output();
    output
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
