//! The programs of this repository that the demo runs. Touches what cargo builds.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cargo::cargo;

/// Where the built programs are.
pub(super) struct Built {
    pub(super) operator: PathBuf,
    pub(super) sandbox: PathBuf,
}

/// Builds both programs; cargo shows its own progress.
pub(super) fn build() -> Result<Built> {
    let mut cargo = cargo([
        "build",
        "--package=okid-operator",
        "--package=okid-sandbox",
        "--bins",
        "--message-format=json-render-diagnostics",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .context("run cargo build")?;
    let mut programs = HashMap::new();
    for line in BufReader::new(cargo.stdout.take().context("read what cargo build says")?).lines() {
        let line = line.context("read what cargo build says")?;
        // A line of another form comes from a build script, and is not for us.
        if let Ok(message) = serde_json::from_str::<Value>(&line)
            && let (Some(name), Some(path)) =
                (message.pointer("/target/name").and_then(Value::as_str), message["executable"].as_str())
        {
            programs.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    let status = cargo.wait().context("wait for cargo build")?;
    if !status.success() {
        bail!("cargo build ended with {status}");
    }
    let mut program = |name| programs.remove(name).with_context(|| format!("cargo build made no {name}"));
    Ok(Built { operator: program("okid-operator")?, sandbox: program("okid-sandbox")? })
}
