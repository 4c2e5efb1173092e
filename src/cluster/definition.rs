//! Waits for the definition of the resource, and says why it waits. Touches the API server.

use std::{borrow::Cow, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use super::error::ApiError;
use crate::{admin::Readiness, incidents::Incidents};

/// The definition that must be there.
const DEFINITION: &str = "verifications.okid.io";
/// What `/readyz` says of it while it is not.
pub(crate) const WAITING: &str = "the custom resource definition";
/// What installs it.
pub(crate) const INSTALL: &str = "`okid-operator crd | kubectl apply --server-side -f -` installs it";

/// How it stands with the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DefinitionState {
    /// It is there, or who may not read definitions finds out by watching.
    Usable,
    /// It is not there.
    Missing,
    /// It is there, and the API server does not serve it yet.
    NotServed,
    /// Nobody knows.
    Unknown(ApiError),
}

/// Waits until the cluster knows the resource, and says what it waits for, each thing once.
pub(crate) async fn wait_for_definition(client: &Client, readiness: &Readiness) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut reported = Incidents::default();
    loop {
        let state = match timeout(Duration::from_secs(10), api.get_opt(DEFINITION)).await {
            Ok(Ok(Some(definition))) if is_established(&definition) => DefinitionState::Usable,
            Ok(Ok(Some(_))) => DefinitionState::NotServed,
            Ok(Ok(None)) => DefinitionState::Missing,
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => DefinitionState::Usable,
            Ok(Err(error)) => DefinitionState::Unknown(ApiError::from(&error)),
            Err(_) => DefinitionState::Unknown(ApiError::TIMED_OUT),
        };
        readiness.set(Some(waiting_for(&state)));
        if state == DefinitionState::Usable {
            return;
        }
        if reported.is_news(state.clone(), Duration::MAX, Instant::now()) {
            tell(&state);
        }
        sleep(Duration::from_secs(1)).await;
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

fn tell(state: &DefinitionState) {
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
