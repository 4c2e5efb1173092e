//! The rules of status. Pure.

use serde_json::{Value, json};

use super::cases::{Case, Rule, case, restatus};
use crate::requests::{ApiRequest, condition};

/// All rules of status.
pub(super) fn rules() -> Vec<Rule> {
    on_fields_written_once().into_iter().chain(on_counters()).chain(on_conditions()).collect()
}

/// Rules of status on what is written once.
fn on_fields_written_once() -> Vec<Rule> {
    let noon = "2026-01-01T12:00:00Z";
    let lives =
        json!({"verificationId": "ver_one", "session": {"attempt": 1, "portal": "https://one.example"}});
    vec![
        protects(
            "verificationId is written once and never changes",
            "verificationId",
            &json!({"verificationId": "ver_one"}),
            vec![("another id", json!({"verificationId": "ver_two"}))],
            vec![
                restatus("the first id", json!({}), json!({"verificationId": "ver_one"})),
                restatus(
                    "the same id",
                    json!({"verificationId": "ver_one"}),
                    json!({"verificationId": "ver_one", "phase": "InProgress"}),
                ),
            ],
        ),
        protects(
            "outcome is written once and never changes",
            "outcome",
            &json!({"outcome": "Rejected"}),
            vec![("another outcome", json!({"outcome": "Verified"}))],
            vec![
                restatus("the first outcome", json!({}), json!({"outcome": "Verified"})),
                restatus(
                    "the same outcome",
                    json!({"outcome": "Rejected"}),
                    json!({"outcome": "Rejected", "phase": "Rejected"}),
                ),
            ],
        ),
        protects(
            "finishedAt is written once and never changes",
            "finishedAt",
            &json!({"finishedAt": noon}),
            vec![("another time", json!({"finishedAt": "2026-01-01T12:00:01Z"}))],
            vec![restatus("the first time", json!({}), json!({"finishedAt": noon}))],
        ),
        protects(
            "settled never becomes false again",
            "settled",
            &json!({"outcome": "Verified", "settled": true}),
            vec![("false", json!({"settled": false}))],
            vec![
                restatus(
                    "from false to true",
                    json!({"outcome": "Verified", "settled": false}),
                    json!({"settled": true}),
                ),
                restatus("from false to nothing", json!({"settled": false}), json!({"settled": null})),
            ],
        ),
        Rule {
            message: "settled requires an outcome",
            refused: vec![
                restatus("at first", json!({}), json!({"settled": true})),
                restatus("while it is open", json!({"verificationId": "ver_one"}), json!({"settled": true})),
            ],
            allowed: vec![
                restatus("with its outcome", json!({}), json!({"outcome": "Verified", "settled": true})),
                restatus("not settled, without an outcome", json!({}), json!({"settled": false})),
            ],
        },
        protects(
            "session.portal never changes once verificationId is published",
            "session.portal",
            &lives,
            vec![("another portal", json!({"session": {"portal": "https://two.example"}}))],
            vec![
                restatus(
                    "before an id is published",
                    json!({"session": {"attempt": 1, "portal": "https://one.example"}}),
                    json!({"session": {"portal": "https://two.example"}}),
                ),
                restatus(
                    "the first portal",
                    json!({"verificationId": "ver_one"}),
                    json!({"session": {"portal": "https://one.example"}}),
                ),
            ],
        ),
    ]
}

/// Rules of status on counters and names.
fn on_counters() -> Vec<Rule> {
    let counted = json!({"session": {"attempt": 3, "orphans": 2, "acknowledged": 1}});
    let counts =
        |what: &str, change: Value| vec![restatus(what, counted.clone(), json!({"session": change}))];
    vec![
        protects(
            "session.attempt never decreases",
            "session.attempt",
            &counted,
            vec![("decreases", json!({"session": {"attempt": 2}}))],
            counts("increases", json!({"attempt": 4})),
        ),
        protects(
            "session.orphans never decreases",
            "session.orphans",
            &counted,
            vec![("decreases", json!({"session": {"orphans": 1}}))],
            counts("increases", json!({"orphans": 3})),
        ),
        protects(
            "session.acknowledged never decreases",
            "session.acknowledged",
            &counted,
            vec![("decreases", json!({"session": {"acknowledged": 0}}))],
            counts("increases", json!({"acknowledged": 2})),
        ),
        Rule {
            message: "session.orphans cannot exceed session.attempt",
            refused: vec![
                restatus("more", json!({}), json!({"session": {"attempt": 1, "orphans": 2}})),
                restatus("without attempts", json!({}), json!({"session": {"orphans": 1}})),
            ],
            allowed: vec![restatus("as many", json!({}), json!({"session": {"attempt": 2, "orphans": 2}}))],
        },
        Rule {
            message: "session.acknowledged cannot exceed session.orphans",
            refused: vec![
                restatus(
                    "more",
                    json!({}),
                    json!({"session": {"attempt": 2, "orphans": 1, "acknowledged": 2}}),
                ),
                restatus("without orphans", json!({}), json!({"session": {"attempt": 2, "acknowledged": 1}})),
            ],
            allowed: vec![restatus(
                "as many",
                json!({}),
                json!({"session": {"attempt": 2, "orphans": 2, "acknowledged": 2}}),
            )],
        },
        Rule {
            message: "a module's name has at most 64 characters",
            refused: vec![restatus("65", json!({}), json!({"progress": {"m".repeat(65): "completed"}}))],
            allowed: vec![restatus("64", json!({}), json!({"progress": {"m".repeat(64): "completed"}}))],
        },
    ]
}

/// Rules of status on conditions that never change back.
fn on_conditions() -> Vec<Rule> {
    let with = |conditions: &[(&str, &str)]| {
        let list: Vec<_> = conditions.iter().map(|(type_, status)| condition(type_, status)).collect();
        json!({"conditions": list})
    };
    let verified_turns = [("True", "False"), ("True", "Unknown"), ("False", "True"), ("False", "Unknown")]
        .map(|(from, to)| {
            restatus(&format!("{from} to {to}"), with(&[("Verified", from)]), with(&[("Verified", to)]))
        });
    let mut reworded = with(&[("Finished", "True")]);
    reworded["conditions"][0]["message"] = json!("in other words");
    vec![
        protects(
            "the condition Finished never changes once it is True",
            "conditions",
            &with(&[("Finished", "True"), ("Ready", "True")]),
            vec![
                ("False", with(&[("Finished", "False"), ("Ready", "True")])),
                ("Unknown", with(&[("Finished", "Unknown"), ("Ready", "True")])),
                ("left out", with(&[("Ready", "True")])),
                ("an empty list", json!({"conditions": []})),
            ],
            vec![
                restatus("False to True", with(&[("Finished", "False")]), with(&[("Finished", "True")])),
                restatus("other words", with(&[("Finished", "True")]), reworded),
                restatus(
                    "another condition changes",
                    with(&[("Finished", "True"), ("Ready", "True")]),
                    with(&[("Finished", "True"), ("Ready", "False")]),
                ),
            ],
        ),
        Rule {
            message: "the condition Verified never changes once it is True or False",
            refused: verified_turns
                .into_iter()
                .chain(removals(&with(&[("Verified", "False")]), "conditions"))
                .chain([restatus("left out", with(&[("Verified", "True")]), with(&[("Ready", "True")]))])
                .collect(),
            allowed: ["True", "False"]
                .map(|to| {
                    restatus(
                        &format!("Unknown to {to}"),
                        with(&[("Verified", "Unknown")]),
                        with(&[("Verified", to)]),
                    )
                })
                .into(),
        },
    ]
}

/// Every way to remove a field of status: the field, its parent, the whole status, by patch and by replacement.
fn removals(status: &Value, field: &str) -> Vec<Case> {
    let mut removal = Value::Null;
    for name in field.rsplit('.') {
        removal = json!({ name: removal });
    }
    let holder = field.split('.').next().unwrap_or(field);
    [
        ("the field set to null", ApiRequest::PatchStatus(removal)),
        ("the parent of the field set to null", ApiRequest::PatchStatus(json!({ holder: null }))),
        ("status set to null by a patch", ApiRequest::PatchStatus(Value::Null)),
        ("status set to null by a replacement", ApiRequest::ReplaceStatus(Value::Null)),
        ("status replaced by an empty one", ApiRequest::ReplaceStatus(json!({}))),
    ]
    .into_iter()
    .map(|(what, request)| case(what, json!({}), status.clone(), request))
    .collect()
}

/// A rule that protects a field of status: it refuses `changes` and every removal.
fn protects(
    message: &'static str,
    field: &str,
    status: &Value,
    changes: Vec<(&str, Value)>,
    allowed: Vec<Case>,
) -> Rule {
    let mut refused: Vec<Case> =
        changes.into_iter().map(|(what, change)| restatus(what, status.clone(), change)).collect();
    refused.extend(removals(status, field));
    Rule { message, refused, allowed }
}
