//! The resources that are judged. Touches the file system.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::skips::skip;

/// A resource to judge.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The row, or the test that saw it.
    pub(crate) name: String,
    pub(crate) resource: Value,
    /// What the row says that kstatus and Argo CD conclude. None for a status that a test saw.
    pub(crate) row: Option<(String, String)>,
}

/// A line of `rows.jsonl`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(rename = "row")]
    name: String,
    kstatus: String,
    argo_cd: String,
    resource: Value,
}

/// A line of what the tests on the API server saw.
#[derive(Debug, Deserialize)]
struct Seen {
    test: String,
    resource: Value,
}

fn lines<T: for<'de> Deserialize<'de>>(text: &str) -> Vec<T> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every row; the same after an edit that is not observed yet; and the same while the resource is being deleted.
pub(crate) fn rows() -> Vec<Case> {
    let rows: Vec<Row> = lines(include_str!("rows.jsonl"));
    rows.into_iter()
        .flat_map(|Row { name, kstatus, argo_cd, resource }| {
            let mut edited = resource.clone();
            edited["metadata"]["generation"] =
                json!(resource["metadata"]["generation"].as_i64().unwrap() + 1);
            let mut deleted = resource.clone();
            deleted["metadata"]["deletionTimestamp"] = json!("2024-01-01T12:00:00Z");
            let case = |suffix: &str, resource, kstatus: &str, argo_cd: &str| Case {
                name: format!("{name}{suffix}"),
                resource,
                row: Some((kstatus.to_owned(), argo_cd.to_owned())),
            };
            [
                case("", resource, &kstatus, &argo_cd),
                case(", 19 edited", edited, "InProgress", "Progressing"),
                case(", 20 being deleted", deleted, "Terminating", "Progressing"),
            ]
        })
        .collect()
}

/// What the tests on the API server saw in their last run.
fn seen() -> Vec<Case> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("statuses.jsonl");
    let Ok(text) = fs::read_to_string(&file) else {
        skip("judging seen statuses is", &"the tests on the API server have not run");
        return Vec::new();
    };
    let seen: Vec<Seen> = lines(&text);
    seen.into_iter().map(|Seen { test, resource }| Case { name: test, resource, row: None }).collect()
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let mut all = rows();
    all.extend(seen());
    all
}
