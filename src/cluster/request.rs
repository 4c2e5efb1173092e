//! What calls to the API server have in common. May depend on kube's client and `error`.

use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{PatchParams, PostParams},
};
use tokio::time::timeout;

use super::error::ApiError;

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

/// What lists and watches cover: each of these namespaces, or all if there are none.
pub(crate) fn scopes<'a>(namespaces: impl Iterator<Item = &'a str>) -> Vec<Option<&'a str>> {
    let namespaces: Vec<_> = namespaces.map(Some).collect();
    if namespaces.is_empty() { vec![None] } else { namespaces }
}

/// The resources of a namespace, or of all.
pub(super) fn in_scope<K>(client: Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Waits for a response, up to [`DEADLINE`].
///
/// # Errors
///
/// [`ApiError`].
pub(super) async fn within_deadline<T>(
    response: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApiError> {
    match timeout(DEADLINE, response).await {
        Ok(response) => response.map_err(|error| ApiError::from(&error)),
        Err(_) => Err(ApiError::TIMED_OUT),
    }
}
