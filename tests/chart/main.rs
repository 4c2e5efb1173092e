//! The Helm chart: what it renders with each of `charts/okid-operator/ci/*-values.yaml`, and a release on a real API server,
//! which has neither controllers nor nodes. `helm` is the harness.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test whose setup fails must fail"
)]

mod access;
mod arguments;
#[allow(dead_code, reason = "another test program uses the rest")]
#[path = "../apiserver/harness/cluster.rs"]
mod cluster;
mod helm;
mod invariants;
mod network;
mod notes;
mod objects;
mod page;
mod permissions;
mod release;
#[path = "../evidence/harness/skips.rs"]
mod skips;
mod values;
#[path = "../apiserver/harness/wait.rs"]
mod wait;

use wait::{LIMIT, holds, until};
