//! Rules with cases that they refuse and cases that they allow: those of the spec, but for its evidence. Pure.

use serde_json::{Value, json};

use crate::requests::ApiRequest;

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

pub(super) fn case(what: impl Into<String>, spec: Value, status: Value, request: ApiRequest) -> Case {
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
pub(super) fn restatus(what: &str, status: Value, change: Value) -> Case {
    case(what, json!({}), status, ApiRequest::PatchStatus(change))
}

/// A spec that names these entries of its Secret.
fn with_keys(mut keys: Value) -> Value {
    keys["name"] = json!("okid-api-key");
    json!({"apiKeySecretRef": keys})
}

/// All rules but those of `spec.evidence` and of status.
pub(super) fn rules() -> Vec<Rule> {
    on_immutable_fields().into_iter().chain(on_adopt()).chain(on_form()).collect()
}

/// Rules of the spec on what cannot change, or only at some times.
fn on_immutable_fields() -> Vec<Rule> {
    let portal = || json!({"portal": "https://one.example"});
    let published = || json!({"verificationId": "ver_one"});
    let settled = || json!({"outcome": "Verified", "settled": true});
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

/// Rules on when a session can be adopted.
fn on_adopt() -> Vec<Rule> {
    let adopted = || json!({"adopt": {"verificationId": "ver_one"}});
    let published = || json!({"verificationId": "ver_one"});
    let claimed = |state: &str| json!({"session": {"attempt": 1, "state": state}});
    let adopt = |id: &str| ApiRequest::Patch(json!({"spec": {"adopt": {"verificationId": id}}}));
    vec![
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
            message: "ttlAfterFinished must be from 0s to 8760h, such as 24h",
            refused: ["8760h1s", "8761h"].map(|ttl| new(ttl, json!({"ttlAfterFinished": ttl}))).into(),
            allowed: ["0s", "8760h", "1h30m"].map(|ttl| new(ttl, json!({"ttlAfterFinished": ttl}))).into(),
        },
        Rule {
            message: "previousKey must name another entry of the Secret than key",
            refused: vec![
                new("the same", with_keys(json!({"key": "token", "previousKey": "token"}))),
                new("the default", with_keys(json!({"previousKey": "apiKey"}))),
            ],
            allowed: vec![new("another", with_keys(json!({"previousKey": "apiKeyOld"})))],
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
