//! The harness of every test on the API server.
//!
//! `cluster` is the control plane that all tests share, `operator` one process of the operator, `api_server_proxy` a
//! proxy between the two, `history` records every version of every verification in a namespace, `verification_ext` reads
//! one of them, `evidence` is an object store. `world` puts them together: `builder` sets it up, `events` reads its events,
//! and `finish` checks the invariants.

mod api_server_proxy;
mod builder;
mod cluster;
mod events;
pub(crate) mod evidence;
mod finish;
mod history;
mod operator;
mod verification_ext;
mod world;

pub(crate) use api_server_proxy::{ApiServerProxy, Traffic};
pub(crate) use cluster::Cluster;
pub(crate) use operator::{Launch, Operator};
pub(crate) use verification_ext::VerificationExt;
pub(crate) use world::{SECRET, World, new_key};

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// The timeout of every wait: far longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_mins(5);

/// How often a state without change notifications is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Checks a state without change notifications until there is a result, and returns it. After [`LIMIT`] it panics with a
/// report of what was found instead.
pub(crate) async fn until<T, E>(
    mut check: impl AsyncFnMut() -> Result<T, E>,
    report: impl FnOnce(E) -> String,
) -> T {
    let since = Instant::now();
    loop {
        match check().await {
            Ok(found) => return found,
            Err(instead) if since.elapsed() >= LIMIT => panic!("{}", report(instead)),
            Err(_) => sleep(CHECK_INTERVAL).await,
        }
    }
}

/// A condition of [`until`], where nothing is known but whether it holds.
pub(crate) fn holds(condition: bool) -> Result<(), ()> {
    condition.then_some(()).ok_or(())
}
