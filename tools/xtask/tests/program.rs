//! The program `xtask` as a process.
#![allow(clippy::unwrap_used, reason = "a failed setup fails the test")]

use std::process::Command;

#[test]
fn a_reader_that_stops_early_causes_no_panic() {
    for command in [&["completions", "bash"][..], &["completions", "zsh"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let xtask = Command::new(env!("CARGO_BIN_EXE_xtask")).args(command).stdout(writer).output().unwrap();
        let message = String::from_utf8(xtask.stderr).unwrap();
        assert!(xtask.status.success() && message.is_empty(), "{command:?}: {} {message}", xtask.status);
    }
}
