//! Every rule with cases that it refuses and cases that it allows. Pure.

use serde_json::{Value, json};

use crate::requests::{ApiRequest, condition};

/// A rule by its message, with cases that it refuses and cases that it allows.
pub(super) struct Rule {
    pub(super) message: &'static str,
    pub(super) refused: Vec<Case>,
    pub(super) allowed: Vec<Case>,
}

/// A request about a resource with that spec (merged into the minimal one) and that status.
pub(super) struct Case {
    pub(super) what: String,
    pub(super) spec: Value,
    pub(super) status: Value,
    pub(super) request: ApiRequest,
}

fn case(what: impl Into<String>, spec: Value, status: Value, request: ApiRequest) -> Case {
    Case { what: what.into(), spec, status, request }
}

/// A change of the spec of a resource with that spec.
fn respec(what: &str, spec: Value, change: &Value) -> Case {
    case(what, spec, json!({}), ApiRequest::Patch(json!({"spec": change})))
}

/// A new resource with that spec.
pub(super) fn new(what: &str, spec: Value) -> Case {
    case(what, json!({}), json!({}), ApiRequest::Create(spec))
}

/// A change of the status of a resource with that status.
fn restatus(what: &str, status: Value, change: Value) -> Case {
    case(what, json!({}), status, ApiRequest::PatchStatus(change))
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

/// All rules.
pub(super) fn rules() -> Vec<Rule> {
    [on_immutable_fields(), on_form(), on_fields_written_once(), on_counters(), on_conditions()]
        .into_iter()
        .flatten()
        .collect()
}

/// Rules of the spec on what cannot change, or only at some times.
fn on_immutable_fields() -> Vec<Rule> {
    let portal = || json!({"portal": "https://one.example"});
    let adopted = || json!({"adopt": {"verificationId": "ver_one"}});
    let published = || json!({"verificationId": "ver_one"});
    let claimed = |state: &str| json!({"session": {"attempt": 1, "state": state}});
    let settled = || json!({"outcome": "Verified", "settled": true});
    let adopt = |id: &str| ApiRequest::Patch(json!({"spec": {"adopt": {"verificationId": id}}}));
    vec![
        Rule {
            message: "this Verification is settled and no longer watched, so its spec cannot change; create a new Verification",
            refused: vec![
                case("suspend", json!({}), settled(), ApiRequest::Patch(json!({"spec": {"suspend": true}}))),
                case(
                    "another key",
                    json!({}),
                    settled(),
                    ApiRequest::Patch(json!({"spec": {"apiKeySecretRef": {"name": "other"}}})),
                ),
            ],
            allowed: vec![
                case(
                    "a label",
                    json!({}),
                    settled(),
                    ApiRequest::Patch(json!({"metadata": {"labels": {"a": "b"}}})),
                ),
                case(
                    "an annotation",
                    json!({}),
                    settled(),
                    ApiRequest::Patch(json!({"metadata": {"annotations": {"a": "b"}}})),
                ),
                case(
                    "suspend before it is settled",
                    json!({}),
                    published(),
                    ApiRequest::Patch(json!({"spec": {"suspend": true}})),
                ),
            ],
        },
        Rule {
            message: "adopt can be added only before a verificationId is published; this Verification already follows a session, so create a new one",
            refused: vec![
                case("another session", json!({}), published(), adopt("ver_two")),
                case("the same session", json!({}), published(), adopt("ver_one")),
            ],
            allowed: vec![
                case(
                    "while nothing is published",
                    json!({}),
                    json!({"session": {"attempt": 1, "orphans": 1}}),
                    adopt("ver_two"),
                ),
                case(
                    "with an adopted session",
                    adopted(),
                    published(),
                    ApiRequest::Patch(json!({"spec": {"suspend": true}})),
                ),
            ],
        },
        Rule {
            message: "adopt cannot be added while a create is in flight, because that create may make a session; try again when status.session.state is no longer Claimed",
            refused: vec![case("in flight", json!({}), claimed("Claimed"), adopt("ver_two"))],
            allowed: vec![
                case("an unknown outcome", json!({}), claimed("Unknown"), adopt("ver_two")),
                case("a refused create", json!({}), claimed("NotCreated"), adopt("ver_two")),
                case(
                    "something else",
                    json!({}),
                    claimed("Claimed"),
                    ApiRequest::Patch(json!({"spec": {"suspend": true}})),
                ),
            ],
        },
        Rule {
            message: "adopt cannot change once it is set; create a new Verification to follow another session",
            refused: vec![
                respec("another session", adopted(), &json!({"adopt": {"verificationId": "ver_two"}})),
                respec("none", adopted(), &json!({"adopt": null})),
            ],
            allowed: vec![respec("another deadline", adopted(), &json!({"activeDeadline": "1h"}))],
        },
        Rule {
            message: "portal cannot be changed, added or removed; create a new Verification to use another portal",
            refused: vec![
                respec("changed", portal(), &json!({"portal": "https://two.example"})),
                respec("removed", portal(), &json!({"portal": null})),
                respec("added", json!({}), &portal()),
            ],
            allowed: vec![
                respec("the same", portal(), &portal()),
                respec("another mode", json!({}), &json!({"mode": "Select"})),
            ],
        },
    ]
}

/// Rules of the spec on the form of values.
fn on_form() -> Vec<Rule> {
    vec![
        Rule {
            message: "portal must be a URL such as https://verify.test.okid.io",
            refused: [
                "verify.test.okid.io",
                "ftp://verify.test.okid.io",
                "https//verify.test.okid.io",
                "javascript:alert(1)",
            ]
            .map(|portal| new(portal, json!({"portal": portal})))
            .into(),
            allowed: ["https://verify.test.okid.io", "http://127.0.0.1:8080/"]
                .map(|portal| new(portal, json!({"portal": portal})))
                .into(),
        },
        Rule {
            message: "activeDeadline must be from 1s to 8760h, such as 168h",
            refused: ["0s", "8760h1s", "8761h"]
                .map(|deadline| new(deadline, json!({"activeDeadline": deadline})))
                .into(),
            allowed: ["1s", "8760h", "1h30m"]
                .map(|deadline| new(deadline, json!({"activeDeadline": deadline})))
                .into(),
        },
        Rule {
            message: "minInterval must be from 1s to 1h, such as 5s",
            refused: ["0s", "61m"]
                .map(|interval| new(interval, json!({"polling": {"minInterval": interval}})))
                .into(),
            allowed: ["1s", "1h"]
                .map(|interval| new(interval, json!({"polling": {"minInterval": interval}})))
                .into(),
        },
        Rule {
            message: "maxInterval must be from 1s to 1h, such as 5m",
            refused: ["0s", "1h1s"]
                .map(|interval| new(interval, json!({"polling": {"maxInterval": interval}})))
                .into(),
            allowed: ["1s", "60m"]
                .map(|interval| new(interval, json!({"polling": {"maxInterval": interval}})))
                .into(),
        },
        Rule {
            message: "minInterval must not be longer than maxInterval",
            refused: vec![new("longer", json!({"polling": {"minInterval": "61s", "maxInterval": "1m"}}))],
            allowed: vec![new("as long", json!({"polling": {"minInterval": "60s", "maxInterval": "1m"}}))],
        },
    ]
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
