//! Reads `values.yaml` with its comments. Pure.
//!
//! A line `## Title` begins a section. The comment above a value describes it, and a line `# @schema {…}` in that comment adds
//! to its JSON schema. A value that is a map is a group, whose values are described one by one, unless its schema has
//! `additionalProperties`: then it is described as a whole.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value as Json};

const SECTION: &str = "## ";
const SCHEMA: &str = "@schema ";

/// The values of a chart, in the order of the file.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) all: Vec<Value>,
}

/// One value, or a group of values.
#[derive(Debug, PartialEq)]
pub(super) struct Value {
    /// Its keys, from the top of the file.
    pub(super) path: Vec<String>,
    /// The title of its section.
    pub(super) section: String,
    /// Empty only for a group.
    pub(super) description: String,
    /// What the comment adds to the schema.
    pub(super) schema: Map<String, Json>,
    pub(super) default: Json,
}

impl Value {
    /// Whether its values are described one by one.
    pub(super) fn is_group(&self) -> bool {
        self.default.is_object() && !self.schema.contains_key("additionalProperties")
    }
}

/// The comment above a value.
#[derive(Debug, Default)]
struct Comment {
    words: Vec<String>,
    schema: Map<String, Json>,
}

impl Comment {
    fn add(&mut self, line: &str) -> Result<()> {
        match line.strip_prefix(SCHEMA) {
            Some(schema) => {
                self.schema = serde_json::from_str(schema).with_context(|| format!("read {line}"))?;
            }
            None => self.words.push(line.to_owned()),
        }
        Ok(())
    }
}

impl Values {
    /// Reads the text of a `values.yaml`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let defaults: Json = serde_norway::from_str(text).context("read values.yaml as YAML")?;
        let mut all: Vec<Value> = Vec::new();
        let (mut section, mut comment) = (String::new(), Comment::default());
        let mut path: Vec<String> = Vec::new();
        for line in text.lines() {
            let words = line.trim_start();
            if let Some(title) = line.strip_prefix(SECTION) {
                title.clone_into(&mut section);
                comment = Comment::default();
            } else if let Some(words) = words.strip_prefix('#') {
                comment.add(words.trim())?;
            } else if words.is_empty() {
                comment = Comment::default();
            } else {
                let (key, _) = words.split_once(':').with_context(|| format!("find the key of {line}"))?;
                path.truncate((line.len() - words.len()) / 2);
                path.push(key.to_owned());
                let Comment { words, schema } = std::mem::take(&mut comment);
                let is_part = all.iter().any(|value| !value.is_group() && path.starts_with(&value.path));
                if is_part {
                    continue;
                }
                let default = defaults.pointer(&format!("/{}", path.join("/")));
                let default = default.with_context(|| format!("find {}", path.join(".")))?.clone();
                let description = words.join(" ");
                let value =
                    Value { path: path.clone(), section: section.clone(), description, schema, default };
                ensure!(
                    value.is_group() || !value.description.is_empty(),
                    "{} has no comment that describes it",
                    path.join(".")
                );
                all.push(value);
            }
        }
        Ok(Self { all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# About the file.

## First

# How many.
# @schema {\"minimum\": 0}
replicas: 2
group:
  # Anything
  # at all.
  # @schema {\"additionalProperties\": true}
  open:
    part: 1
";

    #[test]
    fn each_value_has_its_section_its_description_and_its_default() {
        let all = Values::parse(TEXT).unwrap().all;
        let paths: Vec<_> = all.iter().map(|value| value.path.join(".")).collect();
        assert_eq!(paths, ["replicas", "group", "group.open"]);
        assert_eq!((all[0].section.as_str(), all[0].description.as_str()), ("First", "How many."));
        assert_eq!((&all[0].schema["minimum"], &all[0].default), (&Json::from(0), &Json::from(2)));
        assert!(all[1].is_group() && !all[2].is_group());
        assert_eq!(all[2].description, "Anything at all.");
    }

    #[test]
    fn a_value_without_a_description_is_an_error() {
        let error = Values::parse("group:\n  silent: 1\n").unwrap_err();
        assert_eq!(error.to_string(), "group.silent has no comment that describes it");
    }
}
