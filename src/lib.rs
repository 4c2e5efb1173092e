//! The okID operator: an identity check as a Kubernetes resource.
//!
//! | module | is |
//! |---|---|
//! | [`api`] | the Verification: types, rules, condition types and reasons |
//! | [`lifecycle`] | pure: what to do, and what is then true |
//! | `cluster` | every call to the API server |
//! | [`portal`] | every call to okID |
//! | [`store`] | object storage: every call to a store |
//! | [`evidence`] | images and results, from the portal into a store |
//! | `index` | a compact record of each live Verification |
//! | `workqueue` | when each is reconciled: one timer queue, fair and bounded |
//! | `leader` | which of several replicas reconciles: the Lease |
//! | [`webhook`] | the portals' notifications |
//! | `reconcile` | the driver: observe, decide, act, commit |
//! | [`operator`] | the wiring, by its [`settings`] |
//!
//! Small modules that all may use: `backoff`, `clock`, `connect_error`, `failpoints`, `fairness`, `incidents`, [`metrics`],
//! `origin` (allow-lists of URLs), [`permissions`], `priority`, [`telemetry`], [`tls`].

mod admin;
pub mod api;
mod backoff;
mod clock;
mod cluster;
mod connect_error;
#[cfg(test)]
mod documentation;
pub mod evidence;
mod failpoints;
mod fairness;
#[cfg(test)]
mod imports;
mod incidents;
mod index;
mod leader;
pub mod lifecycle;
pub mod metrics;
pub mod operator;
mod origin;
pub mod permissions;
pub mod portal;
mod priority;
mod rate_limit;
mod reconcile;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod webhook;
mod workqueue;
