//! Runs a program that reads resources and writes what a tool concludes from each. Touches processes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use control_plane::{Progress, Reader};
use okid_operator::api::Verification;
use serde::de::DeserializeOwned;

use crate::statuses::Case;

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What the program concludes from each resource.
pub(crate) fn conclusions<T: DeserializeOwned>(
    reader: &Reader,
    arguments: &[&str],
    cases: Vec<Case>,
) -> Vec<(Case, Verification, T)> {
    let resources: String = cases.iter().map(|case| case.resource.to_string() + "\n").collect();
    let conclusions = run(reader, arguments, resources);
    assert_eq!(conclusions.lines().count(), cases.len());
    let parse = |(case, conclusion): (Case, &str)| {
        let resource = serde_json::from_value(case.resource.clone()).unwrap();
        (case, resource, serde_json::from_str(conclusion).unwrap())
    };
    cases.into_iter().zip(conclusions.lines()).map(parse).collect()
}

/// The output of the program.
fn run(reader: &Reader, arguments: &[&str], input: String) -> String {
    let program = reader.find_or_build(Progress::detect()).expect("build the reader");
    let mut running = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut pipe = running.stdin.take().unwrap();
    // From another thread, because the program writes while it reads.
    let writer = std::thread::spawn(move || pipe.write_all(input.as_bytes()));
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    writer.join().unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with every case that is contradicted.
pub(crate) fn assert_none(contradictions: &[String]) {
    let shown = contradictions.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(contradictions.is_empty(), "{} contradictions:\n{shown}", contradictions.len());
}
