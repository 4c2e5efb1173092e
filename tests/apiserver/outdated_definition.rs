//! An operator on a custom resource definition that is older than it.

use control_plane::Folder;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use okid_operator::api::{OPERATOR_VERSION, Phase, SessionState, Verification, definition, schema_title};
use okid_sandbox::{Endpoint, Sandbox};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Account, Cluster, LIMIT, Operator, SECRET, VerificationExt as _, new_key};

/// The definition without what the claim is written into, as an older version would have it.
fn older() -> CustomResourceDefinition {
    let mut older = serde_json::to_value(definition()).unwrap();
    older["metadata"]["annotations"][OPERATOR_VERSION] = json!("0.0.1");
    older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["title"] = json!(schema_title("0.0.1"));
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
    let status = older.pointer_mut(status).and_then(Value::as_object_mut).unwrap();
    status["properties"].as_object_mut().unwrap().remove("session").unwrap();
    // A rule may not name a field that does not exist.
    status.remove("x-kubernetes-validations");
    let root = older.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").unwrap();
    root.as_object_mut().unwrap().remove("x-kubernetes-validations");
    serde_json::from_value(older).unwrap()
}

/// The definition without the field that says whose claim it is.
fn without_holder() -> CustomResourceDefinition {
    let mut older = serde_json::to_value(definition()).unwrap();
    let session = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/session/properties";
    let session = older.pointer_mut(session).and_then(Value::as_object_mut).unwrap();
    session.remove("holder").unwrap();
    serde_json::from_value(older).unwrap()
}

/// A portal, the Secret with its key, and an operator on whatever definition is installed.
struct Running {
    portal: Sandbox,
    operator: Operator,
    // The operator needs its files.
    _folder: Folder,
}

impl Running {
    async fn start(cluster: &Cluster) -> Self {
        let key = new_key();
        let portal = Sandbox::builder().key(&key).start().await;
        let secrets: Api<Secret> = Api::namespaced(cluster.client().await, "default");
        let secret = json!({"metadata": {"name": SECRET}, "stringData": {"apiKey": key}});
        secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
        let folder = Folder::create("okid-operator-").unwrap();
        let account = Account::for_all_namespaces(cluster).await;
        let command = Operator::program(&account.kubeconfig(cluster, folder.path()).await).args([
            "run",
            "--admin-address",
            "127.0.0.1:0",
            "--leader-elect=false",
            "--allow-plain-http",
            "--allowed-portal",
            &portal.url(),
        ]);
        let operator = Operator::start(command, folder.path().join("log"), folder.lifeline().unwrap());
        Self { portal, operator, _folder: folder }
    }
}

fn is_open(seen: Option<&Verification>) -> bool {
    seen.and_then(Verification::phase) == Some(Phase::AwaitingUser)
}

/// The line about a claim that was not stored as it was written.
fn dropped(line: &Value) -> bool {
    line["level"] == "ERROR"
}

async fn create(cluster: &Cluster, name: &str) -> Api<Verification> {
    let api: Api<Verification> = Api::namespaced(cluster.client().await, "default");
    let object = json!({
        "apiVersion": "okid.io/v1alpha1", "kind": "Verification", "metadata": {"name": name},
        "spec": {"apiKeySecretRef": {"name": SECRET}},
    });
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    api
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_created_until_the_definition_has_all_fields_of_the_operator() {
    let cluster = Cluster::start().await;
    cluster.install(&older()).await;
    let Running { portal, operator, _folder } = Running::start(&cluster).await;
    let outdated = |line: &Value| line["installed_version"] == "0.0.1";
    let line = operator.until_logged("that the definition is too old", outdated).await;
    let body = operator.ask("/readyz").await.text().await.unwrap();
    for text in [line["message"].as_str().unwrap(), body.as_str()] {
        let says =
            ["lacks the field status.session", "crds/verifications.okid.io.yaml", env!("CARGO_PKG_VERSION")];
        assert!(says.iter().all(|part| text.contains(part)), "{text}");
    }
    create(&cluster, "waiting").await;

    cluster.install_definition().await;
    operator.until_watching().await;
    operator.until_ready().await;
    let api: Api<Verification> = Api::namespaced(cluster.client().await, "default");
    timeout(LIMIT, await_condition(api.clone(), "waiting", is_open)).await.unwrap().unwrap();
    assert_eq!(portal.count(Endpoint::Create), 1);

    // An older definition that is applied later drops the claim, and accepts the write.
    cluster.install(&older()).await;
    create(&cluster, "dropped").await;
    let line = operator.until_logged("that the claim is dropped", dropped).await;
    assert!(line["message"].as_str().unwrap().contains("so no session is created"), "{line}");
    operator.until_metric("okid_reconcile_retries_total", |retries| retries >= 2.0).await;
    assert_eq!(portal.count(Endpoint::Create), 1);
    assert_eq!(operator.log_lines().iter().filter(|line| dropped(line)).count(), 1);

    cluster.install_definition().await;
    timeout(LIMIT, await_condition(api, "dropped", is_open)).await.unwrap().unwrap();
    assert_eq!(portal.count(Endpoint::Create), 2);
    assert!(operator.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_loses_its_holder_is_given_up_at_once_and_leaves_no_unknown_outcome() {
    let cluster = Cluster::start().await;
    cluster.install_definition().await;
    let Running { portal, operator, _folder } = Running::start(&cluster).await;
    operator.until_ready().await;

    cluster.install(&without_holder()).await;
    let api = create(&cluster, "alice").await;
    operator.until_logged("that the claim is dropped", dropped).await;
    let given_up = |seen: Option<&Verification>| {
        seen.and_then(Verification::state).is_some_and(|state| state != SessionState::Claimed)
    };
    let seen =
        timeout(LIMIT, await_condition(api.clone(), "alice", given_up)).await.unwrap().unwrap().unwrap();
    assert_eq!((seen.state(), seen.session().orphans), (Some(SessionState::NotCreated), 0));
    assert_eq!(portal.count(Endpoint::Create), 0);

    cluster.install_definition().await;
    let seen = timeout(LIMIT, await_condition(api, "alice", is_open)).await.unwrap().unwrap().unwrap();
    assert_eq!((seen.session().orphans, portal.count(Endpoint::Create)), (0, 1));
    assert!(operator.stop().await.success());
}
