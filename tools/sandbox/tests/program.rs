//! The program, as a person meets it. Touches processes.
#![allow(clippy::unwrap_used, reason = "a scene that cannot be set up fails its test")]

use std::net::TcpListener;
use std::process::Command;

#[test]
fn a_port_in_use_is_told_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let sandbox = Command::new(env!("CARGO_BIN_EXE_okid-sandbox"))
        .args(["--api-key", "demo-key-1", "--listen", &address])
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let told = String::from_utf8(sandbox.stderr).unwrap();
    assert_eq!(sandbox.status.code(), Some(1));
    assert!(
        told.starts_with(&format!("okid-sandbox: listen on {address}: Address already in use")),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
}
