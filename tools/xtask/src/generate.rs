//! `cargo xtask generate`. Writes the generated files of the repository.

use std::fs;
use std::io::ErrorKind;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::cargo::root;
use crate::{chart, lifecycle_page, reference};

/// A file that is generated from the code.
struct Generated {
    path: &'static str,
    content: fn() -> Result<String>,
}

/// Every generated file. A new one needs only an entry here.
const FILES: &[Generated] = &[
    Generated {
        path: "crds/verifications.okid.io.yaml",
        content: || Ok(okid_operator::api::definition_yaml()?),
    },
    Generated {
        path: "charts/okid-operator/files/verifications.okid.io.yaml",
        content: || Ok(okid_operator::api::definition_yaml()?),
    },
    Generated { path: "charts/okid-operator/values.schema.json", content: chart::schema },
    Generated { path: "charts/okid-operator/README.md", content: chart::readme },
    Generated { path: "docs/reference/api.md", content: reference::api::page },
    Generated { path: "docs/reference/conditions.md", content: reference::conditions::page },
    Generated { path: "docs/reference/flags.md", content: reference::flags::page },
    Generated { path: "docs/reference/metrics.md", content: reference::metrics::page },
    Generated { path: "docs/reference/lifecycle.md", content: || Ok(lifecycle_page::page()) },
];

/// Write the files that are generated: the CRD, the reference pages, and the chart's schema and page.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; list the files that are out of date, and fail if there are any.
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn run(&Arguments { check }: &Arguments) -> Result<ExitCode> {
    let stale = stale()?;
    for (path, content) in &stale {
        if check {
            eprintln!("{path} is out of date");
        } else {
            write(path, content)?;
            eprintln!("wrote {path}");
        }
    }
    if check && !stale.is_empty() {
        eprintln!("Run `cargo xtask generate` and commit the changes.");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The files that are out of date, with their new content.
fn stale() -> Result<Vec<(&'static str, String)>> {
    let mut stale = Vec::new();
    for &Generated { path, content } in FILES {
        let content = content().with_context(|| format!("generate {path}"))?;
        let present = match fs::read_to_string(root().join(path)) {
            Ok(present) => Some(present),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("read {path}")),
        };
        if present.as_deref() != Some(&content) {
            stale.push((path, content));
        }
    }
    Ok(stale)
}

fn write(path: &str, content: &str) -> Result<()> {
    let file = root().join(path);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create the folder of {path}"))?;
    }
    fs::write(&file, content).with_context(|| format!("write {path}"))
}
