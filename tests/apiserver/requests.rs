//! Requests about verifications as raw JSON, so that values that do not fit the types can be sent too. Touches the API
//! server.

use std::sync::atomic::{AtomicU32, Ordering};

use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use okid_operator::api::Verification;
use serde_json::{Value, json};

use crate::harness::Cluster;

/// One request to the API server.
#[derive(Clone, Debug)]
pub(crate) enum ApiRequest {
    /// Create a resource with this spec, merged into the minimal one.
    Create(Value),
    /// Patch the resource, by merging.
    Patch(Value),
    /// Patch `status` on the subresource, by merging.
    PatchStatus(Value),
    /// Replace `status` on the subresource.
    ReplaceStatus(Value),
}

/// The outcome of a request.
#[derive(Debug)]
pub(crate) enum ApiResponse {
    /// The resource as it is now, without its type.
    Accepted(Value),
    /// It was refused.
    Refused {
        /// The status code.
        code: u16,
        /// The field and the message of each cause.
        causes: Vec<(String, String)>,
    },
}

/// A namespace of its own, in which no operator runs.
pub(crate) struct TestNamespace {
    cluster: &'static Cluster,
    api: Api<DynamicObject>,
    client: Client,
    name: String,
    created: AtomicU32,
}

impl TestNamespace {
    pub(crate) async fn new() -> Self {
        let cluster = Cluster::shared().await;
        let client = cluster.client().await;
        let name = cluster.new_namespace(&client).await;
        let resource = ApiResource::erase::<Verification>(&());
        let api = Api::namespaced_with(client.clone(), &name, &resource);
        Self { cluster, api, client, name, created: AtomicU32::new(0) }
    }

    /// Deletes every resource of the namespace.
    pub(crate) async fn delete_all(self) {
        self.api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    }

    pub(crate) fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    pub(crate) fn api(&self) -> &Api<DynamicObject> {
        &self.api
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Creates a resource with this spec, merged into the minimal one, and writes its status; returns its name.
    pub(crate) async fn create(&self, spec: Value, status: Value) -> String {
        let ApiResponse::Accepted(created) = self.send(None, &ApiRequest::Create(spec)).await else {
            panic!("the spec is refused")
        };
        let name = created["metadata"]["name"].as_str().unwrap().to_owned();
        if status != json!({}) {
            let response = self.send(Some(&name), &ApiRequest::PatchStatus(status)).await;
            assert!(
                matches!(response, ApiResponse::Accepted(_)),
                "the first status is refused: {response:?}"
            );
        }
        name
    }

    /// Sends a request about the resource of that name; a create has none.
    pub(crate) async fn send(&self, name: Option<&str>, request: &ApiRequest) -> ApiResponse {
        let name = name.unwrap_or_default();
        let params = PatchParams::default();
        let result = match request {
            ApiRequest::Create(spec) => self.api.create(&PostParams::default(), &self.new_object(spec)).await,
            ApiRequest::Patch(patch) => self.api.patch(name, &params, &Patch::Merge(patch)).await,
            ApiRequest::PatchStatus(status) => {
                self.api.patch_status(name, &params, &Patch::Merge(json!({"status": status}))).await
            }
            ApiRequest::ReplaceStatus(status) => {
                let mut object = self.api.get(name).await.unwrap();
                object.data["status"] = status.clone();
                self.api.replace_status(name, &PostParams::default(), &object).await
            }
        };
        response(result)
    }

    /// Sends a change of status as a dry run.
    pub(crate) async fn dry_run_status(&self, name: &str, status: &Value) -> ApiResponse {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        response(self.api.patch_status(name, &params, &Patch::Merge(json!({"status": status}))).await)
    }

    /// Sends a create as a dry run.
    pub(crate) async fn dry_run_create(&self, spec: &Value) -> ApiResponse {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        response(self.api.create(&params, &self.new_object(spec)).await)
    }

    /// An object with this spec, merged into the minimal one, that does not exist yet.
    pub(crate) fn new_object(&self, spec: &Value) -> DynamicObject {
        let name = format!("v-{}", self.created.fetch_add(1, Ordering::Relaxed));
        let mut minimal = json!({"apiKeySecretRef": {"name": "okid-api-key"}});
        merge(&mut minimal, spec);
        DynamicObject::new(&name, &ApiResource::erase::<Verification>(&())).data(json!({"spec": minimal}))
    }
}

fn response(result: kube::Result<DynamicObject>) -> ApiResponse {
    match result {
        Ok(object) => {
            let mut json = object.data;
            json["metadata"] = serde_json::to_value(object.metadata).unwrap();
            ApiResponse::Accepted(json)
        }
        Err(kube::Error::Api(status)) => {
            let causes = status.details.map(|details| details.causes).unwrap_or_default();
            ApiResponse::Refused {
                code: status.code,
                causes: causes.into_iter().map(|cause| (cause.field, cause.message)).collect(),
            }
        }
        Err(error) => panic!("call the API server: {error}"),
    }
}

/// Merges an object into another one.
pub(crate) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// A condition as it is written in status.
pub(crate) fn condition(type_: &str, status: &str) -> Value {
    json!({
        "type": type_,
        "status": status,
        "reason": "Example",
        "message": "",
        "lastTransitionTime": "2026-01-01T12:00:00Z",
        "observedGeneration": 1,
    })
}
