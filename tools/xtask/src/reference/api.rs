//! `docs/reference/api.md`: every field of a Verification, with type, default, bounds and rules, from the CRD. Pure.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{GENERATED, cell, code};

/// The page.
pub(crate) fn page() -> Result<String> {
    let definition = serde_json::to_value(okid_operator::api::definition()).context("read the CRD")?;
    let version = &definition["spec"]["versions"][0];
    let (group, name) = (&definition["spec"]["group"], &version["name"]);
    let mut page = format!("{GENERATED}\n\n# The Verification resource\n\n");
    writeln!(
        page,
        "`apiVersion: {}/{}`, `kind: Verification`. Fields without a default are optional unless they are marked as required. \
         `kubectl explain verification.spec` prints the same.",
        group.as_str().context("read the group")?,
        name.as_str().context("read the version")?,
    )?;
    let schema = &version["schema"]["openAPIV3Schema"];
    for part in ["spec", "status"] {
        write_object(&mut page, part, &schema["properties"][part], 2)?;
    }
    Ok(page)
}

/// Writes the fields of an object, and then the objects within it.
fn write_object(page: &mut String, path: &str, schema: &Value, level: usize) -> Result<()> {
    writeln!(page, "\n{} {path}", "#".repeat(level.min(4)))?;
    if let Some(description) = schema["description"].as_str() {
        writeln!(page, "\n{}", cell(description))?;
    }
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties =
        schema["properties"].as_object().with_context(|| format!("read the fields of {path}"))?;
    writeln!(page, "\n| field | type | bounds | meaning |\n|---|---|---|---|")?;
    for (name, field) in properties {
        let mut meaning = cell(field["description"].as_str().unwrap_or_default());
        if required.contains(&name.as_str()) {
            meaning = format!("**Required.** {meaning}");
        }
        let default = field.get("default").map(|default| format!("default {}", code(&default.to_string())));
        let bounds: Vec<_> = default.into_iter().chain(bounds(field)).collect();
        writeln!(page, "| {} | {} | {} | {meaning} |", code(name), type_of(field), bounds.join("; "))?;
    }
    write_rules(page, schema)?;
    for (name, field) in properties {
        let (path, object) = match field["type"].as_str() {
            Some("array") => (format!("{path}.{name}[]"), &field["items"]),
            _ => (format!("{path}.{name}"), field),
        };
        if object["properties"].is_object() {
            write_object(page, &path, object, level + 1)?;
        } else {
            write_field_rules(page, &path, field)?;
        }
    }
    Ok(())
}

/// Writes the rules of an object.
fn write_rules(page: &mut String, schema: &Value) -> Result<()> {
    let messages = rules(schema);
    if !messages.is_empty() {
        writeln!(page, "\nRules:\n")?;
    }
    for message in messages {
        writeln!(page, "- {message}")?;
    }
    Ok(())
}

/// Writes the rules of a field that is no object.
fn write_field_rules(page: &mut String, path: &str, field: &Value) -> Result<()> {
    let messages = rules(field);
    if !messages.is_empty() {
        writeln!(page, "\nRules of {}:\n", code(path))?;
    }
    for message in messages {
        writeln!(page, "- {message}")?;
    }
    Ok(())
}

fn rules(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["message"].as_str()).map(cell).collect()
}

fn type_of(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).map(code).collect();
        return values.join(", ");
    }
    match (field["type"].as_str(), field["format"].as_str()) {
        (Some("array"), _) => format!("list of {}", type_of(&field["items"])),
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some(type_), _) => type_.to_owned(),
        (None, _) => "any".to_owned(),
    }
}

/// The bounds of a field, and those of its items if it is a list.
fn bounds(field: &Value) -> Vec<String> {
    let number = |name: &str| field[name].as_f64();
    let range = |unit: &str, least: &str, most: &str| match (number(least), number(most)) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    };
    let mut bounds: Vec<_> = [
        range(" characters", "minLength", "maxLength"),
        range(" items", "minItems", "maxItems"),
        range("", "minimum", "maximum"),
        field["pattern"].as_str().map(|pattern| format!("matches {}", code(&cell(pattern)))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if field["items"].is_object() && !field["items"]["properties"].is_object() {
        bounds.extend(self::bounds(&field["items"]).into_iter().map(|bound| format!("each {bound}")));
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(schema: &Value) -> usize {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let nested = properties.map(|(_, field)| 1 + count(field) + count(&field["items"]));
        nested.sum()
    }

    #[test]
    fn every_field_has_a_row_with_a_meaning() {
        let page = page().unwrap();
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let definition = serde_json::to_value(okid_operator::api::definition()).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        assert_eq!(rows.len(), count(&schema["spec"]) + count(&schema["status"]));
        assert!(rows.iter().all(|row| !row.ends_with("|  |")), "{page}");
        assert!(page.contains("| integer | 0 to 99 |"), "{page}");
        assert!(
            page.contains("\n### spec.evidence\n") && page.contains("\n#### spec.evidence.images[]\n"),
            "{page}"
        );
    }
}
