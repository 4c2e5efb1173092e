//! The calls of `okid-operator release-finalizers`: they stop the operator, find the verifications that have its finalizer,
//! and remove it. May depend on kube's client, `error`, `request` and `verifications`.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, Patch},
    core::ObjectMeta,
};
use serde_json::{Value, json};

use super::{
    error::ApiError,
    request::{in_scope, patch_params, within_deadline},
    verifications::Cluster,
};
use crate::api::{EVIDENCE_FINALIZER, Verification};

/// A verification that has the finalizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldVerification {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its uid.
    pub(crate) uid: String,
    /// The index of the finalizer in its list of finalizers.
    position: usize,
}

/// The verifications on one page of a list that have the finalizer.
#[derive(Debug, Default)]
pub(crate) struct HeldPage {
    /// The verifications.
    pub(crate) held: Vec<HeldVerification>,
    /// The token of the next page; `None` after the last one.
    pub(crate) next: Option<String>,
}

/// The evidence that a status lists, which stays in its store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftEvidence {
    /// The URL of its folder; `None` if no upload is recorded.
    pub(crate) url: Option<String>,
    /// How many objects are listed there.
    pub(crate) objects: usize,
}

impl HeldVerification {
    /// Reads the metadata of a verification; `None` if it does not have the finalizer.
    fn from_metadata(metadata: ObjectMeta) -> Option<Self> {
        let finalizers = metadata.finalizers?;
        Some(Self {
            position: finalizers.iter().position(|finalizer| finalizer == EVIDENCE_FINALIZER)?,
            namespace: metadata.namespace?,
            name: metadata.name?,
            uid: metadata.uid?,
        })
    }

    /// The operations that remove the finalizer and change nothing else. They are refused if another
    /// verification has the name by now, or if the finalizers have changed; other changes do not matter.
    fn removal(&self) -> Value {
        let finalizer = format!("/metadata/finalizers/{}", self.position);
        json!([
            {"op": "test", "path": "/metadata/uid", "value": self.uid},
            {"op": "test", "path": finalizer, "value": EVIDENCE_FINALIZER},
            {"op": "remove", "path": finalizer},
        ])
    }
}

impl LeftEvidence {
    /// Reads the status of an object that need not be a valid verification.
    fn from_object(object: &Value) -> Self {
        let evidence = &object["status"]["evidence"];
        let objects = evidence["objects"].as_array().into_iter().flatten();
        Self {
            url: evidence["prefix"].as_str().map(str::to_owned),
            objects: objects.filter(|object| object["state"] == "Stored").count(),
        }
    }
}

impl Cluster {
    /// Lists up to `limit` verifications, in one namespace or in all, and returns those that have the finalizer. There
    /// are none if there is no definition.
    ///
    /// # Errors
    ///
    /// [`ApiError`]. It may be [`ApiError::TIMED_OUT`] because the metadata on one page are too large.
    pub(crate) async fn with_finalizer(
        &self,
        namespace: Option<&str>,
        selector: Option<&str>,
        limit: u32,
        page: Option<&str>,
    ) -> Result<HeldPage, ApiError> {
        let api: Api<Verification> = in_scope(self.client.clone(), namespace);
        let params = ListParams {
            label_selector: selector.map(str::to_owned),
            limit: Some(limit),
            continue_token: page.map(str::to_owned),
            ..ListParams::default()
        };
        let list = match within_deadline(api.list_metadata(&params)).await {
            Err(error) if error.code() == Some(404) => return Ok(HeldPage::default()),
            list => list?,
        };
        Ok(HeldPage {
            held: list
                .items
                .into_iter()
                .filter_map(|item| HeldVerification::from_metadata(item.metadata))
                .collect(),
            next: list.metadata.continue_.filter(|token| !token.is_empty()),
        })
    }

    /// Removes the finalizer from a verification, the rest of which need not be valid. Returns the evidence that is left;
    /// `None` if the verification is gone.
    ///
    /// # Errors
    ///
    /// [`ApiError`], with the code 409 or 422 if its finalizers were changed by another client.
    pub(crate) async fn remove_finalizer(
        &self,
        held: &HeldVerification,
    ) -> Result<Option<LeftEvidence>, ApiError> {
        let resource = ApiResource::erase::<Verification>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &held.namespace, &resource);
        let operations = serde_json::from_value(held.removal()).map_err(|_| ApiError::UNUSABLE)?;
        let patch = Patch::<()>::Json(operations);
        match within_deadline(api.patch(&held.name, &patch_params(), &patch)).await {
            Ok(object) => Ok(Some(LeftEvidence::from_object(&object.data))),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Scales a Deployment to zero. Succeeds if there is none.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub(crate) async fn stop_deployment(&self, namespace: &str, name: &str) -> Result<(), ApiError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
        match within_deadline(api.patch_scale(name, &patch_params(), &patch)).await {
            Err(error) if error.code() != Some(404) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether a Pod with these labels is running or ending.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub(crate) async fn has_pods(&self, namespace: &str, selector: &str) -> Result<bool, ApiError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = within_deadline(api.list(&ListParams::default().labels(selector))).await?;
        let has_ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        Ok(!pods.iter().all(has_ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(finalizers: &[&str]) -> Option<HeldVerification> {
        let metadata = json!({
            "namespace": "kyc", "name": "alice", "uid": "1", "finalizers": finalizers,
        });
        HeldVerification::from_metadata(serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn only_our_finalizer_is_removed_and_the_others_stay() {
        let finalizers = ["example.com/a", EVIDENCE_FINALIZER, "example.com/b"];
        let removal = held(&finalizers).unwrap().removal();
        let operations: json_patch::Patch = serde_json::from_value(removal.clone()).unwrap();
        let mut object = json!({"metadata": {"uid": "1", "finalizers": finalizers, "labels": {"new": "1"}}});
        json_patch::patch(&mut object, &operations).unwrap();
        assert_eq!(object["metadata"]["finalizers"], json!(["example.com/a", "example.com/b"]));
        json_patch::patch(&mut object, &operations).unwrap_err();
        assert_eq!(held(&["example.com/a"]), None);
        assert_eq!(held(&[]), None);
    }

    #[test]
    fn the_evidence_that_is_left_is_what_status_lists_as_stored() {
        let objects = json!([{"state": "Stored"}, {"state": "Absent"}, {"state": "Stored"}]);
        let object = json!({"status": {"evidence": {"prefix": "s3://evidence/kyc", "objects": objects}}});
        let left = LeftEvidence { url: Some("s3://evidence/kyc".to_owned()), objects: 2 };
        assert_eq!(LeftEvidence::from_object(&object), left);
        assert_eq!(LeftEvidence::from_object(&json!({"status": 1})), LeftEvidence::default());
    }
}
