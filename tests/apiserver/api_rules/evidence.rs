//! The rules of `spec.evidence`. Pure.

use serde_json::{Value, json};

use super::cases::{Case, Rule, new};

/// A create with valid evidence, merged with these fields of `spec.evidence`.
fn asks(what: &str, evidence: Value) -> Case {
    let mut whole = json!({"images": [{"kind": "Front"}], "destination": {"store": "archive"}});
    let Value::Object(evidence) = evidence else { panic!("evidence is an object") };
    whole.as_object_mut().expect("an object").extend(evidence);
    new(what, json!({"evidence": whole}))
}

fn asks_for(what: &str, images: Value) -> Case {
    asks(what, Value::from_iter([("images", images)]))
}

fn sends_to(what: &str, destination: Value) -> Case {
    asks(what, Value::from_iter([("destination", destination)]))
}

/// All rules of `spec.evidence`.
pub(super) fn rules() -> Vec<Rule> {
    on_images().into_iter().chain(on_destination()).collect()
}

fn on_images() -> Vec<Rule> {
    vec![
        Rule {
            message: "evidence asks for nothing: list images, or set results to true",
            refused: vec![
                asks_for("no images", json!([])),
                asks("no images and no results, explicitly", json!({"images": [], "results": false})),
                new("neither field", json!({"evidence": {"destination": {"store": "archive"}}})),
            ],
            allowed: vec![
                asks_for("an image", json!([{"kind": "Front"}])),
                asks("results alone", json!({"images": [], "results": true})),
                new(
                    "results without images",
                    json!({"evidence": {"results": true, "destination": {"store": "archive"}}}),
                ),
            ],
        },
        Rule {
            message: "images lists the same image twice; each kind, imageType and attemptIndex can appear once",
            refused: vec![
                asks_for("the same", json!([{"kind": "Front"}, {"kind": "Front"}])),
                asks_for(
                    "the same but for required",
                    json!([{"kind": "Back", "required": true}, {"kind": "Back", "required": false}]),
                ),
                asks_for(
                    "by the default of imageType",
                    json!([{"kind": "Front"}, {"kind": "Front", "imageType": "original"}]),
                ),
                asks_for(
                    "by the portal's default of attemptIndex",
                    json!([{"kind": "Redacted"}, {"kind": "Redacted", "attemptIndex": 0}]),
                ),
            ],
            allowed: vec![
                asks_for("another kind", json!([{"kind": "Front"}, {"kind": "Back"}])),
                asks_for(
                    "another type",
                    json!([{"kind": "Front"}, {"kind": "Front", "imageType": "cropped"}]),
                ),
                asks_for(
                    "another attempt",
                    json!([{"kind": "Redacted", "attemptIndex": 0}, {"kind": "Redacted", "attemptIndex": 1}]),
                ),
            ],
        },
        Rule {
            message: "attemptIndex is only for the kinds Redacted and Unredacted; the portal has one Front and one Back",
            refused: ["Front", "Back"]
                .map(|kind| asks_for(kind, json!([{"kind": kind, "attemptIndex": 0}])))
                .into(),
            allowed: ["Redacted", "Unredacted"]
                .map(|kind| asks_for(kind, json!([{"kind": kind, "attemptIndex": 0}])))
                .into(),
        },
    ]
}

fn on_destination() -> Vec<Rule> {
    let secret = || json!({"name": "evidence-store"});
    let both = json!({"url": "s3://evidence/kyc", "credentialsSecretRef": secret(), "store": "archive"});
    let to_url = |url: &str| json!({"url": url, "credentialsSecretRef": secret()});
    vec![
        Rule {
            message: "a destination has either a url with credentialsSecretRef or the name of a store",
            refused: vec![sends_to("both", both), sends_to("neither", json!({}))],
            allowed: vec![
                sends_to("a url", to_url("s3://evidence/kyc")),
                sends_to("a store", json!({"store": "archive"})),
            ],
        },
        Rule {
            message: "a url needs credentialsSecretRef, a Secret of this namespace; a store has its own credentials",
            refused: vec![
                sends_to("a url alone", json!({"url": "s3://evidence/kyc"})),
                sends_to(
                    "a store with credentials",
                    json!({"store": "archive", "credentialsSecretRef": secret()}),
                ),
            ],
            allowed: vec![sends_to("a url with them", to_url("az://evidence"))],
        },
        Rule {
            message: "the path of a url must not contain a . or .. segment",
            refused: [
                "s3://evidence/..",
                "s3://evidence/../other",
                "gs://evidence/a/./b",
                "az://evidence/a/.",
            ]
            .map(|url| sends_to(url, to_url(url)))
            .into(),
            allowed: [
                "s3://evidence/a..b/.c",
                "gs://evidence/v1.2",
                "az://evidence/a/...",
                "s3://my.bucket/kyc",
            ]
            .map(|url| sends_to(url, to_url(url)))
            .into(),
        },
    ]
}
