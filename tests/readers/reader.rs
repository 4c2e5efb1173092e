//! Runs a program that reads resources and writes what a tool concludes from each. Touches processes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use control_plane::{Progress, Reader};
use serde_json::Value;

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What the program concludes from each resource, in their order.
pub(crate) fn conclusions<'a>(
    reader: &Reader,
    arguments: &[&str],
    resources: impl IntoIterator<Item = &'a Value>,
) -> Vec<Value> {
    let program = reader.find_or_build(Progress::detect()).expect("build the reader");
    let mut lines = String::new();
    for resource in resources {
        lines.push_str(&resource.to_string());
        lines.push('\n');
    }
    let mut running = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut input = running.stdin.take().unwrap();
    // From another thread, because the program writes while it reads.
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    writer.join().unwrap().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Fails with every case that is contradicted.
pub(crate) fn assert_none(contradictions: &[String]) {
    let shown = contradictions.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(contradictions.is_empty(), "{} contradictions:\n{shown}", contradictions.len());
}
