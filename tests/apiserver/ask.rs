//! Asking the API server about verifications as raw JSON, so that what does not fit the types can be asked too.

use std::sync::atomic::{AtomicU32, Ordering};

use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use okid_operator::api::Verification;
use serde_json::{Value, json};

use crate::harness::Cluster;

/// One thing that somebody asks of the API server.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// A new resource with this spec, beside the least one.
    Create(Value),
    /// A merge patch of the resource.
    Patch(Value),
    /// A merge patch of `status`, on the subresource.
    PatchStatus(Value),
    /// Another `status` in place of the one that is there, on the subresource.
    ReplaceStatus(Value),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The resource as it is now, without its type.
    Done(Value),
    /// It was refused.
    Refused {
        /// The status code.
        code: u16,
        /// The field and the sentence of each cause.
        causes: Vec<(String, String)>,
    },
}

/// A namespace of its own, in which no operator runs.
pub(crate) struct Desk {
    cluster: &'static Cluster,
    api: Api<DynamicObject>,
    client: Client,
    namespace: String,
    laid: AtomicU32,
}

impl Desk {
    pub(crate) async fn set() -> Self {
        let cluster = Cluster::shared().await;
        let client = cluster.client().await;
        let namespace = cluster.new_namespace(&client).await;
        let resource = ApiResource::erase::<Verification>(&());
        let api = Api::namespaced_with(client.clone(), &namespace, &resource);
        Self { cluster, api, client, namespace, laid: AtomicU32::new(0) }
    }

    /// Deletes all that was laid.
    pub(crate) async fn clear(self) {
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

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Makes a resource with this spec (beside the least one) and writes its status; returns its name.
    pub(crate) async fn lay(&self, spec: Value, status: Value) -> String {
        let Answer::Done(made) = self.ask(None, &Ask::Create(spec)).await else {
            panic!("the spec is refused")
        };
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        if status != json!({}) {
            let answer = self.ask(Some(&name), &Ask::PatchStatus(status)).await;
            assert!(matches!(answer, Answer::Done(_)), "the status before is refused: {answer:?}");
        }
        name
    }

    /// Asks for something about the resource of that name; for a new one, about none.
    pub(crate) async fn ask(&self, name: Option<&str>, ask: &Ask) -> Answer {
        let name = name.unwrap_or_default();
        let params = PatchParams::default();
        let answered = match ask {
            Ask::Create(spec) => self.api.create(&PostParams::default(), &self.draft(spec)).await,
            Ask::Patch(patch) => self.api.patch(name, &params, &Patch::Merge(patch)).await,
            Ask::PatchStatus(status) => {
                self.api.patch_status(name, &params, &Patch::Merge(json!({"status": status}))).await
            }
            Ask::ReplaceStatus(status) => {
                let mut object = self.api.get(name).await.unwrap();
                object.data["status"] = status.clone();
                self.api.replace_status(name, &PostParams::default(), &object).await
            }
        };
        answer(answered)
    }

    /// Asks for a change of status that is only tried.
    pub(crate) async fn try_status(&self, name: &str, status: &Value) -> Answer {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        answer(self.api.patch_status(name, &params, &Patch::Merge(json!({"status": status}))).await)
    }

    /// Asks for a new resource that is only tried.
    pub(crate) async fn try_spec(&self, spec: &Value) -> Answer {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        answer(self.api.create(&params, &self.draft(spec)).await)
    }

    /// A new resource with this spec, beside the least one, that nobody has asked for yet.
    pub(crate) fn draft(&self, spec: &Value) -> DynamicObject {
        let name = format!("v-{}", self.laid.fetch_add(1, Ordering::Relaxed));
        let mut least = json!({"apiKeySecretRef": {"name": "okid-api-key"}});
        merge(&mut least, spec);
        DynamicObject::new(&name, &ApiResource::erase::<Verification>(&())).data(json!({"spec": least}))
    }
}

fn answer(answered: kube::Result<DynamicObject>) -> Answer {
    match answered {
        Ok(object) => {
            let mut json = object.data;
            json["metadata"] = serde_json::to_value(object.metadata).unwrap();
            Answer::Done(json)
        }
        Err(kube::Error::Api(status)) => {
            let causes = status.details.map(|details| details.causes).unwrap_or_default();
            Answer::Refused {
                code: status.code,
                causes: causes.into_iter().map(|cause| (cause.field, cause.message)).collect(),
            }
        }
        Err(error) => panic!("ask the API server: {error}"),
    }
}

/// Lays one object over another.
pub(crate) fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

/// A condition as it stands in status.
pub(crate) fn condition(type_: &str, status: &str) -> Value {
    json!({
        "type": type_,
        "status": status,
        "reason": "Told",
        "message": "",
        "lastTransitionTime": "2026-01-01T12:00:00Z",
        "observedGeneration": 1,
    })
}
