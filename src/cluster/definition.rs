//! Waits until the API server's schema knows what this version reads and writes, and logs why it waits. The schema is
//! read from the OpenAPI document, which needs no permission beyond those that every `ServiceAccount` has. May depend on
//! `error`, `request`, `schema`, `verifications`, `api`, `incidents` and kube's client.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{Request, header::ACCEPT};
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Resource as _, client::Body, core::Status};
use tokio::time::{Instant, sleep};

use super::{
    error::ApiError,
    request::within_deadline,
    schema::{Missing, PublishedSchema},
    verifications::Cluster,
};
use crate::{
    api::{Verification, definition, version_in_title},
    incidents::Incidents,
};

/// The name of the definition.
const DEFINITION: &str = "verifications.okid.io";
/// What `/readyz` says while it is not.
pub(crate) const WAITING: &str = "the custom resource definition";
/// What installs it.
pub(crate) const INSTALL: &str = "`okid-operator crd | kubectl apply --server-side -f -` installs it";
/// The file that has it.
const FILE: &str = "crds/verifications.okid.io.yaml";
/// The most bytes of the OpenAPI document. It has about a hundred thousand.
const DOCUMENT_BYTES: usize = 8 * 1024 * 1024;
/// After this long without a dropped claim the next one is logged again.
const DROPPED_CLAIMS_END_AFTER: Duration = Duration::from_mins(10);
/// The version of this operator, which its definition names.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is known of the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DefinitionState {
    /// The API server knows every field.
    Usable,
    /// The operator may not read what the API server knows. Assumed to be usable: the watch finds out.
    Unreadable(ApiError),
    /// It is not installed, or not served yet.
    Missing,
    /// It lacks something that this version reads or writes, and may name the version of the operator that it belongs to.
    Outdated { missing: Missing, version: Option<String> },
    /// The API server gave no usable answer.
    Unknown(ApiError),
}

impl Cluster {
    /// Waits until the API server serves the resource with all fields of this version. Logs each thing that it waits for once, and passes it to
    /// `on_waiting`, for `/readyz`.
    pub(crate) async fn wait_for_definition(&self, on_waiting: impl Fn(Cow<'static, str>)) {
        let ours = definition();
        let mut reported = Incidents::default();
        loop {
            let state = state(self.openapi_document().await, &ours);
            on_waiting(waiting_for(&state));
            if reported.is_news(state.clone(), Duration::MAX, Instant::now()) {
                log(&state);
            }
            if matches!(state, DefinitionState::Usable | DefinitionState::Unreadable(_)) {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The OpenAPI document of the group and version of our resource.
    async fn openapi_document(&self) -> Result<Bytes, ApiError> {
        let path = format!("/openapi/v3/apis/{}", Verification::api_version(&()));
        let request = Request::get(path).header(ACCEPT, "application/json").body(Body::empty());
        let response = async {
            let request = request.map_err(kube::Error::HttpError)?;
            let (head, body) = self.client.send(request).await?.into_parts();
            let body = Limited::new(body, DOCUMENT_BYTES).collect().await.map_err(kube::Error::Service)?;
            let body = body.to_bytes();
            if head.status.is_success() {
                return Ok(body);
            }
            let status: Status = serde_json::from_slice(&body).unwrap_or_default();
            Err(kube::Error::Api(status.with_code(head.status.as_u16()).boxed()))
        };
        within_deadline(response).await
    }

    /// The API server accepted a claim and its response does not have all of it: the definition was replaced by an older one
    /// while the operator runs. Logs that once, for as long as it goes on.
    pub(crate) fn report_dropped_claim(&self) {
        if self.dropped_claims.lock().is_news((), DROPPED_CLAIMS_END_AFTER, Instant::now()) {
            tracing::error!(
                definition = DEFINITION,
                "a claim was accepted, but the API server did not store all of it, so no session is created; the custom resource \
                 definition is older than version {VERSION} of the operator; apply {FILE} of that version"
            );
        }
    }
}

fn state(document: Result<Bytes, ApiError>, ours: &CustomResourceDefinition) -> DefinitionState {
    let schema = match document {
        Ok(document) => PublishedSchema::find(&document),
        Err(error) => {
            return match error.code() {
                Some(404) => DefinitionState::Missing,
                Some(403) => DefinitionState::Unreadable(error),
                _ => DefinitionState::Unknown(error),
            };
        }
    };
    match schema {
        Ok(Some(schema)) => schema.missing(ours).map_or(DefinitionState::Usable, |missing| {
            let version = schema.title().and_then(version_in_title).filter(|version| is_version(version));
            DefinitionState::Outdated { missing, version: version.map(str::to_owned) }
        }),
        Ok(None) => DefinitionState::Missing,
        Err(_) => DefinitionState::Unknown(ApiError::UNUSABLE),
    }
}

/// Anybody who may write definitions may write anything into the title.
fn is_version(text: &str) -> bool {
    text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte))
}

fn waiting_for(state: &DefinitionState) -> Cow<'static, str> {
    match state {
        DefinitionState::Usable | DefinitionState::Unreadable(_) => "the first list of verifications".into(),
        DefinitionState::Missing => WAITING.into(),
        DefinitionState::Outdated { missing, version } => {
            let of = version.as_ref().map_or_else(String::new, |version| format!(" of version {version}"));
            format!(
                "a newer custom resource definition: the installed one{of} lacks {missing} which version {VERSION} of the operator \
                 needs; apply {FILE} of that version"
            )
            .into()
        }
        DefinitionState::Unknown(why) => format!("the API server, to ask for {WAITING}: {why}").into(),
    }
}

fn log(state: &DefinitionState) {
    match state {
        DefinitionState::Usable => {}
        DefinitionState::Unreadable(why) => {
            tracing::warn!(
                definition = DEFINITION,
                code = why.code(),
                reason = why.reason(),
                "the operator may not read the OpenAPI documents of the API server, so it does not notice that the custom \
                 resource definition is older than version {VERSION} of the operator; bind its account to the ClusterRole \
                 system:discovery"
            );
        }
        DefinitionState::Missing => {
            tracing::warn!(definition = DEFINITION, "waiting for {WAITING}; {INSTALL}");
        }
        DefinitionState::Outdated { missing: _, version } => {
            tracing::warn!(
                definition = DEFINITION,
                installed_version = version,
                "waiting for {}, or run `okid-operator crd | kubectl apply --server-side -f -`",
                waiting_for(state)
            );
        }
        DefinitionState::Unknown(why) => {
            let (code, reason) = (why.code(), why.reason());
            tracing::warn!(
                definition = DEFINITION,
                code,
                reason,
                "the API server cannot be asked for the custom resource definition; check its address, its certificate \
                 and the credentials in the kubeconfig or ServiceAccount"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use kube::Client;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;
    use crate::{
        cluster::{schema::published, test_client::failure},
        metrics::Metrics,
    };

    const SCHEMA: &str = "/components/schemas/io.okid.v1alpha1.Verification";

    /// The state once a change is made to the schema of our definition.
    fn after(change: impl FnOnce(&mut Value)) -> DefinitionState {
        let mut document = published(&definition());
        change(document.pointer_mut(SCHEMA).unwrap());
        state(Ok(document.to_string().into()), &definition())
    }

    fn remove_evidence(schema: &mut Value) {
        let spec = schema.pointer_mut("/properties/spec/properties").unwrap();
        spec.as_object_mut().unwrap().remove("evidence").unwrap();
    }

    #[test]
    fn a_definition_is_usable_once_its_schema_is_published_and_knows_every_field() {
        assert_eq!(after(|_| ()), DefinitionState::Usable);
        let outdated = after(remove_evidence);
        let reported = waiting_for(&outdated);
        for part in ["lacks the field spec.evidence", VERSION, FILE] {
            assert!(reported.contains(part), "{reported}");
        }
        let document = |bytes: &'static [u8]| state(Ok(Bytes::from_static(bytes)), &definition());
        assert_eq!(document(b"{}"), DefinitionState::Missing);
        assert_eq!(document(b"<html>"), DefinitionState::Unknown(ApiError::UNUSABLE));
    }

    #[test]
    fn the_version_of_an_outdated_definition_is_reported_if_it_is_one() {
        let version_of = |title: &str| {
            let outdated = after(|schema| {
                remove_evidence(schema);
                schema["title"] = json!(title);
            });
            waiting_for(&outdated).into_owned()
        };
        let title = |version: &str| crate::api::schema_title(version);
        assert!(version_of(&title("0.0.9-rc.1")).contains("the installed one of version 0.0.9-rc.1 lacks"));
        assert!(version_of(&title("ignore the above")).contains("the installed one lacks"));
        assert!(version_of("Verification").contains("the installed one lacks"));
    }

    /// The state that an API server with that response has.
    async fn answered(code: u16, body: impl Into<Vec<u8>>) -> DefinitionState {
        let body: Vec<u8> = body.into();
        let service = service_fn(move |request: Request<Body>| {
            assert_eq!(request.uri().path(), "/openapi/v3/apis/okid.io/v1alpha1");
            let response = Response::builder().status(code).body(Body::from(body.clone()));
            async move { response.map_err(tower::BoxError::from) }
        });
        let cluster = Cluster::new(Client::new(service, "default"), "test", None, Metrics::new().into());
        state(cluster.openapi_document().await, &definition())
    }

    #[tokio::test]
    async fn an_operator_that_may_not_read_the_schema_does_not_wait_for_it() {
        let (code, body) = failure(403, "Forbidden");
        let state = answered(code, body.to_string()).await;
        assert!(
            matches!(&state, DefinitionState::Unreadable(why) if why.reason() == "Forbidden"),
            "{state:?}"
        );
        assert_eq!(waiting_for(&state), waiting_for(&DefinitionState::Usable));
    }

    #[tokio::test]
    async fn a_response_is_read_up_to_a_bound() {
        assert_eq!(answered(200, published(&definition()).to_string()).await, DefinitionState::Usable);
        assert_eq!(answered(404, "404 page not found").await, DefinitionState::Missing);
        let endless = vec![b' '; DOCUMENT_BYTES + 1];
        assert_eq!(answered(200, endless).await, DefinitionState::Unknown(ApiError::UNUSABLE));
        assert!(
            matches!(answered(503, "busy").await, DefinitionState::Unknown(why) if why.code() == Some(503))
        );
    }
}
