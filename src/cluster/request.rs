//! What every call to the API server has in common. May depend on the types of kube's client.

use std::time::Duration;

use kube::api::{PatchParams, PostParams};

/// Deadline of one call. kube's client has no read timeout, and retries on its own.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// The field manager of every write.
const FIELD_MANAGER: &str = "okid-operator";

/// Parameters of every create and update.
pub(super) fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// Parameters of every patch.
pub(super) fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}
