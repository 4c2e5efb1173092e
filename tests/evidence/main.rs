//! The module `store` against real stores over HTTP: S3 (s3s-fs, which checks signatures), Azure (Azurite), Google (a server of
//! this harness with the XML API) and a local folder. In front of each store on the network is a [`Proxy`](harness::Proxy) that
//! injects the faults of a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test whose setup fails has failed"
)]

mod azure;
mod faults;
mod folder;
mod harness;
mod identity;
mod invariants;
mod locations;
mod removal_faults;
mod wire;
