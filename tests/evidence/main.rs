//! The room `evidence` against real stores over real HTTP: S3 (s3s-fs, which checks signatures), Azure (Azurite), Google
//! (a server of this harness that speaks the XML API) and a local folder. Before each store on the network stands a
//! [`Proxy`](harness::Proxy) that breaks what a test asks it to break.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a scene that cannot be set up fails its test"
)]

mod azure;
mod faults;
mod folder;
mod harness;
mod identity;
mod invariants;
mod places;
mod removal_faults;
mod wire;
