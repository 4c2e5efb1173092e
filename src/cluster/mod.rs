//! The API server: every call to it, and what is said of those that fail.
//!
//! May depend on `api`, `clock`, `fairness`, `metrics` and kube.

mod connect;
mod decode_error;
mod definition;
mod error;
mod events;
mod failures;
mod last_contact;
mod proxy;
mod rollback;
mod rollback_check;
mod secrets;
mod verifications;
mod watch;
mod watch_client;

pub use connect::Connect;
pub(crate) use connect::connect;
pub(crate) use definition::{INSTALL, WAITING, wait_for_definition};
pub use error::ApiError;
pub use events::Reporter;
pub use events::note::OwnPod;
pub use failures::FailureLog;
pub(crate) use failures::ServerCall;
pub use last_contact::LastContact;
pub use proxy::InvalidProxy;
pub use rollback::{LIST_AGAIN, Lists, NewestVersion, Said};
pub(crate) use rollback_check::until_rewound;
pub(crate) use secrets::cache::Found;
pub use secrets::{ReadSecret, Secrets};
pub(crate) use verifications::{DEADLINE, Read, Written, is_written, says_gone};
pub use watch::{Change, Identity, Interrupted, StreamSettings, changes};
