//! Asks the API server what the operator's own account may do. May depend on kube's client, `error`, `permissions`, `request`
//! and `verifications`.

use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
};
use kube::Api;

use super::{
    error::ApiError,
    request::{post_params, within_deadline},
    verifications::Cluster,
};
use crate::permissions::Permission;

/// What the API server says about a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The account has it.
    Granted,
    /// The account does not have it.
    NotGranted,
    /// The account has it by no rule that the API server could evaluate, and it could not evaluate all.
    Unknown,
}

impl Cluster {
    /// The name of this account.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub(crate) async fn own_account(&self) -> Result<String, ApiError> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = within_deadline(api.create(&post_params(), &SelfSubjectReview::default())).await?;
        let user = review.status.and_then(|status| status.user_info);
        user.and_then(|user| user.username).ok_or(ApiError::UNUSABLE)
    }

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
    ) -> Result<Access, ApiError> {
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
        let status = review.status.ok_or(ApiError::UNUSABLE)?;
        Ok(match status.evaluation_error {
            _ if status.allowed => Access::Granted,
            Some(error) if !error.is_empty() => Access::Unknown,
            Some(_) | None => Access::NotGranted,
        })
    }
}
