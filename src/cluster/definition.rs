//! Waits for the custom resource definition, and logs why. May depend on `error`, `request`, `verifications`, `incidents` and
//! kube's client.

use std::{borrow::Cow, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use tokio::time::{Instant, sleep, timeout};

use super::{error::ApiError, request::DEADLINE, verifications::Cluster};
use crate::incidents::Incidents;

/// The name of the definition.
const DEFINITION: &str = "verifications.okid.io";
/// What `/readyz` says while it is not.
pub(crate) const WAITING: &str = "the custom resource definition";
/// What installs it.
pub(crate) const INSTALL: &str = "`okid-operator crd | kubectl apply --server-side -f -` installs it";

/// The state of the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DefinitionState {
    /// It is established. Assumed where the operator may not read definitions: the watch finds out.
    Usable,
    /// It is not installed.
    Missing,
    /// It is installed, and the API server does not serve it yet.
    NotServed,
    /// The API server gave no usable answer.
    Unknown(ApiError),
}

impl Cluster {
    /// Waits until the API server serves the resource. Logs each thing that it waits for once, and passes it to
    /// `on_waiting`, for `/readyz`.
    pub(crate) async fn wait_for_definition(&self, on_waiting: impl Fn(Cow<'static, str>)) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let mut reported = Incidents::default();
        loop {
            let state = match timeout(DEADLINE, api.get_opt(DEFINITION)).await {
                Ok(Ok(Some(definition))) if is_established(&definition) => DefinitionState::Usable,
                Ok(Ok(Some(_))) => DefinitionState::NotServed,
                Ok(Ok(None)) => DefinitionState::Missing,
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => DefinitionState::Usable,
                Ok(Err(error)) => DefinitionState::Unknown(ApiError::from(&error)),
                Err(_) => DefinitionState::Unknown(ApiError::TIMED_OUT),
            };
            on_waiting(waiting_for(&state));
            if state == DefinitionState::Usable {
                return;
            }
            if reported.is_news(state.clone(), Duration::MAX, Instant::now()) {
                log(&state);
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    definition
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

fn waiting_for(state: &DefinitionState) -> Cow<'static, str> {
    match state {
        DefinitionState::Usable => "the first list of verifications".into(),
        DefinitionState::Missing => WAITING.into(),
        DefinitionState::NotServed => "the API server to serve the custom resource definition".into(),
        DefinitionState::Unknown(why) => format!("the API server, to ask for {WAITING}: {why}").into(),
    }
}

fn log(state: &DefinitionState) {
    match state {
        DefinitionState::Usable => {}
        DefinitionState::Missing => {
            tracing::warn!(definition = DEFINITION, "waiting for {WAITING}; {INSTALL}");
        }
        DefinitionState::NotServed => {
            tracing::warn!(
                definition = DEFINITION,
                "waiting for the API server to serve the custom resource definition; its conditions say why it does not"
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
