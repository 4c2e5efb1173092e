//! The rules of the definition at the API server: each refuses what it must, with its own message, and allows the nearest
//! valid value. No operator runs here.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use okid_operator::api::definition;
use serde_json::json;

use self::cases::{Case, Rule, rules};
use crate::requests::{ApiRequest, ApiResponse, TestNamespace};

mod cases;
mod evidence;
mod status;

/// Every rule of the definition: the field that the API server names, and the message.
fn rules_of_the_definition() -> Vec<(String, String)> {
    fn walk(path: &str, schema: &JSONSchemaProps, found: &mut Vec<(String, String)>) {
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let field = format!("{path}{}", rule.field_path.as_deref().unwrap_or_default());
            let message = rule.message.clone().expect("every rule has a message");
            found.push((field.trim_start_matches('.').to_owned(), message));
        }
        for (name, property) in schema.properties.iter().flatten() {
            walk(&format!("{path}.{name}"), property, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            walk(&format!("{path}[]"), items, found);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
            walk(&format!("{path}.*"), values, found);
        }
    }
    let mut found = Vec::new();
    for version in definition().spec.versions {
        walk("", &version.schema.unwrap().open_api_v3_schema.unwrap(), &mut found);
    }
    found
}

/// The deviation from the expected response, if there is one.
async fn deviation(namespace: &TestNamespace, case: Case, refusal: Option<(&str, &str)>) -> Option<String> {
    let Case { what, spec, status, request } = case;
    let object = match &request {
        ApiRequest::Create(_) => None,
        ApiRequest::Patch(_) | ApiRequest::PatchStatus(_) | ApiRequest::ReplaceStatus(_) => {
            Some(namespace.create(spec, status).await)
        }
    };
    let response = namespace.send(object.as_deref(), &request).await;
    match (refusal, response) {
        (None, ApiResponse::Accepted(_)) => None,
        (Some((field, message)), ApiResponse::Refused { code: 422, causes, .. })
            if causes.iter().any(|(at, said)| at == field && said.ends_with(&format!(": {message}"))) =>
        {
            None
        }
        (refusal, response) => Some(format!("{what}: {request:?}: expected {refusal:?}, got {response:?}")),
    }
}

#[tokio::test]
async fn every_rule_refuses_with_its_own_message_and_allows_the_nearest_valid_value() {
    let namespace = TestNamespace::new().await;
    let defined = rules_of_the_definition();
    let mut tested = BTreeSet::new();
    let mut cases = Vec::new();
    for Rule { message, refused, allowed } in
        rules().into_iter().chain(evidence::rules()).chain(status::rules())
    {
        let Some((field, _)) = defined.iter().find(|(_, known)| known == message) else {
            panic!("the definition has no rule with the message `{message}`");
        };
        assert!(
            !refused.is_empty() && !allowed.is_empty(),
            "`{message}` needs a refused and an allowed case"
        );
        assert!(tested.insert(message), "`{message}` is here twice");
        cases.extend(refused.into_iter().map(|case| (case, Some((field.as_str(), message)))));
        cases.extend(allowed.into_iter().map(|case| (case, None)));
    }
    let missing: Vec<_> = defined.iter().filter(|(_, known)| !tested.contains(known.as_str())).collect();
    assert!(missing.is_empty(), "rules without a case here: {missing:#?}");

    let deviations: Vec<String> = stream::iter(cases)
        .map(|(case, refusal)| deviation(&namespace, case, refusal))
        .buffer_unordered(16)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(deviations.is_empty(), "{}", deviations.join("\n"));
    namespace.delete_all().await;
}

#[tokio::test]
async fn a_settled_resource_can_still_be_labelled_and_deleted() {
    let namespace = TestNamespace::new().await;
    let name = namespace.create(json!({}), json!({"outcome": "Verified", "settled": true})).await;
    let labelled = namespace
        .send(Some(&name), &ApiRequest::Patch(json!({"metadata": {"labels": {"example": "yes"}}})))
        .await;
    let ApiResponse::Accepted(labelled) = labelled else { panic!("{labelled:?}") };
    assert_eq!(labelled["metadata"]["labels"]["example"], "yes");

    namespace.api().delete(&name, &DeleteParams::default()).await.unwrap();
    assert!(namespace.api().get_opt(&name).await.unwrap().is_none());
    namespace.delete_all().await;
}

#[tokio::test]
async fn a_status_in_a_new_resource_is_ignored() {
    let namespace = TestNamespace::new().await;
    let mut object = namespace.new_object(&json!({}));
    object.data["status"] = json!({"phase": "Verified", "outcome": "Verified", "settled": true});
    let created = namespace.api().create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(created.data["status"], json!({"observedGeneration": -1}));
    namespace.delete_all().await;
}

#[tokio::test]
async fn status_cannot_be_written_with_the_spec_nor_the_spec_with_status() {
    let namespace = TestNamespace::new().await;
    let name = namespace.create(json!({}), json!({"phase": "Pending"})).await;
    let both = json!({"spec": {"suspend": true}, "status": {"phase": "Creating"}});

    let ApiResponse::Accepted(after) = namespace.send(Some(&name), &ApiRequest::Patch(both)).await else {
        panic!()
    };
    assert_eq!((&after["spec"]["suspend"], &after["status"]["phase"]), (&json!(true), &json!("Pending")));

    let respecified = json!({"spec": {"suspend": false}, "status": {"phase": "Creating"}});
    let params = PatchParams::default();
    let after = namespace.api().patch_status(&name, &params, &Patch::Merge(&respecified)).await.unwrap();
    assert_eq!(
        (&after.data["spec"]["suspend"], &after.data["status"]["phase"]),
        (&json!(true), &json!("Creating"))
    );
    namespace.delete_all().await;
}
