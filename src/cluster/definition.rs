//! Waits for a custom resource definition that knows what this version writes, and logs why. May depend on `error`,
//! `request`, `schema`, `verifications`, `api`, `incidents` and kube's client.

use std::{borrow::Cow, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::{error::ApiError, request::DEADLINE, schema::first_missing, verifications::Cluster};
use crate::{
    api::{OPERATOR_VERSION, definition},
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
/// After this long without a dropped claim the next one is logged again.
const DROPPED_CLAIMS_END_AFTER: Duration = Duration::from_mins(10);
/// The version of this operator, which its definition names.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The state of the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DefinitionState {
    /// It is established. Assumed where the operator may not read definitions: the watch finds out.
    Usable,
    /// It is not installed.
    Missing,
    /// It is installed, and the API server does not serve it yet.
    NotServed,
    /// It lacks something that this version writes, and may name the version of the operator that it is of.
    Outdated { missing: String, version: Option<String> },
    /// The API server gave no usable answer.
    Unknown(ApiError),
}

impl Cluster {
    /// Waits until the API server serves the resource with all fields of this version. Logs each thing that it waits for once, and passes it to
    /// `on_waiting`, for `/readyz`.
    pub(crate) async fn wait_for_definition(&self, on_waiting: impl Fn(Cow<'static, str>)) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let ours = definition();
        let mut reported = Incidents::default();
        loop {
            let state = match timeout(DEADLINE, api.get_opt(DEFINITION)).await {
                Ok(Ok(Some(installed))) => installed_state(&installed, &ours),
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

    /// The API server accepted a claim and its response does not have it: the definition was replaced by an older one
    /// while the operator runs. Logs that once, for as long as it goes on.
    pub(crate) fn report_dropped_claim(&self) {
        if self.dropped_claims.lock().is_news((), DROPPED_CLAIMS_END_AFTER, Instant::now()) {
            tracing::error!(
                definition = DEFINITION,
                "a claim was accepted, but the API server did not store it, so no session is created; the custom resource definition \
                 is older than version {VERSION} of the operator; apply {FILE} of that version"
            );
        }
    }
}

fn installed_state(installed: &CustomResourceDefinition, ours: &CustomResourceDefinition) -> DefinitionState {
    if let Some(missing) = first_missing(installed, ours) {
        let version = installed.annotations().get(OPERATOR_VERSION).filter(|version| is_version(version));
        DefinitionState::Outdated { missing, version: version.cloned() }
    } else if is_established(installed) {
        DefinitionState::Usable
    } else {
        DefinitionState::NotServed
    }
}

/// Anybody who may write definitions may write anything into the annotation.
fn is_version(text: &str) -> bool {
    text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte))
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
        DefinitionState::Missing => {
            tracing::warn!(definition = DEFINITION, "waiting for {WAITING}; {INSTALL}");
        }
        DefinitionState::NotServed => {
            tracing::warn!(
                definition = DEFINITION,
                "waiting for the API server to serve the custom resource definition; its conditions say why it does not"
            );
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
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionStatus;
    use serde_json::{Value, json};

    use super::*;

    fn state(change: impl FnOnce(&mut CustomResourceDefinition)) -> DefinitionState {
        let mut installed = definition();
        let established = json!({"conditions": [{"type": "Established", "status": "True"}]});
        installed.status =
            Some(serde_json::from_value::<CustomResourceDefinitionStatus>(established).unwrap());
        change(&mut installed);
        installed_state(&installed, &definition())
    }

    fn without_evidence(installed: &mut CustomResourceDefinition) {
        let mut value = serde_json::to_value(&*installed).unwrap();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        value.pointer_mut(spec).and_then(Value::as_object_mut).unwrap().remove("evidence").unwrap();
        *installed = serde_json::from_value(value).unwrap();
    }

    #[test]
    fn a_definition_is_usable_once_it_is_established_and_knows_every_field() {
        assert_eq!(state(|_| ()), DefinitionState::Usable);
        assert_eq!(state(|installed| installed.status = None), DefinitionState::NotServed);
        let outdated = state(without_evidence);
        let reported = waiting_for(&outdated);
        for part in ["lacks the field spec.evidence", VERSION, FILE] {
            assert!(reported.contains(part), "{reported}");
        }
    }

    #[test]
    fn the_version_of_an_outdated_definition_is_reported_if_it_is_one() {
        let version_of = |annotation: &str| {
            let outdated = state(|installed| {
                without_evidence(installed);
                installed.annotations_mut().insert(OPERATOR_VERSION.to_owned(), annotation.to_owned());
            });
            waiting_for(&outdated).into_owned()
        };
        assert!(version_of("0.0.9-rc.1").contains("the installed one of version 0.0.9-rc.1 lacks"));
        assert!(version_of("ignore the above").contains("the installed one lacks"));
    }
}
