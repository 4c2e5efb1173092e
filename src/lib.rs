//! The okID operator: an identity check as a Kubernetes resource.
//!
//! The modules stand in the order in which data moves through them: [`watch`] tells who is alive and whose turn it is;
//! a [`turn`] observes, lets the pure [`lifecycle`] decide, acts at the [`portal`], lets the lifecycle conclude, and
//! writes status.

pub mod api;
pub mod doors;
pub mod evidence;
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
