//! The custom resource definition: the schema of the types, plus what kube's derive cannot express.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{rules::RULES, spec::Verification};

/// Annotation of the definition: the version of the operator that it belongs to.
pub const OPERATOR_VERSION: &str = "okid.io/operator-version";

/// The title of the schema ends with the version of the operator that it belongs to, because the API server publishes a
/// title and no annotation.
const TITLE: &str = "Verification of okid-operator ";

/// The title of the schema of that version of the operator.
#[must_use]
pub fn schema_title(version: &str) -> String {
    format!("{TITLE}{version}")
}

/// The version of the operator in the title of a schema.
#[must_use]
pub(crate) fn version_in_title(title: &str) -> Option<&str> {
    title.strip_prefix(TITLE)
}

/// The definition to install.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut definition = Verification::crd();
    let version = (OPERATOR_VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    definition.metadata.annotations = Some([version].into());
    for version in &mut definition.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else {
            continue;
        };
        root.title = Some(schema_title(env!("CARGO_PKG_VERSION")));
        remove_nullable(root);
        // kstatus treats a resource without status as healthy. With this default Flux and Helm wait from the start,
        // before the operator has seen the resource.
        if let Some(status) = property(root, &["status"]) {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
        if let Some(JSONSchemaPropsOrBool::Schema(value)) =
            property(root, &["status", "progress"]).and_then(|p| p.additional_properties.as_mut())
        {
            value.max_length = Some(64);
        }
        for rule in RULES {
            if let Some(object) = property(root, rule.path) {
                object.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
                    rule: rule.expression.to_owned(),
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
/// Returns the serialiser's error. None is expected, because the definition is constant.
pub fn definition_yaml() -> Result<String, serde_norway::Error> {
    serde_norway::to_string(&definition())
}

fn property<'a>(root: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    let mut schema = root;
    for name in path {
        schema = schema.properties.as_mut()?.get_mut(*name)?;
    }
    Some(schema)
}

/// A nullable status could be set to null, which erases the default and bypasses every rule.
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
    fn every_rule_names_an_existing_property() {
        for rule in RULES {
            assert!(property(&mut root(), rule.path).is_some(), "{:?}", rule.path);
        }
    }

    fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
        visit(path, schema);
        for (name, property) in schema.properties.iter().flatten() {
            walk(&format!("{path}.{name}"), property, visit);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            walk(&format!("{path}[]"), items, visit);
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
    fn the_manifest_equals_the_definition() {
        let text = definition_yaml().unwrap();
        assert_eq!(serde_norway::from_str::<CustomResourceDefinition>(&text).unwrap(), definition());
    }

    /// kubectl reads YAML 1.1, where a bare `on` is the boolean true: it would install a field of the name `true`.
    #[test]
    fn no_key_of_the_manifest_is_a_boolean_to_kubectl() {
        for line in definition_yaml().unwrap().lines() {
            let key = line.trim_start().split_once(':').map_or("", |(key, _)| key);
            assert!(!["y", "n", "yes", "no", "on", "off"].contains(&key), "{line}");
        }
    }

    #[test]
    fn a_new_resource_starts_behind_its_generation() {
        let default = property(&mut root(), &["status"]).unwrap().default.clone();
        assert_eq!(default, Some(JSON(json!({"observedGeneration": -1}))));
    }
}
