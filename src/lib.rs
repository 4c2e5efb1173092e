//! The okID operator: an identity check as a Kubernetes resource.
//!
//! The modules stand in the order in which data moves through them.
pub mod api;
pub mod lifecycle;
pub mod portal;
pub mod turn;
pub mod watch;
