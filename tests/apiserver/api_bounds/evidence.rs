//! The bounds of `spec.evidence` and `status.evidence`. Pure.

use serde_json::{Value, json};

use super::{Bound, at_most, one_of, text};

/// The rest of a valid spec around the field at that path.
pub(super) fn beside(path: &str) -> Value {
    let by_url = json!({"url": "s3://evidence", "credentialsSecretRef": {"name": "evidence-store"}});
    let destination = match path {
        "evidence.destination.url" | "evidence.destination.credentialsSecretRef.name" => by_url,
        path if path.starts_with("evidence.") => json!({"store": "archive"}),
        _ => return json!({}),
    };
    json!({"evidence": {"images": [{"kind": "Front"}], "destination": destination}})
}

fn image(name: &str, value: Value) -> Value {
    let mut image = json!({"kind": "Redacted"});
    image[name] = value;
    json!([image])
}

pub(super) fn bounds_of_spec() -> Vec<Bound> {
    let images = |count: usize| -> Value {
        (0..count).map(|n| json!({"kind": "Front", "imageType": format!("type{n}")})).collect()
    };
    let url = |length: usize| -> Value { format!("s3://evidence/{}", "p".repeat(length - 14)).into() };
    vec![
        (
            "evidence.images",
            vec![
                images(15),
                image("kind", json!("Unredacted")),
                image("imageType", text(32)),
                image("imageType", json!("a_1")),
                image("attemptIndex", json!(0)),
                image("attemptIndex", json!(99)),
                image("required", json!(true)),
            ],
            vec![
                images(16),
                image("kind", json!("Selfie")),
                image("kind", Value::Null),
                image("imageType", text(0)),
                image("imageType", text(33)),
                image("imageType", json!("Original")),
                image("imageType", json!("_a")),
                image("imageType", json!("a/b")),
                image("attemptIndex", json!(-1)),
                image("attemptIndex", json!(100)),
                image("required", json!("yes")),
            ],
        ),
        ("evidence.results", vec![json!(true), json!(false)], vec![json!("true")]),
        (
            "evidence.outcomes",
            vec![json!(["Expired"]), json!(["Verified", "Rejected", "Expired"])],
            vec![json!([]), json!(["Verified", "Verified"]), json!(["Failed"]), json!("Verified")],
        ),
        (
            "evidence.destination.url",
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
            "evidence.destination.credentialsSecretRef.name",
            vec![text(1), text(253), json!("a.b-c9")],
            vec![text(0), text(254), json!("Upper"), json!("a/b"), Value::Null],
        ),
        (
            "evidence.destination.store",
            vec![text(1), text(63), json!("archive-1")],
            vec![text(0), text(64), json!("Archive"), json!("-a"), json!("a.b")],
        ),
        one_of("evidence.deletionPolicy", &["Retain", "Delete"]),
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
