//! The resource as people and programs read it: columns, names, selectors, unknown fields, and the definition itself.

use http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::ListParams;
use okid_operator::api::{LIVE, Verification, definition, definition_yaml};
use serde_json::{Value, json};

use crate::harness::until;
use crate::manifests::{apply, kubectl, repository};
use crate::requests::{TestNamespace, condition, merge};

/// The status of a check in progress, with everything that a table may show or must not.
fn status_in_progress() -> Value {
    let mut ready = condition("Ready", "False");
    ready["reason"] = json!("InProgress");
    ready["message"] = json!("The check is in progress.");
    json!({
        "phase": "InProgress",
        "verificationId": "ver_secret",
        "portalUrl": "https://one.example/?verification_id=ver_secret",
        "expiresAt": "2026-01-01T12:00:00Z",
        "progressSummary": "2/3",
        "portalStatus": "in_progress",
        "session": {"attempt": 1},
        "conditions": [condition("SessionCreated", "True"), ready],
    })
}

/// The list as a table, as kubectl asks for it.
async fn table(namespace: &TestNamespace) -> Value {
    let path = format!("/apis/okid.io/v1alpha1/namespaces/{}/verifications", namespace.name());
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let request = Request::get(path).header("Accept", accept).body(Vec::new()).unwrap();
    namespace.client().request(request).await.unwrap()
}

#[tokio::test]
async fn the_table_shows_the_stage_of_each_check_and_never_its_id_or_link() {
    let namespace = TestNamespace::new().await;
    namespace.create(json!({}), status_in_progress()).await;
    let table = table(&namespace).await;

    let columns = table["columnDefinitions"].as_array().unwrap();
    let of_priority = |priority: u64| -> Vec<&str> {
        let shown = columns.iter().filter(|column| column["priority"] == priority);
        shown.map(|column| column["name"].as_str().unwrap()).collect()
    };
    assert_eq!(of_priority(0), ["Name", "Phase", "Ready", "Reason", "Progress", "Expires", "Age"]);
    assert_eq!(of_priority(1), ["Portal Status", "Message", "Attempt"]);

    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let shown: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).zip(cells).collect();
    for (name, value) in [
        ("Phase", json!("InProgress")),
        ("Ready", json!("False")),
        ("Reason", json!("InProgress")),
        ("Progress", json!("2/3")),
        ("Expires", json!("2026-01-01T12:00:00Z")),
        ("Portal Status", json!("in_progress")),
        ("Message", json!("The check is in progress.")),
        ("Attempt", json!(1)),
    ] {
        assert!(shown.contains(&(name, &value)), "{name} is not {value} in {shown:?}");
    }
    assert!(!serde_json::to_string(cells).unwrap().contains("ver_secret"), "{cells:?}");
    namespace.delete_all().await;
}

#[tokio::test]
async fn kubectl_knows_the_short_name_and_the_category_and_prints_the_columns_in_order() {
    let namespace = TestNamespace::new().await;
    let name = namespace.create(json!({}), status_in_progress()).await;
    for word in ["verifications", "verification", "vrf", "okid"] {
        let printed = kubectl(namespace.cluster(), namespace.name(), &["get", word], "").await.unwrap();
        let (head, row) = printed.split_once('\n').unwrap();
        let words: Vec<_> = head.split_whitespace().collect();
        assert_eq!(words, ["NAME", "PHASE", "READY", "REASON", "PROGRESS", "EXPIRES", "AGE"]);
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(words[..6], [&name, "InProgress", "False", "InProgress", "2/3", "2026-01-01T12:00:00Z"]);
    }
    let wide = kubectl(namespace.cluster(), namespace.name(), &["get", "vrf", "--output", "wide"], "")
        .await
        .unwrap();
    let head: Vec<_> =
        wide.lines().next().unwrap().split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(head[7..], ["PORTAL STATUS", "MESSAGE", "ATTEMPT"]);
    assert!(!wide.contains("ver_secret"), "{wide}");
    namespace.delete_all().await;
}

#[tokio::test]
async fn field_selectors_on_settled_and_on_phase_select_what_they_name() {
    let namespace = TestNamespace::new().await;
    let fresh = namespace.create(json!({}), json!({})).await;
    let going = namespace.create(json!({}), status_in_progress()).await;
    let over = namespace
        .create(json!({}), json!({"phase": "Verified", "outcome": "Verified", "settled": true}))
        .await;

    let list = async |selector: &str| -> Vec<String> {
        let found = namespace.api().list(&ListParams::default().fields(selector)).await.unwrap();
        found.into_iter().map(|object| object.metadata.name.unwrap()).collect()
    };
    assert_eq!(list(LIVE).await, [fresh, going.clone()]);
    assert_eq!(list("status.settled=true").await, std::slice::from_ref(&over));
    assert_eq!(list("status.phase=InProgress").await, [going]);
    assert_eq!(list("status.phase=Verified,status.settled=true").await, [over]);

    let unknown = namespace.api().list(&ListParams::default().fields("status.outcome=Verified")).await;
    assert!(matches!(unknown, Err(kube::Error::Api(status)) if status.code == 400));
    namespace.delete_all().await;
}

/// A manifest with this spec, merged into the minimal one.
fn manifest(name: &str, spec: &Value) -> Value {
    let mut manifest = json!({
        "apiVersion": "okid.io/v1alpha1",
        "kind": "Verification",
        "metadata": {"name": name},
        "spec": {"apiKeySecretRef": {"name": "okid-api-key"}},
    });
    merge(&mut manifest["spec"], spec);
    manifest
}

/// Specs with one field that does not exist, by the path of that field. The first ones are former names.
fn specs_with_an_unknown_field() -> Vec<(&'static str, Value)> {
    let evidence = |field: &str, value: Value| {
        let mut evidence = json!({"images": [{"kind": "Front"}], "destination": {"store": "archive"}});
        evidence[field] = value;
        json!({ "evidence": evidence })
    };
    vec![
        ("images", json!({"images": {"items": [{"kind": "Front"}], "destination": {"store": "archive"}}})),
        ("evidence.items", evidence("items", json!([{"kind": "Front"}]))),
        ("evidence.on", evidence("on", json!(["Verified"]))),
        ("apiKey", json!({"apiKey": "not-here"})),
        ("apiKeySecretRef.namespace", json!({"apiKeySecretRef": {"namespace": "other"}})),
        ("polling.interval", json!({"polling": {"interval": "5s"}})),
        ("activeDeadlineSeconds", json!({"activeDeadlineSeconds": 60})),
    ]
}

#[tokio::test]
async fn kubectl_refuses_former_and_unknown_fields_of_the_spec_and_names_them() {
    let namespace = TestNamespace::new().await;
    let attempt = async |spec: &Value| {
        apply(namespace.cluster(), namespace.name(), &manifest("strict", spec).to_string()).await
    };
    for (field, spec) in specs_with_an_unknown_field() {
        let refused = attempt(&spec).await.unwrap_err();
        assert!(refused.contains(&format!("unknown field \"spec.{field}\"")), "{refused}");
    }
    assert!(namespace.api().get_opt("strict").await.unwrap().is_none());
    attempt(&json!({"polling": {"minInterval": "5s"}})).await.unwrap();
    namespace.delete_all().await;
}

#[tokio::test]
async fn kubectl_refuses_the_former_name_of_acknowledged_in_status() {
    let namespace = TestNamespace::new().await;
    let name = namespace.create(json!({}), json!({"session": {"attempt": 1, "orphans": 1}})).await;
    let attempt = async |field: &str| {
        let mut session = json!({"attempt": 1, "orphans": 1});
        session[field] = json!(1);
        let mut object = manifest(&name, &json!({}));
        object["status"] = json!({ "session": session });
        let arguments =
            ["apply", "--server-side", "--force-conflicts", "--subresource=status", "--filename", "-"];
        kubectl(namespace.cluster(), namespace.name(), &arguments, &object.to_string()).await
    };
    let refused = attempt("forgiven").await.unwrap_err();
    assert!(refused.contains("status.session.forgiven"), "{refused}");
    attempt("acknowledged").await.unwrap();
    namespace.delete_all().await;
}

/// The warnings of the API server for a create or a patch, which are headers of its response.
async fn warnings(
    namespace: &TestNamespace,
    method: http::Method,
    path: &str,
    content_type: &str,
    body: &Value,
) -> Vec<String> {
    let path = format!(
        "/apis/okid.io/v1alpha1/namespaces/{}/verifications{path}?fieldValidation=Warn",
        namespace.name()
    );
    let request = Request::builder().method(method).uri(path).header("Content-Type", content_type);
    let body = kube::client::Body::from(body.to_string().into_bytes());
    let response = namespace.client().send(request.body(body).unwrap()).await.unwrap();
    assert!(response.status().is_success(), "{}", response.status());
    let headers = response.headers().get_all("Warning").iter();
    headers.map(|warning| warning.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn other_clients_get_a_warning_that_names_the_former_or_unknown_field() {
    let namespace = TestNamespace::new().await;
    let warns_of = |warnings: &[String], field: &str| {
        warnings.len() == 1 && warnings[0].contains(&format!("unknown field \\\"{field}\\\""))
    };
    for (number, (field, spec)) in specs_with_an_unknown_field().into_iter().enumerate() {
        let object = manifest(&format!("lenient-{number}"), &spec);
        let given = warnings(&namespace, http::Method::POST, "", "application/json", &object).await;
        assert!(warns_of(&given, &format!("spec.{field}")), "{field}: {given:?}");
    }

    let name = namespace.create(json!({}), json!({"session": {"attempt": 1, "orphans": 1}})).await;
    let count = |field: &str| json!({"status": {"session": {field: 1}}});
    let (path, merge_patch) = (format!("/{name}/status"), "application/merge-patch+json");
    let given = warnings(&namespace, http::Method::PATCH, &path, merge_patch, &count("forgiven")).await;
    assert!(warns_of(&given, "status.session.forgiven"), "{given:?}");
    let given = warnings(&namespace, http::Method::PATCH, &path, merge_patch, &count("acknowledged")).await;
    assert!(given.is_empty(), "{given:?}");
    namespace.delete_all().await;
}

#[tokio::test]
async fn the_api_server_serves_the_definition_of_the_repository() {
    let file = std::fs::read_to_string(repository("crds/verifications.okid.io.yaml")).unwrap();
    assert_eq!(file, definition_yaml().unwrap(), "cargo xtask generate");

    let namespace = TestNamespace::new().await;
    let api: Api<CustomResourceDefinition> = Api::all(namespace.client().clone());
    let name = definition().metadata.name.unwrap();
    let mut served = serde_json::to_value(api.get(&name).await.unwrap().spec).unwrap();
    let mut written =
        serde_json::to_value(serde_norway::from_str::<CustomResourceDefinition>(&file).unwrap().spec)
            .unwrap();
    // What the API server fills in.
    written["conversion"] = json!({"strategy": "None"});
    written["names"]["listKind"] = json!("VerificationList");
    for spec in [&mut served, &mut written] {
        whole_numbers(spec);
    }
    assert_eq!(served, written);
    namespace.delete_all().await;
}

/// Bounds of numbers are floating point in the types, and JSON does not care.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            if let Some(float) = number.as_f64() {
                *value = json!(float);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn kubectl_explains_every_field_of_the_spec() {
    let namespace = TestNamespace::new().await;
    let arguments = ["explain", "verification.spec"];
    let explain = async || kubectl(namespace.cluster(), namespace.name(), &arguments, "").await;
    // The API server publishes the descriptions some time after the definition.
    let explained = until(explain, |error| error).await;
    let explained = explained.split_whitespace().collect::<Vec<_>>().join(" ");
    let schema = definition().spec.versions.remove(0).schema.unwrap().open_api_v3_schema.unwrap();
    let spec = schema.properties.unwrap().remove("spec").unwrap();
    for (field, schema) in spec.properties.unwrap() {
        let description = schema.description.unwrap();
        let start = description.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
        assert!(explained.contains(&format!("{field} <")), "{field}: {explained}");
        assert!(explained.contains(&start), "{field}: {start}");
    }
    namespace.delete_all().await;
}

#[tokio::test]
async fn a_verification_survives_a_round_trip_through_the_types() {
    let namespace = TestNamespace::new().await;
    let name = namespace.create(json!({"polling": {"maxInterval": "90s"}}), status_in_progress()).await;
    let typed: Api<Verification> = Api::namespaced(namespace.client().clone(), namespace.name());
    let read = typed.get(&name).await.unwrap();
    let raw = namespace.api().get(&name).await.unwrap();
    let mut again = serde_json::to_value(&read).unwrap();
    // The types write a duration in its longest units.
    assert_eq!(again["spec"]["polling"]["maxInterval"], "1m30s");
    again["spec"]["polling"]["maxInterval"] = json!("90s");
    assert_eq!(again["spec"], raw.data["spec"]);
    let mut status = raw.data["status"].clone();
    // Counters are always written.
    status["session"] = json!({"attempt": 1, "orphans": 0, "acknowledged": 0});
    assert_eq!(again["status"], status);
    namespace.delete_all().await;
}
