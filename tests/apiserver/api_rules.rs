//! The rules of the definition, asked of the API server: each refuses what it shall, with its own sentence, and lets
//! its neighbour pass. No operator runs here.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use okid_operator::api::definition;
use serde_json::json;

use self::cases::{Case, Rule, rules};
use crate::ask::{Answer, Ask, Desk};

mod cases;
mod evidence;

/// Every rule of the definition: the field that the API server names, and the sentence.
fn rules_of_the_definition() -> Vec<(String, String)> {
    fn walk(path: &str, schema: &JSONSchemaProps, found: &mut Vec<(String, String)>) {
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let field = format!("{path}{}", rule.field_path.as_deref().unwrap_or_default());
            let message = rule.message.clone().expect("every rule has a sentence");
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

/// What went otherwise than it should, as sentences.
async fn wrong(desk: &Desk, case: Case, refusal: Option<(&str, &str)>) -> Option<String> {
    let Case { what, spec, status, ask } = case;
    let object = match &ask {
        Ask::Create(_) => None,
        Ask::Patch(_) | Ask::PatchStatus(_) | Ask::ReplaceStatus(_) => Some(desk.lay(spec, status).await),
    };
    let answer = desk.ask(object.as_deref(), &ask).await;
    match (refusal, answer) {
        (None, Answer::Done(_)) => None,
        (Some((field, message)), Answer::Refused { code: 422, causes, .. })
            if causes.iter().any(|(at, said)| at == field && said.ends_with(&format!(": {message}"))) =>
        {
            None
        }
        (refusal, answer) => Some(format!("{what}: {ask:?}: expected {refusal:?}, got {answer:?}")),
    }
}

#[tokio::test]
async fn every_rule_refuses_with_its_own_sentence_and_lets_its_neighbour_pass() {
    let desk = Desk::set().await;
    let defined = rules_of_the_definition();
    let mut tried = BTreeSet::new();
    let mut asks = Vec::new();
    for Rule { message, refused, allowed } in rules().into_iter().chain(evidence::rules()) {
        let Some((field, _)) = defined.iter().find(|(_, known)| known == message) else {
            panic!("the definition has no rule that says `{message}`");
        };
        assert!(!refused.is_empty() && !allowed.is_empty(), "`{message}` needs a refusal and a neighbour");
        assert!(tried.insert(message), "`{message}` stands here twice");
        asks.extend(refused.into_iter().map(|case| (case, Some((field.as_str(), message)))));
        asks.extend(allowed.into_iter().map(|case| (case, None)));
    }
    let forgotten: Vec<_> = defined.iter().filter(|(_, known)| !tried.contains(known.as_str())).collect();
    assert!(forgotten.is_empty(), "rules without a case here: {forgotten:#?}");

    let wrongs: Vec<String> = stream::iter(asks)
        .map(|(case, refusal)| wrong(&desk, case, refusal))
        .buffer_unordered(16)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
    desk.clear().await;
}

#[tokio::test]
async fn a_settled_resource_can_still_be_labelled_and_deleted() {
    let desk = Desk::set().await;
    let name = desk.lay(json!({}), json!({"outcome": "Verified", "settled": true})).await;
    let labelled = desk.ask(Some(&name), &Ask::Patch(json!({"metadata": {"labels": {"kept": "yes"}}}))).await;
    let Answer::Done(labelled) = labelled else { panic!("{labelled:?}") };
    assert_eq!(labelled["metadata"]["labels"]["kept"], "yes");

    desk.api().delete(&name, &DeleteParams::default()).await.unwrap();
    assert!(desk.api().get_opt(&name).await.unwrap().is_none());
    desk.clear().await;
}

#[tokio::test]
async fn a_status_that_comes_with_a_new_resource_is_not_taken_over() {
    let desk = Desk::set().await;
    let mut object = desk.draft(&json!({}));
    object.data["status"] = json!({"phase": "Verified", "outcome": "Verified", "settled": true});
    let made = desk.api().create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(made.data["status"], json!({"observedGeneration": -1}));
    desk.clear().await;
}

#[tokio::test]
async fn status_cannot_be_written_with_the_spec_nor_the_spec_with_status() {
    let desk = Desk::set().await;
    let name = desk.lay(json!({}), json!({"phase": "Pending"})).await;
    let both = json!({"spec": {"suspend": true}, "status": {"phase": "Creating"}});

    let Answer::Done(after) = desk.ask(Some(&name), &Ask::Patch(both)).await else { panic!() };
    assert_eq!((&after["spec"]["suspend"], &after["status"]["phase"]), (&json!(true), &json!("Pending")));

    let respecified = json!({"spec": {"suspend": false}, "status": {"phase": "Creating"}});
    let params = PatchParams::default();
    let after = desk.api().patch_status(&name, &params, &Patch::Merge(&respecified)).await.unwrap();
    assert_eq!(
        (&after.data["spec"]["suspend"], &after.data["status"]["phase"]),
        (&json!(true), &json!("Creating"))
    );
    desk.clear().await;
}
