//! When each verification is reconciled: one timer queue, fair between namespaces and keys, with bounded concurrency. A panic
//! stays inside one reconcile.
//!
//! May depend on `fairness`, `index` (for the handle of a record), `priority` and tokio.

mod queue;
mod ready;
mod work_queue;

pub use work_queue::{Disposition, DueReconcile, QueueSnapshot, WorkQueue, WorkQueueSettings};
