//! The custom resource definition: what the types say, and what the derive cannot.

use std::borrow::Cow;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{rules::RULES, spec::Verification};

/// The definition to install.
///
/// # Panics
///
/// Never for a released build: that every rule finds its place is tested.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut definition = Verification::crd();
    for version in &mut definition.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else {
            continue;
        };
        remove_nullable(root);
        // kstatus calls a resource without status healthy; with this default Flux and Helm wait from the first
        // instant on, before the operator has looked.
        if let Some(status) = place(root, &["status"]) {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
        if let Some(JSONSchemaPropsOrBool::Schema(value)) =
            place(root, &["status", "progress"]).and_then(|p| p.additional_properties.as_mut())
        {
            value.max_length = Some(64);
        }
        for rule in RULES {
            if let Some(object) = place(root, rule.at) {
                object.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
                    rule: rule.holds.to_owned(),
                    message: Some(rule.message.to_owned()),
                    field_path: rule.field_path.map(ToOwned::to_owned),
                    ..ValidationRule::default()
                });
            }
        }
    }
    definition
}

/// The definition as a manifest for `kubectl apply`.
///
/// # Errors
///
/// None that occur: the definition is a constant of the program. The serialiser's own error is passed on.
pub fn definition_yaml() -> Result<String, serde_norway::Error> {
    let text = serde_norway::to_string(&definition())?;
    Ok(text.split_inclusive('\n').map(quote_switch).collect())
}

/// kubectl reads YAML 1.1, where a bare `on` is no word but true: it would install a field of the name `true`.
fn quote_switch(line: &str) -> Cow<'_, str> {
    let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
    match rest.split_once(':') {
        Some((key, value)) if ["y", "n", "yes", "no", "on", "off"].contains(&key) => {
            Cow::Owned(format!("{indent}\"{key}\":{value}"))
        }
        Some(_) | None => Cow::Borrowed(line),
    }
}

fn place<'a>(root: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    let mut at = root;
    for name in path {
        at = at.properties.as_mut()?.get_mut(*name)?;
    }
    Some(at)
}

/// A nullable status could be set to null, which erases the default and passes by every rule.
fn remove_nullable(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for property in schema.properties.iter_mut().flat_map(|all| all.values_mut()) {
        remove_nullable(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        remove_nullable(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = schema.additional_properties.as_mut() {
        remove_nullable(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> JSONSchemaProps {
        definition().spec.versions.remove(0).schema.unwrap().open_api_v3_schema.unwrap()
    }

    #[test]
    fn every_rule_finds_its_place() {
        for rule in RULES {
            assert!(place(&mut root(), rule.at).is_some(), "{:?}", rule.at);
        }
    }

    fn walk(path: &str, schema: &JSONSchemaProps, see: &mut impl FnMut(&str, &JSONSchemaProps)) {
        see(path, schema);
        for (name, property) in schema.properties.iter().flatten() {
            walk(&format!("{path}.{name}"), property, see);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            walk(&format!("{path}[]"), items, see);
        }
    }

    #[test]
    fn every_field_has_a_description_and_a_bound() {
        walk("", &root(), &mut |path, schema| {
            let item = path.ends_with("[]");
            if path.starts_with(".spec") || path.starts_with(".status") {
                assert!(item || schema.description.is_some(), "{path} has no description");
                assert!(schema.nullable.is_none(), "{path} is nullable");
                match schema.type_.as_deref() {
                    Some("string") => assert!(
                        schema.max_length.is_some()
                            || schema.enum_.is_some()
                            || schema.format.as_deref() == Some("date-time"),
                        "{path} has no bound"
                    ),
                    Some("array") => assert!(schema.max_items.is_some(), "{path} has no bound"),
                    Some("object") => assert!(
                        schema.properties.is_some() || schema.max_properties.is_some(),
                        "{path} has no bound"
                    ),
                    _ => {}
                }
            }
        });
    }

    #[test]
    fn the_manifest_says_the_same_and_has_no_key_that_kubectl_takes_for_a_switch() {
        let text = definition_yaml().unwrap();
        assert_eq!(serde_norway::from_str::<CustomResourceDefinition>(&text).unwrap(), definition());
        assert!(text.contains("  \"on\":\n"));
        assert!(!text.lines().any(|line| line.trim_start() == "on:"));
    }

    #[test]
    fn a_new_resource_starts_behind_its_generation() {
        let default = place(&mut root(), &["status"]).unwrap().default.clone();
        assert_eq!(default, Some(JSON(json!({"observedGeneration": -1}))));
    }
}
