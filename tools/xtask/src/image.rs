//! `cargo xtask image`. Runs cargo, and writes below `target/image`.

mod contents;
#[cfg(test)]
mod dockerfile;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use control_plane::oci;

use self::contents::{ARM64_PAGES, FLAGS, MEGABYTE};
pub(crate) use self::contents::{Program, VERSION};
use crate::cargo::{MESSAGES, cargo, home, programs_of, root};
use crate::out;
use crate::tool::Tool;

/// Writes the list of a program's dependencies into the program.
const AUDITABLE: Tool = Tool { name: "cargo-auditable", version: "0.7.7" };
/// Builds for releases share nothing with others, because their flags differ. The archives are written there too.
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
    let path = match out {
        Some(out) => std::path::absolute(out).context("find the folder to write to")?,
        None => root().join(FOLDER).join(format!("{}.tar", program.name())),
    };
    let built = build(*program, *dev)?;
    write(&path, *program, &[tag.as_deref().unwrap_or(VERSION)], &built)?;
    out::line(path.display());
    Ok(ExitCode::SUCCESS)
}

/// A built program, and how it was built.
pub(crate) struct Built {
    path: PathBuf,
    dev: bool,
}

/// Writes the image of a program, which has a name for each tag.
pub(crate) fn write(path: &Path, program: Program, tags: &[&str], built: &Built) -> Result<()> {
    let binary = fs::read(&built.path).with_context(|| format!("read {}", built.path.display()))?;
    let image = contents::image(program, tags, &revision(), binary);
    let archive = oci::archive(&image).context("write the image")?;
    ensure!(
        built.dev || archive.layer_size <= LARGEST,
        "the image has {} MB, more than {} MB",
        archive.layer_size / MEGABYTE,
        LARGEST / MEGABYTE
    );
    fs::create_dir_all(path.parent().unwrap_or(path))
        .with_context(|| format!("create the folder of {}", path.display()))?;
    fs::write(path, &archive.bytes).with_context(|| format!("write {}", path.display()))?;
    for name in &image.names {
        eprintln!("name      {name}");
    }
    eprintln!("platform  linux/{}", image.architecture);
    eprintln!("manifest  {}", archive.manifest);
    eprintln!("layer     {} ({:.1} MB)", archive.layer, in_megabytes(archive.layer_size));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure with one decimal")]
fn in_megabytes(bytes: usize) -> f64 {
    bytes as f64 / MEGABYTE as f64
}

/// Builds a statically linked program.
pub(crate) fn build(program: Program, dev: bool) -> Result<Built> {
    ensure!(cfg!(target_os = "linux"), "an image needs a program for Linux; elsewhere, use the Dockerfile");
    let command = if dev { build_unoptimized(program) } else { build_release(program)? };
    let mut programs = programs_of(command)?;
    let path =
        programs.remove(program.name()).with_context(|| format!("find the built {}", program.name()))?;
    Ok(Built { path, dev })
}

/// A build that uses the libraries of other builds: only the linked program differs from theirs.
fn build_unoptimized(program: Program) -> Command {
    let name = program.name();
    let mut command = cargo(["rustc", "--locked", "--package", name, "--bin", name, MESSAGES, "--"]);
    command.args(FLAGS.split(' '));
    // The debug information would be most of the image.
    command.args(["-C", "strip=symbols"]);
    command
}

fn build_release(program: Program) -> Result<Command> {
    let mut command = Command::new(AUDITABLE.find_or_install()?);
    command
        .args([
            "auditable",
            "build",
            "--release",
            "--locked",
            "--package",
            program.name(),
            "--bins",
            MESSAGES,
        ])
        .args(["--target", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .args(["--target-dir", FOLDER])
        .env("CARGO_ENCODED_RUSTFLAGS", flags())
        .env_remove("RUSTFLAGS")
        .envs(cfg!(target_arch = "aarch64").then_some(ARM64_PAGES))
        .current_dir(root());
    Ok(command)
}

/// The flags of the compiler, as cargo separates them. The paths of this machine would differ on others.
fn flags() -> OsString {
    let mut flags: Vec<OsString> = FLAGS.split(' ').map(OsString::from).collect();
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
