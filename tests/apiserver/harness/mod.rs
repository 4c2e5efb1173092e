//! What every test on the API server stands on.
//!
//! `cluster` is the control plane that all tests share, `operator` one process of the operator, `road` its way to the
//! API server, `witness` sees every
//! version of every verification in a namespace, `seen` reads one of them, `evidence` is a store for what is kept, and
//! `world` puts them together.

mod cluster;
pub(crate) mod evidence;
mod operator;
mod road;
mod seen;
mod witness;
mod world;

pub(crate) use cluster::Cluster;
pub(crate) use operator::{Launch, Operator};
pub(crate) use road::{Road, Traffic};
pub(crate) use seen::Seen;
pub(crate) use world::{SECRET, World, new_key};

use std::time::Duration;

/// Far more than anything here takes: a limit for what never comes, not a measure.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// How often something that tells nobody of its changes is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
