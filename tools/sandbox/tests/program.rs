//! The program `okid-sandbox` as a process.
#![allow(clippy::unwrap_used, reason = "a failed setup fails the test")]

use std::net::TcpListener;
use std::process::Command;

#[test]
fn a_port_in_use_is_reported_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let sandbox = Command::new(env!("CARGO_BIN_EXE_okid-sandbox"))
        .args(["--api-key", "demo-key-1", "--listen", &address])
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let message = String::from_utf8(sandbox.stderr).unwrap();
    assert_eq!(sandbox.status.code(), Some(1));
    assert!(
        message.starts_with(&format!("okid-sandbox: listen on {address}: Address already in use")),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn the_default_port_is_not_that_of_the_operator() {
    let help = Command::new(env!("CARGO_BIN_EXE_okid-sandbox")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("127.0.0.1:8090]") && !help.contains(":8080"), "{help}");
}
