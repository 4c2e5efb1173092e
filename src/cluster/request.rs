//! What every call to the API server has in common. Depends on nothing of this crate.

use std::time::Duration;

/// Deadline of one call. kube's client has no read timeout, and retries on its own.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// The field manager of every write.
pub(super) const FIELD_MANAGER: &str = "okid-operator";
