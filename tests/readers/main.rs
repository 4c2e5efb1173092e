//! What the tools that wait for a `Verification` conclude, by their own code, from every row of the lifecycle (`rows.jsonl`), and
//! from every status that the tests on the API server saw in their last run.
//!
//! Each Go module here is built once into the user's cache folder. `cargo test` ignores those that take minutes; `cargo xtask
//! test readers` runs them too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test whose setup fails must fail"
)]

mod argo_cd;
mod argo_workflows;
mod conventions;
mod promise;
mod reader;
#[path = "../evidence/harness/skips.rs"]
mod skips;
mod statuses;
