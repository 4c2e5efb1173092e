//! Whether an installed custom resource definition knows what this version writes. An older one is worse than none: the
//! API server drops unknown fields without a word. Pure. May depend on the definition of `api`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};

/// What the installed definition lacks of ours: the path of the first field that it does not know.
pub(super) fn first_missing(
    installed: &CustomResourceDefinition,
    ours: &CustomResourceDefinition,
) -> Option<String> {
    ours.spec.versions.iter().find_map(|version| {
        let Some(same) = installed.spec.versions.iter().find(|installed| installed.name == version.name)
        else {
            return Some(format!("the version {}", version.name));
        };
        if !same.served {
            return Some(format!("the version {}, which it does not serve,", version.name));
        }
        let mut selectable = version.selectable_fields.iter().flatten();
        let missing =
            selectable.find(|field| !same.selectable_fields.iter().flatten().any(|known| known == *field));
        if let Some(field) = missing {
            let path = field.json_path.trim_start_matches('.');
            return Some(format!(
                "the selectable field {path}, for which it needs Kubernetes 1.31 or newer,"
            ));
        }
        let ours = schema(version)?;
        let missing = match schema(same) {
            Some(known) => missing_property(known, ours, ""),
            None => Some("spec".to_owned()),
        };
        missing.map(|path| format!("the field {path}"))
    })
}

fn schema(version: &CustomResourceDefinitionVersion) -> Option<&JSONSchemaProps> {
    version.schema.as_ref()?.open_api_v3_schema.as_ref()
}

fn missing_property(installed: &JSONSchemaProps, ours: &JSONSchemaProps, path: &str) -> Option<String> {
    if installed.x_kubernetes_preserve_unknown_fields == Some(true) {
        return None;
    }
    for (name, property) in ours.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let Some(known) = installed.properties.as_ref().and_then(|known| known.get(name)) else {
            return Some(path);
        };
        if let Some(missing) = missing_property(known, property, &path) {
            return Some(missing);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &ours.items {
        let path = format!("{path}[]");
        return match &installed.items {
            Some(JSONSchemaPropsOrArray::Schema(known)) => missing_property(known, items, &path),
            Some(JSONSchemaPropsOrArray::Schemas(_)) | None => Some(path),
        };
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &ours.additional_properties {
        return match &installed.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(known)) => {
                missing_property(known, values, &format!("{path}.*"))
            }
            Some(JSONSchemaPropsOrBool::Bool(true)) => None,
            Some(JSONSchemaPropsOrBool::Bool(false)) | None => Some(format!("{path}.*")),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::definition;

    /// What is missing once a change is made to our definition.
    fn after(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut installed = serde_json::to_value(definition()).unwrap();
        change(&mut installed["spec"]["versions"][0]);
        first_missing(&serde_json::from_value(installed).unwrap(), &definition())
    }

    fn remove(version: &mut Value, path: &str) {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let pointer = format!("/schema/openAPIV3Schema{parent}");
        version.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    }

    #[test]
    fn a_definition_that_knows_at_least_our_fields_lacks_nothing() {
        assert_eq!(after(|_| ()), None);
        let newer = |version: &mut Value| {
            version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["later"] =
                json!({"type": "string"});
        };
        assert_eq!(after(newer), None);
    }

    #[test]
    fn every_field_that_is_not_known_is_named_by_its_path() {
        for (removed, path) in [
            ("/properties/status/properties/session/properties/holder", "the field status.session.holder"),
            ("/properties/status/properties/session", "the field status.session"),
            (
                "/properties/status/properties/conditions/items/properties/reason",
                "the field status.conditions[].reason",
            ),
            ("/properties/status/properties/conditions/items", "the field status.conditions[]"),
            ("/properties/status/properties/progress/additionalProperties", "the field status.progress.*"),
            ("/properties/spec/properties/evidence", "the field spec.evidence"),
        ] {
            assert_eq!(after(|version| remove(version, removed)).as_deref(), Some(path));
        }
    }

    #[test]
    fn a_schema_that_preserves_unknown_fields_lacks_none_of_them() {
        let preserves = |version: &mut Value| {
            let status = version.pointer_mut("/schema/openAPIV3Schema/properties/status").unwrap();
            *status = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        };
        assert_eq!(after(preserves), None);
    }

    #[test]
    fn the_version_has_to_be_served_and_settled_resources_selectable() {
        let missing = |change: &dyn Fn(&mut Value)| after(|version| change(version)).unwrap();
        assert!(missing(&|version| version["name"] = json!("v1")).contains("the version v1alpha1"));
        assert!(missing(&|version| version["served"] = json!(false)).contains("does not serve"));
        let unselectable = missing(&|version| version["selectableFields"] = json!([]));
        assert!(unselectable.contains("status.settled") && unselectable.contains("1.31"), "{unselectable}");
    }
}
