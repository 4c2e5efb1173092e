//! The driver: it follows the watch and reconciles one verification at a time: fast path, get, observe, decide, act,
//! commit.
//!
//! May depend on all other modules but `operator` and `settings`. The only module that logs changes of verifications,
//! counts them and reports events, after the write.

mod accounts;
mod act;
mod announcements;
mod cache_entry;
mod claim;
mod commit;
mod create;
mod driver;
mod early_notifications;
mod fast_path;
mod first_responses;
mod follow;
mod gauges;
mod key_wait;
mod keys;
mod notify;
mod observe;
mod probe_slots;
mod recent;
mod reconciler;
mod reconciliation;
mod remember;
mod report;
mod request_limits;
mod requested_polls;
mod sessions;
mod unreported;
mod versions;
mod wait;

pub(crate) use follow::{Followed, ListProgress, follow};
pub(crate) use reconciler::{Clients, Reconciler};
