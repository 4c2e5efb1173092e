//! What notifications of the portal save, how soon a verdict shows with them, and what forged ones cost. Starts processes.

mod flood;
mod live;
mod simulation;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use control_plane::Progress;
use serde_json::json;

use super::result::BenchResult;

/// The name under which notifications arrive, their secret, and the header of their signature.
const NAME: &str = "okid";
const SECRET: &str = "whsec_0123456789abcdef";
const HEADER: &str = "X-Signature";

pub(super) fn measure(progress: Progress, operator: &Path) -> Result<Vec<BenchResult>> {
    let mut results = simulation::measure(progress)?;
    results.extend(live::measure(progress, operator)?);
    results.extend(flood::measure(progress, operator)?);
    Ok(results)
}

/// Writes the files of a receiver into a folder, and returns the arguments that name them.
fn arguments(folder: &Path) -> Result<Vec<String>> {
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    };
    let secrets = write("secrets", SECRET)?;
    let entry = json!({"name": NAME, "secretsFile": secrets, "hmac": {"header": HEADER, "encoding": "hex"}});
    let file = write("webhooks.yaml", &json!({"webhooks": [entry]}).to_string())?;
    let file = file.to_string_lossy();
    // Forged calls are checked, however many there are.
    let arguments =
        ["--webhook-address", "127.0.0.1:0", "--webhooks-file", &file, "--webhook-source-rate", "0"];
    Ok(arguments.map(str::to_owned).to_vec())
}
