//! The okID operator: an identity check as a Kubernetes resource.
//!
//! Data moves one way. [`watch`] tells who is alive and whose turn it is. A [`turn`] observes, lets the pure [`lifecycle`]
//! decide, acts at the [`portal`] or stores [`evidence`], lets the lifecycle conclude, and writes the status of the
//! resource, which [`api`] describes. [`operator`] wires all of it by its [`settings`]; [`doors`] show health and
//! [`metrics`].

pub mod api;
#[cfg(test)]
mod documents;
pub mod doors;
pub mod evidence;
pub mod fair;
pub mod lifecycle;
pub mod metrics;
pub mod operator;
pub mod portal;
pub mod priority;
pub mod settings;
pub mod telemetry;
pub mod turn;
pub mod unanswered;
pub mod watch;
