//! How a run of the operator may fail. Depends on the errors of what it wires.

use super::setup::Setup;
use crate::{cluster::Connect, leader::LeaseLost};

/// Why the operator could not run, or could not shut down cleanly.
#[derive(Debug, thiserror::Error)]
pub enum RunOperator {
    /// Something that a setting names cannot be opened.
    #[error(transparent)]
    Setup(#[from] Setup),
    /// There is no client for the API server.
    #[error(transparent)]
    Cluster(#[from] Connect),
    /// The admin address cannot be served.
    #[error("cannot serve on --admin-address")]
    Admin(#[source] std::io::Error),
    /// The address for notifications cannot be served.
    #[error("cannot serve on --webhook-address")]
    Webhook(#[source] std::io::Error),
    /// The task that follows the watch has panicked, so no change would be seen any more.
    #[error(
        "stopped because the task that follows the watch panicked; see the log, and restart the operator"
    )]
    WatchEnded,
    /// This replica has lost the Lease. The process that replaces it is a standby, or leads again.
    #[error("stopped because this replica no longer leads: {0}")]
    LeaseLost(LeaseLost),
    /// In-flight work did not finish in time.
    #[error(
        "could not record all in-flight work within --shutdown-grace-period; the next start treats its outcome as unknown"
    )]
    Drain,
}
