//! The operator as a process, against a real API server and a portal over real HTTP.
//!
//! Each test has a [`World`](harness::World) of its own: a namespace, a portal, and an operator that watches only that
//! namespace. All share one control plane. At its end each test calls `World::finish`, which checks what must hold
//! whatever happened.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a scene that cannot be set up fails its test"
)]
#![allow(clippy::float_cmp, reason = "a metric that counts is a whole number")]

mod api_bounds;
mod api_readers;
mod api_rules;
mod api_server_trouble;
mod ask;
mod clocks;
mod crashes;
mod credentials;
mod events;
mod evidence_crashes;
mod evidence_deletion;
mod evidence_places;
mod evidence_trouble;
mod evidence_whole_way;
mod examples;
mod harness;
mod lifecycle_controls;
mod lost_answers;
mod manifests;
mod odd_answers;
mod others_write;
mod outage;
mod permissions;
mod portal_trouble;
mod process;
mod proxies;
mod room;
mod settings;
#[allow(dead_code, reason = "another test program uses the rest of it")]
#[path = "../stores/mod.rs"]
mod stores;
mod waiting;
mod whole_way;
