//! What every test on the API server stands on.
//!
//! `cluster` is the control plane that all tests share, `operator` one process of the operator, `road` its way to the
//! API server, `witness` sees every version of every verification in a namespace, `seen` reads one of them, `evidence` is a
//! store for what is kept. `world` puts them together: `builder` sets the scene, `events` is what it was told, and `end`
//! checks what must hold whatever happened.

mod builder;
mod cluster;
mod end;
mod events;
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
pub(crate) const LIMIT: Duration = Duration::from_mins(5);

/// How often something that tells nobody of its changes is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
