//! The program has the settings of its allocator in itself, so that it has them wherever it was built.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::process::Command;

#[test]
fn the_program_brings_the_settings_of_its_allocator_along() {
    let mut operator = Command::new(env!("CARGO_BIN_EXE_okid-operator"));
    let output = operator.arg("crd").env("_RJEM_MALLOC_CONF", "confirm_conf:true").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let settings = "global variable malloc_conf): \"narenas:2,dirty_decay_ms:50,muzzy_decay_ms:0\"";
    assert!(log.contains(settings), "{log}");
}
