//! The bounds of `spec.images` and `status.evidence`. Pure.

use serde_json::{Value, json};

use super::{Bound, at_most, one_of, text};

/// What a resource needs beside the field at that path to be whole.
pub(super) fn beside(path: &str) -> Value {
    let by_url = json!({"url": "s3://evidence", "credentialsSecretRef": {"name": "evidence-store"}});
    let destination = match path {
        "images.destination.url" | "images.destination.credentialsSecretRef.name" => by_url,
        path if path.starts_with("images.") => json!({"store": "archive"}),
        _ => return json!({}),
    };
    json!({"images": {"items": [{"kind": "Front"}], "destination": destination}})
}

fn item(name: &str, value: Value) -> Value {
    let mut item = json!({"kind": "Redacted"});
    item[name] = value;
    json!([item])
}

pub(super) fn bounds_of_spec() -> Vec<Bound> {
    let items = |count: usize| -> Value {
        (0..count).map(|n| json!({"kind": "Front", "imageType": format!("type{n}")})).collect()
    };
    let url = |length: usize| -> Value { format!("s3://evidence/{}", "p".repeat(length - 14)).into() };
    vec![
        (
            "images.items",
            vec![
                items(15),
                item("kind", json!("Unredacted")),
                item("imageType", text(32)),
                item("imageType", json!("a_1")),
                item("attemptIndex", json!(0)),
                item("attemptIndex", json!(99)),
                item("required", json!(true)),
            ],
            vec![
                items(16),
                item("kind", json!("Selfie")),
                item("kind", Value::Null),
                item("imageType", text(0)),
                item("imageType", text(33)),
                item("imageType", json!("Original")),
                item("imageType", json!("_a")),
                item("imageType", json!("a/b")),
                item("attemptIndex", json!(-1)),
                item("attemptIndex", json!(100)),
                item("required", json!("yes")),
            ],
        ),
        ("images.results", vec![json!(true), json!(false)], vec![json!("true")]),
        (
            "images.on",
            vec![json!(["Expired"]), json!(["Verified", "Rejected", "Expired"])],
            vec![json!([]), json!(["Verified", "Verified"]), json!(["Failed"]), json!("Verified")],
        ),
        (
            "images.destination.url",
            vec![json!("s3://abc"), json!("gs://evidence/kyc"), json!("az://evidence/Kyc_1/x-y.z"), url(256)],
            vec![
                url(257),
                json!("s3://ab"),
                json!("s3://evidence/"),
                json!("s3://evidence//kyc"),
                json!("s3://Evidence"),
                json!("file:///etc"),
                json!("https://evidence"),
                json!("s3://evidence?versionId=1"),
                json!("s3://user@evidence"),
                json!(""),
            ],
        ),
        (
            "images.destination.credentialsSecretRef.name",
            vec![text(1), text(253), json!("a.b-c9")],
            vec![text(0), text(254), json!("Upper"), json!("a/b"), Value::Null],
        ),
        (
            "images.destination.store",
            vec![text(1), text(63), json!("archive-1")],
            vec![text(0), text(64), json!("EvidenceContext"), json!("-a"), json!("a.b")],
        ),
        one_of("images.deletionPolicy", &["Retain", "Delete"]),
    ]
}

pub(super) fn bounds_of_status() -> Vec<Bound> {
    let objects = |count: usize| -> Value {
        (0..count).map(|n| json!({"kind": "Front", "key": format!("front-{n}"), "state": "Absent"})).collect()
    };
    let with = |name: &str, value: Value| {
        let mut object = json!({"kind": "Results", "key": "details.json", "state": "Stored"});
        object[name] = value;
        json!([object])
    };
    vec![
        at_most("evidence.prefix", 1024),
        at_most("evidence.manifestSha256", 64),
        (
            "evidence.objects",
            vec![
                objects(16),
                with("key", text(160)),
                with("kind", json!("Redacted")),
                with("size", json!(0)),
                with("size", json!(i64::MAX)),
                with("sha256", text(64)),
                with("contentType", text(64)),
            ],
            vec![
                objects(17),
                with("key", text(161)),
                with("key", Value::Null),
                with("kind", json!("Selfie")),
                with("state", json!("Lost")),
                with("state", Value::Null),
                with("size", json!(-1)),
                with("sha256", text(65)),
                with("contentType", text(65)),
            ],
        ),
    ]
}
