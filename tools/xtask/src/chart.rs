//! The files of the Helm chart that are generated: its schema and its page, from the comments in `values.yaml`.

mod readme;
mod schema;
mod values;

use std::fs;

use anyhow::{Context as _, Result};

use crate::cargo::root;
use values::Values;

const FOLDER: &str = "charts/okid-operator";

/// `values.schema.json`.
pub(crate) fn schema() -> Result<String> {
    schema::schema(&read()?)
}

/// `README.md`.
pub(crate) fn readme() -> Result<String> {
    readme::page(&read()?)
}

fn read() -> Result<Values> {
    let path = root().join(FOLDER).join("values.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Values::parse(&text)
}
