//! Whether the API server's schema knows what this version reads and writes. An older one is worse than none: the API
//! server drops unknown fields without a word. Pure. May depend on the definition of `api`.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use kube::Resource as _;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::api::Verification;

/// How many missing fields a message names.
const NAMED: usize = 5;

/// The schema of our resource in the OpenAPI document of its group and version.
#[derive(Debug)]
pub(super) struct PublishedSchema {
    schema: JSONSchemaProps,
    /// The paths of the fields by which a selector may select.
    selectable: Vec<String>,
}

/// What a schema lacks: paths of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    fields: Vec<String>,
    selectable: Vec<String>,
}

/// An OpenAPI document. Everything in it but our schema is skipped.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    components: Components<'a>,
}

#[derive(Deserialize, Default)]
struct Components<'a> {
    #[serde(borrow, default)]
    schemas: BTreeMap<String, &'a RawValue>,
}

/// What Kubernetes adds to the schema of a resource.
#[derive(Deserialize)]
struct Extensions {
    #[serde(rename = "x-kubernetes-group-version-kind", default)]
    kinds: Vec<Value>,
    #[serde(rename = "x-kubernetes-selectable-fields", default)]
    selectable_fields: Vec<SelectableField>,
}

#[derive(Deserialize)]
struct SelectableField {
    #[serde(rename = "fieldPath")]
    path: String,
}

impl PublishedSchema {
    /// Finds our schema in a document; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// The document is not one of OpenAPI v3.
    pub(super) fn find(document: &[u8]) -> serde_json::Result<Option<Self>> {
        let ours = json!({
            "group": Verification::group(&()),
            "version": Verification::version(&()),
            "kind": Verification::kind(&()),
        });
        let document: Document = serde_json::from_slice(document)?;
        for raw in document.components.schemas.values() {
            let extensions: Extensions = serde_json::from_str(raw.get())?;
            if extensions.kinds.contains(&ours) {
                let selectable = extensions.selectable_fields.into_iter().map(|field| field.path);
                return Ok(Some(Self {
                    schema: serde_json::from_str(raw.get())?,
                    selectable: selectable.collect(),
                }));
            }
        }
        Ok(None)
    }

    /// The title, which names the version of the operator that the schema belongs to.
    pub(super) fn title(&self) -> Option<&str> {
        self.schema.title.as_deref()
    }

    /// What it lacks of our definition; `None` if it lacks nothing.
    pub(super) fn missing(&self, ours: &CustomResourceDefinition) -> Option<Missing> {
        let mut missing = Missing::default();
        for version in ours.spec.versions.iter().filter(|version| version.name == Verification::version(&()))
        {
            if let Some(schema) = schema(version) {
                add_missing(&self.schema, schema, "", &mut missing.fields);
            }
            let selectable = version.selectable_fields.iter().flatten();
            let paths = selectable.map(|field| field.json_path.trim_start_matches('.'));
            let unknown = paths.filter(|path| !self.selectable.iter().any(|known| known == path));
            missing.selectable.extend(unknown.map(str::to_owned));
        }
        (missing != Missing::default()).then_some(missing)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fields, selectable } = self;
        if !fields.is_empty() {
            write!(
                formatter,
                "{} {}",
                if fields.len() == 1 { "the field" } else { "the fields" },
                list(fields)
            )?;
        }
        if !selectable.is_empty() {
            let and = if fields.is_empty() { "" } else { ", and " };
            let what = if selectable.len() == 1 { "the selectable field" } else { "the selectable fields" };
            let paths = list(selectable);
            write!(formatter, "{and}{what} {paths}, for which it needs Kubernetes 1.31 or newer,")?;
        }
        Ok(())
    }
}

/// The first of these paths, and how many there are besides.
fn list(paths: &[String]) -> String {
    let mut named: Vec<_> = paths.iter().take(NAMED).cloned().collect();
    match paths.len().saturating_sub(NAMED) {
        0 => {}
        more => named.push(format!("{more} more")),
    }
    match named.pop() {
        Some(last) if !named.is_empty() => format!("{} and {last}", named.join(", ")),
        last => last.unwrap_or_default(),
    }
}

fn schema(version: &CustomResourceDefinitionVersion) -> Option<&JSONSchemaProps> {
    version.schema.as_ref()?.open_api_v3_schema.as_ref()
}

/// Adds the paths of our fields that a schema does not know, but none below another one.
fn add_missing(known: &JSONSchemaProps, ours: &JSONSchemaProps, path: &str, missing: &mut Vec<String>) {
    if known.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    for (name, property) in ours.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match known.properties.as_ref().and_then(|properties| properties.get(name)) {
            Some(known) => add_missing(known, property, &path, missing),
            None => missing.push(path),
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &ours.items {
        let path = format!("{path}[]");
        match &known.items {
            Some(JSONSchemaPropsOrArray::Schema(known)) => add_missing(known, items, &path, missing),
            Some(JSONSchemaPropsOrArray::Schemas(_)) | None => missing.push(path),
        }
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &ours.additional_properties {
        let path = format!("{path}.*");
        match &known.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(known)) => add_missing(known, values, &path, missing),
            Some(JSONSchemaPropsOrBool::Bool(true)) => {}
            Some(JSONSchemaPropsOrBool::Bool(false)) | None => missing.push(path),
        }
    }
}

/// The document in which an API server would publish a definition.
#[cfg(test)]
pub(super) fn published(definition: &CustomResourceDefinition) -> Value {
    let version = &definition.spec.versions[0];
    let mut schema = json!(version.schema.as_ref().unwrap().open_api_v3_schema);
    let kind = json!({"group": "okid.io", "version": version.name, "kind": "Verification"});
    schema["x-kubernetes-group-version-kind"] = json!([kind]);
    let selectable = version.selectable_fields.iter().flatten();
    let paths = selectable.map(|field| json!({"fieldPath": field.json_path.trim_start_matches('.')}));
    schema["x-kubernetes-selectable-fields"] = paths.collect();
    let options = json!({"type": "object", "x-kubernetes-group-version-kind": [
        {"group": "okid.io", "version": version.name, "kind": "DeleteOptions"},
    ]});
    let names = ["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", "io.okid.v1alpha1.Verification"];
    json!({"openapi": "3.0.0", "info": {}, "components": {"schemas": {names[0]: options, names[1]: schema}}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::definition;

    const SCHEMA: &str = "/components/schemas/io.okid.v1alpha1.Verification";

    /// What is missing once a change is made to the schema of our definition.
    fn after(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut document = published(&definition());
        change(document.pointer_mut(SCHEMA).unwrap());
        let schema = PublishedSchema::find(document.to_string().as_bytes()).unwrap().unwrap();
        schema.missing(&definition()).map(|missing| missing.to_string())
    }

    fn remove(schema: &mut Value, path: &str) {
        let (parent, name) = path.rsplit_once('/').unwrap();
        schema.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    }

    #[test]
    fn a_schema_that_knows_at_least_our_fields_lacks_nothing() {
        assert_eq!(after(|_| ()), None);
        let newer = |schema: &mut Value| {
            schema["properties"]["spec"]["properties"]["later"] = json!({"type": "string"});
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
            assert_eq!(after(|schema| remove(schema, removed)).as_deref(), Some(path));
        }
    }

    #[test]
    fn of_many_fields_that_are_not_known_the_first_are_named() {
        let two = after(|schema| {
            remove(schema, "/properties/status/properties/session");
            remove(schema, "/properties/spec/properties/evidence");
        });
        assert_eq!(two.as_deref(), Some("the fields spec.evidence and status.session"));
        let none = after(|schema| schema["properties"]["status"]["properties"] = json!({})).unwrap();
        let names = none.strip_prefix("the fields ").unwrap();
        assert!(names.split(", ").count() == NAMED && names.ends_with(" more"), "{none}");
    }

    #[test]
    fn a_schema_that_preserves_unknown_fields_lacks_none_of_them() {
        let preserves = |schema: &mut Value| {
            let status = schema.pointer_mut("/properties/status").unwrap();
            *status = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        };
        assert_eq!(after(preserves), None);
    }

    #[test]
    fn settled_resources_have_to_be_selectable() {
        let fields = "x-kubernetes-selectable-fields";
        let missing = after(|schema| remove(schema, &format!("/{fields}"))).unwrap();
        assert!(missing.contains("status.settled") && missing.contains("1.31"), "{missing}");
        assert_eq!(after(|schema| schema[fields] = json!([])), Some(missing));
    }

    #[test]
    fn a_document_without_our_resource_has_no_schema_and_another_text_is_none() {
        let mut document = published(&definition());
        remove(&mut document, SCHEMA);
        assert!(PublishedSchema::find(document.to_string().as_bytes()).unwrap().is_none());
        assert!(PublishedSchema::find(b"{\"openapi\": \"3.0.0\"}").unwrap().is_none());
        assert!(PublishedSchema::find(b"<html>").is_err());
    }
}
