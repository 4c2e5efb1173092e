//! Asks the API server what the operator's own account may do. May depend on kube's client, `error`, `permissions`, `request`
//! and `verifications`.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;

use super::{
    error::ApiError,
    request::{post_params, within_deadline},
    verifications::Cluster,
};
use crate::permissions::Permission;

impl Cluster {
    /// Whether this account has a permission in a namespace, or in the whole cluster. With `object`, it need
    /// only cover the object of that name.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub(crate) async fn may(
        &self,
        permission: &Permission,
        namespace: Option<&str>,
        object: Option<&str>,
    ) -> Result<bool, ApiError> {
        let (resource, subresource) = match permission.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (permission.resource, None),
        };
        let attributes = ResourceAttributes {
            namespace: namespace.map(str::to_owned),
            group: Some(permission.api_group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            name: object.map(str::to_owned),
            verb: Some(permission.verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let review = within_deadline(api.create(&post_params(), &review)).await?;
        Ok(review.status.is_some_and(|status| status.allowed))
    }
}
