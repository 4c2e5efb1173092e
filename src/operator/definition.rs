//! Waits for the definition of the resource, and says why it waits. Touches the API server.

use std::{borrow::Cow, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use tokio::time::{sleep, timeout};

use crate::{doors::admin::Readiness, unanswered::Unanswered};

/// The definition that must be there.
const DEFINITION: &str = "verifications.okid.io";
/// What `/readyz` says of it while it is not.
pub(super) const WAITING: &str = "the custom resource definition";
/// What installs it.
pub(super) const INSTALL: &str = "`okid-operator crd | kubectl apply --server-side -f -` installs it";

/// How it stands with the definition.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It is there, or who may not read definitions finds out by watching.
    Usable,
    /// It is not there.
    Missing,
    /// It is there, and the API server does not serve it yet.
    NotServed,
    /// Nobody knows.
    Unknown(Unanswered),
}

/// Waits until the cluster knows the resource, and says what it waits for, each thing once.
pub(super) async fn wait_for_definition(client: &Client, readiness: &Readiness) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut told = Vec::new();
    loop {
        let standing = match timeout(Duration::from_secs(10), api.get_opt(DEFINITION)).await {
            Ok(Ok(Some(definition))) if is_established(&definition) => Standing::Usable,
            Ok(Ok(Some(_))) => Standing::NotServed,
            Ok(Ok(None)) => Standing::Missing,
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Standing::Usable,
            Ok(Err(error)) => Standing::Unknown(Unanswered::from(&error)),
            Err(_) => Standing::Unknown(Unanswered::SILENT),
        };
        readiness.set(Some(waiting_for(&standing)));
        if standing == Standing::Usable {
            return;
        }
        if !told.contains(&standing) {
            tell(&standing);
            told.push(standing);
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

fn waiting_for(standing: &Standing) -> Cow<'static, str> {
    match standing {
        Standing::Usable => "the first list of verifications".into(),
        Standing::Missing => WAITING.into(),
        Standing::NotServed => "the API server to serve the custom resource definition".into(),
        Standing::Unknown(why) => format!("the API server, to ask for {WAITING}: {why}").into(),
    }
}

fn tell(standing: &Standing) {
    match standing {
        Standing::Usable => {}
        Standing::Missing => {
            tracing::warn!(definition = DEFINITION, "waiting for {WAITING}; {INSTALL}");
        }
        Standing::NotServed => {
            tracing::warn!(
                definition = DEFINITION,
                "waiting for the API server to serve the custom resource definition; its conditions say why it does not"
            );
        }
        Standing::Unknown(why) => {
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
