//! The operator as a process, against a real API server and a portal over real HTTP.
//!
//! Each test has a [`World`](harness::World) of its own: a namespace, a portal, and an operator that watches only that
//! namespace. All share one control plane. At its end each test calls `World::finish`, which checks the invariants.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test whose setup fails must fail"
)]
#![allow(clippy::float_cmp, reason = "a counter is a whole number")]

mod api_bounds;
mod api_readers;
mod api_rules;
mod api_server_failures;
mod clocks;
mod conflicting_writers;
mod crashes;
mod credentials;
mod events;
mod evidence_conflicts;
mod evidence_crashes;
mod evidence_deletion;
mod evidence_failures;
mod evidence_images;
mod evidence_lifecycle;
mod evidence_limits;
mod evidence_namespaces;
mod examples;
mod full_lifecycle;
mod harness;
mod key_rotation;
mod kubectl_wait;
mod leader_election;
mod least_privilege;
mod lifecycle_controls;
mod log;
mod lost_responses;
mod manifests;
mod outage;
mod outdated_definition;
mod permissions;
mod portal_failures;
mod portal_pauses;
mod process;
mod proxies;
mod recipes;
mod requests;
mod resource_size;
mod restored_backup;
mod scope;
mod settings;
mod slow_portal;
#[allow(dead_code, reason = "another test program uses the rest")]
#[path = "../stores/mod.rs"]
mod stores;
mod ttl;
mod unusual_responses;
mod webhook;
