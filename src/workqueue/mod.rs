//! The work queue: one timer queue that says when each verification is reconciled, fair between namespaces and keys,
//! with bounded concurrency. A panic stays inside one reconcile.
//!
//! May depend on `fairness`, `index` (for record ids), `priority` and tokio.

mod entries;
mod queue;
mod ready;
mod work_queue;

pub(crate) use work_queue::{Disposition, DueReconcile, WorkQueue, WorkQueueSettings};
