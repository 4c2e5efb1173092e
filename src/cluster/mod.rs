//! The API server: every call to it, and the reports of those that fail.
//!
//! The only module that holds a `kube::Client`. May depend on `api`, `backoff`, `clock`, `fairness`, `incidents`, `metrics`,
//! `permissions`, `tls`, on the events and key faults of `lifecycle`, and on the key type of `portal`, into which it reads Secrets.

mod access_review;
mod connect;
mod decode_error;
mod definition;
mod deletion;
mod error;
mod events;
mod failures;
mod finalizers;
mod last_contact;
mod lease;
mod merge_patch;
mod proxy;
mod request;
mod request_metrics;
mod rollback;
mod rollback_check;
mod schema;
mod secrets;
#[cfg(test)]
pub(crate) mod test_client;
mod verifications;
mod watch;
mod watch_client;

pub(crate) use access_review::Access;
pub(crate) use connect::{Connect, connect};
pub(crate) use definition::{INSTALL, WAITING};
pub(crate) use deletion::Deletion;
pub(crate) use error::ApiError;
pub(crate) use events::note::OwnPod;
pub(crate) use finalizers::{HeldVerification, LeftEvidence};
pub(crate) use lease::{LeaseNotWritten, LeaseRecord, LeaseRef, StoredLease};
pub(crate) use request::{DEADLINE, scopes};
pub(crate) use secrets::{KeyLookup, ReadSecret, Secrets};
pub(crate) use verifications::{Cluster, Read, Written, fairness_key, is_written, prune};
pub(crate) use watch::{Change, Interrupted};
